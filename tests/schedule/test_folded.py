"""Reductions along contiguous elements: partial vectors, one fixed order, the interpreter's bits in machine code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from convc.errors import IRError
from convc.loops.interp import run_kernel
from convc.loops.ir import Alloc, Kernel, walk
from convc.loops.parser import parse_kernel
from convc.loops.rewrites import split_reduction
from convc.loops.verify import verify_kernel
from convc.schedule.cpu import schedule_kernel
from convc.target import TARGETS
from tests.codegen.native import RUNNABLE, Array, assert_same_bits, run_native

SUM = "acc[] = acc[] + x[n, k]"
UPDATES = {
    "sum": ("0.0", SUM),
    "biased sum": ("3.0", SUM),
    "product": ("1.0", "acc[] = acc[] * x[n, k]"),
    "max": ("-inf", "acc[] = max(acc[], x[n, k])"),
    "min": ("inf", "acc[] = min(x[n, k], acc[])"),
    "dot": ("0.0", "acc[] = fma(x[n, k], w[k], acc[])"),
    "activated dot": ("0.0", "acc[] = fma(max(x[n, k] * s[n], 0.0), w[k], acc[])"),
}


def kernel_of(update: str, extent: int) -> Kernel:
    """Rows of `extent` elements, reduced: y[n] = 0.5 * the result."""
    initial, statement = UPDATES[update]
    return parse_kernel(
        f"""kernel k(in x: float32[3, {extent}], in w: float32[{extent}], in s: float32[3], out y: float32[3]) {{
          for n in 3 {{
            alloc acc: float32[] register
            acc[] = {initial}
            for k in {extent} {{ {statement} }}
            y[n] = acc[] * 0.5
          }} }}"""
    )


def arrays_of(kernel: Kernel) -> dict[str, Array]:
    rng = np.random.default_rng(5)
    found: dict[str, Array] = {}
    for b in kernel.params:
        values: Any = rng.uniform(0.97, 1.03, b.shape) * rng.choice([-1, 1], b.shape)  # type: ignore[arg-type]
        found[b.name] = values.astype(b.dtype.numpy)
    return found


def strategy(kernel: Kernel) -> str:
    return dict(kernel.notes)["strategy"]


@pytest.mark.parametrize("extent", [64, 67, 150, 256, 331])
@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("target", RUNNABLE)
def test_machine_code_gives_the_interpreters_bits(target: str, update: str, extent: int) -> None:
    kernel = kernel_of(update, extent)
    scheduled = schedule_kernel(kernel, TARGETS[target])
    verify_kernel(scheduled)
    assert strategy(scheduled) == "folded"
    plain, expected, got = (arrays_of(kernel) for _ in range(3))
    run_kernel(kernel, plain, {})
    run_kernel(scheduled, expected, {})
    run_native(scheduled, TARGETS[target], got)
    assert_same_bits(got["y"], expected["y"])
    np.testing.assert_allclose(got["y"], plain["y"], rtol=2e-5, atol=2e-5)


def test_sums_in_parts_round_less() -> None:
    kernel = kernel_of("sum", 4096)
    scheduled = schedule_kernel(kernel, TARGETS["x86-64-avx512"])
    arrays = arrays_of(kernel)
    arrays["x"] = np.abs(arrays["x"])
    exact = 0.5 * arrays["x"].astype(np.float64).sum(1)
    errors = []
    for each in (kernel, scheduled):
        run_kernel(each, arrays, {})
        errors.append(np.abs(arrays["y"] - exact).max())
    assert errors[1] < errors[0] / 4


@pytest.mark.parametrize(
    ("params", "body"),
    [
        ("in x: int32[2, 80], out y: int32[2]", "acc[] = max(acc[], x[n, k])"),
        ("in x: int32[2, 80], out y: int32[2]", "acc[] = min(acc[], x[n, k])"),
        ("in x: int32[2, 80], out y: int32[2]", "acc[] = acc[] + x[n, k] * x[n, k]"),
    ],
)
def test_integers_are_exact(params: str, body: str) -> None:
    kernel = parse_kernel(
        f"""kernel k({params}) {{ for n in 2 {{
          alloc acc: int32[] register  acc[] = x[n, 0]
          for k in 80 {{ {body} }} y[n] = acc[] }} }}"""
    )
    scheduled = schedule_kernel(kernel, TARGETS[RUNNABLE[0]])
    assert strategy(scheduled) == "folded"
    rng = np.random.default_rng(2)
    x = rng.integers(-(1 << 31), 1 << 31, (2, 80)).astype(np.int32)
    plain, got = ({"x": x, "y": np.zeros(2, np.int32)} for _ in range(2))
    run_kernel(kernel, plain, {})
    run_native(scheduled, TARGETS[RUNNABLE[0]], got)
    np.testing.assert_array_equal(got["y"], plain["y"])


def test_reductions_that_run_on_become_one() -> None:
    kernel = parse_kernel(
        """kernel k(in x: float32[4, 7, 9], out y: float32[4]) { for n in 4 {
          alloc acc: float32[] register  acc[] = 0.0
          for r in 7 { for q in 9 { acc[] = acc[] + x[n, r, q] } } y[n] = acc[] } }"""
    )
    scheduled = schedule_kernel(kernel, TARGETS["x86-64-avx2"])
    assert strategy(scheduled) == "folded"
    arrays = {
        "x": np.ones((4, 7, 9), np.float32),
        "y": np.zeros(4, np.float32),
    }
    run_kernel(scheduled, arrays, {})
    np.testing.assert_array_equal(arrays["y"], 63)


@pytest.mark.parametrize(
    "body",
    [
        "for k in 31 { acc[] = acc[] + x[n, k] }",  # short
        "for k in 64 { acc[] = acc[] + x[k, n] }",  # apart in memory
        "for k in N { acc[] = acc[] + x[n, k] }",  # of an extent that isn't known
        "for k in 64 { acc[] = x[n, k] - acc[] }",  # no combiner
        "for k in 64 { acc[] = acc[] + x[n, k] * acc[] }",  # a recurrence
        "for k in 64 { acc[] = acc[] + select(0 <= k - 1, x[n, k - 1], 0.0) }",  # guarded
    ],
)
def test_others_stay_as_they_are(body: str) -> None:
    kernel = parse_kernel(
        f"""kernel k(in x: float32[64, 64], in z: float32[N], out y: float32[64, 2]) {{ for n in 64 {{
          alloc acc: float32[] register  acc[] = 0.0  {body}  y[n, 0] = acc[] }} }}"""
    )
    assert strategy(schedule_kernel(kernel, TARGETS["x86-64-avx2"])) == "scalar"


def test_partial_results_stand_outside_all_loops_of_the_reduction() -> None:
    kernel = parse_kernel(
        """kernel k(in x: float32[4, 16], out y: float32[1]) { for n in 1 {
          alloc acc: float32[] register  acc[] = 0.0
          for r in 4 { for q in 13 { acc[] = acc[] + x[r, q] } } y[n] = acc[] } }"""
    )
    split = split_reduction(kernel, "q", 2, 3)
    parts = [s.buffer.name for s in walk(split.body) if isinstance(s, Alloc)]
    assert parts == ["acc", "part", "fold"]
    x = np.arange(64, dtype=np.float32).reshape(4, 16)
    arrays = {"x": x, "y": np.zeros(1, np.float32)}
    run_kernel(split, arrays, {})
    assert arrays["y"][0] == x[:, :13].sum()


@pytest.mark.parametrize(("var", "lanes", "vectors"), [("n", 2, 2), ("k", 3, 1), ("k", 32, 3)])
def test_what_is_no_such_reduction_is_refused(var: str, lanes: int, vectors: int) -> None:
    with pytest.raises(IRError, match="expected a reduction over"):
        split_reduction(kernel_of("sum", 64), var, lanes, vectors)
