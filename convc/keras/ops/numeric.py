"""Functions of numpy's that are made of others: differences, diagonals, pieces, bits, numbers that may be NaN."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from convc.errors import ModelError
from convc.keras import backend
from convc.keras.engine.arguments import axis_of, is_integer
from convc.keras.engine.call import operation
from convc.keras.engine.naming import user_line
from convc.keras.engine.tensor import (
    KerasTensor,
    apply,
    as_tensor,
    cast,
    floating,
    promoted,
    reshape,
)
from convc.keras.ops import elementwise, further, reductions, shaping
from convc.ops import integer
from convc.ops import ordering as kernels
from convc.types import DType, size_of

# ---------------------------------------------------------------- arithmetic


@operation
def arctan2(x1: Any, x2: Any) -> KerasTensor:
    """The angle of the point (x2, x1)."""
    y, x = promoted(floating(x1), floating(x2))
    steep = elementwise.greater(elementwise.absolute(y), elementwise.absolute(x))
    # The smaller over the larger, so that neither the quotient nor its gradient overflows.
    low, high = elementwise.where(steep, x, y), elementwise.where(steep, y, x)
    both = elementwise.equal(high, 0)
    flat = elementwise.arctan(low / elementwise.where(both, 1, high))
    up = elementwise.where(elementwise.less(y, 0), -math.pi / 2, math.pi / 2)
    behind = elementwise.where(elementwise.less(y, 0), -math.pi, math.pi)
    level = elementwise.where(elementwise.less(x, 0), flat + behind, flat)
    return elementwise.where(both, 0.0, elementwise.where(steep, up - flat, level))


@operation
def hypot(x1: Any, x2: Any) -> KerasTensor:
    """sqrt(x1² + x2²) without overflow."""
    a, b = promoted(floating(x1), floating(x2))
    a, b = elementwise.absolute(a), elementwise.absolute(b)
    high, low = elementwise.maximum(a, b), elementwise.minimum(a, b)
    share = elementwise.divide_no_nan(low, high)
    return as_tensor(high * elementwise.sqrt(1.0 + share * share))


@operation
def cbrt(x: Any) -> KerasTensor:
    x = floating(x)
    size = elementwise.absolute(x)
    return as_tensor(elementwise.sign(x) * elementwise.power(size, 1.0 / 3.0))


@operation
def trunc(x: Any) -> KerasTensor:
    """x without its fraction."""
    given = as_tensor(x)
    if not given.type.dtype.is_float:
        return given
    below = elementwise.less(given, 0)
    return elementwise.where(below, elementwise.ceil(given), elementwise.floor(given))


@operation
def fmod(x1: Any, x2: Any) -> KerasTensor:
    """The remainder with the sign of x1."""
    a, b = promoted(as_tensor(x1), as_tensor(x2))
    return as_tensor(a - b * trunc(a / b))


@operation
def heaviside(x1: Any, x2: Any) -> KerasTensor:
    x, middle = promoted(floating(x1), floating(x2))
    step = cast(elementwise.greater(x, 0), x.type.dtype)
    return elementwise.where(elementwise.equal(x, 0), middle, step)


@operation
def sinc(x: Any) -> KerasTensor:
    x = floating(x) * math.pi
    zero = elementwise.equal(x, 0)
    return elementwise.where(zero, 1.0, elementwise.sin(x) / elementwise.where(zero, 1.0, x))


@operation
def logaddexp2(x1: Any, x2: Any) -> KerasTensor:
    two = math.log(2.0)
    a, b = floating(x1), floating(x2)
    return as_tensor(elementwise.logaddexp(a * two, b * two) / two)


@operation
def fabs(x: Any) -> KerasTensor:
    return elementwise.absolute(floating(x))


def _less_nan(extreme: Callable[..., KerasTensor], name: str) -> Callable[..., KerasTensor]:
    def chosen(x1: Any, x2: Any) -> KerasTensor:
        a, b = promoted(as_tensor(x1), as_tensor(x2))
        found = elementwise.where(elementwise.not_equal(b, b), a, extreme(a, b))
        return elementwise.where(elementwise.not_equal(a, a), b, found)

    chosen.__name__, chosen.__doc__ = name, "The extreme of two numbers, of which one may be NaN."
    return operation(chosen)


fmax, fmin = _less_nan(elementwise.maximum, "fmax"), _less_nan(elementwise.minimum, "fmin")


@operation
def isposinf(x: Any) -> KerasTensor:
    return elementwise.equal(floating(x), math.inf)


@operation
def isneginf(x: Any) -> KerasTensor:
    return elementwise.equal(floating(x), -math.inf)


@operation
def erfc(x: Any) -> KerasTensor:
    return as_tensor(1.0 - elementwise.erf(x))


@operation
def saturate_cast(x: Any, dtype: Any) -> KerasTensor:
    """x in another dtype, within its range."""
    x, kind = as_tensor(x), DType.of(dtype)
    if kind.is_float or kind is DType.bool:
        return cast(x, kind)
    limits = np.iinfo(kind.numpy)
    return cast(elementwise.clip(x, limits.min, limits.max), kind)


# ---------------------------------------------------------------- along an axis


@operation
def cumprod(x: Any, axis: Any = None, dtype: Any = None) -> KerasTensor:
    """Products of what comes before along an axis, each element included."""
    x = as_tensor(x, dtype)
    if axis is None:
        x, axis = shaping.ravel(x), 0
    x = cast(x, DType.int32) if x.type.dtype is DType.bool else x
    return apply(kernels.CumProd(axis_of("cumprod", axis, x.ndim)), x)


@operation
def diff(a: Any, n: int = 1, axis: int = -1) -> KerasTensor:
    """The n-th differences of neighbours along an axis."""
    x = as_tensor(a)
    at = axis_of("diff", axis, x.type.rank)
    before = (*[slice(None)] * at, slice(None, -1))
    after = (*[slice(None)] * at, slice(1, None))
    for _ in range(n):
        x = as_tensor(x[after] - x[before])
    return x


@operation
def trapezoid(y: Any, x: Any = None, dx: float = 1.0, axis: int = -1) -> KerasTensor:
    """The integral of a broken line."""
    y = shaping.moveaxis(floating(y), axis, -1)
    width = dx if x is None else diff(floating(x))
    return reductions.sum((y[..., 1:] + y[..., :-1]) * 0.5 * width, -1)


@operation
def extract_sequences(x: Any, sequence_length: int, sequence_stride: int) -> KerasTensor:
    """Windows of the last axis, one every so many steps."""
    x = as_tensor(x)
    size = x.type.shape[-1]
    if not isinstance(size, int):
        raise ModelError(
            f"{user_line()}: extract_sequences: the last axis of {x.shape} must be known"
        )
    starts = np.arange(0, size - sequence_length + 1, sequence_stride)
    return shaping.take(x, (starts[:, None] + np.arange(sequence_length)).astype(np.int32), axis=-1)


# ---------------------------------------------------------------- matrices and vectors


@operation
def inner(x1: Any, x2: Any) -> KerasTensor:
    """The sums of products over the last axes."""
    a, b = as_tensor(x1), as_tensor(x2)
    if a.type.rank == 0 or b.type.rank == 0:
        return as_tensor(a * b)
    return further.tensordot(a, b, [[-1], [-1]])


@operation
def kron(x1: Any, x2: Any) -> KerasTensor:
    """Every product of an element of one and the whole other, as blocks."""
    a, b = promoted(as_tensor(x1), as_tensor(x2))
    rank = max(a.type.rank, b.type.rank)
    one = (*[1] * (rank - a.type.rank), *a.type.shape)
    two = (*[1] * (rank - b.type.rank), *b.type.shape)
    wide = reshape(a, tuple(v for e in one for v in (e, 1)))
    found = as_tensor(wide * reshape(b, tuple(v for e in two for v in (1, e))))
    return reshape(found, tuple(size_of(pair) for pair in zip(one, two, strict=True)))


@operation
def cross(
    x1: Any, x2: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: Any = None
) -> KerasTensor:
    """The vector products of vectors of 3."""
    if axis is not None:
        axisa = axisb = axisc = axis
    a, b = shaping.moveaxis(x1, axisa, -1), shaping.moveaxis(x2, axisb, -1)
    a, b = promoted(a, b)
    if a.shape[-1] != 3 or b.shape[-1] != 3:
        raise ModelError(
            f"{user_line()}: cross: expected vectors of 3; received {a.shape} and {b.shape}"
        )
    left, right = shaping.roll(a, -1, -1), shaping.roll(b, -1, -1)
    found = shaping.roll(a * right - left * b, -1, -1)
    return shaping.moveaxis(found, -1, axisc)


@operation
def diagonal(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> KerasTensor:
    """The elements of a diagonal, as the last axis."""
    x = shaping.moveaxis(as_tensor(x), (axis1, axis2), (-2, -1))
    *outer, rows, columns = x.type.shape
    if not isinstance(rows, int) or not isinstance(columns, int):
        raise ModelError(f"{user_line()}: diagonal: the axes of {x.shape} must be known")
    row = np.arange(max(0, -offset), max(0, min(rows, columns - offset)))
    flat = reshape(x, (*outer, rows * columns))
    return shaping.take(flat, (row * columns + row + offset).astype(np.int32), axis=-1)


@operation
def diagflat(x: Any, k: int = 0) -> KerasTensor:
    """A matrix with these numbers on its k-th diagonal."""
    x = shaping.ravel(x)
    count = x.shape[0]
    if count is None:
        raise ModelError(f"{user_line()}: diagflat: the size of {x.shape} must be known")
    size = count + abs(k)
    places = np.eye(size, size, k, dtype=bool)
    spread = np.zeros((size, size), np.int32)
    spread[places] = np.arange(count)
    return elementwise.where(places, shaping.take(x, spread, axis=0), 0)


@operation
def diag(x: Any, k: int = 0) -> KerasTensor:
    """A vector as a diagonal, or the diagonal of a matrix."""
    x = as_tensor(x)
    return diagflat(x, k) if x.type.rank == 1 else diagonal(x, k)


@operation
def corrcoef(x: Any) -> KerasTensor:
    """The correlations of the rows."""
    x = floating(x)
    apart = x - reductions.mean(x, -1, True)
    unit = apart / elementwise.sqrt(reductions.sum(apart * apart, -1, True))
    return as_tensor(unit @ shaping.transpose(unit))


# ---------------------------------------------------------------- pieces


@operation
def append(x1: Any, x2: Any, axis: Any = None) -> KerasTensor:
    if axis is None:
        x1, x2, axis = shaping.ravel(x1), shaping.ravel(x2), 0
    return shaping.concatenate([x1, x2], axis)


@operation
def flipud(x: Any) -> KerasTensor:
    return shaping.flip(x, 0)


@operation
def fliplr(x: Any) -> KerasTensor:
    return shaping.flip(x, 1)


@operation
def rot90(array: Any, k: int = 1, axes: Any = (0, 1)) -> KerasTensor:
    """Turned by 90 degrees k times, from the first of the axes to the second."""
    x, (one, two) = as_tensor(array), axes
    match k % 4:
        case 0:
            return x
        case 2:
            return shaping.flip(x, (one, two))
        case 1:
            return shaping.swapaxes(shaping.flip(x, two), one, two)
        case _:
            return shaping.flip(shaping.swapaxes(x, one, two), two)


@operation
def array_split(x: Any, indices_or_sections: Any, axis: int = 0) -> list[KerasTensor]:
    """Parts of about the same size."""
    x = as_tensor(x)
    size = x.type.shape[axis_of("array_split", axis, x.type.rank)]
    if is_integer(indices_or_sections) and isinstance(size, int):
        lengths = [len(part) for part in np.array_split(np.arange(size), indices_or_sections)]
        indices_or_sections = [int(v) for v in np.cumsum(lengths)[:-1]]
    return shaping.split(x, indices_or_sections, axis)


@operation
def dstack(xs: Any) -> KerasTensor:
    tensors = [as_tensor(x) for x in xs]
    wide = [
        t if t.type.rank > 2 else reshape(t, (*([1] if t.type.rank == 1 else []), *t.type.shape, 1))
        for t in tensors
    ]
    return shaping.concatenate(wide, 2)


@operation
def select(condlist: Any, choicelist: Any, default: Any = 0) -> KerasTensor:
    """What belongs to the first condition that holds."""
    found: Any = default
    for condition, choice in reversed(list(zip(condlist, choicelist, strict=True))):
        found = elementwise.where(condition, choice, found)
    return as_tensor(found)


def empty_like(x: Any, dtype: Any = None) -> KerasTensor:
    return shaping.zeros_like(x, dtype)


def logspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, base: Any = 10, dtype: Any = None
) -> KerasTensor:
    found = np.logspace(float(start), float(stop), num, endpoint, base)
    return as_tensor(found, dtype or backend.floatx())


def geomspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, dtype: Any = None
) -> KerasTensor:
    return as_tensor(
        np.geomspace(float(start), float(stop), num, endpoint), dtype or backend.floatx()
    )


# ---------------------------------------------------------------- NaN


def _without_nan(name: str, reduce: Callable[..., KerasTensor], neutral: float) -> Any:
    def reduced(x: Any, axis: Any = None, keepdims: bool = False) -> KerasTensor:
        x = floating(x)
        return reduce(elementwise.where(elementwise.isnan(x), neutral, x), axis, keepdims)

    reduced.__name__, reduced.__doc__ = name, f"{name[3:]} of what isn't NaN."
    return operation(reduced)


nansum = _without_nan("nansum", reductions.sum, 0.0)
nanprod = _without_nan("nanprod", reductions.prod, 1.0)
nanmax = _without_nan("nanmax", reductions.max, -math.inf)
nanmin = _without_nan("nanmin", reductions.min, math.inf)


@operation
def nanmean(x: Any, axis: Any = None, keepdims: bool = False) -> KerasTensor:
    x = floating(x)
    there = elementwise.logical_not(elementwise.isnan(x))
    count = reductions.sum(cast(there, x.type.dtype), axis, keepdims)
    return as_tensor(nansum(x, axis, keepdims) / count)


# ---------------------------------------------------------------- bits


def _bits(name: str, op: Any) -> Callable[..., KerasTensor]:
    def combined(x: Any, y: Any) -> KerasTensor:
        a, b = promoted(as_tensor(x), as_tensor(y))
        return apply(op(), a, b)

    combined.__name__, combined.__doc__ = name, f"{name} of integers, bit by bit."
    return operation(combined)


bitwise_and = _bits("bitwise_and", integer.BitAnd)
bitwise_or = _bits("bitwise_or", integer.BitOr)
bitwise_xor = _bits("bitwise_xor", integer.BitXor)
left_shift = bitwise_left_shift = _bits("left_shift", integer.ShiftLeft)
right_shift = bitwise_right_shift = _bits("right_shift", integer.ShiftRight)


@operation
def bitwise_not(x: Any) -> KerasTensor:
    return apply(integer.BitNot(), as_tensor(x))


bitwise_invert = bitwise_not

# ---------------------------------------------------------------- data that decide shapes


def nonzero(x: Any) -> tuple[KerasTensor, ...]:
    """Where known numbers aren't 0."""
    return tuple(as_tensor(places.astype(np.int32)) for places in np.nonzero(as_tensor(x).numpy()))


def histogram(x: Any, bins: Any = 10, range: Any = None) -> tuple[KerasTensor, KerasTensor]:
    """How many known numbers are between bounds."""
    counts, edges = np.histogram(as_tensor(x).numpy(), bins, range)
    return as_tensor(counts.astype(np.float32)), as_tensor(edges.astype(np.float32))


__all__ = [
    "append", "arctan2", "array_split", "bitwise_and", "bitwise_invert", "bitwise_left_shift", "bitwise_not",
    "bitwise_or", "bitwise_right_shift", "bitwise_xor", "cbrt", "corrcoef", "cross", "cumprod", "diag", "diagflat",
    "diagonal", "diff", "dstack", "empty_like", "erfc", "extract_sequences", "fabs", "fliplr", "flipud", "fmax",
    "fmin", "fmod", "geomspace", "heaviside", "histogram", "hypot", "inner", "isneginf", "isposinf", "kron",
    "left_shift", "logaddexp2", "logspace", "nanmax", "nanmean", "nanmin", "nanprod", "nansum", "nonzero",
    "right_shift", "rot90", "saturate_cast", "select", "sinc", "trapezoid", "trunc",
]  # fmt: skip
