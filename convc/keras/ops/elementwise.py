"""Functions of single elements, comparisons and choices, as numpy has them."""

from __future__ import annotations

import math
from typing import Any

from convc.graph.op import Op
from convc.keras.engine.call import operation
from convc.keras.engine.tensor import (
    KerasTensor,
    apply,
    as_tensor,
    cast,
    elementwise_binary,
    floating,
    promoted,
)
from convc.ops import broadcasting
from convc.ops import elementwise as kernels
from convc.types import DType

# Numbers.


@operation
def add(x1: Any, x2: Any) -> KerasTensor:
    return elementwise_binary(broadcasting.Add, x1, x2)


@operation
def subtract(x1: Any, x2: Any) -> KerasTensor:
    return elementwise_binary(broadcasting.Sub, x1, x2)


@operation
def multiply(x1: Any, x2: Any) -> KerasTensor:
    return elementwise_binary(broadcasting.Mul, x1, x2)


@operation
def true_divide(x1: Any, x2: Any) -> KerasTensor:
    """x1 / x2 as floats."""
    a, b = promoted(x1, x2)
    return apply(broadcasting.Div(), floating(a), floating(b))


@operation
def divide(x1: Any, x2: Any) -> KerasTensor:
    """x1 / x2 as floats."""
    a, b = promoted(x1, x2)
    return apply(broadcasting.Div(), floating(a), floating(b))


@operation
def divide_no_nan(x1: Any, x2: Any) -> KerasTensor:
    """x1 / x2 as floats, 0 where x2 is 0."""
    a, b = (floating(x) for x in promoted(x1, x2))
    zero, one = as_tensor(0, b.dtype), as_tensor(1, b.dtype)
    empty = apply(broadcasting.Equal(), b, zero)
    share = apply(broadcasting.Div(), a, apply(broadcasting.Where(), empty, one, b))
    return apply(broadcasting.Where(), empty, zero, share)


@operation
def floor_divide(x1: Any, x2: Any) -> KerasTensor:
    return elementwise_binary(broadcasting.FloorDiv, x1, x2)


@operation
def mod(x1: Any, x2: Any) -> KerasTensor:
    return elementwise_binary(broadcasting.Mod, x1, x2)


@operation
def power(x1: Any, x2: Any) -> KerasTensor:
    """x1 to the power of x2; small whole exponents are products."""
    match x2 if isinstance(x2, (int, float)) else None:
        case 2 | 2.0:
            return apply(kernels.Square(), as_tensor(x1))
        case 1 | 1.0:
            return as_tensor(x1)
        case 0.5:
            return apply(kernels.Sqrt(), floating(x1))
        case -1 | -1.0:
            return apply(kernels.Reciprocal(), floating(x1))
        case _:
            return elementwise_binary(broadcasting.Pow, x1, x2)


@operation
def maximum(x1: Any, x2: Any) -> KerasTensor:
    return elementwise_binary(broadcasting.Maximum, x1, x2)


@operation
def minimum(x1: Any, x2: Any) -> KerasTensor:
    return elementwise_binary(broadcasting.Minimum, x1, x2)


@operation
def negative(x: Any) -> KerasTensor:
    return apply(kernels.Neg(), x)


@operation
def absolute(x: Any) -> KerasTensor:
    return apply(kernels.Abs(), x)


@operation
def sign(x: Any) -> KerasTensor:
    return apply(kernels.Sign(), x)


@operation
def square(x: Any) -> KerasTensor:
    return apply(kernels.Square(), x)


@operation
def clip(x: Any, x_min: Any, x_max: Any) -> KerasTensor:
    """x between two numbers or tensors (None for no limit)."""
    if all(v is None or isinstance(v, (int, float)) for v in (x_min, x_max)):
        low = None if x_min is None else float(x_min)
        return apply(kernels.Clip(low, None if x_max is None else float(x_max)), x)
    y = as_tensor(x) if x_min is None else elementwise_binary(broadcasting.Maximum, x, x_min)
    return y if x_max is None else elementwise_binary(broadcasting.Minimum, y, x_max)


def _floats(op: Op, x: Any) -> KerasTensor:
    return apply(op, floating(x))


@operation
def reciprocal(x: Any) -> KerasTensor:
    return _floats(kernels.Reciprocal(), x)


@operation
def sqrt(x: Any) -> KerasTensor:
    return _floats(kernels.Sqrt(), x)


@operation
def rsqrt(x: Any) -> KerasTensor:
    return _floats(kernels.Rsqrt(), x)


@operation
def exp(x: Any) -> KerasTensor:
    return _floats(kernels.Exp(), x)


@operation
def exp2(x: Any) -> KerasTensor:
    return _floats(kernels.Exp(), elementwise_binary(broadcasting.Mul, floating(x), math.log(2)))


@operation
def expm1(x: Any) -> KerasTensor:
    return _floats(kernels.Expm1(), x)


@operation
def log(x: Any) -> KerasTensor:
    return _floats(kernels.Log(), x)


@operation
def log1p(x: Any) -> KerasTensor:
    return _floats(kernels.Log1p(), x)


@operation
def log2(x: Any) -> KerasTensor:
    return elementwise_binary(broadcasting.Mul, _floats(kernels.Log(), x), 1 / math.log(2))


@operation
def log10(x: Any) -> KerasTensor:
    return elementwise_binary(broadcasting.Mul, _floats(kernels.Log(), x), 1 / math.log(10))


@operation
def logaddexp(x1: Any, x2: Any) -> KerasTensor:
    """log(exp(x1) + exp(x2)) without overflow."""
    a, b = (floating(x) for x in promoted(x1, x2))
    high = elementwise_binary(broadcasting.Maximum, a, b)
    distance = apply(kernels.Abs(), elementwise_binary(broadcasting.Sub, a, b))
    small = apply(kernels.Log1p(), apply(kernels.Exp(), apply(kernels.Neg(), distance)))
    return elementwise_binary(broadcasting.Add, high, small)


@operation
def sin(x: Any) -> KerasTensor:
    return _floats(kernels.Sin(), x)


@operation
def cos(x: Any) -> KerasTensor:
    return _floats(kernels.Cos(), x)


@operation
def tan(x: Any) -> KerasTensor:
    return _floats(kernels.Tan(), x)


@operation
def arcsin(x: Any) -> KerasTensor:
    return _floats(kernels.Asin(), x)


@operation
def arccos(x: Any) -> KerasTensor:
    return _floats(kernels.Acos(), x)


@operation
def arctan(x: Any) -> KerasTensor:
    return _floats(kernels.Atan(), x)


@operation
def sinh(x: Any) -> KerasTensor:
    return _floats(kernels.Sinh(), x)


@operation
def cosh(x: Any) -> KerasTensor:
    return _floats(kernels.Cosh(), x)


@operation
def arcsinh(x: Any) -> KerasTensor:
    return _floats(kernels.Asinh(), x)


@operation
def arccosh(x: Any) -> KerasTensor:
    return _floats(kernels.Acosh(), x)


@operation
def arctanh(x: Any) -> KerasTensor:
    return _floats(kernels.Atanh(), x)


@operation
def tanh(x: Any) -> KerasTensor:
    return _floats(kernels.Tanh(), x)


@operation
def erf(x: Any) -> KerasTensor:
    return _floats(kernels.Erf(), x)


@operation
def floor(x: Any) -> KerasTensor:
    return _floats(kernels.Floor(), x)


@operation
def ceil(x: Any) -> KerasTensor:
    return _floats(kernels.Ceil(), x)


@operation
def round(x: Any, decimals: int = 0) -> KerasTensor:
    """The nearest whole number (or decimal), halves to even."""
    x = floating(x)
    if decimals == 0:
        return apply(kernels.Round(), x)
    scaled = apply(kernels.Round(), elementwise_binary(broadcasting.Mul, x, float(10**decimals)))
    return elementwise_binary(broadcasting.Div, scaled, float(10**decimals))


# Comparisons and choices.


@operation
def less(x1: Any, x2: Any) -> KerasTensor:
    return elementwise_binary(broadcasting.Less, x1, x2)


@operation
def less_equal(x1: Any, x2: Any) -> KerasTensor:
    return elementwise_binary(broadcasting.LessEqual, x1, x2)


@operation
def greater(x1: Any, x2: Any) -> KerasTensor:
    return elementwise_binary(broadcasting.Greater, x1, x2)


@operation
def greater_equal(x1: Any, x2: Any) -> KerasTensor:
    return elementwise_binary(broadcasting.GreaterEqual, x1, x2)


@operation
def equal(x1: Any, x2: Any) -> KerasTensor:
    return elementwise_binary(broadcasting.Equal, x1, x2)


@operation
def not_equal(x1: Any, x2: Any) -> KerasTensor:
    return elementwise_binary(broadcasting.NotEqual, x1, x2)


@operation
def logical_and(x1: Any, x2: Any) -> KerasTensor:
    return apply(broadcasting.And(), truth(x1), truth(x2))


@operation
def logical_or(x1: Any, x2: Any) -> KerasTensor:
    return apply(broadcasting.Or(), truth(x1), truth(x2))


@operation
def logical_xor(x1: Any, x2: Any) -> KerasTensor:
    return apply(broadcasting.Xor(), truth(x1), truth(x2))


@operation
def logical_not(x: Any) -> KerasTensor:
    return apply(kernels.Not(), truth(x))


def truth(x: Any) -> KerasTensor:
    """x as booleans: whether it is not 0."""
    tensor = as_tensor(x)
    if tensor.type.dtype is DType.bool:
        return tensor
    return apply(broadcasting.NotEqual(), tensor, as_tensor(0, tensor.dtype))


@operation
def isnan(x: Any) -> KerasTensor:
    x = floating(x)
    return apply(broadcasting.NotEqual(), x, x)


@operation
def isinf(x: Any) -> KerasTensor:
    x = floating(x)
    return elementwise_binary(broadcasting.Equal, apply(kernels.Abs(), x), float("inf"))


@operation
def isfinite(x: Any) -> KerasTensor:
    return elementwise_binary(broadcasting.Less, apply(kernels.Abs(), floating(x)), float("inf"))


@operation
def where(condition: Any, x1: Any, x2: Any) -> KerasTensor:
    """x1 where the condition holds, else x2."""
    a, b = promoted(x1, x2)
    return apply(broadcasting.Where(), truth(condition), a, b)


@operation
def cast_(x: Any, dtype: Any) -> KerasTensor:
    return cast(as_tensor(x), DType.of(dtype))


abs = absolute

__all__ = [
    "abs",
    "absolute",
    "add",
    "arccos",
    "arccosh",
    "arcsin",
    "arcsinh",
    "arctan",
    "arctanh",
    "cast_",
    "ceil",
    "clip",
    "cos",
    "cosh",
    "divide",
    "divide_no_nan",
    "equal",
    "erf",
    "exp",
    "exp2",
    "expm1",
    "floor",
    "floor_divide",
    "greater",
    "greater_equal",
    "isfinite",
    "isinf",
    "isnan",
    "less",
    "less_equal",
    "log",
    "log1p",
    "log2",
    "log10",
    "logaddexp",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "maximum",
    "minimum",
    "mod",
    "multiply",
    "negative",
    "not_equal",
    "power",
    "reciprocal",
    "round",
    "rsqrt",
    "sign",
    "sin",
    "sinh",
    "sqrt",
    "square",
    "subtract",
    "tan",
    "tanh",
    "true_divide",
    "where",
]  # fmt: skip
