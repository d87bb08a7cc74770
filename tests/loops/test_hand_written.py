"""The kernels that the grammar must be able to say, written by hand: they round-trip, verify and give right numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from convc.loops.interp import run_kernel
from convc.loops.ir import Kernel
from convc.loops.parser import parse_kernel
from convc.loops.printer import print_kernel
from convc.loops.verify import verify_kernel

FOLDER = Path(__file__).parent / "kernels"
NAMES = sorted(p.stem for p in FOLDER.glob("*.kernel"))


def read(name: str) -> Kernel:
    return parse_kernel((FOLDER / f"{name}.kernel").read_text())


@pytest.mark.parametrize("name", NAMES)
def test_the_text_round_trips_and_verifies(name: str) -> None:
    kernel = read(name)
    verify_kernel(kernel)
    assert parse_kernel(print_kernel(kernel)) == kernel


@pytest.mark.parametrize("seed", [None, 3])
def test_the_pipelined_gemm_multiplies(seed: int | None) -> None:
    rng = np.random.default_rng(1)
    a = rng.integers(-4, 5, (128, 160)).astype(np.float16)
    b = rng.integers(-4, 5, (160, 64)).astype(np.float16)
    c = np.empty((128, 64), np.float32)
    run_kernel(read("mma_gemm"), {"a": a, "b": b, "c": c}, {}, seed)
    np.testing.assert_array_equal(c, a.astype(np.float32) @ b.astype(np.float32))


def test_the_int8_dot_kernel_multiplies() -> None:
    rng = np.random.default_rng(2)
    x = rng.integers(0, 256, (5, 24)).astype(np.uint8)
    w = rng.integers(-128, 128, (32, 24)).astype(np.int8)
    y = np.empty((5, 32), np.int32)
    run_kernel(read("dot_u8s8"), {"x": x, "w": w, "y": y}, {})
    np.testing.assert_array_equal(y, x.astype(np.int32) @ w.astype(np.int32).T)


def test_the_bf16_dot_kernel_multiplies() -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((3, 20)).astype(ml_dtypes.bfloat16)
    w = rng.standard_normal((32, 20)).astype(ml_dtypes.bfloat16)
    y = np.empty((3, 32), np.float32)
    run_kernel(read("dot_bf16"), {"x": x, "w": w, "y": y}, {})
    expected = x.astype(np.float64) @ w.astype(np.float64).T
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


def test_a_missing_wait_shows() -> None:
    """Copies land when they are waited for: without the wait the interpreter reads what nobody wrote."""
    text = (
        (FOLDER / "mma_gemm.kernel")
        .read_text()
        .replace("do cp_async_wait_1()", "do cp_async_wait_2()")
    )
    c = np.zeros((128, 64), np.float32)
    ones: dict[str, Any] = {
        "a": np.ones((128, 160), np.float16),
        "b": np.ones((160, 64), np.float16),
        "c": c,
    }
    run_kernel(parse_kernel(text), ones, {})
    assert np.isnan(c).all()
