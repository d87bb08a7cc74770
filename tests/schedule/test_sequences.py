"""Loops over steps that depend on one another: what becomes tasks and lanes, and what must not."""

from __future__ import annotations

import numpy as np
import pytest

from convc.loops.interp import run_kernel
from convc.loops.ir import For, Kernel, LoopKind, walk
from convc.loops.parser import parse_kernel
from convc.loops.verify import verify_kernel
from convc.schedule.sequences import schedule_sequence
from convc.target import TARGETS

AVX2 = TARGETS["x86-64-avx2"]


def decay(rows: str, width: int = 40, old: str = "t, n", read: str = "j", extra: str = "") -> str:
    """States y[t + 1] = 0.5 * x[t] + y[t] @ w, in rows n."""
    return f"""
    kernel k(in x: float32[5, {rows}, {width}], in w: float32[{width}, {width}],
             out y: float32[6, {rows}, {width}]) {{
      for n in {rows} {{
        for i in {width} {{ y[0, n, i] = 0.0 }}
        for t in 5 {{
          for j in {width} {{
            alloc s: float32[] register
            s[] = x[t, n, j] * 0.5
            for c in {width} {{ s[] = fma(y[{old}, c], w[c, j], s[]) }}
            y[t + 1, n, {read}] = s[]
          }}
          {extra}
        }}
      }}
    }}"""


def arrays(kernel: Kernel, rows: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    shapes = [[rows if not isinstance(e, int) else e for e in b.shape] for b in kernel.params]
    return {
        b.name: (random.normal(size=shape) / 8).astype(np.float32)
        for b, shape in zip(kernel.params, shapes, strict=True)
    }


def kinds(kernel: Kernel) -> set[LoopKind]:
    return {s.kind for s in walk(kernel.body) if isinstance(s, For)}


@pytest.mark.parametrize(
    ("rows", "count", "width"), [("N", 11, 40), ("N", 2, 7), ("8", 8, 23), ("9", 9, 3)]
)
def test_rows_become_tasks_in_blocks_and_columns_lanes(rows: str, count: int, width: int) -> None:
    plain = parse_kernel(decay(rows, width))
    made = schedule_sequence(plain, AVX2)
    assert made is not None
    verify_kernel(made)
    assert kinds(made) >= {LoopKind.parallel, LoopKind.vectorized, LoopKind.unrolled}
    memory, again = arrays(plain, count), arrays(plain, count)
    symbols = {"N": count} if rows == "N" else {}
    run_kernel(plain, memory, symbols)
    run_kernel(made, again, symbols)
    np.testing.assert_array_equal(memory["y"], again["y"])


@pytest.mark.parametrize(
    "text",
    [
        decay("8", old="t, 7 - n"),  # a row reads another
        decay("8", old="t + 1, n"),  # a column reads what another one stores in this step
        decay("8", extra="for u in 39 { y[t + 1, n, u + 1] = y[t + 1, n, u] }"),  # and so here
        decay("8", read="39 - j"),  # backwards
        decay(
            "8", extra="for u in 39 { y[t + 1, n, u] = 0.0  y[t + 1, n, u + 1] = 1.0 }"
        ),  # stores meet
        decay("8", extra="if t < 2 { y[t + 1, n, 0] = 0.0 }"),  # more than nests over columns
    ],
)
def test_what_depends_on_others_is_left_alone(text: str) -> None:
    assert schedule_sequence(parse_kernel(text), AVX2) is None
