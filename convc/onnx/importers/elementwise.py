"""Import rules of element-by-element operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto

from convc.graph.op import Op
from convc.onnx.exporter import CODES
from convc.onnx.importers import drawing
from convc.onnx.importers.call import Call, Many, Packed, Rejected, Rule
from convc.onnx.importers.narrow import cast_to, opened
from convc.onnx.narrow import NARROW
from convc.onnx.reading import dtype_of
from convc.ops.activations import (
    Celu,
    Elu,
    Gelu,
    HardSigmoid,
    HardSwish,
    LeakyRelu,
    Mish,
    Relu,
    Sigmoid,
    Softplus,
    Softsign,
    ThresholdedRelu,
)
from convc.ops.broadcasting import (
    Add,
    And,
    Broadcasting,
    Div,
    Equal,
    Greater,
    GreaterEqual,
    Less,
    LessEqual,
    Maximum,
    Minimum,
    Mod,
    Mul,
    Or,
    Pow,
    PRelu,
    Sub,
    Where,
    Xor,
)
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
    Erf,
    Exp,
    Floor,
    Identity,
    Log,
    Neg,
    Not,
    Reciprocal,
    Round,
    Sign,
    Sin,
    Sinh,
    Sqrt,
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
    ShiftLeft,
    ShiftRight,
    TruncDiv,
)
from convc.ops.shape import Broadcast
from convc.types import DType


def plain(op: type[Op], **defaults: Any) -> Rule:
    """The operator of the same meaning; `defaults` are attributes of one name."""

    def rule(c: Call) -> str:
        given = {k: type(d)(c.attr(k, d)) for k, d in defaults.items()}
        return c.add(op(**given), *c.rest())

    return rule


def pair(op: type[Broadcasting]) -> Rule:
    """An operator on two tensors that numpy broadcasts."""
    return lambda c: c.add(op(), c[0], lined_up(c))


def lined_up(c: Call) -> str:
    """The second operand. Up to opset 6 an attribute says at which axis of the first it begins."""
    axis = c.attr("axis")
    if c.opset >= 7 or axis is None or not c.attr("broadcast", 0):
        return c[1]
    after = c.rank(0) - c.from_front(int(axis), c.rank(0)) - c.rank(1)
    return c.reshape(c[1], (*c.shape(1), *[1] * after))


def variadic(op: type[Broadcasting]) -> Rule:
    def rule(c: Call) -> str:
        values = c.rest()
        return c.fold(op, values) if len(values) > 1 else c.add(Identity(), values[0])

    return rule


def mean(c: Call) -> str:
    values = [c.wide(v) for v in c.rest()]
    summed = c.fold(Add, values)
    count = c.scalar(len(values), summed)
    return c.cast(c.add(Div(), summed, count), c.dtype(0))


def div(c: Call) -> str:
    return c.add(TruncDiv() if c.dtype(0).is_integer else Div(), c[0], lined_up(c))


def mod(c: Call) -> str:
    if c.attr("fmod", 0):
        return c.add(Remainder(), c[0], c[1])
    if c.dtype(0).is_float and c.opset < 28:
        raise Rejected("Mod of floats needs fmod=1")
    return c.add(Mod(), c[0], c[1])


def power(c: Call) -> str:
    """The result has the dtype of the base; integers are raised in float64."""
    base, exponent, dtype = c[0], lined_up(c), c.dtype(0)
    if c.importer.known(exponent) and c.shape(exponent) in ((), (1,)) and dtype.is_float:
        number = float(c.importer.evaluate(exponent).reshape(()))
        if number in (1.0, 2.0) and len(c.shape(exponent)) <= c.rank(base):
            return base if number == 1.0 else c.add(Mul(), base, base)
    wide = DType.float64 if dtype.is_integer else dtype
    if c.dtype(exponent) is DType.float64 and dtype.itemsize < 8:
        wide = DType.float64
    result = c.add(Pow(), c.cast(base, wide), c.cast(exponent, wide))
    if dtype.is_integer and c.dtype(exponent).is_integer:
        result = c.add(Round(), result)
    elif (
        dtype.is_integer
    ):  # so that an integer which is missed by a rounding isn't cut to the one below
        result = c.add(Mul(), result, c.scalar(1 + 2.0**-46, result))
    return c.cast(result, dtype)


def prelu(c: Call) -> str:
    x, slope = c[0], c[1]
    if c.opset < 7 and c.rank(1) == 1 and c.rank(0) > 2:
        slope = c.reshape(slope, (*c.shape(1), *[1] * (c.rank(0) - 2)))
    if c.dtype(0).is_float:
        return c.add(PRelu(), x, slope)
    negative = c.add(Less(), x, c.scalar(0, x))
    return c.add(Where(), negative, c.add(Mul(), x, slope), x)


def clip(c: Call) -> str:
    """The limits are attributes up to opset 10, then inputs."""
    x, is_float = c[0], c.dtype(0).is_float
    limits: list[str | float | None] = [None, None]
    for k, name in enumerate(("min", "max")):
        if c.opset < 11:
            limits[k] = c.attr(name)
        elif c.has(k + 1):
            limits[k] = c[k + 1]
    values: list[float | None] = [None, None]
    for k, limit in enumerate(limits):
        if isinstance(limit, str) and limit in c.builder.weights:
            values[k] = float(c.builder.weights[limit].reshape(()))
        elif isinstance(limit, float):
            values[k] = limit
    if is_float and all(
        v is not None or limit is None for v, limit in zip(values, limits, strict=True)
    ):
        return c.add(Clip(values[0], values[1]), x)
    for op, limit in ((Maximum(), limits[0]), (Minimum(), limits[1])):
        if limit is not None:
            value = limit if isinstance(limit, str) else c.scalar(limit, x)
            x = c.add(op, x, c.reshape(value, ()))
    return x if x != c[0] else c.add(Identity(), x)


def cast(c: Call) -> object:
    """The type is a number, or its name up to opset 5."""
    to = c.attr("to")
    code = TensorProto.DataType.Value(to) if isinstance(to, str) else int(to)
    return converted(c, code)


def cast_like(c: Call) -> object:
    like = c.values[1]
    return converted(c, like.kind.code if isinstance(like, Packed) else CODES[c.dtype(1)])


def converted(c: Call, code: int) -> object:
    """The first input as ONNX' element type `code`."""
    value = c.values[0]
    if code in NARROW:
        return cast_to(c, value if isinstance(value, Packed) else c[0], code)
    numbers = opened(c, value) if isinstance(value, Packed) else c[0]
    return c.add(Cast(dtype_of(code)), numbers)


def shift(c: Call) -> str:
    return c.add(ShiftLeft() if c.attr("direction") == "LEFT" else ShiftRight(), c[0], c[1])


def is_inf(c: Call) -> str:
    return c.add(
        IsInf(bool(c.attr("detect_negative", 1)), bool(c.attr("detect_positive", 1))), c[0]
    )


def selu(c: Call) -> str:
    """gamma * elu(x), whose constants ONNX writes out."""
    alpha, gamma = (
        c.attr("alpha", 1.67326319217681884765625),
        c.attr("gamma", 1.05070102214813232421875),
    )
    return c.add(Mul(), c.add(Elu(alpha), c[0]), c.scalar(gamma, c[0]))


def gelu(c: Call) -> str:
    return c.add(Gelu(c.attr("approximate", "none") == "tanh"), c[0])


def swish(c: Call) -> str:
    x = c.wide(c[0])
    scaled = c.add(Mul(), x, c.scalar(c.attr("alpha", 1.0), x))
    return c.cast(c.add(Mul(), x, c.add(Sigmoid(), scaled)), c.dtype(0))


def shrink(c: Call) -> str:
    """x moved towards 0 by `bias` where it lies outside -lambd … lambd, else 0."""
    x, dtype = c[0], c.dtype(0)
    wide = x if dtype.is_float else c.cast(x, DType.float64)
    bias, lambd = (c.scalar(c.attr(n, d), wide) for n, d in (("bias", 0.0), ("lambd", 0.5)))
    below = c.add(Less(), wide, c.add(Neg(), lambd))
    above = c.add(Greater(), wide, lambd)
    inner = c.add(Where(), above, c.add(Sub(), wide, bias), c.scalar(0, wide))
    return c.cast(c.add(Where(), below, c.add(Add(), wide, bias), inner), dtype)


def identity(c: Call) -> object:
    if isinstance(c.values[0], Many):
        return c.values[0]
    return c.add(Identity(), c[0])


def dropout(c: Call) -> Any:
    """The identity at inference, with a mask of true if that is wanted."""
    if c.has(2) and bool(c.array(2)):
        return drawing.dropout(c)
    y = c.add(Identity(), c[0])
    if not c.wants(1):
        return y
    mask = c.add(Broadcast(c.shape(0)), c.constant(np.array(True)))
    return y, mask if c.opset >= 10 else c.cast(mask, c.dtype(0))


def unary(op: Callable[[], Op]) -> Rule:
    return lambda c: c.add(op(), c[0])


RULES: dict[str, Rule] = {
    **{
        op.__name__: unary(op)
        for op in (
            Abs,
            Acos,
            Acosh,
            Asin,
            Asinh,
            Atan,
            Atanh,
            Ceil,
            Cos,
            Cosh,
            Erf,
            Exp,
            Floor,
            HardSwish,
            Log,
            Mish,
            Neg,
            Not,
            Reciprocal,
            Relu,
            Round,
            Sigmoid,
            Sign,
            Sin,
            Sinh,
            Softplus,
            Softsign,
            Sqrt,
            Tan,
            Tanh,
        )
    },
    **{
        name: pair(op)
        for name, op in {
            "Add": Add,
            "Sub": Sub,
            "Mul": Mul,
            "And": And,
            "Or": Or,
            "Xor": Xor,
            "Equal": Equal,
            "Less": Less,
            "LessOrEqual": LessEqual,
            "Greater": Greater,
            "GreaterOrEqual": GreaterEqual,
            "BitwiseAnd": BitAnd,
            "BitwiseOr": BitOr,
            "BitwiseXor": BitXor,
        }.items()
    },
    "BitwiseNot": unary(BitNot),
    "BitShift": shift,
    "Div": div,
    "Mod": mod,
    "Pow": power,
    "PRelu": prelu,
    "Max": variadic(Maximum),
    "Min": variadic(Minimum),
    "Sum": variadic(Add),
    "Mean": mean,
    "Where": lambda c: c.add(Where(), c[0], c[1], c[2]),
    "IsNaN": unary(IsNan),
    "IsInf": is_inf,
    "Clip": clip,
    "Cast": cast,
    "CastLike": cast_like,
    "LeakyRelu": plain(LeakyRelu, alpha=0.01),
    "Elu": plain(Elu, alpha=1.0),
    "Celu": plain(Celu, alpha=1.0),
    "ThresholdedRelu": plain(ThresholdedRelu, alpha=1.0),
    "HardSigmoid": plain(HardSigmoid, alpha=0.2, beta=0.5),
    "Selu": selu,
    "Gelu": gelu,
    "Swish": swish,
    "Shrink": shrink,
    "Identity": identity,
    "Dropout": dropout,
}
