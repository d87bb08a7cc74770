from __future__ import annotations

import math

import pytest
from hypothesis import HealthCheck, given, settings

from convc.loops.ir import (
    INDEX,
    Alloc,
    Axis,
    Barrier,
    Binary,
    Buffer,
    Const,
    Expr,
    For,
    If,
    Kernel,
    Layout,
    Let,
    Load,
    LoopKind,
    Role,
    Space,
    Store,
    Var,
    index,
)
from convc.loops.parser import parse_expr, parse_kernel
from convc.loops.printer import print_expr, print_head, print_kernel, print_stmt
from convc.types import Dim, DType
from tests.loops.random_kernels import expressions, kernels

N = Dim.symbol("N")
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@QUICK
@given(kernels())
def test_every_kernel_reads_back_the_same(kernel: Kernel) -> None:
    again = parse_kernel(print_kernel(kernel))
    assert again == kernel
    assert again.notes == kernel.notes


@QUICK
@given(expressions())
def test_every_expression_reads_back_the_same(expr: Expr) -> None:
    text = print_expr(expr)
    assert parse_expr(text, {"i": INDEX, "j": INDEX}, {"x": DType.float32}) == expr


def test_a_kernel_reads_pleasantly() -> None:
    nhwc = Layout.permuted((0, 2, 3, 1))
    x = Buffer("x", DType.float32, (N, 3, 8, 8), nhwc, role=Role.in_)
    y = Buffer("y", DType.float32, (N, 3), role=Role.out)
    acc = Buffer("acc", DType.float32, (4,), space=Space.register)
    n, c = Var("n"), Var("c")
    guard = (as_index(0) <= c) & (c < 3)
    load = Load("x", (n, c, as_index(0), c * 2 + 1), DType.float32)
    body = (
        Alloc(acc),
        Let("a", load * 0.5),
        If(guard, (Store("y", (n, c), Var("a", DType.float32)),), (Barrier(), Barrier("warp"))),
    )
    loops = For("n", index(N), (For("c", as_index(4), body, LoopKind.unrolled),), LoopKind.parallel)
    kernel = Kernel("scale", (x, y), (loops,), (("tile", '4 "wide"'),))
    assert print_kernel(kernel) == (
        "kernel scale(in x: float32[N, 3, 8, 8] @(d0, d2, d3, d1), "
        "out y: float32[N, 3]) {\n"
        '  note "tile" "4 \\"wide\\""\n'
        "  for n in N parallel {\n"
        "    for c in 4 unrolled {\n"
        "      alloc acc: float32[4] register\n"
        "      let a: float32 = x[n, c, 0, c * 2 + 1] * 0.5\n"
        "      if (0 <= c) & (c < 3) {\n"
        "        y[n, c] = a\n"
        "      } else {\n"
        "        barrier\n"
        "        barrier(warp)\n"
        "      }\n"
        "    }\n"
        "  }\n"
        "}\n"
    )


def as_index(value: int) -> Const:
    return Const(value, INDEX)


@pytest.mark.parametrize(
    ("constant", "text"),
    [
        (Const(3, INDEX), "3"),
        (Const(-3, DType.int32), "-3i32"),
        (Const(200, DType.uint8), "200u8"),
        (Const(0.1, DType.float32), "0.1"),
        (Const(0.1, DType.bfloat16), "0.1bf16"),
        (Const(1e300, DType.float64), "1e+300f64"),
        (Const(-math.inf, DType.float32), "-inf"),
        (Const(math.nan, DType.float16), "nan_f16"),
        (Const(True, DType.bool), "true"),
    ],
)
def test_a_constant_shows_its_dtype(constant: Const, text: str) -> None:
    assert print_expr(constant) == text
    assert parse_expr(text) == constant


def test_the_sign_of_a_zero_survives() -> None:
    again = parse_expr(print_expr(Const(-0.0, DType.float32)))
    assert isinstance(again, Const)
    assert math.copysign(1, again.value) == -1


@pytest.mark.parametrize(
    ("expr", "text"),
    [
        ((Var("i") + Var("j")) * 2, "(i + j) * 2"),
        (Var("i") - (Var("j") - 1), "i - (j - 1)"),
        (Var("i") - Var("j") - 1, "i - j - 1"),
        (Binary("&", Var("i"), Var("j") + 1), "i & (j + 1)"),
        (Binary("==", Var("i") < Var("j"), Const(True, DType.bool)), "(i < j) == true"),
        (Binary("min", Var("i"), Var("j") * 3) // 2, "min(i, j * 3) // 2"),
    ],
)
def test_parentheses_stand_only_where_they_mean_something(expr: Expr, text: str) -> None:
    assert print_expr(expr) == text
    assert parse_expr(text) == expr


def test_a_statement_prints_with_or_without_its_blocks() -> None:
    loop = For("i", as_index(4), (Store("y", (Var("i"),), Const(0.0, DType.float32)),))
    assert print_stmt(loop) == "for i in 4 {\n  y[i] = 0.0\n}"
    assert print_head(loop) == "for i in 4"


def test_a_blocked_and_padded_layout_is_spelled_out() -> None:
    layout = Layout((Axis(0, 16), Axis(1), Axis(0, 1, 16, 20)), ((0, 0), (2, 3)))
    w = Buffer("w", DType.int8, (64, 9), layout, Space.constant, Role.in_)
    text = print_kernel(Kernel("k", (w,), ()))
    assert "in w: int8[64, 9] @(d0/16, d1, d0%16:20) border(0:0, 2:3) constant" in text
    assert parse_kernel(text).params == (w,)
