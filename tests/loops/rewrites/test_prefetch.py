"""Prefetches change no result and stay inside their buffers, and stand where the sum hasn't begun."""

from __future__ import annotations

import numpy as np
import pytest

from convc.loops.interp import run_kernel
from convc.loops.ir import Intrinsic, Kernel, walk
from convc.loops.parser import parse_kernel
from convc.loops.printer import print_kernel
from convc.loops.rewrites import Stream, prefetch_block, prefetch_results
from convc.loops.verify import verify_kernel
from convc.program.replacing import replaceable

RESIDUAL = parse_kernel(
    """kernel k(in x: float32[6, 8], in w: float32[5, 8] constant, in r: float32[6, 8], out y: float32[6, 8]) {
      for i in 6 { for b in 2 {
        alloc acc: float32[4] register
        for l in 4 vectorized { acc[l] = 0.0 }
        for c in 5 { for l in 4 vectorized { acc[l] = fma(x[i, c], w[c, b * 4 + l], acc[l]) } }
        if i < 5 { for l in 4 vectorized { y[i, b * 4 + l] = max(acc[l] + r[i, b * 4 + l], 0.0) } }
        else { for l in 4 vectorized { y[i, b * 4 + l] = acc[l] } }
      } } }"""
)

BLOCKS = parse_kernel(
    """kernel k(in x: float32[6, 8], in w: float32[8, 12] constant, out y: float32[6, 12]) {
      for ob in 3 { for jt in 3 {
        alloc acc: float32[2, 4] register
        for jp in 2 unrolled { for l in 4 vectorized { acc[jp, l] = 0.0 } }
        for c in 4 { for k in 2 unrolled { for jp in 2 unrolled { for l in 4 vectorized {
          acc[jp, l] = fma(x[jt * 2 + jp, c * 2 + k], w[c * 2 + k, ob * 4 + l], acc[jp, l])
        } } } }
        for jp in 2 unrolled { for l in 4 vectorized { y[jt * 2 + jp, ob * 4 + l] = acc[jp, l] } }
      } } }"""
)
NAMES = Stream("ob", "jt", "c", "k", "v", "l")


def prefetches(kernel: Kernel) -> list[Intrinsic]:
    return [s for s in walk(kernel.body) if isinstance(s, Intrinsic)]


@pytest.mark.parametrize(
    ("before", "after"),
    [(RESIDUAL, prefetch_results(RESIDUAL, "l")), (BLOCKS, prefetch_block(BLOCKS, "w", NAMES))],
)
def test_results_are_the_same_bits(before: Kernel, after: Kernel) -> None:
    verify_kernel(after)
    assert prefetches(after)
    assert print_kernel(parse_kernel(print_kernel(after))) == print_kernel(after)
    random = np.random.default_rng(1)
    shapes = {b.name: tuple(int(e) for e in b.shape) for b in before.params}  # type: ignore[arg-type]
    arrays = {name: random.normal(size=shape).astype("f4") for name, shape in shapes.items()}
    # The interpreter refuses an index outside of its buffer, a prefetch's too.
    found = []
    for kernel in (before, after):
        run_kernel(kernel, arrays, {})
        found.append(arrays["y"].copy())
    np.testing.assert_array_equal(found[0], found[1])


def test_a_residual_is_asked_for_before_the_sum_and_under_its_condition() -> None:
    text = print_kernel(prefetch_results(RESIDUAL, "l"))
    (found,) = prefetches(prefetch_results(RESIDUAL, "l"))
    assert found.args[0].buffer == "r"
    assert text.index("prefetch") < text.index("alloc acc")
    assert text.index("if i < 5") < text.index("prefetch")


def test_what_the_sum_reads_is_not_asked_for() -> None:
    text = print_kernel(RESIDUAL).replace("+ r[i", "+ x[i")
    kernel = parse_kernel(text)
    assert prefetch_results(kernel, "l") == kernel


def test_every_line_of_the_next_block_is_asked_for() -> None:
    kernel = prefetch_block(BLOCKS, "w", NAMES)
    (window,) = {p.args[0] for p in prefetches(kernel)}
    rows = {min(c + jt * 4, 7) for jt in range(3) for c in range(4)}
    assert rows == set(range(8))
    assert "min" in print_kernel(kernel)
    assert window.buffer == "w"


def test_a_prefetch_keeps_no_result_from_its_operands_place() -> None:
    kernel = parse_kernel(
        "kernel k(in x: float32[4], out y: float32[4]) "
        "{ for i in 4 { do prefetch(x[0 +: 1]) y[i] = x[i] + 1.0 } }"
    )
    assert replaceable(kernel) == ((0, 1),)


@pytest.mark.parametrize(
    "end",
    [
        "let k: int64 = i // 2  for l in 4 { y[i, l] = acc[l] + r[k, l] }",
        "for l in 4 { if acc[l] < 0.0 { y[i, l] = r[i, l] } else { y[i, l] = acc[l] } }",
    ],
    ids=["a name of the end", "a condition on the sum"],
)
def test_what_the_end_decides_is_not_asked_for(end: str) -> None:
    kernel = parse_kernel(
        f"""kernel k(in r: float32[6, 4], out y: float32[6, 4]) {{ for i in 6 {{
          alloc acc: float32[4] register
          for l in 4 {{ acc[l] = 0.0 }}
          for c in 5 {{ for l in 4 {{ acc[l] = acc[l] + 1.0 }} }}
          {end}
        }} }}"""
    )
    after = prefetch_results(kernel, "l")
    assert not prefetches(after)
    assert print_kernel(after) == print_kernel(kernel)
