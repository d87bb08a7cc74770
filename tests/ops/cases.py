"""One row per way of using an operator. Every generic operator test runs over this table.

A row says the operator and its inputs' types; `Case.arrays()` makes the same inputs on every run.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from convc.graph.ir import Builder, Graph
from convc.graph.op import Op
from convc.ops.activations import (
    Celu,
    Elu,
    Gelu,
    HardSigmoid,
    HardSwish,
    LeakyRelu,
    LogSigmoid,
    Mish,
    Relu,
    Selu,
    Sigmoid,
    Silu,
    Softplus,
    Softsign,
    ThresholdedRelu,
)
from convc.ops.augment import RandomAffine, RandomBrightness, RandomContrast, RandomCrop
from convc.ops.broadcasting import (
    Add,
    And,
    Div,
    Equal,
    FloorDiv,
    Greater,
    GreaterEqual,
    Less,
    LessEqual,
    Maximum,
    Minimum,
    Mod,
    Mul,
    NotEqual,
    Or,
    Pow,
    PRelu,
    Sub,
    Where,
    Xor,
)
from convc.ops.conv import Conv2d, Conv2dWeightGradient, ConvTranspose2d
from convc.ops.elementwise import (
    Abs,
    Acos,
    Acosh,
    Asin,
    Asinh,
    Atan,
    Atanh,
    Cast,
    Ceil,
    Clip,
    Cos,
    Cosh,
    Dropout,
    Erf,
    Exp,
    Expm1,
    Floor,
    Identity,
    Log,
    Log1p,
    Neg,
    Not,
    Reciprocal,
    Round,
    Rsqrt,
    Sign,
    Sin,
    Sinh,
    Sqrt,
    Square,
    StopGradient,
    Tan,
    Tanh,
)
from convc.ops.indexing import OneHot, ScatterAdd
from convc.ops.integer import (
    BitAnd,
    BitNot,
    BitOr,
    BitXor,
    IsInf,
    IsNan,
    Remainder,
    ShiftLeft,
    ShiftRight,
    TruncDiv,
)
from convc.ops.loss import SigmoidCrossentropy, SoftmaxCrossentropy, SparseSoftmaxCrossentropy
from convc.ops.matmul import MatMul
from convc.ops.noise import AlphaDropout, FreshSeed, GaussianDropout, GaussianNoise, SharedDropout
from convc.ops.norm import BatchNorm, BatchNormTraining, LayerNorm, LogSoftmax, Softmax
from convc.ops.ordering import (
    BitCast,
    CumProd,
    CumSum,
    GatherElements,
    LastPosition,
    Rank,
)
from convc.ops.pool import (
    AvgPool2d,
    AvgPool2dGradient,
    MaxPool2d,
    MaxPool2dGradient,
    MaxPool2dPosition,
    MaxPool2dWholeGradient,
)
from convc.ops.random import DropoutMask, RandomBits
from convc.ops.recurrent import GruLoop, LstmLoop, Recurrence, RnnLoop, TransposedCopy
from convc.ops.recurrent_gradients import (
    GruLoopGradient,
    LstmLoopGradient,
    RecurrenceGradient,
    RnnLoopGradient,
)
from convc.ops.reduce import (
    ArgMax,
    Count,
    FirstEqual,
    ReduceMax,
    ReduceMean,
    ReduceMin,
    ReduceProd,
    ReduceSum,
)
from convc.ops.resize import Resize2d, Resize2dGradient
from convc.ops.shape import (
    Broadcast,
    Concat,
    DepthToSpace,
    Gather,
    Pad,
    Reshape,
    Slice,
    SpaceToDepth,
    Transpose,
)
from convc.ops.sorting import Order, Positions, Scatter
from convc.ops.suppression import NonMaxSuppression
from convc.ops.trees import TreeSums
from convc.ops.volume import Conv3d, Conv3dWeightGradient, ConvTranspose3d
from convc.ops.warp import FILL_MODES, AffineWarp
from convc.ops.warp_gradients import AffineWarpGradient, AffineWarpMatrixGradient
from convc.ops.winograd import WinogradInput, WinogradOutput
from convc.ops.winograd_training import (
    WinogradFilter,
    WinogradFilterGradient,
    WinogradGradientTiles,
    WinogradImage,
    WinogradSums,
    WinogradTiles,
)
from convc.types import Dim, DType, Extent, TensorType

N = Dim.symbol("N")
SYMBOLS = {"N": 3}
Range = tuple[float, float]


@dataclass(frozen=True)
class Case:
    """An operator on inputs of given types. `ranges` limits each input's values (default -3 … 3)."""

    name: str
    op: Op
    types: tuple[TensorType, ...]
    ranges: tuple[Range, ...] = ()
    symbols: Mapping[str, int] = field(default_factory=lambda: SYMBOLS, hash=False)

    def arrays(self, types: tuple[TensorType, ...] | None = None) -> tuple[Any, ...]:
        """Inputs of the case's types, or of others with the same shapes; the same ones on every call."""
        found = []
        for k, (own, type) in enumerate(zip(self.types, types or self.types, strict=True)):
            low, high = self.ranges[k] if self.ranges else (-3.0, 3.0)
            found.append(values(f"{self.name}/{k}", own.evaluate(self.symbols), low, high))
            found[-1] = found[-1].astype(type.dtype.numpy)
        return tuple(found)

    def in_dtype(self, dtype: DType) -> tuple[TensorType, ...]:
        """The types with another float dtype."""
        return tuple(
            TensorType(dtype if t.dtype.is_float else t.dtype, t.shape) for t in self.types
        )

    def graph(self) -> Graph:
        """The operator alone, on graph inputs x0, x1, …"""
        builder = Builder(self.name)
        names = [builder.input(f"x{k}", t) for k, t in enumerate(self.types)]
        return builder.finish(builder.add_all(self.op, *names, name="y"))


def values(seed: str, type: TensorType, low: float, high: float) -> Any:
    """Random elements: floats on a grid of 1/1024 (exact in every float dtype's neighbourhood), integers, bools."""
    rng = np.random.default_rng(zlib.crc32(seed.encode()))
    shape = type.shape
    if type.dtype is DType.bool:
        return rng.integers(0, 2, shape).astype(np.bool_)  # type: ignore[arg-type]
    if type.dtype.is_integer:
        low = 0 if not type.dtype.is_signed and low < 0 else low
        return rng.integers(int(low), int(high), shape, endpoint=True).astype(type.dtype.numpy)  # type: ignore[arg-type]
    whole = np.round(rng.uniform(low, high, shape) * 1024) / 1024  # type: ignore[arg-type]
    return np.clip(whole, low, high).astype(type.dtype.numpy)


def f32(*shape: Extent) -> TensorType:
    return TensorType(DType.float32, shape)


def f64(*shape: Extent) -> TensorType:
    return TensorType(DType.float64, shape)


def f16(*shape: Extent) -> TensorType:
    return TensorType(DType.float16, shape)


def bf16(*shape: Extent) -> TensorType:
    return TensorType(DType.bfloat16, shape)


def i64(*shape: Extent) -> TensorType:
    return TensorType(DType.int64, shape)


def i32(*shape: Extent) -> TensorType:
    return TensorType(DType.int32, shape)


def i8(*shape: Extent) -> TensorType:
    return TensorType(DType.int8, shape)


def u8(*shape: Extent) -> TensorType:
    return TensorType(DType.uint8, shape)


def u32(*shape: Extent) -> TensorType:
    return TensorType(DType.uint32, shape)


def boolean(*shape: Extent) -> TensorType:
    return TensorType(DType.bool, shape)


def unary(op: Op, low: float = -3, high: float = 3, *, name: str = "") -> Case:
    """A float32 row of an elementwise operator on an odd shape with the symbolic batch."""
    return Case(f"{name or op.mnemonic}", op, (f32(N, 3, 5, 7),), ((low, high),))


def binary(op: Op, second: Range = (-3, 3), first: Range = (-3, 3)) -> list[Case]:
    """Rows of an n-ary operator: equal shapes, channel vectors, both sides stretched, a scalar."""
    shapes = {
        "same": (f32(N, 3, 5), f32(N, 3, 5)),
        "channel": (f32(N, 3, 5, 7), f32(3, 1, 1)),
        "both": (f32(4, 1, 3), f32(5, 1)),
        "scalar": (f32(2, 3), f32()),
    }
    return [Case(f"{op.mnemonic}-{k}", op, t, (first, second)) for k, t in shapes.items()]


def conv(name: str, op: Op, x: tuple[Extent, ...], w: tuple[Extent, ...]) -> Case:
    return Case(name, op, (f32(*x), f32(*w)), ((-2, 2), (-1, 1)))


ELEMENTWISE = [
    *map(
        unary,
        [
            Identity(),
            Dropout(0.3),
            StopGradient(),
            Neg(),
            Abs(),
            Sign(),
            Square(),
            Exp(),
            Expm1(),
            Sin(),
            Cos(),
        ],
    ),
    *map(unary, [Tanh(), Erf(), Floor(), Ceil(), Round(), Sinh(), Cosh(), Atan(), Asinh()]),
    *map(
        unary,
        [Relu(), LeakyRelu(0.2), ThresholdedRelu(0.7), Elu(1.3), Selu(), Celu(0.8), Sigmoid()],
    ),
    *map(unary, [LogSigmoid(), HardSigmoid(), HardSwish(), Softplus(), Softsign(), Silu(), Mish()]),
    unary(Gelu()),
    unary(Gelu(approximate=True), name="gelu-tanh"),
    unary(HardSigmoid(1 / 6, 0.5), name="hard_sigmoid-keras"),
    unary(Clip(0.0, 6.0), -3, 9),
    unary(Clip(min=-1.0), name="clip-min"),
    unary(Clip(max=1.0), name="clip-max"),
    unary(Log(), 0.01, 20),
    unary(Log1p(), -0.9, 20),
    unary(Sqrt(), 0, 20),
    unary(Rsqrt(), 0.1, 20),
    unary(Reciprocal(), 0.1, 9),
    unary(Tan(), -1.2, 1.2),
    unary(Asin(), -1, 1),
    unary(Acos(), -1, 1),
    unary(Acosh(), 1, 9),
    unary(Atanh(), -0.9, 0.9),
    unary(Exp(), -60, 60, name="exp-wide"),
    unary(Sigmoid(), -80, 80, name="sigmoid-wide"),
    unary(Softplus(), -80, 80, name="softplus-wide"),
    unary(Tanh(), -40, 40, name="tanh-wide"),
    Case("not", Not(), (boolean(N, 5),)),
    Case("relu-int32", Relu(), (i32(N, 5),), ((-90, 90),)),
    Case("abs-int8", Abs(), (i8(N, 5),), ((-90, 90),)),
    Case("neg-int64", Neg(), (i64(N, 5),), ((-90, 90),)),
    Case("sign-int32", Sign(), (i32(N, 5),)),
    Case("clip-uint8", Clip(3, 200), (u8(N, 5),), ((0, 255),)),
    Case("relu-scalar", Relu(), (f32(),)),
    Case("gelu-float16", Gelu(), (f16(N, 5),)),
    Case("silu-bfloat16", Silu(), (bf16(N, 5),)),
    Case("exp-float64", Exp(), (f64(N, 5),)),
    Case("relu-rank5", Relu(), (f32(2, 3, 1, 5, 2),)),
]

CASTS = [
    Case(
        f"cast-{source.value}-{wanted.value}",
        Cast(wanted),
        (TensorType(source, (N, 7)),),
        (limits,),
    )
    for source, wanted, limits in [
        (DType.float32, DType.int32, (-9, 9)),
        (DType.float32, DType.int8, (-300, 300)),
        (DType.float32, DType.uint8, (-300, 600)),
        (DType.float32, DType.float16, (-9, 9)),
        (DType.float32, DType.bfloat16, (-9, 9)),
        (DType.float32, DType.float64, (-9, 9)),
        (DType.float32, DType.bool, (-0.002, 0.002)),
        (DType.float16, DType.float32, (-9, 9)),
        (DType.bfloat16, DType.float32, (-9, 9)),
        (DType.float64, DType.float32, (-9, 9)),
        (DType.uint8, DType.float32, (0, 255)),
        (DType.int32, DType.float32, (-9, 9)),
        (DType.int64, DType.int32, (-9, 9)),
        (DType.int32, DType.bool, (-1, 1)),
        (DType.bool, DType.float32, (0, 1)),
    ]
]

BROADCASTING = [
    *(case for op in (Add(), Sub(), Mul(), Maximum(), Minimum(), PRelu()) for case in binary(op)),
    *binary(Div(), second=(0.5, 4)),
    *binary(Pow(), first=(0.1, 4)),
    *binary(FloorDiv(), second=(0.3, 4)),
    *binary(Mod(), second=(-4, -0.3)),
    *(case for op in (Less(), LessEqual(), Greater(), GreaterEqual()) for case in binary(op)),
    *(
        Case(f"{op.mnemonic}-int32", op, (i32(N, 3, 5), i32(5)), ((-2, 2), (-2, 2)))
        for op in (Equal(), NotEqual(), Less(), LessEqual(), Greater(), GreaterEqual())
    ),
    *(Case(f"{op.mnemonic}", op, (boolean(N, 3), boolean(1, 3))) for op in (And(), Or(), Xor())),
    Case("equal-bool", Equal(), (boolean(N, 3), boolean(3))),
    Case("equal-float32", Equal(), (f32(N, 64), f32(64)), ((-0.01, 0.01), (-0.01, 0.01))),
    Case("floor_div-int32", FloorDiv(), (i32(N, 9), i32(9)), ((-20, 20), (1, 5))),
    Case("mod-int64", Mod(), (i64(N, 9), i64(9)), ((-20, 20), (-5, -1))),
    Case("add-int8", Add(), (i8(N, 9), i8(9)), ((-20, 20), (-5, 5))),
    Case("mul-bfloat16", Mul(), (bf16(N, 3, 5), bf16(3, 1))),
    Case("add-float16", Add(), (f16(N, 3, 5), f16(3, 1))),
    Case("where", Where(), (boolean(N, 1, 5), f32(3, 1), f32(N, 3, 5))),
    Case("where-int64", Where(), (boolean(5), i64(N, 5), i64())),
]

CONV = [
    conv("conv2d-1x1", Conv2d(), (N, 5, 7, 6), (9, 5, 1, 1)),
    conv("conv2d-1x1-padded", Conv2d(padding=((0, 1), (1, 0))), (N, 3, 4, 5), (2, 3, 1, 1)),
    conv("conv2d-1x1-stride", Conv2d(stride=(2, 2)), (N, 5, 7, 6), (4, 5, 1, 1)),
    conv("conv2d-3x3", Conv2d(), (N, 3, 9, 8), (5, 3, 3, 3)),
    conv("conv2d-3x3-same", Conv2d(padding=((1, 1), (1, 1))), (N, 3, 9, 8), (5, 3, 3, 3)),
    conv("conv2d-3x3-wide-channels", Conv2d(padding=((1, 1), (1, 1))), (1, 16, 9, 11), (33, 16, 3, 3)),
    conv("conv2d-stride", Conv2d((2, 3), ((0, 1), (1, 2))), (N, 3, 11, 10), (4, 3, 3, 5)),
    conv("conv2d-keras-same", Conv2d((2, 2), ((0, 1), (0, 1))), (N, 3, 8, 10), (4, 3, 3, 3)),
    conv("conv2d-unused-padding", Conv2d((2, 2), ((0, 1), (0, 1))), (N, 2, 7, 9), (4, 2, 3, 3)),
    conv("conv2d-7x7", Conv2d((2, 2), ((3, 3), (3, 3))), (2, 3, 15, 13), (4, 3, 7, 7)),
    conv("conv2d-dilated", Conv2d((1, 1), ((2, 2), (3, 0)), (2, 3)), (N, 3, 9, 11), (4, 3, 3, 3)),
    conv("conv2d-1x7", Conv2d(padding=((0, 0), (3, 3))), (N, 3, 4, 9), (4, 3, 1, 7)),
    conv("conv2d-groups", Conv2d((1, 2), ((1, 1), (1, 1)), groups=3), (N, 6, 5, 7), (9, 2, 3, 3)),
    conv("conv2d-groups-1-out", Conv2d(groups=3), (N, 6, 5, 7), (3, 2, 3, 3)),
    conv("conv2d-depthwise", Conv2d((1, 1), ((1, 1), (1, 1)), groups=5), (N, 5, 9, 7), (5, 1, 3, 3)),
    conv("conv2d-depthwise-stride", Conv2d((2, 2), ((0, 1), (0, 1)), groups=5), (N, 5, 8, 6), (5, 1, 3, 3)),
    conv("conv2d-depthwise-5x5", Conv2d((1, 1), ((2, 2), (2, 2)), groups=17), (1, 17, 9, 7), (17, 1, 5, 5)),
    conv("conv2d-depthwise-multiplier", Conv2d(groups=3), (N, 3, 5, 7), (6, 1, 3, 3)),
    conv("conv2d-depthwise-1x1", Conv2d(groups=3), (N, 3, 5, 7), (3, 1, 1, 1)),
    conv("conv2d-one-pixel", Conv2d(padding=((1, 1), (1, 1))), (1, 4, 1, 1), (3, 4, 3, 3)),
    Case("conv2d-float64", Conv2d(), (f64(N, 3, 5, 5), f64(2, 3, 3, 3))),
    Case("conv2d-float16", Conv2d(), (f16(N, 3, 5, 5), f16(2, 3, 3, 3))),
    Case("conv2d-bfloat16", Conv2d(), (bf16(N, 3, 5, 5), bf16(2, 3, 3, 3))),
    Case("conv2d-uint8-int8", Conv2d(padding=((1, 1), (1, 1))), (u8(N, 3, 5, 5), i8(2, 3, 3, 3)),
         ((0, 255), (-128, 127))),
    conv("conv_transpose2d", ConvTranspose2d(), (N, 3, 4, 5), (3, 2, 3, 3)),
    conv("conv_transpose2d-1x1", ConvTranspose2d(), (N, 3, 4, 5), (3, 2, 1, 1)),
    conv("conv_transpose2d-stride", ConvTranspose2d((2, 3)), (N, 3, 4, 5), (3, 2, 3, 3)),
    conv("conv_transpose2d-same", ConvTranspose2d((2, 2), ((0, 1), (0, 1))), (N, 3, 4, 5), (3, 2, 3, 3)),
    conv("conv_transpose2d-small-kernel", ConvTranspose2d((3, 3)), (N, 3, 4, 5), (3, 2, 2, 1)),
    conv("conv_transpose2d-padding", ConvTranspose2d((2, 2), ((1, 2), (2, 0))), (N, 3, 4, 5), (3, 2, 4, 4)),
    conv("conv_transpose2d-output-padding", ConvTranspose2d((2, 2), ((1, 1), (1, 1)), (1, 1)),
         (N, 3, 4, 5), (3, 2, 3, 3)),
    conv("conv_transpose2d-dilated", ConvTranspose2d((2, 2), ((1, 1), (2, 1)), (1, 0), (2, 3)),
         (N, 3, 4, 5), (3, 2, 3, 2)),
    conv("conv_transpose2d-groups", ConvTranspose2d((2, 1), ((1, 0), (1, 1)), groups=2),
         (N, 6, 4, 5), (6, 2, 3, 3)),
    conv("conv2d-nothing-but-padding", Conv2d((3, 3), ((2, 0), (2, 0))), (2, 5, 1, 1), (17, 5, 1, 1)),
    conv("conv_transpose2d-nothing-but-padding", ConvTranspose2d((2, 3), ((1, 0), (2, 1)), (0, 0), (1, 3)),
         (2, 5, 1, 1), (5, 17, 3, 2)),
    conv("conv_transpose2d-depthwise", ConvTranspose2d((2, 2), ((0, 1), (0, 1)), groups=3),
         (N, 3, 4, 5), (3, 1, 3, 3)),
]  # fmt: skip

MATMUL = [
    Case("mat_mul-plain", MatMul(), (f32(N, 7), f32(7, 5))),
    Case("mat_mul-batch", MatMul(), (f32(N, 4, 7), f32(N, 7, 5))),
    Case("mat_mul-broadcast", MatMul(), (f32(2, 1, 4, 7), f32(3, 7, 5))),
    Case("mat_mul-shared", MatMul(), (f32(N, 3, 4, 7), f32(7, 5))),
    Case("mat_mul-shared-left", MatMul(), (f32(4, 7), f32(N, 7, 5))),
    Case("mat_mul-outer", MatMul(), (f32(N, 1), f32(1, 5))),
    Case("mat_mul-row", MatMul(), (f32(1, 33), f32(33, 17))),
    Case("mat_mul-int8", MatMul(), (u8(N, 9), i8(9, 5)), ((0, 255), (-128, 127))),
    Case("mat_mul-bfloat16", MatMul(), (bf16(N, 9), bf16(9, 5))),
    Case("mat_mul-float16", MatMul(), (f16(N, 9), f16(9, 5))),
]

POOL = [
    Case("max_pool2d", MaxPool2d(), (f32(N, 3, 8, 7),)),
    Case("max_pool2d-padded", MaxPool2d((3, 3), (2, 2), ((1, 1), (0, 1))), (f32(N, 3, 9, 8),)),
    Case("max_pool2d-overlap", MaxPool2d((3, 2), (1, 2)), (f32(N, 3, 9, 8),)),
    Case("max_pool2d-dilated", MaxPool2d((2, 3), (1, 2), ((1, 0), (2, 2)), (2, 2)), (f32(N, 3, 9, 8),)),
    Case("max_pool2d-1x1", MaxPool2d((1, 1), (2, 2)), (f32(N, 3, 5, 6),)),
    Case("max_pool2d-uint8", MaxPool2d((3, 3), (2, 2), ((1, 1), (1, 1))), (u8(N, 3, 9, 8),), ((0, 255),)),
    Case("max_pool2d-bfloat16", MaxPool2d(), (bf16(N, 3, 8, 7),)),
    Case("avg_pool2d", AvgPool2d(), (f32(N, 3, 8, 7),)),
    Case("avg_pool2d-padded", AvgPool2d((3, 3), (2, 2), ((1, 1), (0, 1))), (f32(N, 3, 9, 8),)),
    Case("avg_pool2d-same", AvgPool2d((3, 3), (1, 1), ((1, 1), (1, 1))), (f32(N, 3, 5, 6),)),
    Case("avg_pool2d-one-sided", AvgPool2d((2, 3), (1, 1), ((0, 1), (0, 0))), (f32(N, 3, 5, 6),)),
    Case("avg_pool2d-count-padding", AvgPool2d((3, 3), (2, 2), ((1, 1), (0, 1)), count_include_pad=True),
         (f32(N, 3, 9, 8),)),
    Case("avg_pool2d-dilated", AvgPool2d((2, 3), (1, 2), ((1, 1), (3, 2)), (2, 3)), (f32(N, 3, 9, 9),)),
    Case("avg_pool2d-float16", AvgPool2d((3, 3), (1, 1), ((1, 1), (1, 1))), (f16(N, 3, 5, 6),)),
]  # fmt: skip

REDUCE = [
    Case("reduce_sum-last", ReduceSum((-1,)), (f32(N, 5, 7),)),
    Case("reduce_sum-first", ReduceSum((0,)), (f32(N, 5, 7),)),
    Case("reduce_sum-two", ReduceSum((1, 3), keepdims=True), (f32(N, 5, 2, 7),)),
    Case("reduce_sum-all", ReduceSum((0, 1)), (f32(N, 5),)),
    Case("reduce_sum-none", ReduceSum(), (f32(N, 5),)),
    Case("reduce_sum-one", ReduceSum((1,)), (f32(N, 1, 5),)),
    Case("reduce_sum-int8", ReduceSum((1,)), (i8(N, 200),), ((-128, 127),)),
    Case("reduce_sum-bfloat16", ReduceSum((1,)), (bf16(N, 50),)),
    Case("reduce_mean-pixels", ReduceMean((2, 3)), (f32(N, 5, 7, 3),)),
    Case("reduce_mean-keep", ReduceMean((2, 3), True), (f32(N, 5, 7, 3),)),
    Case("reduce_mean-batch", ReduceMean((0,)), (f32(N, 5),)),
    Case("reduce_mean-float16", ReduceMean((1,)), (f16(N, 50),)),
    Case("reduce_max-pixels", ReduceMax((2, 3)), (f32(N, 5, 7, 3),)),
    Case("reduce_max-keep", ReduceMax((1,), True), (f32(N, 5, 7),)),
    Case("reduce_max-int32", ReduceMax((1,)), (i32(N, 5),)),
    Case("reduce_min", ReduceMin((1,)), (f32(N, 5, 7),)),
    Case("reduce_prod", ReduceProd((1,)), (f32(N, 5, 7),)),
    Case("arg_max", ArgMax(), (f32(N, 10),)),
    Case("arg_max-ties", ArgMax(1), (i32(N, 10, 4),), ((0, 2),)),
    Case("arg_max-keep", ArgMax(1, keepdims=True), (f32(N, 10, 4),)),
    Case("first_equal", FirstEqual(1), (i32(N, 10, 4), i32(N, 1, 4)), ((0, 4), (0, 4))),
    Case(
        "first_equal-keep",
        FirstEqual(-1, True),
        (f32(N, 300), f32(N, 1)),
        ((-0.05, 0.05), (-0.05, 0.05)),
    ),
]

NORM = [
    Case("softmax", Softmax(), (f32(N, 10),)),
    Case("softmax-channels", Softmax(1), (f32(N, 5, 3, 2),)),
    Case("softmax-large", Softmax(), (f32(N, 10),), ((-300, 300),)),
    Case("softmax-float16", Softmax(), (f16(N, 10),)),
    Case("log_softmax", LogSoftmax(), (f32(N, 10),)),
    Case("log_softmax-channels", LogSoftmax(1), (f32(N, 5, 3),), ((-300, 300),)),
    Case(
        "batch_norm", BatchNorm(), (f32(N, 5, 4, 3), *[f32(5)] * 4), (*[(-3.0, 3.0)] * 4, (0.1, 4))
    ),
    Case(
        "batch_norm-last",
        BatchNorm(-1, 1e-5),
        (f32(N, 5), *[f32(5)] * 4),
        (*[(-3.0, 3.0)] * 4, (0.1, 4)),
    ),
    Case("batch_norm_training", BatchNormTraining(), (f32(N, 5, 4, 3), f32(5), f32(5))),
    Case("batch_norm_training-last", BatchNormTraining(-1, 1e-5), (f32(N, 7, 5), f32(5), f32(5))),
    Case("layer_norm", LayerNorm(), (f32(N, 4, 9), f32(9), f32(9))),
    Case("layer_norm-channels", LayerNorm((1,), 1e-5), (f32(N, 9, 3, 2), f32(9), f32(9))),
    Case("layer_norm-two", LayerNorm((1, 3)), (f32(N, 4, 2, 5), f32(4, 5), f32(4, 5))),
    Case("layer_norm-swapped", LayerNorm((3, 1)), (f32(N, 4, 2, 5), f32(5, 4), f32(5, 4))),
]

SHAPE = [
    Case("transpose-channels", Transpose((0, 2, 3, 1)), (f32(N, 3, 5, 7),)),
    Case("transpose-matrix", Transpose((1, 0)), (f32(5, N),)),
    Case("transpose-rank0", Transpose(()), (f32(),)),
    Case("reshape-flatten", Reshape((N, 105)), (f32(N, 3, 5, 7),)),
    Case("reshape-rest", Reshape((N, -1)), (f32(N, 3, 5, 7),)),
    Case("reshape-batch-rest", Reshape((-1, 7)), (f32(N, 5, 7),)),
    Case("reshape-split", Reshape((N, 2, 3, 4)), (f32(N, 6, 4),)),
    Case("reshape-regroup", Reshape((4, 15, 2)), (f32(6, 4, 5),)),
    Case("reshape-ones", Reshape((1, N, 1, 5, 1)), (f32(N, 5),)),
    Case("reshape-no-ones", Reshape((N, 5)), (f32(1, N, 1, 5, 1),)),
    Case("reshape-scalar", Reshape(()), (f32(1, 1),)),
    Case("reshape-batch-product", Reshape((N * 5, 7)), (f32(N, 5, 7),)),
    Case("broadcast", Broadcast((N, 3, 5)), (f32(N, 1, 5),)),
    Case("broadcast-rank", Broadcast((4, 3, 5)), (f32(3, 1),)),
    Case("concat-channels", Concat(1), (f32(N, 3, 2, 4), f32(N, 1, 2, 4), f32(N, 5, 2, 4))),
    Case("concat-last", Concat(), (f32(N, 3), f32(N, 4))),
    Case("concat-one", Concat(1), (f32(N, 3),)),
    Case("concat-batch", Concat(0), (f32(N, 3), f32(2, 3))),
    Case(
        "slice-crop",
        Slice((None, None, 1, 2), (None, None, -1, 7), (1, 1, 1, 1)),
        (f32(N, 3, 6, 8),),
    ),
    Case("slice-steps", Slice((None, 1, -1), (None, None, None), (1, 2, -3)), (f32(N, 6, 8),)),
    Case("slice-reverse-batch", Slice((None, 0), (None, 2), (-1, 1)), (f32(N, 6),)),
    Case("slice-clamped", Slice((-100, 2), (100, 100), (1, 1)), (f32(4, 6),)),
    Case("pad-zeros", Pad(((0, 0), (0, 0), (1, 2), (3, 0))), (f32(N, 2, 4, 5),)),
    Case("pad-value", Pad(((1, 0), (0, 2)), value=-1.5), (f32(4, 5),)),
    Case("pad-batch", Pad(((1, 1), (0, 0))), (f32(N, 5),)),
    Case("pad-crop", Pad(((0, 0), (-1, 2), (2, -3))), (f32(N, 4, 6),)),
    Case("pad-reflect", Pad(((0, 0), (3, 2), (0, 4)), "reflect"), (f32(N, 4, 5),)),
    Case("pad-reflect-crop", Pad(((0, 0), (-1, 2), (2, -2)), "reflect"), (f32(N, 4, 5),)),
    Case("pad-edge", Pad(((0, 0), (3, 2), (0, 7)), "edge"), (f32(N, 4, 5),)),
    Case("pad-edge-crop", Pad(((0, 0), (-1, 2), (2, -2)), "edge"), (f32(N, 4, 5),)),
    Case("gather-rows", Gather(), (f32(9, 4), i64(N, 2)), ((-3, 3), (-9, 8))),
    Case("gather-columns", Gather(-1), (f32(N, 9), i32(4)), ((-3, 3), (-9, 8))),
    Case("gather-scalar", Gather(1), (f32(N, 9, 2), i64()), ((-3, 3), (0, 8))),
    Case("depth_to_space", DepthToSpace(2), (f32(N, 12, 3, 5),)),
    Case("depth_to_space-crd", DepthToSpace(3, "crd"), (f32(N, 18, 3, 2),)),
    Case("space_to_depth", SpaceToDepth(2), (f32(N, 3, 4, 6),)),
    Case("resize2d-nearest", Resize2d((2, 3)), (f32(N, 3, 4, 5),)),
    Case("resize2d-nearest-size", Resize2d(size=(7, 3)), (f32(N, 3, 4, 5),)),
    Case("resize2d-nearest-uint8", Resize2d((2, 2)), (u8(N, 3, 4, 5),)),
    Case("resize2d-bilinear", Resize2d((2, 3), mode="bilinear"), (f32(N, 3, 4, 5),)),
    Case("resize2d-bilinear-one-row", Resize2d((2, 1), mode="bilinear"), (f32(N, 3, 1, 5),)),
    Case("resize2d-bilinear-size", Resize2d(size=(7, 3), mode="bilinear"), (f32(N, 3, 4, 5),)),
    Case("resize2d-bilinear-float16", Resize2d((2, 2), mode="bilinear"), (f16(N, 3, 4, 5),)),
]

WINOGRAD = [
    Case("winograd_input", WinogradInput(), (f32(N, 5, 9, 11),)),
    Case("winograd_input-2", WinogradInput((2, 2), (3, 3), ((2, 0), (0, 1))), (f32(N, 3, 7, 6),)),
    Case("winograd_input-7", WinogradInput((1, 4), (1, 7), ((0, 0), (3, 3))), (f32(N, 3, 5, 9),)),
    Case("winograd_output", WinogradOutput((4, 4), (3, 3), 10, 7), (f32(N, 36, 3, 2, 5),)),
    Case("winograd_output-2", WinogradOutput((2, 2), (3, 3), 4, 5), (f32(2, 16, 2, 3, 7),)),
    Case("winograd_output-7", WinogradOutput((4, 1), (7, 1), 9, 3), (f32(N, 10, 3, 3, 5),)),
    Case("winograd_tiles", WinogradTiles(), (f32(N, 5, 9, 11),)),
    Case("winograd_tiles-2", WinogradTiles((2, 2), (5, 5), ((4, 4), (4, 4))), (f32(N, 3, 5, 6),)),
    Case("winograd_image", WinogradImage((4, 4), (3, 3), 10, 7), (f32(36, 18, 5),)),
    Case("winograd_image-one", WinogradImage((4, 4), (3, 3), 4, 3), (f32(36, N, 5),)),
    Case("winograd_image-2", WinogradImage((2, 2), (3, 3), 4, 5), (f32(16, 12, 7),)),
    Case("winograd_filter", WinogradFilter(), (f32(7, 5, 3, 3),)),
    Case("winograd_filter-flipped", WinogradFilter((2, 4), True), (f32(9, 4, 5, 3),)),
    Case("winograd_gradient_tiles", WinogradGradientTiles(), (f32(N, 5, 9, 11),)),
    Case("winograd_gradient_tiles-2", WinogradGradientTiles((2, 2), (5, 5)), (f32(N, 6, 4, 6),)),
    Case("winograd_sums", WinogradSums((3, 2)), (f32(9, 18, 5), f32(9, 18, 7))),
    Case("winograd_sums-one", WinogradSums(), (f32(4, N, 16), f32(4, N, 32))),
    Case("winograd_filter_gradient", WinogradFilterGradient(), (f32(36, 5, 7),)),
    Case("winograd_filter_gradient-2", WinogradFilterGradient((2, 4), (5, 3)), (f32(36, 6, 3),)),
]

GRADIENTS = [
    conv("conv2d_weight_gradient", Conv2dWeightGradient(kernel=(3, 2)), (N, 3, 5, 6), (N, 4, 3, 5)),
    conv("conv2d_weight_gradient-stride", Conv2dWeightGradient((2, 3), ((0, 1), (1, 2)), kernel=(3, 5)),
         (N, 3, 11, 10), (N, 4, 5, 3)),
    conv("conv2d_weight_gradient-dilated", Conv2dWeightGradient((1, 1), ((2, 2), (3, 0)), (2, 3), 1, (3, 3)),
         (N, 3, 9, 11), (N, 4, 9, 8)),
    conv("conv2d_weight_gradient-groups", Conv2dWeightGradient((1, 2), ((1, 1), (1, 1)), (1, 1), 3, (3, 3)),
         (N, 6, 5, 7), (N, 9, 5, 4)),
    conv("conv2d_weight_gradient-depthwise", Conv2dWeightGradient((1, 1), ((1, 1), (1, 1)), (1, 1), 5, (3, 3)),
         (2, 5, 5, 7), (2, 5, 5, 7)),
    conv("conv2d_weight_gradient-1x1", Conv2dWeightGradient(), (N, 3, 5, 4), (N, 2, 5, 4)),
    Case("conv2d_weight_gradient-bfloat16", Conv2dWeightGradient(kernel=(2, 2)),
         (bf16(N, 3, 5, 5), bf16(N, 2, 4, 4))),
    Case("max_pool2d_whole_gradient", MaxPool2dWholeGradient(),
         (f32(N, 3, 4, 6), f32(N, 3, 2, 3), f32(N, 3, 2, 3))),
    Case("max_pool2d_whole_gradient-3", MaxPool2dWholeGradient((3, 1)),
         (f32(N, 3, 6, 4), f32(N, 3, 2, 4), f32(N, 3, 2, 4))),
    Case("max_pool2d_position", MaxPool2dPosition(), (f32(N, 3, 4, 6), f32(N, 3, 2, 3))),
    Case("max_pool2d_position-padded", MaxPool2dPosition((3, 3), (2, 2), ((1, 1), (0, 1))),
         (i32(N, 3, 9, 8), i32(N, 3, 5, 4)), ((-1, 1), (-1, 1))),
    Case("max_pool2d_gradient", MaxPool2dGradient(size=(5, 6)), (f32(N, 3, 2, 3), i32(N, 3, 2, 3)),
         ((-3, 3), (0, 3))),
    Case("max_pool2d_gradient-gaps", MaxPool2dGradient((1, 2), (2, 3), ((0, 0), (1, 0)), size=(5, 9)),
         (f32(N, 3, 3, 3), i32(N, 3, 3, 3)), ((-3, 3), (0, 1))),
    Case("max_pool2d_gradient-padded", MaxPool2dGradient((3, 3), (2, 2), ((1, 1), (0, 1)), size=(9, 8)),
         (f32(N, 3, 5, 4), i32(N, 3, 5, 4)), ((-3, 3), (0, 8))),
    Case("max_pool2d_gradient-dilated",
         MaxPool2dGradient((2, 3), (1, 2), ((1, 0), (2, 2)), (2, 2), (9, 8)),
         (f32(N, 3, 8, 4), i32(N, 3, 8, 4)), ((-3, 3), (0, 5))),
    Case("avg_pool2d_gradient", AvgPool2dGradient(size=(5, 6)), (f32(N, 3, 2, 3),)),
    Case("avg_pool2d_gradient-padded", AvgPool2dGradient((3, 3), (2, 2), ((1, 1), (0, 1)), size=(9, 8)),
         (f32(N, 3, 5, 4),)),
    Case("avg_pool2d_gradient-count-padding",
         AvgPool2dGradient((3, 3), (2, 2), ((1, 1), (0, 1)), size=(9, 8), count_include_pad=True),
         (f32(N, 3, 5, 4),)),
    Case("resize2d_gradient-nearest", Resize2dGradient((4, 5), scale=(2, 3)), (f32(N, 3, 8, 15),)),
    Case("resize2d_gradient-nearest-size", Resize2dGradient((4, 5)), (f32(N, 3, 7, 3),)),
    Case("resize2d_gradient-bilinear", Resize2dGradient((4, 5), "bilinear", (2, 3)), (f32(N, 3, 8, 15),)),
    Case("resize2d_gradient-bilinear-size", Resize2dGradient((4, 5), "bilinear"), (f32(N, 3, 7, 3),)),
    Case("scatter_add-rows", ScatterAdd(0, 9), (f32(N, 2, 4), i64(N, 2)), ((-3, 3), (-9, 8))),
    Case("scatter_add-columns", ScatterAdd(-1, 9), (f32(N, 4), i32(4)), ((-3, 3), (-9, 8))),
    Case("scatter_add-scalar", ScatterAdd(1, 9), (f32(N, 2), i64()), ((-3, 3), (0, 8))),
    Case("one_hot", OneHot(5), (i32(N, 3),), ((-1, 5),)),
    Case("one_hot-uint8", OneHot(10), (u8(N),), ((0, 9),)),
    Case("count-batch", Count((0, 2)), (f32(N, 3, 5),)),
    Case("count-numbers", Count((1,)), (f64(N, 3, 5),)),
]  # fmt: skip

LOSS = [
    Case("softmax_crossentropy", SoftmaxCrossentropy(), (f32(N, 10), f32(N, 10)), ((-3, 3), (0, 1))),
    Case("softmax_crossentropy-large", SoftmaxCrossentropy(), (f32(N, 2, 10), f32(N, 2, 10)),
         ((-300, 300), (0, 1))),
    Case("sparse_softmax_crossentropy", SparseSoftmaxCrossentropy(), (f32(N, 10), i64(N)), ((-3, 3), (0, 9))),
    Case("sparse_softmax_crossentropy-outside", SparseSoftmaxCrossentropy(), (f32(N, 2, 4), u8(N, 2)),
         ((-300, 300), (0, 6))),
    Case("sigmoid_crossentropy", SigmoidCrossentropy(), (f32(N, 5), f32(N, 5)), ((-3, 3), (0, 1))),
    Case("sigmoid_crossentropy-wide", SigmoidCrossentropy(), (f32(N, 50), f32(1)), ((-80, 80), (0, 1))),
]  # fmt: skip

RANDOM = [
    Case("random_bits", RandomBits((2, 3, 7)), (u32(2),), ((0, 2**32 - 1),)),
    Case("random_bits-numbers", RandomBits((33,)), (u32(2),), ((0, 2**32 - 1),)),
    Case("dropout_mask", DropoutMask(0.3, (3, 40)), (u32(2),), ((0, 2**32 - 1),)),
]

INTEGER = [
    Case("trunc_div-int32", TruncDiv(), (i32(N, 7), i32(7)), ((-20, 20), (1, 5))),
    Case("trunc_div-negative", TruncDiv(), (i64(N, 7), i64(7)), ((-20, 20), (-5, -1))),
    Case("trunc_div-uint8", TruncDiv(), (u8(N, 7), u8(7)), ((0, 200), (1, 9))),
    Case("remainder", Remainder(), (f32(N, 7), f32(7)), ((-20, 20), (0.5, 5))),
    Case("remainder-float16", Remainder(), (f16(N, 7), f16(7)), ((-20, 20), (0.5, 5))),
    Case("remainder-int32", Remainder(), (i32(N, 7), i32(7)), ((-20, 20), (-5, -1))),
    Case("remainder-uint32", Remainder(), (u32(N, 7), u32(7)), ((0, 20), (1, 5))),
    Case("bit_and", BitAnd(), (u8(N, 7), u8(7)), ((0, 255), (0, 255))),
    Case("bit_or", BitOr(), (i32(N, 7), i32(7)), ((-99, 99), (-99, 99))),
    Case("bit_xor", BitXor(), (i64(N, 7), i64(7)), ((-99, 99), (-99, 99))),
    Case("bit_not", BitNot(), (i8(N, 7),), ((-128, 127),)),
    Case("bit_not-uint8", BitNot(), (u8(N, 7),), ((0, 255),)),
    Case("shift_left", ShiftLeft(), (u32(N, 7), u32(7)), ((0, 99), (0, 40))),
    Case("shift_left-int32", ShiftLeft(), (i32(N, 7), i32(7)), ((0, 9), (-3, 9))),
    Case("shift_right", ShiftRight(), (u8(N, 7), u8(7)), ((0, 255), (0, 12))),
    Case("shift_right-int8", ShiftRight(), (i8(N, 7), i8(7)), ((-99, 99), (-2, 12))),
    Case("is_nan", IsNan(), (f32(N, 7),)),
    Case("is_nan-bfloat16", IsNan(), (bf16(N, 7),)),
    Case("is_inf", IsInf(), (f64(N, 7),)),
    Case("is_inf-negative", IsInf(True, False), (f32(N, 7),)),
    Case("is_inf-neither", IsInf(False, False), (f16(N, 7),)),
    Case("bit_cast", BitCast(DType.int32), (u32(N, 7),)),
]

ORDERING = [
    Case("cum_sum", CumSum(1), (f32(N, 7, 2),)),
    Case("cum_sum-exclusive", CumSum(-1, exclusive=True), (f32(N, 7),)),
    Case("cum_sum-reverse", CumSum(0, reverse=True), (i32(5, N),)),
    Case("cum_sum-float16", CumSum(1, True, True), (f16(N, 7),)),
    Case("cum_prod", CumProd(1), (f32(N, 5, 2),), ((-2, 2),)),
    Case("cum_prod-exclusive-reverse", CumProd(0, True, True), (f64(5, N),), ((-2, 2),)),
    Case("rank", Rank(), (i32(N, 9),), ((-3, 3),)),
    Case("rank-descending", Rank(0, True), (f32(9, N),)),
    Case("rank-descending-ties", Rank(1, True), (i8(N, 9),), ((-2, 2),)),
    Case("last_position", LastPosition(1, 6), (i64(N, 9),), ((-2, 7),)),
    Case("gather_elements", GatherElements(1), (f32(N, 5, 2), i64(N, 3, 2)), ((-3, 3), (-5, 4))),
    Case("gather_elements-part", GatherElements(), (f32(5, 4), i32(3, 2)), ((-3, 3), (0, 4))),
]

SORTING = [
    Case("order", Order(1), (f32(N, 9),)),
    Case("order-descending", Order(-1, True), (f32(N, 2, 9),), ((-0.002, 0.002),)),
    Case("order-first-axis", Order(0), (f16(9, N),)),
    Case("order-bfloat16", Order(0, True), (bf16(9),)),
    Case("order-float64", Order(0), (f64(20),)),
    Case("order-int8", Order(1, True), (i8(N, 9),), ((-128, 127),)),
    Case("order-uint8", Order(1), (u8(N, 9),), ((0, 255),)),
    Case("order-int64", Order(0), (i64(30),), ((-5000, 5000),)),
    Case("order-bool", Order(0, True), (TensorType(DType.bool, (12,)),)),
    Case("order-long", Order(0), (i32(5000),), ((-(2**31), 2**31 - 1),)),
    Case("positions", Positions(4), (TensorType(DType.bool, (9,)),)),
    Case("positions-fewer", Positions(9), (TensorType(DType.bool, (N,)),)),
    Case("scatter", Scatter(), (f32(7, 2), i64(9, 2), f32(9, 2)), ((-3, 3), (-1, 7), (-3, 3))),
    Case("scatter-rows", Scatter(), (i8(7, N), i64(9, 1), i8(9, N)), ((-3, 3), (-1, 7), (-3, 3))),
    *(
        Case(
            f"scatter-{reduction}",
            Scatter(reduction),
            (f32(5, 3), i64(9, 1), f32(9, 3)),
            ((-3, 3), (-1, 5), (-3, 3)),
        )
        for reduction in ("add", "mul", "max", "min")
    ),
]

SCALAR = f32()
DETECTION = [
    Case(
        f"non_max_suppression-{name}",
        NonMaxSuppression(rows, centered, filtered),
        (f32(2, 20, 4), f32(2, 3, 20), i64(), SCALAR, SCALAR),
        ((0, 3), (0, 1), (limit, limit), (overlap, overlap), (0.3, 0.3)),
    )
    for name, rows, centered, filtered, limit, overlap in (
        ("corners", 99, False, True, 20, 0.25),
        ("centers", 40, True, True, 20, 0.1),
        ("limited", 30, False, False, 3, 0.5),
        ("fewer", 5, False, True, 4, 0.0),
    )
]
# Nodes between which all ways are open: no trees, but each number is a position inside of every array.
FORESTS = [
    Case(
        f"tree_sums-{aggregate}-{dtype.value}",
        TreeSums(aggregate, tuple(range(4))),
        (
            TensorType(dtype, (N, 4)),
            i32(4, 6),
            TensorType(dtype, (4,)),
            i32(5, 2),
            i32(6),
            TensorType(dtype, (6,)),
            TensorType(dtype, (4,)),
        ),
        ((-3, 3), (0, 3), (-3, 3), (0, 3), (0, 3), (-3, 3), (-3, 3)),
    )
    for aggregate, dtype in (
        ("sum", DType.float32),
        ("min", DType.float64),
        ("max", DType.float32),
    )
]

VOLUME = [
    Case("conv3d", Conv3d(), (f32(N, 3, 4, 5, 6), f32(4, 3, 2, 3, 3))),
    Case(
        "conv3d-all",
        Conv3d((2, 1, 2), ((1, 0), (2, 1), (1, 1)), (1, 2, 1), 2),
        (f32(N, 4, 4, 5, 6), f32(6, 2, 2, 3, 3)),
    ),
    Case("conv3d-rest", Conv3d((2, 3, 2), ((0, 0),) * 3), (f32(N, 2, 4, 6, 5), f32(3, 2, 1, 2, 2))),
    Case("conv_transpose3d", ConvTranspose3d(), (f32(N, 3, 2, 3, 4), f32(3, 4, 2, 3, 3))),
    Case(
        "conv_transpose3d-stride",
        ConvTranspose3d((2, 3, 1), ((1, 0), (0, 1), (1, 1)), (1, 2, 0)),
        (f32(N, 2, 3, 2, 4), f32(2, 3, 3, 2, 3)),
    ),
    Case(
        "conv_transpose3d-groups",
        ConvTranspose3d((1, 2, 2), ((0, 1), (1, 1), (0, 0)), (0, 0, 0), (2, 1, 2), 2),
        (f32(N, 4, 3, 2, 2), f32(4, 3, 2, 3, 2)),
    ),
]

VOLUME_GRADIENTS = [
    Case(
        "conv3d_weight_gradient",
        Conv3dWeightGradient(kernel=(2, 3, 1)),
        (f32(N, 3, 4, 4, 3), f32(N, 2, 3, 2, 3)),
    ),
    Case(
        "conv3d_weight_gradient-all",
        Conv3dWeightGradient((2, 1, 2), ((1, 0), (2, 1), (1, 1)), (1, 2, 1), 2, (2, 3, 3)),
        (f32(N, 4, 4, 5, 6), f32(N, 6, 2, 4, 3)),
    ),
]

WARP = [
    *(
        Case(
            f"affine_warp-{mode}-{interpolation}",
            AffineWarp(interpolation=interpolation, fill_mode=mode, fill_value=0.5),
            (f32(N, 4, 5, 3), f64(N, 2, 3)),
        )
        for mode in FILL_MODES
        for interpolation in ("nearest", "bilinear")
    ),
    Case("affine_warp-small", AffineWarp(), (f32(N, 6, 5, 2), f64(N, 2, 3)), ((-3, 3), (-1, 1))),
    *(
        Case(
            f"affine_warp-inside-{interpolation}",
            AffineWarp(interpolation=interpolation, fill_mode="reflect"),
            (u8(N, 9, 8, 3), f64(N, 2, 3)),
            ((0, 255), (0.1, 0.6)),
        )
        for interpolation in ("nearest", "bilinear")
    ),
    Case("affine_warp-channels-first", AffineWarp((2, 3)), (f32(N, 2, 3, 5), f64(N, 2, 3))),
    Case("affine_warp-one-channel", AffineWarp(), (f32(N, 4, 5, 1), f64(N, 2, 3))),
    Case("affine_warp-one-pixel", AffineWarp(fill_mode="wrap"), (f32(N, 1, 1, 2), f64(N, 2, 3))),
    Case("affine_warp-uint8", AffineWarp(), (u8(N, 4, 5, 3), f32(N, 2, 3)), ((0, 255), (-3, 3))),
    Case("affine_warp-float16", AffineWarp(), (f16(N, 4, 5, 3), f64(N, 2, 3))),
    *(
        Case(
            f"affine_warp_gradient-{mode}-{interpolation}",
            AffineWarpGradient(interpolation=interpolation, fill_mode=mode),
            (f32(N, 4, 5, 3), f64(N, 2, 3)),
        )
        for mode in FILL_MODES
        for interpolation in ("nearest", "bilinear")
    ),
    Case(
        "affine_warp_gradient-channels-first",
        AffineWarpGradient((2, 3)),
        (f64(N, 2, 3, 5), f64(N, 2, 3)),
        ((-3, 3), (-1, 1)),
    ),
    *(
        Case(
            f"affine_warp_matrix_gradient-{mode}",
            AffineWarpMatrixGradient(fill_mode=mode, fill_value=0.5),
            (f32(N, 4, 5, 3), f32(N, 4, 5, 3), f64(N, 2, 3)),
            ((-3, 3), (-3, 3), (-1.5, 1.5)),
        )
        for mode in FILL_MODES
    ),
]

DRAWN = [
    Case(
        "random_affine", RandomAffine(flip=(True, False), rotation=(-0.1, 0.1)), (f32(N, 4, 5, 3),)
    ),
    Case("fresh_seed", FreshSeed(), (u32(2),), ((0, 2**32 - 1),)),
    Case("gaussian_noise", GaussianNoise(0.5), (f32(N, 4, 5),)),
    Case("gaussian_dropout", GaussianDropout(0.2), (f32(N, 4, 5),)),
    Case("shared_dropout", SharedDropout(0.2, (0,)), (f32(N, 4, 5),)),
    Case("alpha_dropout", AlphaDropout(0.2, (0,)), (f32(N, 4, 5),)),
    Case("random_contrast", RandomContrast(factor=(0.5, 1.5)), (f32(N, 4, 5, 3),)),
    Case("random_brightness", RandomBrightness((2, 3), (-0.5, 0.5)), (f32(N, 3, 4, 5),)),
    Case("random_crop", RandomCrop(), (f32(N, 6, 7, 3), f32(N, 4, 5, 3))),
]


def loop(
    name: str, op: Recurrence, steps: int, batch: Extent, units: int, of: Any = f32,
    masked: bool = False,
) -> Case:  # fmt: skip
    """A row of a loop over steps, the weights small enough that states stay moderate."""
    mask = (boolean(steps, batch),) if masked else ()
    width = op.gates * units
    bias = (of(width),) if op.biased else ()
    states = (of(batch, units),) * op.states
    types = (of(steps, batch, width), of(units, width), *bias, *states, *mask)
    return Case(name, op, types, ((-1, 1),) * len(types))


def loop_gradient(
    name: str, op: RecurrenceGradient, steps: int, batch: Extent, units: int, of: Any = f32,
    masked: bool = False,
) -> Case:  # fmt: skip
    mask = (boolean(steps, batch),) if masked else ()
    width, states = op.gates * units, of(op.states, steps + 1, batch, units)
    types = (*(of(steps, batch, width),) * op.given, of(width, units), states, states, *mask)
    return Case(name, op, types, ((-0.5, 0.5),) * len(types))


RECURRENT = [
    loop("rnn_loop", RnnLoop(), 5, N, 7),
    loop("rnn_loop-reverse", RnnLoop(("sigmoid",), True), 4, 9, 20),
    loop("rnn_loop-float64", RnnLoop(("linear",)), 3, 8, 5, f64),
    loop("lstm_loop", LstmLoop(), 5, N, 7),
    loop("lstm_loop-reverse", LstmLoop(("sigmoid", "tanh", "sigmoid"), True), 4, 11, 20),
    loop("lstm_loop-one", LstmLoop(), 1, 1, 1),
    loop("gru_loop", GruLoop(), 5, N, 7),
    loop("gru_loop-reverse", GruLoop(("sigmoid", "relu"), True), 4, 16, 16),
    loop_gradient("rnn_loop_gradient", RnnLoopGradient(), 5, N, 7),
    loop_gradient("rnn_loop_gradient-reverse", RnnLoopGradient(("relu",), True), 4, 9, 20),
    loop_gradient("rnn_loop_gradient-float64", RnnLoopGradient(), 3, 8, 5, f64),
    loop_gradient("lstm_loop_gradient", LstmLoopGradient(), 5, N, 7),
    loop_gradient("lstm_loop_gradient-reverse", LstmLoopGradient(reverse=True), 4, 11, 20),
    loop_gradient("gru_loop_gradient", GruLoopGradient(), 5, N, 7),
    loop_gradient("gru_loop_gradient-reverse", GruLoopGradient(reverse=True), 4, 8, 16),
    loop("rnn_loop-masked", RnnLoop(), 4, 9, 7, masked=True),
    loop("lstm_loop-masked", LstmLoop(), 5, N, 7, masked=True),
    loop("lstm_loop-masked-reverse", LstmLoop(reverse=True), 4, 8, 20, masked=True),
    loop("gru_loop-masked", GruLoop(), 5, N, 7, masked=True),
    loop("gru_loop-masked-float64", GruLoop(reverse=True), 4, 9, 5, f64, masked=True),
    loop_gradient("rnn_loop_gradient-masked", RnnLoopGradient(), 4, 9, 7, masked=True),
    loop_gradient("lstm_loop_gradient-masked", LstmLoopGradient(), 5, N, 7, masked=True),
    loop_gradient("gru_loop_gradient-masked", GruLoopGradient(reverse=True), 4, 8, 20, masked=True),
    Case("transposed_copy", TransposedCopy(), (f32(7, N),)),
]

CASES: list[Case] = [
    *RECURRENT,
    *DRAWN,
    *WARP,
    *INTEGER,
    *ORDERING,
    *SORTING,
    *DETECTION,
    *FORESTS,
    *VOLUME,
    *VOLUME_GRADIENTS,
    *WINOGRAD,
    *ELEMENTWISE,
    *CASTS,
    *BROADCASTING,
    *CONV,
    *MATMUL,
    *POOL,
    *REDUCE,
    *NORM,
    *SHAPE,
    *GRADIENTS,
    *LOSS,
    *RANDOM,
]
