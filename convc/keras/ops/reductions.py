"""Sums, means, extremes and products over axes."""

from __future__ import annotations

from typing import Any

from convc.graph.op import Op
from convc.keras.engine.arguments import axis_of, is_integer
from convc.keras.engine.call import operation
from convc.keras.engine.tensor import (
    KerasTensor,
    apply,
    as_tensor,
    cast,
    elementwise_binary,
    floating,
    promoted,
    reshape,
)
from convc.keras.ops.elementwise import truth
from convc.ops import broadcasting, elementwise, matmul, reduce
from convc.types import DType, size_of


def axes_of(owner: str, axis: Any, x: KerasTensor) -> tuple[int, ...]:
    """Non-negative axes of a tensor; None means all."""
    if axis is None:
        return tuple(range(x.type.rank))
    axes = (axis,) if is_integer(axis) else tuple(axis)
    return tuple(sorted(axis_of(owner, a, x.type.rank) for a in axes))


def _reduced(op: type[Op], x: KerasTensor, axis: Any, keepdims: bool) -> KerasTensor:
    axes = axes_of(op.__name__, axis, x)
    return apply(op(axes, keepdims), x) if axes else x  # type: ignore[call-arg]


def _numbers(x: Any) -> KerasTensor:
    x = as_tensor(x)
    return cast(x, DType.int32) if x.type.dtype is DType.bool else x


@operation
def sum(x: Any, axis: Any = None, keepdims: bool = False) -> KerasTensor:
    return _reduced(reduce.ReduceSum, _numbers(x), axis, keepdims)


@operation
def mean(x: Any, axis: Any = None, keepdims: bool = False) -> KerasTensor:
    return _reduced(reduce.ReduceMean, floating(x), axis, keepdims)


@operation
def average(x: Any, axis: Any = None, weights: Any = None) -> KerasTensor:
    """The mean, weighted if weights are given."""
    x = floating(x)
    if weights is None:
        return _reduced(reduce.ReduceMean, x, axis, False)
    w = floating(weights)
    if w.type.rank == 1 and x.type.rank > 1:
        at = axis_of("average", axis, x.type.rank)
        w = reshape(w, tuple(w.type.shape[0] if d == at else 1 for d in range(x.type.rank)))
    weighted = elementwise_binary(broadcasting.Mul, x, w)
    ones = elementwise_binary(broadcasting.Mul, x, 0.0)
    total = elementwise_binary(broadcasting.Add, ones, w)
    return elementwise_binary(
        broadcasting.Div,
        _reduced(reduce.ReduceSum, weighted, axis, False),
        _reduced(reduce.ReduceSum, total, axis, False),
    )


@operation
def max(x: Any, axis: Any = None, keepdims: bool = False, initial: Any = None) -> KerasTensor:
    y = _reduced(reduce.ReduceMax, as_tensor(x), axis, keepdims)
    return y if initial is None else elementwise_binary(broadcasting.Maximum, y, initial)


@operation
def min(x: Any, axis: Any = None, keepdims: bool = False, initial: Any = None) -> KerasTensor:
    y = _reduced(reduce.ReduceMin, as_tensor(x), axis, keepdims)
    return y if initial is None else elementwise_binary(broadcasting.Minimum, y, initial)


@operation
def prod(x: Any, axis: Any = None, keepdims: bool = False, dtype: Any = None) -> KerasTensor:
    y = _reduced(reduce.ReduceProd, _numbers(x), axis, keepdims)
    return y if dtype is None else cast(y, DType.of(dtype))


@operation
def var(x: Any, axis: Any = None, keepdims: bool = False) -> KerasTensor:
    return variance(floating(x), axis, keepdims)


def variance(x: KerasTensor, axis: Any, keepdims: bool) -> KerasTensor:
    """The mean square of the distance from the mean."""
    distance = elementwise_binary(broadcasting.Sub, x, _reduced(reduce.ReduceMean, x, axis, True))
    return _reduced(reduce.ReduceMean, apply(elementwise.Square(), distance), axis, keepdims)


@operation
def std(x: Any, axis: Any = None, keepdims: bool = False) -> KerasTensor:
    return apply(elementwise.Sqrt(), variance(floating(x), axis, keepdims))


@operation
def all(x: Any, axis: Any = None, keepdims: bool = False) -> KerasTensor:
    numbers = cast(truth(x), DType.int32)
    return truth(_reduced(reduce.ReduceMin, numbers, axis, keepdims))


@operation
def any(x: Any, axis: Any = None, keepdims: bool = False) -> KerasTensor:
    numbers = cast(truth(x), DType.int32)
    return truth(_reduced(reduce.ReduceMax, numbers, axis, keepdims))


@operation
def argmax(x: Any, axis: int | None = None, keepdims: bool = False) -> KerasTensor:
    """The position of the largest element (the first of equals), as int32."""
    x = _numbers(x)
    if axis is None:
        x, axis = reshape(x, (size_of(x.type.shape),)), 0
    found = apply(reduce.ArgMax(axis_of("argmax", axis, x.type.rank), keepdims), x)
    return cast(found, DType.int32)


@operation
def argmin(x: Any, axis: int | None = None, keepdims: bool = False) -> KerasTensor:
    """The position of the smallest element (the first of equals), as int32."""
    x = apply(elementwise.Neg(), _numbers(x))
    if axis is None:
        x, axis = reshape(x, (size_of(x.type.shape),)), 0
    found = apply(reduce.ArgMax(axis_of("argmin", axis, x.type.rank), keepdims), x)
    return cast(found, DType.int32)


@operation
def logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> KerasTensor:
    """log(sum(exp(x))) without overflow."""
    x = floating(x)
    high = _reduced(reduce.ReduceMax, x, axis, True)
    shifted = apply(elementwise.Exp(), elementwise_binary(broadcasting.Sub, x, high))
    total = apply(elementwise.Log(), _reduced(reduce.ReduceSum, shifted, axis, keepdims))
    kept = high if keepdims else _reduced(reduce.ReduceMax, x, axis, False)
    return elementwise_binary(broadcasting.Add, total, kept)


@operation
def count_nonzero(x: Any, axis: Any = None) -> KerasTensor:
    return _reduced(reduce.ReduceSum, cast(truth(x), DType.int32), axis, False)


@operation
def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> KerasTensor:
    """The Euclidean norm (`ord` 1 and infinity too) over axes."""
    x = floating(x)
    size = apply(elementwise.Abs(), x)
    if ord == 1:
        return _reduced(reduce.ReduceSum, size, axis, keepdims)
    if ord == float("inf"):
        return _reduced(reduce.ReduceMax, size, axis, keepdims)
    squares = _reduced(reduce.ReduceSum, apply(elementwise.Square(), x), axis, keepdims)
    return apply(elementwise.Sqrt(), squares)


@operation
def matmul_(x1: Any, x2: Any) -> KerasTensor:
    return product(x1, x2)


def product(x1: Any, x2: Any) -> KerasTensor:
    """numpy's matmul, vectors included."""
    a, b = _numbers(x1), _numbers(x2)
    if a.type.dtype is not b.type.dtype:
        a, b = promoted(floating(a), floating(b))
    left, right = a.type.rank == 1, b.type.rank == 1
    a = reshape(a, (1, *a.type.shape)) if left else a
    b = reshape(b, (*b.type.shape, 1)) if right else b
    y = apply(matmul.MatMul(), a, b)
    shape = y.type.shape
    if left and right:
        return reshape(y, shape[:-2])
    if left:
        return reshape(y, (*shape[:-2], shape[-1]))
    return reshape(y, shape[:-1]) if right else y


__all__ = [
    "all", "any", "argmax", "argmin", "average", "count_nonzero", "logsumexp", "matmul_", "max", "mean", "min", "norm",
    "prod", "std", "sum", "var",
]  # fmt: skip
