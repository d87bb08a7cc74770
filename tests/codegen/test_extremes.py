"""`min` and `max` of floats mean the same everywhere: NaN if either is, the first of two equals, zeros' signs kept."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convc.codegen.cuda import generate
from convc.loops.interp import run_kernel
from convc.loops.ir import Kernel
from convc.loops.parser import parse_kernel
from convc.target import TARGETS
from convc.types import DType
from tests.codegen.cuda_host import build_host, run_host
from tests.codegen.native import RUNNABLE, Array, assert_same_bits, run_native

SPECIAL = (0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 2.5)
PAIRS = np.array(list(itertools.product(SPECIAL, SPECIAL)))
SUFFIXES = {"float32": "", "float64": "f64", "float16": "f16", "bfloat16": "bf16"}
OPERANDS = ("a[i], b[i]", "a[i], 0.0{s}", "0.0{s}, a[i]", "1.0{s}, a[i]", "a[i], 1.0{s}")


def kernel_of(dtype: str, kind: str) -> Kernel:
    """Both functions of every pair of operands, in loops of a kind."""
    rows = [f"{op}({o.format(s=SUFFIXES[dtype])})" for op in ("min", "max") for o in OPERANDS]
    stores = " ".join(f"y[{n}, i] = {row}" for n, row in enumerate(rows))
    size = len(PAIRS)
    params = ", ".join(f"in {n}: {dtype}[{size}]" for n in "ab")
    loop = f"for i in {size} {kind} {{ {stores} }}"
    return parse_kernel(
        f"kernel {dtype}(" + params + f", out y: {dtype}[{len(rows)}, {size}]) {{ {loop} }}"
    )


def arrays_of(dtype: str) -> dict[str, Array]:
    numpy = DType(dtype).numpy
    a, b = (PAIRS[:, i].astype(numpy) for i in (0, 1))
    return {"a": a, "b": b, "y": np.zeros((2 * len(OPERANDS), len(PAIRS)), numpy)}


def check(got: Array, wanted: Array) -> None:
    """The same numbers with the same signs; the sign of a NaN is nobody's."""
    found, expected = (np.asarray(x, np.float64) for x in (got, wanted))
    np.testing.assert_array_equal(found, expected)
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(found)[numbers], np.signbit(expected)[numbers])


@pytest.mark.parametrize("dtype", SUFFIXES)
def test_the_interpreter_keeps_the_first_of_two_equals(dtype: str) -> None:
    arrays = arrays_of(dtype)
    run_kernel(kernel_of(dtype, ""), arrays, {})
    a, b = PAIRS.T
    either = np.isnan(a) | np.isnan(b)
    check(arrays["y"][0], np.where(either, np.nan, np.where(b < a, b, a)))
    check(arrays["y"][len(OPERANDS)], np.where(either, np.nan, np.where(b > a, b, a)))


@pytest.mark.parametrize("kind", ["", "vectorized"])
@pytest.mark.parametrize("dtype", SUFFIXES)
@pytest.mark.parametrize("target", RUNNABLE)
def test_machine_code_gives_the_interpreters_signs(target: str, dtype: str, kind: str) -> None:
    expected, got = arrays_of(dtype), arrays_of(dtype)
    run_kernel(kernel_of(dtype, kind), expected, {})
    run_native(kernel_of(dtype, kind), TARGETS[target], got)
    assert_same_bits(got["y"], expected["y"])


def test_cuda_gives_the_interpreters_signs(tmp_path: Path) -> None:
    kernels = [kernel_of(dtype, "") for dtype in SUFFIXES]
    program = build_host(generate(kernels), kernels, tmp_path)
    for kernel in kernels:
        expected: dict[str, Any] = arrays_of(kernel.name)
        got: dict[str, Any] = arrays_of(kernel.name)
        run_kernel(kernel, expected, {})
        run_host(program, kernel, got, {})
        assert_same_bits(got["y"], expected["y"])
