"""The GPU schedules of operators' kernels: the plain kernel's bits, in many blocks, and source that compiles."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from convc.codegen.cuda import generate
from convc.codegen.cuda_kernel import launch_of
from convc.graph.op import Op
from convc.loops.formula import tensor_of
from convc.loops.interp import run_kernel
from convc.loops.ir import (
    INDEX,
    Barrier,
    Buffer,
    Const,
    Expr,
    For,
    Kernel,
    Layout,
    Load,
    Role,
    Var,
    walk,
)
from convc.loops.math import expand_math
from convc.loops.parser import parse_kernel
from convc.loops.walking import expressions, map_expr, subexpressions
from convc.lower.nest import naive_kernel
from convc.ops.activations import Relu
from convc.ops.broadcasting import Add
from convc.ops.conv import Conv2d, ConvTranspose2d
from convc.ops.elementwise import Tanh
from convc.ops.matmul import MatMul
from convc.ops.pool import AvgPool2d, MaxPool2d
from convc.ops.reduce import ReduceMean
from convc.ops.shape import Transpose
from convc.schedule.cpu import schedule_kernel as schedule_for_cpu
from convc.schedule.cuda import schedule_kernel
from convc.target import TARGETS
from convc.types import Dim, DType, Shape, TensorType, evaluate
from tests.codegen.cuda_host import build_host, compile_device, run_host

N = Dim.symbol("N")
ROWS: dict[str, tuple[Op, tuple[Shape, ...]]] = {
    "conv3x3": (Conv2d((2, 1), ((1, 1), (0, 1))), ((N, 5, 9, 7), (12, 5, 3, 2))),
    "conv1x1": (Conv2d(), ((2, 16, 6, 6), (32, 16, 1, 1))),
    "conv_dilated": (Conv2d((1, 1), ((2, 2), (2, 2)), (2, 2)), ((1, 3, 6, 7), (9, 3, 3, 3))),
    "depthwise": (Conv2d(groups=4), ((N, 4, 5, 5), (4, 1, 3, 3))),
    "grouped": (Conv2d(groups=2), ((N, 4, 5, 5), (6, 2, 3, 3))),
    "transposed": (ConvTranspose2d((2, 2), ((1, 0), (0, 1))), ((N, 4, 4, 5), (4, 9, 3, 3))),
    "matmul": (MatMul(), ((N, 33, 19), (N, 19, 40))),
    "dense": (MatMul(), ((N, 37), (37, 21))),
    "one_pixel": (Conv2d(), ((N, 20, 1, 1), (9, 20, 1, 1))),
    "vector": (MatMul(), ((1, 37), (37, 21))),
    "tanh": (Tanh(), ((N, 30, 7),)),
    "relu": (Relu(), ((7, 5),)),
    "add": (Add(), ((N, 1, 6, 5), (4, 1, 5))),
    "max_pool": (MaxPool2d((3, 3), (2, 2), ((1, 1), (1, 1))), ((N, 3, 7, 7),)),
    "avg_pool": (AvgPool2d((2, 2), (2, 2)), ((N, 3, 6, 6),)),
    "mean": (ReduceMean((2, 3), False), ((N, 10, 5, 5),)),
    "total": (ReduceMean((0, 1), False), ((6, 5),)),
    "transpose": (Transpose((1, 2, 0)), ((N, 6, 5),)),
}
TILED = {"conv3x3", "conv1x1", "conv_dilated", "transposed", "matmul", "dense", "one_pixel"}
SYMBOLS = {"N": 3}


def plain_kernel(name: str) -> Kernel:
    op, shapes = ROWS[name]
    layout = Layout.permuted((0, 2, 3, 1)) if name == "conv1x1" else None
    inputs = [
        Buffer(
            f"x{i}",
            DType.float32,
            s,
            layout if i == 0 and layout else Layout.dense(len(s)),
            role=Role.in_,
        )
        for i, s in enumerate(shapes)
    ]
    (result,) = op.infer(*(TensorType(b.dtype, b.shape) for b in inputs))
    output = Buffer("y", result.dtype, result.shape, role=Role.out)
    assert op.formula is not None
    return naive_kernel(name, inputs, output, op.formula(*map(tensor_of, inputs)))


PLAIN = {name: plain_kernel(name) for name in ROWS}
SCHEDULED = {name: schedule_kernel(kernel) for name, kernel in PLAIN.items()}


def arrays_of(kernel: Kernel) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(7)
    shapes = {b.name: tuple(evaluate(e, SYMBOLS) for e in b.shape) for b in kernel.params}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def expected_of(name: str) -> NDArray[Any]:
    arrays = arrays_of(PLAIN[name])
    run_kernel(expand_math(PLAIN[name]), arrays, SYMBOLS)
    return arrays["y"]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    kernels = list(SCHEDULED.values())
    return build_host(generate(kernels), kernels, tmp_path_factory.mktemp("host"))


@pytest.mark.parametrize("name", ROWS)
def test_a_scheduled_kernel_gives_the_plain_kernels_bits(name: str) -> None:
    arrays = arrays_of(PLAIN[name])
    run_kernel(SCHEDULED[name], arrays, SYMBOLS, seed=11)
    np.testing.assert_array_equal(arrays["y"], expected_of(name))


@pytest.mark.parametrize("name", ROWS)
def test_its_source_gives_them_on_the_host(name: str, program: Path) -> None:
    arrays = arrays_of(PLAIN[name])
    run_host(program, SCHEDULED[name], arrays, SYMBOLS, seed=12)
    np.testing.assert_array_equal(arrays["y"], expected_of(name))


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_the_sources_compile_for_gpus_without_warnings(architecture: str, tmp_path: Path) -> None:
    compile_device(generate(list(SCHEDULED.values())), architecture, tmp_path)


@pytest.mark.parametrize("name", ROWS)
def test_the_grid_has_a_block_per_1024_outputs(name: str) -> None:
    kernel = SCHEDULED[name]
    for n in (1, 128):
        blocks = math.prod(number(e, n) for e in launch_of(kernel).grid)
        outputs = math.prod(evaluate(e, {"N": n}) for e in kernel.params[-1].shape)
        assert blocks * 1024 >= outputs


def number(expr: Expr, n: int) -> int:
    """A grid extent for a batch of n."""
    known = map_expr(lambda e: Const(n, INDEX) if isinstance(e, Var) else e, expr)
    assert isinstance(known, Const)
    return int(known.value)


@pytest.mark.parametrize("name", ROWS)
def test_products_with_reuse_go_through_shared_memory(name: str) -> None:
    assert any(isinstance(s, Barrier) for s in walk(SCHEDULED[name].body)) == (name in TILED)


def test_what_is_done_to_an_operand_is_done_once_per_tile() -> None:
    kernel = parse_kernel(
        """kernel prologue(in x: float32[40, 20], in s: float32[20], in w: float32[20, 36], out y: float32[40, 36]) {
          for i in 40 { for j in 36 {
            alloc acc: float32[] register
            acc[] = 0.0
            for k in 20 { acc[] = fma(max(x[i, k] * s[k], 0.0), w[k, j], acc[]) }
            y[i, j] = max(acc[], 0.5)
          } }
        }"""
    )
    scheduled = schedule_kernel(kernel)
    adding = next(
        s for s in walk(scheduled.body) if isinstance(s, For) and s.var == "k" and len(s.body) == 1
    )
    assert {e.buffer for s in walk(adding.body) for x in expressions(s) for e in loads(x)} == {
        "acc",
        "tile0",
        "tile1",
    }
    expected, got = arrays_of(kernel), arrays_of(kernel)
    run_kernel(kernel, expected, {})
    run_kernel(scheduled, got, {}, seed=1)
    np.testing.assert_array_equal(got["y"], expected["y"])


def loads(expr: Expr) -> list[Load]:
    return [e for e in subexpressions(expr) if isinstance(e, Load)]


@pytest.mark.parametrize(
    ("name", "notes"),
    [
        ("conv3x3", (("strategy", "tiled product"), ("tile", "32x32x16"))),
        ("tanh", (("strategy", "thread per output"),)),
    ],
)
def test_a_note_says_what_was_done(name: str, notes: tuple) -> None:
    assert SCHEDULED[name].notes == notes
    assert f"// {', '.join(value for _, value in notes)}\n" in generate([SCHEDULED[name]])


ACROSS = ("conv3x3", "conv1x1", "depthwise", "dense", "tanh", "max_pool")


def test_kernels_scheduled_for_a_cpu_are_kernels_for_a_gpu_too(tmp_path: Path) -> None:
    """Tasks become blocks, lanes unrolled loops: slow, and the same bits. The loop IR is one IR."""
    target = TARGETS["x86-64-avx2"]
    kernels = {name: schedule_for_cpu(PLAIN[name], target) for name in ACROSS}
    program = build_host(generate(list(kernels.values())), list(kernels.values()), tmp_path)
    for kernel in kernels.values():
        expected, got = arrays_of(kernel), arrays_of(kernel)
        run_kernel(kernel, expected, SYMBOLS)
        run_host(program, kernel, got, SYMBOLS)
        np.testing.assert_array_equal(got["y"], expected["y"], err_msg=kernel.name)
