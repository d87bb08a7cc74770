"""Random expressions mean the same in C++ as in the interpreter: precedences, wrapping, rounding of divisions."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from convc.codegen.cuda import generate
from convc.loops.interp import run_kernel
from convc.loops.ir import (
    COMPARISONS,
    INDEX,
    Binary,
    Buffer,
    Call,
    Cast,
    Const,
    Expr,
    For,
    Kernel,
    Load,
    LoopKind,
    Role,
    Select,
    Stmt,
    Store,
    Var,
)
from convc.types import DType
from tests.codegen.cuda_host import build_host, run_host

Array = NDArray[Any]
LANES = 16
DTYPES = [
    INDEX,
    DType.int32,
    DType.uint32,
    DType.int8,
    DType.uint8,
    DType.float32,
    DType.float16,
    DType.bool,
]
NUMBERS = [d for d in DTYPES if d is not DType.bool]


class Writer:
    """Random expressions over the loop variable t and one input buffer per dtype."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def expr(self, dtype: DType, depth: int) -> Expr:
        if depth == 0 or self.random.random() < 0.1:
            return self.leaf(dtype)
        if self.random.random() < 0.1:
            return Select(
                self.expr(DType.bool, depth - 1),
                self.expr(dtype, depth - 1),
                self.expr(dtype, depth - 1),
            )
        if dtype is DType.bool:
            return self.boolean(depth)
        if self.random.random() < 0.15 and dtype is not INDEX:
            return Cast(self.expr(self.random.choice(DTYPES), depth - 1), dtype)
        if dtype.is_float:
            return self.real(dtype, depth)
        return self.integer(dtype, depth)

    def leaf(self, dtype: DType) -> Expr:
        if dtype is INDEX and self.random.random() < 0.6:
            return Var("t")
        if self.random.random() < 0.5:
            return Load(dtype.value, (Var("t"),), dtype) if dtype is not INDEX else Var("t")
        if dtype is DType.bool:
            return Const(self.random.random() < 0.5, dtype)
        if dtype.is_float:
            return Const(float(self.random.choice([0.0, 0.5, -1.25, 3.0, -0.0])), dtype)
        low = -9 if dtype.is_signed else 0
        return Const(self.random.randint(low, 9), dtype)

    def boolean(self, depth: int) -> Expr:
        compare = self.random.random() < 0.5
        op = self.random.choice(COMPARISONS if compare else ("&", "|", "^"))
        of = self.random.choice(NUMBERS if compare else [DType.bool])
        return Binary(op, self.expr(of, depth - 1), self.expr(of, depth - 1))

    def real(self, dtype: DType, depth: int) -> Expr:
        parts = [self.expr(dtype, depth - 1) for _ in range(3)]
        match self.random.randrange(4):
            case 0:
                return Call("fma", tuple(parts), dtype)
            case 1:
                return Call(
                    self.random.choice(["abs", "floor", "round", "trunc"]), (parts[0],), dtype
                )
            case _:
                return Binary(
                    self.random.choice(["+", "-", "*", "/", "min", "max"]), parts[0], parts[1]
                )

    def integer(self, dtype: DType, depth: int) -> Expr:
        a, b = self.expr(dtype, depth - 1), self.expr(dtype, depth - 1)
        op = self.random.choice(["+", "-", "*", "//", "%", "min", "max", "&", "|", "^", "<<", ">>"])
        if op in ("//", "%"):
            b = Const(self.random.choice([1, 2, 3, 7] + ([-3] if dtype.is_signed else [])), dtype)
        if op in ("<<", ">>"):
            b = Const(self.random.randint(0, 3), dtype)
        if dtype is INDEX and op in ("*", "<<", "^", "&", "|"):
            a = Binary("%", a, Const(100, INDEX))
            b = b if isinstance(b, Const) else Binary("%", b, Const(50, INDEX))
        return Binary(op, a, b)


def kernel_of(seed: int) -> Kernel:
    """One kernel with a random expression of each dtype."""
    writer = Writer(seed)
    inputs = [Buffer(d.value, d, (LANES,), role=Role.in_) for d in DTYPES if d is not INDEX]
    outputs = [Buffer(f"y_{d.value}", d, (LANES,), role=Role.out) for d in DTYPES]
    body: list[Stmt] = [Store(b.name, (Var("t"),), writer.expr(b.dtype, 4)) for b in outputs]
    loop = For("t", Const(LANES, INDEX), tuple(body), LoopKind.thread_x)
    return Kernel(f"random_{seed}", (*inputs, *outputs), (loop,))


KERNELS = [kernel_of(seed) for seed in range(30)]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_host(generate(KERNELS), KERNELS, tmp_path_factory.mktemp("host"))


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: k.name)
def test_random_expressions_give_the_interpreters_bits(kernel: Kernel, program: Path) -> None:
    expected, got = arrays_of(kernel), arrays_of(kernel)
    run_kernel(kernel, expected, {})
    run_host(program, kernel, got, {})
    for buffer in kernel.params:
        a, b = got[buffer.name], expected[buffer.name]
        np.testing.assert_array_equal(a, b, err_msg=f"{kernel.name} {buffer.name}")


def arrays_of(kernel: Kernel) -> dict[str, Array]:
    rng = np.random.default_rng(4)
    found: dict[str, Array] = {}
    for buffer in kernel.params:
        if buffer.dtype is DType.bool:
            found[buffer.name] = rng.integers(0, 2, LANES).astype(bool)
        elif buffer.dtype.is_float:
            found[buffer.name] = (rng.standard_normal(LANES) * 8).astype(buffer.dtype.numpy)
        else:
            info = np.iinfo(buffer.dtype.numpy)
            found[buffer.name] = rng.integers(
                info.min, info.max, LANES, buffer.dtype.numpy, endpoint=True
            )
    return found
