"""The form of the formulas that schedules rely on: which reductions, guards and index arithmetic remain."""

from __future__ import annotations

from convc.graph.op import Op
from convc.loops.formula import Tensor
from convc.loops.ir import Binary, Cast, Expr, Load, Reduce, Select, Var
from convc.loops.printer import print_expr
from convc.loops.walking import subexpressions
from convc.ops.activations import Gelu
from convc.ops.conv import Conv2d, ConvTranspose2d
from convc.ops.matmul import MatMul
from convc.ops.pool import AvgPool2d, MaxPool2d
from convc.ops.resize import Resize2d
from convc.ops.shape import Pad, Reshape
from convc.types import DType, Extent, TensorType
from tests.ops.cases.case import N, bf16, f32, i8, u8


def formula(op: Op, *types: TensorType) -> Expr:
    operands = [
        Tensor(t.dtype, t.shape, lambda *at, name=name, d=t.dtype: Load(name, tuple(at), d))
        for name, t in zip("xw", types, strict=False)
    ]
    (result,) = op.infer(*types)
    names = "noij" if result.rank == 4 else "abdefg"
    assert op.formula is not None
    expr = op.formula(*operands)(*map(Var, names[: result.rank]))
    assert isinstance(expr, (Reduce, Load, Binary, Select, Cast))
    return expr


def axes(expr: Expr) -> list[tuple[str, Extent]]:
    return [axis for e in subexpressions(expr) if isinstance(e, Reduce) for axis in e.axes]


def test_plain_convolution_has_neither_guard_nor_group() -> None:
    expr = formula(Conv2d(), f32(N, 3, 8, 8), f32(4, 3, 3, 3))
    assert print_expr(expr) == "sum[c: 3, r: 3, s: 3](x[n, c, i + r, j + s] * w[o, c, r, s])"


def test_pointwise_convolution_reduces_over_channels_only() -> None:
    expr = formula(Conv2d(), f32(N, 16, 8, 8), f32(4, 16, 1, 1))
    assert print_expr(expr) == "sum[c: 16](x[n, c, i, j] * w[o, c, 0, 0])"


def test_padding_guards_only_the_sides_it_needs() -> None:
    expr = formula(Conv2d((2, 2), ((0, 1), (0, 0))), f32(N, 3, 8, 9), f32(4, 3, 3, 3))
    assert print_expr(expr) == (
        "sum[c: 3, r: 3, s: 3](select(i * 2 + r < 8, x[n, c, i * 2 + r, j * 2 + s], 0.0) * w[o, c, r, s])"
    )


def test_padding_that_no_tap_reaches_leaves_no_guard() -> None:
    expr = formula(Conv2d((2, 2), ((0, 1), (0, 1))), f32(N, 3, 9, 9), f32(4, 3, 3, 3))
    assert not any(isinstance(e, Select) for e in subexpressions(expr))


def test_padded_pointwise_convolution_keeps_its_guards() -> None:
    expr = formula(Conv2d(padding=((0, 1), (0, 0))), f32(N, 3, 8, 8), f32(4, 3, 1, 1))
    assert print_expr(expr) == "sum[c: 3](select(i < 8, x[n, c, i, j], 0.0) * w[o, c, 0, 0])"


def test_depthwise_convolution_has_no_channel_loop() -> None:
    expr = formula(Conv2d(groups=5), f32(N, 5, 8, 8), f32(5, 1, 3, 3))
    assert print_expr(expr) == "sum[r: 3, s: 3](x[n, o, i + r, j + s] * w[o, 0, r, s])"


def test_grouped_convolution_offsets_the_channels() -> None:
    expr = formula(Conv2d(groups=3), f32(N, 6, 8, 8), f32(9, 2, 1, 1))
    assert print_expr(expr) == "sum[c: 2](x[n, o // 3 * 2 + c, i, j] * w[o, c, 0, 0])"


def test_transposed_convolution_of_stride_1_divides_nothing() -> None:
    expr = formula(ConvTranspose2d(), f32(N, 3, 8, 8), f32(3, 4, 3, 3))
    assert not any(isinstance(e, Binary) and e.op in ("//", "%") for e in subexpressions(expr))
    assert axes(expr) == [("c", 3), ("r", 3), ("s", 3)]


def test_narrow_operands_accumulate_wide() -> None:
    for types, accumulator, result in (
        ((u8(2, 9), i8(9, 3)), DType.int32, DType.int32),
        ((bf16(2, 9), bf16(9, 3)), DType.float32, DType.bfloat16),
    ):
        expr = formula(MatMul(), *types)
        (reduction,) = (e for e in subexpressions(expr) if isinstance(e, Reduce))
        assert reduction.dtype is accumulator
        assert expr.dtype is result


def test_float32_needs_no_cast() -> None:
    for expr in (
        formula(Conv2d(), f32(N, 3, 8, 8), f32(4, 3, 3, 3)),
        formula(Gelu(), f32(N, 3)),
        formula(AvgPool2d(), f32(N, 3, 8, 8)),
    ):
        assert not any(isinstance(e, Cast) for e in subexpressions(expr))


def test_pools_reduce_over_their_window() -> None:
    expr = formula(MaxPool2d((3, 2), (2, 2)), f32(N, 3, 9, 8))
    assert print_expr(expr) == "max[r: 3, s: 2](x[n, o, i * 2 + r, j * 2 + s])"


def test_nearest_resize_divides_by_the_scale() -> None:
    assert print_expr(formula(Resize2d((2, 3)), f32(N, 3, 4, 4))) == "x[n, o, i // 2, j // 3]"


def test_reshape_leaves_matching_dimensions_alone() -> None:
    expr = formula(Reshape((N, 105)), f32(N, 3, 5, 7))
    assert print_expr(expr) == "x[a, b // 35, b // 7 % 5, b % 7]"


def test_unpadded_dimensions_are_not_guarded() -> None:
    expr = formula(Pad(((0, 0), (1, 0))), f32(N, 5))
    assert print_expr(expr) == "select(0 <= b - 1, x[a, b - 1], 0.0)"
