"""Copies and pointwise kernels whose neighbours are neighbours on one side only: squares, and vectors inside them."""

from __future__ import annotations

import numpy as np
import pytest

from convc.loops.interp import run_kernel
from convc.loops.ir import For, Kernel, LoopKind, walk
from convc.loops.parser import parse_kernel
from convc.schedule.cpu import schedule_kernel
from convc.target import TARGETS
from tests.codegen.native import RUNNABLE, assert_same_bits, run_native

VALUES = {
    "copy": "x[n, i, j]",
    "sigmoid": "1.0 / (1.0 + exp(x[n, i, j] * -1.0))",
    "scaled": "fma(x[n, i, j], w[i], 0.5)",
    "per column": "x[n, i, j] * v[j]",
}


def kernel_of(value: str, rows: int, columns: int, dtype: str = "float32") -> Kernel:
    """y = f(x), where x lies the other way round."""
    return parse_kernel(
        f"""kernel k(
          in x: {dtype}[2, {rows}, {columns}] @(d0, d2, d1), in w: {dtype}[{rows}] constant,
          in v: {dtype}[{columns}] constant, out y: {dtype}[2, {rows}, {columns}]
        ) {{ for n in 2 {{ for i in {rows} {{ for j in {columns} {{ y[n, i, j] = {VALUES[value]} }} }} }} }}"""
    )


@pytest.mark.parametrize(("rows", "columns"), [(16, 32), (85, 40), (7, 9), (5, 100), (97, 64)])
@pytest.mark.parametrize(
    ("value", "dtype"), [*((v, "float32") for v in VALUES), ("per column", "float64")]
)
def test_any_extents_go_in_squares(value: str, rows: int, columns: int, dtype: str) -> None:
    kernel = kernel_of(value, rows, columns, dtype)
    rng = np.random.default_rng(3)
    for name in (RUNNABLE[0], RUNNABLE[-1]):
        scheduled = schedule_kernel(kernel, TARGETS[name])
        assert ("strategy", "transposed") in scheduled.notes
        is_vector = any(
            isinstance(s, For) and s.kind is LoopKind.vectorized for s in walk(scheduled.body)
        )
        assert is_vector == (value != "copy")
        arrays = {
            b.name: rng.standard_normal(b.shape).astype(b.dtype.numpy)  # type: ignore[arg-type]
            for b in kernel.params
        }
        plain, wanted, found = (arrays | {"y": np.full_like(arrays["x"], np.nan)} for _ in range(3))
        run_kernel(kernel, plain, {})
        run_kernel(scheduled, wanted, {})
        run_native(scheduled, TARGETS[name], found)
        np.testing.assert_allclose(wanted["y"], plain["y"], rtol=1e-6, atol=1e-6)
        assert_same_bits(found["y"], wanted["y"])
