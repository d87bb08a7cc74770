"""The hand-written dot kernels on the CPU: the machine's dot instructions where it has them, arithmetic elsewhere."""

from __future__ import annotations

import itertools
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from convc.codegen.llvm_module import kernels_module
from convc.codegen.llvmc import assembly, compile_object, host_cpu
from convc.loops.interp import run_kernel
from convc.loops.ir import Kernel
from convc.loops.parser import parse_kernel
from convc.target import TARGETS
from tests.codegen.cuda_kernels import HAND_WRITTEN
from tests.codegen.native import run_native

Array = NDArray[Any]
DOTS = "x86-64-avx512-vnni-bf16"
INSTRUCTIONS = {"dot_u8s8": "vpdpbusd", "dot_bf16": "vdpbf16ps"}


def read(name: str) -> Kernel:
    return parse_kernel((HAND_WRITTEN / f"{name}.kernel").read_text())


def arrays_of(name: str) -> dict[str, Array]:
    """Operands of a dot kernel; no sum of their products is rounded, so that instructions may sum as they like."""
    rng = np.random.default_rng(8)
    if name == "dot_u8s8":
        x, w = (
            rng.integers(0, 256, (5, 24)).astype(np.uint8),
            rng.integers(-128, 128, (32, 24)).astype(np.int8),
        )
        return {"x": x, "w": w, "y": np.zeros((5, 32), np.int32)}
    x, w = (rng.integers(-9, 10, s).astype(ml_dtypes.bfloat16) for s in ((3, 20), (32, 20)))
    return {"x": x, "w": w, "y": np.zeros((3, 32), np.float32)}


PLAIN = ("x86-64-v2", "x86-64-avx2", "x86-64-avx512")


def needs(target: str) -> None:
    """Skips where this machine can't run a target's code."""
    if not set(TARGETS[target].features) <= host_cpu()[1]:
        pytest.skip(f"this machine lacks what {target} needs")


@pytest.mark.parametrize(("name", "target"), list(itertools.product(INSTRUCTIONS, (*PLAIN, DOTS))))
def test_machine_code_gives_the_interpreters_bits(name: str, target: str) -> None:
    needs(target)
    expected, got = arrays_of(name), arrays_of(name)
    run_kernel(read(name), expected, {})
    run_native(read(name), TARGETS[target], got)
    np.testing.assert_array_equal(got["y"], expected["y"])


@pytest.mark.parametrize("target", PLAIN)
def test_sums_that_round_have_the_interpreters_bits_without_the_instruction(target: str) -> None:
    needs(target)
    rng = np.random.default_rng(9)
    x, w = (rng.standard_normal(s).astype(ml_dtypes.bfloat16) for s in ((3, 20), (32, 20)))
    expected, got = ({"x": x, "w": w, "y": np.zeros((3, 32), np.float32)} for _ in range(2))
    run_kernel(read("dot_bf16"), expected, {})
    run_native(read("dot_bf16"), TARGETS[target], got)
    np.testing.assert_array_equal(got["y"], expected["y"])


@pytest.mark.parametrize(("name", "instruction"), INSTRUCTIONS.items())
def test_the_target_with_a_dot_row_uses_its_instruction(name: str, instruction: str) -> None:
    text = kernels_module([read(name)], TARGETS[DOTS])
    assert instruction in assembly(text, TARGETS[DOTS])
    assert instruction not in assembly(
        kernels_module([read(name)], TARGETS["x86-64-avx512"]), TARGETS["x86-64-avx512"]
    )


@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_the_kernels_compile_for_arm(name: str) -> None:
    target = TARGETS["aarch64-neon"]
    assert compile_object(kernels_module([read(name)], target), target)
