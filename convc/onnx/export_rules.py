"""How each operator reads in ONNX: one table, a row per operator. What a rule is stands in rule.py."""

from __future__ import annotations

import numpy as np

from convc.errors import UnsupportedError
from convc.graph.op import Op
from convc.onnx.rule import Emitter, Rule, cut, plain, positions
from convc.onnx.window_rules import (
    avg_pool,
    conv,
    conv3d,
    conv_transpose,
    conv_transpose3d,
    max_pool,
)
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
from convc.ops.augment import (
    RandomAffine,
    RandomBrightness,
    RandomContrast,
    RandomCrop,
    RandomShear,
)
from convc.ops.base import axes_of, axis_of
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
from convc.ops.conv import NARROW, Conv2d, ConvTranspose2d
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
from convc.ops.integer import (
    BitAnd,
    BitNot,
    BitOr,
    BitXor,
    IsInf,
    IsNan,
    Remainder,
    TruncDiv,
)
from convc.ops.matmul import MatMul
from convc.ops.noise import AlphaDropout, FreshSeed, GaussianDropout, GaussianNoise, SharedDropout
from convc.ops.norm import BatchNorm, LayerNorm, LogSoftmax, Softmax
from convc.ops.ordering import CumSum, GatherElements
from convc.ops.pool import AvgPool2d, MaxPool2d
from convc.ops.reduce import (
    ArgMax,
    ReduceMax,
    ReduceMean,
    ReduceMin,
    ReduceProd,
    ReduceSum,
    Reduction,
)
from convc.ops.resize import Resize2d
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
from convc.ops.sorting import Order
from convc.ops.volume import Conv3d, ConvTranspose3d
from convc.types import DType

# ---------------------------------------------------------------- elementwise


def cast(e: Emitter, op: Cast, x: str) -> str:
    """ONNX leaves a float outside an integer's range open; narrow integers are limited first."""
    is_float = e.types[x].dtype.is_float
    if not (is_float and op.dtype.is_integer and op.dtype.itemsize <= 2):
        return e.cast(x, op.dtype)
    limits = np.iinfo(op.dtype.numpy)
    wide = x if e.types[x].dtype.itemsize >= 4 else e.cast(x, DType.float32)
    limited = e("Clip", wide, e.scalar(limits.min, wide), e.scalar(limits.max, wide))
    return e.cast(limited, op.dtype)


def clip(e: Emitter, op: Clip, x: str) -> str:
    low = "" if op.min is None else e.scalar(op.min, x)
    high = () if op.max is None else (e.scalar(op.max, x),)
    return e("Clip", x, low, *high) if low or high else x


def expm1(e: Emitter, op: Expm1, x: str) -> str:
    """tanh(x / 2) * (e**x + 1), which keeps its digits near 0."""
    half = e("Tanh", e("Mul", x, e.scalar(0.5, x)))
    return e("Mul", half, e("Add", e("Exp", x), e.scalar(1, x)))


def log1p(e: Emitter, op: Log1p, x: str) -> str:
    """log(u) * x / (u - 1) with u = 1 + x as rounded (Kahan); x where u is 1, log(x) where u is x."""
    one = e.scalar(1, x)
    u = e("Add", x, one)
    log = e("Log", u)
    mended = e("Mul", log, e("Div", x, e("Sub", u, one)))
    small = e("Where", e("Equal", u, one), x, mended)
    return e("Where", e("Equal", u, x), log, small)


def gelu(e: Emitter, op: Gelu, x: str) -> str:
    if e.opset >= 20:
        return e("Gelu", x, approximate="tanh" if op.approximate else "none")
    if op.approximate:
        cube = e("Mul", x, e("Mul", x, x))
        inner = e("Add", x, e("Mul", cube, e.scalar(0.044715, x)))
        phi = e("Tanh", e("Mul", inner, e.scalar(np.sqrt(2 / np.pi), x)))
    else:
        phi = e("Erf", e("Mul", x, e.scalar(np.sqrt(0.5), x)))
    return e("Mul", e("Mul", x, e.scalar(0.5, x)), e("Add", phi, e.scalar(1, x)))


def mish(e: Emitter, op: Mish, x: str) -> str:
    return e("Mish", x) if e.opset >= 18 else e("Mul", x, e("Tanh", e("Softplus", x)))


def floor_div(e: Emitter, op: FloorDiv, x: str, y: str) -> str:
    """ONNX divides integers towards zero: x less its remainder divides exactly."""
    if e.types[x].dtype.is_float:
        return e("Floor", e("Div", x, y))
    return e("Div", e("Sub", x, e("Mod", x, y)), y)


def mod(e: Emitter, op: Mod, x: str, y: str) -> str:
    """ONNX' Mod has the sign of y for integers only; for floats fmod's remainder is mended."""
    if not e.types[x].dtype.is_float:
        return e("Mod", x, y)
    rest = e("Mod", x, y, fmod=1)
    zero = e.scalar(0, x)
    other = e("Xor", e("Less", rest, zero), e("Less", y, zero))
    other = e("And", other, e("Not", e("Equal", rest, zero)))
    return e("Where", other, e("Add", rest, y), rest)


def prelu(e: Emitter, op: PRelu, x: str, slope: str) -> str:
    """ONNX' PRelu stretches the slope only."""
    (result,) = op.infer(e.types[x], e.types[slope])
    if result == e.types[x]:
        return e("PRelu", x, slope)
    return e("Where", e("Less", x, e.scalar(0, x)), e("Mul", x, slope), x)


# ---------------------------------------------------------------- products, normalizations, reductions


def matmul(e: Emitter, op: MatMul, x: str, y: str) -> str:
    return e("MatMulInteger" if e.types[x].dtype in NARROW else "MatMul", x, y)


def batch_norm(e: Emitter, op: BatchNorm, x: str, *statistics: str) -> str | None:
    rank = e.types[x].rank
    if rank < 2 or axis_of(op, op.axis, rank) != 1:
        return None
    return e("BatchNormalization", x, *statistics, epsilon=op.epsilon)


def layer_norm(e: Emitter, op: LayerNorm, x: str, gamma: str, beta: str) -> str | None:
    """ONNX normalises the last dimensions, in their order."""
    rank = e.types[x].rank
    axes = axes_of(op, op.axes, rank)
    if axes != tuple(range(rank - len(axes), rank)):
        return None
    return e("LayerNormalization", x, gamma, beta, axis=axes[0], epsilon=op.epsilon)


WHOLE_IMAGES = {"ReduceMean": "GlobalAveragePool", "ReduceMax": "GlobalMaxPool"}
"""What ONNX calls reductions of all but batch and channels, which runtimes have fast code for."""


def is_whole_image(e: Emitter, op: Reduction, x: str) -> bool:
    type = e.types[x]
    whole = sorted(axes_of(op, op.axes, type.rank)) == list(range(2, type.rank))
    return whole and type.rank >= 3 and op.keepdims and type.dtype in (DType.float16, DType.float32)


def reduction(kind: str) -> Rule:
    """Axes are an input of ReduceSum, and of the others from opset 18 on."""

    def rule(e: Emitter, op: Reduction, x: str) -> str:
        (result,) = op.infer(e.types[x])
        wide = e.cast(x, result.dtype)
        if not op.axes:
            return wide
        if kind in WHOLE_IMAGES and is_whole_image(e, op, x):
            return e(WHOLE_IMAGES[kind], wide)
        if kind == "ReduceSum" or e.opset >= 18:
            return e(kind, wide, e.integers(op.axes, "axes"), keepdims=int(op.keepdims))
        return e(kind, wide, axes=op.axes, keepdims=int(op.keepdims))

    return rule


# ---------------------------------------------------------------- movements


def reshape(e: Emitter, op: Reshape, x: str) -> str:
    """A symbolic extent is 0 where it stands at its place in x, one other -1: what remains; more are computed."""
    old = e.types[x].shape
    new = op.resolved(old)
    if 0 in new:
        return e("Reshape", x, positions(e, new, "shape"), allowzero=1)
    entries = [
        extent if isinstance(extent, int) else 0 if old[d : d + 1] == (extent,) else -1
        for d, extent in enumerate(new)
    ]
    if entries.count(-1) > 1:
        return e("Reshape", x, e.extents(new))
    return e("Reshape", x, e.integers(entries, "shape"))


def broadcast(e: Emitter, op: Broadcast, x: str) -> str:
    """A symbolic extent that is one of x already is left alone: where the shape says 1. Others are computed."""
    old = (1,) * (len(op.shape) - e.types[x].rank) + e.types[x].shape
    if any(o != n for o, n in zip(old, op.shape, strict=True) if not isinstance(n, int)):
        return e("Expand", x, e.extents(op.shape))
    entries = [n if isinstance(n, int) else 1 for n in op.shape]
    return e("Expand", x, e.integers(entries, "shape"))


def slice_(e: Emitter, op: Slice, x: str) -> str:
    return cut(e, x, zip(op.starts, op.ends, op.steps, strict=True))


def pad(e: Emitter, op: Pad, x: str) -> str:
    """Negative pads crop what was padded on the other sides."""
    added = [max(0, p[k]) for k in range(2) for p in op.pads]
    if any(added):
        value = (e.scalar(op.value, x),) if op.mode == "constant" else ()
        # ONNX Runtime 1.31 moves a Pad of zeros into pools, which leave it out, unless the Pad names axes.
        named = e.opset >= 18 and op.mode == "constant" and e.is_read_by(MaxPool2d, AvgPool2d)
        axes = (e.integers(range(len(op.pads)), "axes"),) if named else ()
        x = e("Pad", x, e.integers(added, "pads"), *value, *axes, mode=op.mode)
    return cut(e, x, ((max(0, -b), min(0, a) or None, 1) for b, a in op.pads))


def gather(e: Emitter, op: Gather, x: str, indices: str) -> str:
    narrow = e.types[indices].dtype not in (DType.int32, DType.int64)
    return e("Gather", x, e.cast(indices, DType.int64) if narrow else indices, axis=op.axis)


def resize(e: Emitter, op: Resize2d, x: str) -> str:
    """Our nearest pixel is the one that holds the point: halves round up."""
    mode = {"nearest": "nearest", "bilinear": "linear"}[op.mode]
    how = {"mode": mode, "coordinate_transformation_mode": "half_pixel",
           "nearest_mode": "round_prefer_ceil" if mode == "nearest" else None}  # fmt: skip
    if op.scale is not None:
        scales = e.constant(np.array((1, 1, *op.scale), np.float32), "scales")
        return e("Resize", x, "", scales, **how)
    assert op.size is not None
    if e.opset >= 18:
        return e("Resize", x, "", "", e.integers(op.size, "sizes"), axes=[2, 3], **how)
    outer = e.types[x].shape[:2]
    if not all(isinstance(extent, int) for extent in outer):
        raise UnsupportedError(
            f"a resize to a size with the symbolic extents {list(outer)} needs opset 18"
        )
    return e("Resize", x, "", "", e.integers((*outer, *op.size), "sizes"), **how)


def depth_to_space(e: Emitter, op: DepthToSpace, x: str) -> str:
    return e("DepthToSpace", x, blocksize=op.block, mode=op.order.upper())


# ---------------------------------------------------------------- integers and order


def bitwise(kind: str) -> Rule:
    def rule(e: Emitter, op: Op, *inputs: str) -> str:
        if e.opset < 18:
            raise UnsupportedError(f"{kind} needs opset 18")
        return e(kind, *inputs)

    return rule


def cum_sum(e: Emitter, op: CumSum, x: str) -> str:
    """ONNX sums no narrow integers; 16-bit floats are summed in float32 here."""
    dtype = e.types[x].dtype
    wide = e.cast(x, DType.float32) if dtype in (DType.float16, DType.bfloat16) else x
    axis = e.constant(np.array(op.axis, np.int64), "axis")
    return e.cast(
        e("CumSum", wide, axis, exclusive=int(op.exclusive), reverse=int(op.reverse)), dtype
    )


def order(e: Emitter, op: Order, x: str) -> str:
    """All elements as the largest or smallest ones, in order: ONNX' equal ones stay as they were, too."""
    type = e.types[x]
    axis = axis_of(op, op.axis, type.rank)
    keys = e.cast(x, DType.float32) if type.dtype is DType.bfloat16 else x
    count = e.extents([type.shape[axis]])
    return e.second(
        "TopK", DType.int64, keys, count, axis=axis, largest=int(op.descending), sorted=1
    )


def is_inf(e: Emitter, op: IsInf, x: str) -> str:
    dtype = e.types[x].dtype
    wide = e.cast(x, DType.float32) if dtype in (DType.float16, DType.bfloat16) else x
    return e("IsInf", wide, detect_negative=int(op.negative), detect_positive=int(op.positive))


# ---------------------------------------------------------------- the table

RULES: dict[type[Op], Rule] = {
    Identity: lambda e, op, x: x,
    Dropout: lambda e, op, x: x,
    AlphaDropout: lambda e, op, x: x,
    FreshSeed: lambda e, op, x: x,
    GaussianDropout: lambda e, op, x: x,
    GaussianNoise: lambda e, op, x: x,
    SharedDropout: lambda e, op, x: x,
    RandomAffine: lambda e, op, x: x,
    RandomShear: lambda e, op, x: x,
    RandomBrightness: lambda e, op, x: x,
    RandomContrast: lambda e, op, x: x,
    RandomCrop: lambda e, op, x, otherwise: otherwise,
    StopGradient: lambda e, op, x: x,
    Cast: cast,
    Clip: clip,
    **{
        op: plain(op.__name__)
        for op in (
            Abs, Acos, Acosh, Asin, Asinh, Atan, Atanh, Ceil, Cos, Cosh, Erf, Exp, Floor, Log, Neg, Not, Reciprocal,
            Round, Sign, Sin, Sinh, Sqrt, Tan, Tanh, Relu, Selu, Sigmoid, HardSwish, Softplus, Softsign,
            Add, Sub, Mul, Div, Pow, Less, Greater, Equal, And, Or, Xor, Where,
        )
    },
    Square: lambda e, op, x: e("Mul", x, x),
    Rsqrt: lambda e, op, x: e("Reciprocal", e("Sqrt", x)),
    Expm1: expm1,
    Log1p: log1p,
    LeakyRelu: plain("LeakyRelu", "alpha"),
    ThresholdedRelu: plain("ThresholdedRelu", "alpha"),
    Elu: plain("Elu", "alpha"),
    Celu: plain("Celu", "alpha"),
    HardSigmoid: plain("HardSigmoid", "alpha", "beta"),
    LogSigmoid: lambda e, op, x: e("Neg", e("Softplus", e("Neg", x))),
    Silu: lambda e, op, x: e("Mul", x, e("Sigmoid", x)),
    Mish: mish,
    Gelu: gelu,
    FloorDiv: floor_div,
    Mod: mod,
    TruncDiv: lambda e, op, x, y: e("Div", x, y),
    Remainder: lambda e, op, x, y: e("Mod", x, y, fmod=1),
    BitAnd: bitwise("BitwiseAnd"),
    BitOr: bitwise("BitwiseOr"),
    BitXor: bitwise("BitwiseXor"),
    BitNot: bitwise("BitwiseNot"),
    IsNan: lambda e, op, x: e("IsNaN", x),
    IsInf: is_inf,
    CumSum: cum_sum,
    Order: order,
    GatherElements: plain("GatherElements", "axis"),
    Conv3d: conv3d,
    ConvTranspose3d: conv_transpose3d,
    Maximum: plain("Max"),
    Minimum: plain("Min"),
    LessEqual: plain("LessOrEqual"),
    GreaterEqual: plain("GreaterOrEqual"),
    NotEqual: lambda e, op, x, y: e("Not", e("Equal", x, y)),
    PRelu: prelu,
    Conv2d: conv,
    ConvTranspose2d: conv_transpose,
    MatMul: matmul,
    MaxPool2d: max_pool,
    AvgPool2d: avg_pool,
    BatchNorm: batch_norm,
    LayerNorm: layer_norm,
    Softmax: plain("Softmax", "axis"),
    LogSoftmax: plain("LogSoftmax", "axis"),
    ReduceSum: reduction("ReduceSum"),
    ReduceMean: reduction("ReduceMean"),
    ReduceMax: reduction("ReduceMax"),
    ReduceMin: reduction("ReduceMin"),
    ReduceProd: reduction("ReduceProd"),
    ArgMax: plain("ArgMax", "axis", "keepdims"),
    Transpose: lambda e, op, x: e("Transpose", x, perm=op.perm) if op.perm else x,
    Reshape: reshape,
    Broadcast: broadcast,
    Concat: plain("Concat", "axis"),
    Slice: slice_,
    Pad: pad,
    Gather: gather,
    Resize2d: resize,
    DepthToSpace: depth_to_space,
    SpaceToDepth: plain("SpaceToDepth", blocksize="block"),
}  # fmt: skip
"""The rule of each operator. Operators that aren't here are exported through their decomposition."""
