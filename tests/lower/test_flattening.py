"""Kernels that go through all of their operands in the order of memory become one loop over it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from convc.loops.interp import run_kernel
from convc.loops.parser import parse_kernel
from convc.loops.printer import print_kernel
from convc.lower.flattening import flattened

UPDATE = """
kernel k(
  in g: float32[5, 3, 1, 2] {layout},
  in rate: float32[],
  in p: float32[5, 3, 1, 2] {other},
  out y: float32[5, 3, 1, 2] {layout},
) {{
  for n in 5 {{ for o in 3 {{ for i in 1 {{ for j in 2 {{
    let t: float32 = g[n, o, 0, j] * rate[]
    y[n, o, i, j] = p[n, o, i, j] - {value}
  }} }} }} }}
}}
"""


def update(layout: str = "@(d2, d3, d1, d0)", other: str = "", value: str = "t") -> str:
    return UPDATE.format(layout=layout, other=other or layout, value=value)


@pytest.mark.parametrize("layout", ["", "@(d2, d3, d1, d0)", "@(d0, d1, d3, d2)"])
def test_an_update_is_one_loop(layout: str) -> None:
    kernel = parse_kernel(update(layout))
    flat = flattened(kernel)
    assert print_kernel(flat) == print_kernel(
        parse_kernel(
            "kernel k(in g: float32[30], in rate: float32[], in p: float32[30], out y: float32[30]) "
            "{ for i in 30 { let t: float32 = g[i] * rate[] y[i] = p[i] - t } }"
        )
    )
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        "g": rng.random((5, 3, 1, 2), np.float32),
        "rate": np.array(0.3, np.float32),
        "p": rng.random((5, 3, 1, 2), np.float32),
        "y": np.zeros((5, 3, 1, 2), np.float32),
    }
    memory = {n: a.reshape(-1).copy() if a.ndim else a.copy() for n, a in arrays.items()}
    if not layout:  # the order of memory is that of the arrays
        run_kernel(kernel, arrays, {})
        run_kernel(flat, memory, {})
        np.testing.assert_array_equal(arrays["y"].reshape(-1), memory["y"])


@pytest.mark.parametrize(
    "text",
    [
        update(other="@(d0, d1, d2, d3)"),  # another order of memory
        update(layout="@(d0, d1, d2, d3) border(0:0, 0:0, 1:0, 0:0)"),
        update(value="float32(n)"),  # computes with an index
        update(value="p[n, 2, i, j]"),  # meets an element three times
        "kernel k(in x: float32[4], out y: float32[2]) { for i in 2 { y[i] = x[i] } }",
        "kernel k(in x: float32[4], out y: float32[4]) { for i in 4 { y[i] = x[3 - i] } }",
        "kernel k(in x: float32[4, 2] @(d1, d0), inout y: float32[]) "
        "{ for n in 4 { for i in 2 { y[] = y[] + x[n, i] } } }",
        "kernel k(in x: float32[N, 4], out y: float32[N, 4]) { for n in N { for i in 4 { y[n, i] = x[n, i] } } }",
        "kernel k(in w: float32[2, 2] constant, out y: float32[2, 2]) "
        "{ for n in 2 { for i in 2 { y[n, i] = w[n, i] } } }",
    ],
)
def test_others_stay_as_they_are(text: str) -> None:
    kernel = parse_kernel(text)
    assert flattened(kernel) is kernel
