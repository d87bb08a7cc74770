"""Which loop gives a tile its rows, where the batch lies among them."""

from __future__ import annotations

import numpy as np
import pytest

from convc.loops.interp import run_kernel
from convc.loops.ir import For, walk
from convc.loops.parser import parse_kernel
from convc.schedule.cpu import schedule_kernel
from convc.target import TARGETS

# Tokens x batch x channels, as PyTorch's attention and recurrent layers lay it: the batch is inside.
TOKENS_FIRST = """
kernel k(in x: float32[{tokens}, N, 8]{layout}, in w: float32[8, 48] constant, out y: float32[{tokens}, N, 48]) {{
  for n in {tokens} {{ for o in N {{ for i in 48 {{
    alloc acc: float32[] register
    acc[] = 0.0
    for k in 8 {{ acc[] = fma(x[n, o, k], w[k, i], acc[]) }}
    y[n, o, i] = acc[]
  }} }} }}
}}"""


@pytest.mark.parametrize("layout", ["", " @(d1, d0, d2)"])
@pytest.mark.parametrize(("tokens", "whole"), [(32, True), (3, False)])
def test_a_batch_of_one_does_not_leave_tiles_of_one_row(
    tokens: int, whole: bool, layout: str
) -> None:
    kernel = parse_kernel(TOKENS_FIRST.format(tokens=tokens, layout=layout))
    scheduled = schedule_kernel(kernel, TARGETS["x86-64-avx2"])
    assert ("strategy", "tiled") in scheduled.notes
    loops = {s.var: str(s.extent) for s in walk(scheduled.body) if isinstance(s, For)}
    assert ("o" in loops) == whole  # the batch is a loop of its own


@pytest.mark.parametrize("layout", ["", " @(d1, d0, d2)"])
@pytest.mark.parametrize("batch", [1, 2, 9])
@pytest.mark.parametrize("tokens", [3, 13, 32])
def test_rows_of_tokens_are_computed_as_before(tokens: int, batch: int, layout: str) -> None:
    kernel = parse_kernel(TOKENS_FIRST.format(tokens=tokens, layout=layout))
    rng = np.random.default_rng(1)
    x = rng.standard_normal((tokens, batch, 8)).astype(np.float32)
    w = rng.standard_normal((8, 48)).astype(np.float32)
    results = []
    for each in (kernel, schedule_kernel(kernel, TARGETS["x86-64-avx2"])):
        arrays = {"x": x, "w": w, "y": np.full((tokens, batch, 48), np.nan, np.float32)}
        run_kernel(each, arrays, {"N": batch})
        results.append(arrays["y"])
    np.testing.assert_allclose(results[0], x @ w, rtol=1e-5, atol=1e-5)
    assert results[0].tobytes() == results[1].tobytes()
