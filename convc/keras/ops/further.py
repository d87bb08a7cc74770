"""Functions that are made of others: products, triangles, comparisons within a tolerance, attention."""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np

from convc.errors import ModelError
from convc.keras import backend
from convc.keras.engine.arguments import axis_of, is_integer
from convc.keras.engine.call import operation
from convc.keras.engine.naming import user_line
from convc.keras.engine.tensor import KerasTensor, apply, as_tensor, cast, floating
from convc.keras.ops import elementwise, nn, reductions, shaping
from convc.ops import ordering
from convc.ops.elementwise import Identity
from convc.types import DType


def array(x: Any, dtype: Any = None) -> KerasTensor:
    return as_tensor(x, dtype)


def copy(x: Any) -> KerasTensor:
    """The values as they are now: a variable's change doesn't change them."""
    return apply(Identity(), x)


def dtype(x: Any) -> str:
    """The name of the element type."""
    return as_tensor(x).dtype


def size(x: Any) -> Any:
    """The number of elements: an integer, or a tensor where it depends on the batch."""
    known = as_tensor(x).size
    return _counted(x) if known is None else known


@operation
def _counted(x: Any) -> KerasTensor:
    return as_tensor(math.prod(as_tensor(x).type.shape))


def empty(shape: Any, dtype: Any = None) -> KerasTensor:
    return shaping.zeros(shape, dtype)


def identity(n: int, dtype: Any = None) -> KerasTensor:
    return shaping.eye(n, dtype=dtype)


def tri(N: int, M: int | None = None, k: int = 0, dtype: Any = None) -> KerasTensor:
    """Ones at and below the k-th diagonal."""
    return as_tensor(np.tri(N, M, k), dtype or backend.floatx())


def _triangle(name: str, x: Any, k: int, lower: bool) -> KerasTensor:
    x = as_tensor(x)
    rows, columns = x.type.shape[-2:]
    if not isinstance(rows, int) or not isinstance(columns, int):
        raise ModelError(f"{user_line()}: {name}: the last two axes of {x.shape} must be known")
    kept = np.tri(rows, columns, k if lower else k - 1, dtype=bool)
    return elementwise.where(as_tensor(kept if lower else ~kept), x, as_tensor(0, x.dtype))


@operation
def tril(x: Any, k: int = 0) -> KerasTensor:
    """x at and below the k-th diagonal of its last two axes, 0 above."""
    return _triangle("tril", x, k, lower=True)


@operation
def triu(x: Any, k: int = 0) -> KerasTensor:
    """x at and above the k-th diagonal of its last two axes, 0 below."""
    return _triangle("triu", x, k, lower=False)


@operation
def outer(x1: Any, x2: Any) -> KerasTensor:
    a, b = shaping.ravel(x1), shaping.ravel(x2)
    return as_tensor(shaping.expand_dims(a, 1) * shaping.expand_dims(b, 0))


@operation
def tensordot(x1: Any, x2: Any, axes: Any = 2) -> KerasTensor:
    """Sums of products over axes: so many last and first ones, or given pairs."""
    a, b = as_tensor(x1), as_tensor(x2)
    if is_integer(axes):
        axes = (list(range(a.ndim - axes, a.ndim)), list(range(axes)))
    one, two = ([v] if is_integer(v) else list(v) for v in axes)
    one = [axis_of("tensordot", v, a.ndim) for v in one]
    two = [axis_of("tensordot", v, b.ndim) for v in two]
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    first = [next(letters) for _ in range(a.ndim)]
    second = [first[one[two.index(d)]] if d in two else next(letters) for d in range(b.ndim)]
    kept = [c for d, c in enumerate(first) if d not in one]
    kept += [c for d, c in enumerate(second) if d not in two]
    return nn.einsum(f"{''.join(first)},{''.join(second)}->{''.join(kept)}", a, b)


@operation
def vdot(x1: Any, x2: Any) -> KerasTensor:
    return reductions.sum(shaping.ravel(x1) * shaping.ravel(x2))


@operation
def cumsum(x: Any, axis: Any = None, dtype: Any = None) -> KerasTensor:
    """Sums of what comes before along an axis, each element included."""
    x = as_tensor(x, dtype)
    if axis is None:
        x, axis = shaping.ravel(x), 0
    x = cast(x, DType.int32) if x.type.dtype is DType.bool else x
    return apply(ordering.CumSum(axis_of("cumsum", axis, x.ndim)), x)


@operation
def take_along_axis(x: Any, indices: Any, axis: int = -1) -> KerasTensor:
    """The elements of x at indices of the same rank along an axis."""
    x, places = as_tensor(x), as_tensor(indices)
    at = axis_of("take_along_axis", axis, x.ndim)
    return apply(ordering.GatherElements(at), x, places)


@operation
def unstack(x: Any, num: int | None = None, axis: int = 0) -> list[KerasTensor]:
    """The parts of x along an axis, without it."""
    x = as_tensor(x)
    at = axis_of("unstack", axis, x.ndim)
    count = x.type.shape[at] if num is None else num
    if not isinstance(count, int):
        raise ModelError(f"{user_line()}: unstack: axis {axis} of {x.shape} must be known")
    return [shaping.squeeze(part, at) for part in shaping.split(x, count, at)]


def meshgrid(*x: Any, indexing: str = "xy") -> list[KerasTensor]:
    """Coordinates of a grid, from those along each axis; numbers that are known."""
    grids = np.meshgrid(*(np.asarray(as_tensor(v).numpy()) for v in x), indexing=indexing)  # type: ignore[call-overload]
    return [as_tensor(np.ascontiguousarray(g)) for g in grids]


@operation
def isclose(
    x1: Any, x2: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> KerasTensor:
    a, b = floating(x1), floating(x2)
    near = elementwise.less_equal(
        elementwise.absolute(a - b), atol + rtol * elementwise.absolute(b)
    )
    found = elementwise.logical_or(near, elementwise.equal(a, b))
    if equal_nan:
        both = elementwise.logical_and(elementwise.not_equal(a, a), elementwise.not_equal(b, b))
        found = elementwise.logical_or(found, both)
    return found


@operation
def allclose(
    x1: Any, x2: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> KerasTensor:
    return reductions.all(isclose(x1, x2, rtol, atol, equal_nan))


@operation
def nan_to_num(
    x: Any, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None
) -> KerasTensor:
    """x with numbers in place of NaN and infinities (the largest, unless given)."""
    x = floating(x)
    limits = np.finfo(x.type.dtype.numpy)
    high = float(limits.max) if posinf is None else posinf
    low = float(limits.min) if neginf is None else neginf
    found = elementwise.where(elementwise.not_equal(x, x), nan, x)
    found = elementwise.where(elementwise.equal(found, math.inf), high, found)
    return elementwise.where(elementwise.equal(found, -math.inf), low, found)


@operation
def deg2rad(x: Any) -> KerasTensor:
    return as_tensor(floating(x) * (math.pi / 180))


@operation
def rad2deg(x: Any) -> KerasTensor:
    return as_tensor(floating(x) * (180 / math.pi))


@operation
def ptp(x: Any, axis: Any = None, keepdims: bool = False) -> KerasTensor:
    """The largest minus the smallest."""
    return as_tensor(reductions.max(x, axis, keepdims) - reductions.min(x, axis, keepdims))


@operation
def trace(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> KerasTensor:
    """The sum of a diagonal."""
    x = shaping.moveaxis(as_tensor(x), (axis1, axis2), (-2, -1))
    rows, columns = x.type.shape[-2:]
    if not isinstance(rows, int) or not isinstance(columns, int):
        raise ModelError(f"{user_line()}: trace: the axes of {x.shape} must be known")
    chosen = np.eye(rows, columns, offset, dtype=x.type.dtype.numpy)
    return reductions.sum(x * chosen, axis=(-2, -1))


@operation
def rms_normalization(
    x: Any, scale: Any = None, axis: Any = -1, epsilon: float | None = None
) -> KerasTensor:
    """x over the root of its mean square, times a scale."""
    x = floating(x)
    mean = reductions.mean(x * x, axis=axis, keepdims=True)
    found: KerasTensor = x * elementwise.rsqrt(mean + (1e-7 if epsilon is None else epsilon))
    return found if scale is None else found * scale


@operation
def dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    bias: Any = None,
    mask: Any = None,
    scale: float | None = None,
    is_causal: bool = False,
    flash_attention: Any = None,
    attn_logits_soft_cap: Any = None,
) -> KerasTensor:
    """softmax(query · key * scale) · value of shape (batch, steps, heads, size), per head."""
    q, k, v = floating(query), floating(key), floating(value)
    scale = 1.0 / math.sqrt(builtins.int(q.type.shape[-1])) if scale is None else scale  # type: ignore[arg-type]
    scores = nn.einsum("bqhd,bkhd->bhqk", q, k) * scale
    if bias is not None:
        scores = scores + bias
    if is_causal:
        rows, columns = scores.type.shape[-2:]
        own = tri(rows, columns, dtype="bool")
        mask = own if mask is None else elementwise.logical_and(as_tensor(mask, "bool"), own)
    if mask is not None:
        scores = scores + (1.0 - as_tensor(mask, scores.dtype)) * -1e9
    return nn.einsum("bhqk,bkhd->bqhd", nn.softmax(scores), v)


__all__ = [
    "allclose", "array", "copy", "cumsum", "deg2rad", "dot_product_attention", "dtype", "empty", "identity", "isclose",
    "meshgrid", "nan_to_num", "outer", "ptp", "rad2deg", "rms_normalization", "size", "take_along_axis", "tensordot",
    "trace", "tri", "tril", "triu", "unstack", "vdot",
]  # fmt: skip
