"""Import rules of reductions, softmax and positions of extremes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from convc.onnx.importers.call import Call, Rule
from convc.onnx.importers.shape import parameter
from convc.ops.broadcasting import Add, Div, Equal, Maximum, Mul, Sub, Where
from convc.ops.elementwise import Abs, Exp, Identity, Log, Sqrt, Square
from convc.ops.norm import LogSoftmax, Softmax
from convc.ops.reduce import (
    ArgMax,
    FirstEqual,
    ReduceMax,
    ReduceMean,
    ReduceMin,
    ReduceProd,
    ReduceSum,
    Reduction,
)
from convc.types import DType

Emit = Callable[[Call, str, tuple[int, ...], bool], str]
"""`emit(call, x, axes, keepdims)`."""


def reduction(emit: Emit) -> Rule:
    """Axes are an attribute at first and an input later; none are all, or none with noop_with_empty_axes."""

    def rule(c: Call) -> str:
        rank = c.rank(0)
        given = parameter(c, 1, "axes")
        if not given:
            if c.attr("noop_with_empty_axes", 0):
                return c.cast(emit(c, c[0], (), True), c.dtype(0))
            given = list(range(rank))
        axes = tuple(sorted({c.from_front(a, rank) for a in given}))
        return c.cast(emit(c, c[0], axes, bool(c.attr("keepdims", 1))), c.dtype(0))

    return rule


def wide(c: Call, x: str) -> str:
    """Integers and 16-bit floats in a float dtype that roots and logarithms need."""
    x = c.wide(x)
    return c.cast(x, DType.float64) if c.dtype(x).is_integer else x


def plain(op: type[Reduction]) -> Emit:
    def emit(c: Call, x: str, axes: tuple[int, ...], keepdims: bool) -> str:
        return c.add(op(axes, keepdims), x) if axes else c.add(Identity(), x)

    return emit


def extreme(op: type[Reduction]) -> Emit:
    """Of bools too, as bytes."""

    def emit(c: Call, x: str, axes: tuple[int, ...], keepdims: bool) -> str:
        is_bool = c.dtype(x) is DType.bool
        return plain(op)(c, c.cast(x, DType.uint8) if is_bool else x, axes, keepdims)

    return emit


def mean(c: Call, x: str, axes: tuple[int, ...], keepdims: bool) -> str:
    return plain(ReduceMean)(c, wide(c, x) if c.dtype(x).is_integer else x, axes, keepdims)


def l1(c: Call, x: str, axes: tuple[int, ...], keepdims: bool) -> str:
    return plain(ReduceSum)(c, c.add(Abs(), x), axes, keepdims)


def l2(c: Call, x: str, axes: tuple[int, ...], keepdims: bool) -> str:
    squares = c.add(Square(), wide(c, x))
    return c.add(Sqrt(), plain(ReduceSum)(c, squares, axes, keepdims))


def log_sum(c: Call, x: str, axes: tuple[int, ...], keepdims: bool) -> str:
    return c.add(Log(), plain(ReduceSum)(c, wide(c, x), axes, keepdims))


def log_sum_exp(c: Call, x: str, axes: tuple[int, ...], keepdims: bool) -> str:
    """Less the largest, so that nothing overflows; an infinite largest is taken as the nearest number."""
    x = wide(c, x)
    if not axes:
        return c.add(Log(), c.add(Exp(), x))
    lowest = float(np.finfo(np.float32).min)
    largest = c.add(Maximum(), c.add(ReduceMax(axes, True), x), c.scalar(lowest, x))
    summed = c.add(ReduceSum(axes, True), c.add(Exp(), c.add(Sub(), x, largest)))
    result = c.add(Add(), c.add(Log(), summed), largest)
    shape = c.shape(result)
    return (
        result if keepdims else c.reshape(result, (e for d, e in enumerate(shape) if d not in axes))
    )


def sum_square(c: Call, x: str, axes: tuple[int, ...], keepdims: bool) -> str:
    return plain(ReduceSum)(c, c.add(Square(), x), axes, keepdims)


# ---------------------------------------------------------------- positions


def arg(largest: bool) -> Rule:
    """The first position of an extreme, or the last with select_last_index."""

    def rule(c: Call) -> str:
        axis, keep = c.axis(0), bool(c.attr("keepdims", 1))
        x = c[0]
        last = bool(c.attr("select_last_index", 0))
        if last:
            x = c.slice(x, axis, None, None, -1)
        if largest:
            found = c.add(ArgMax(axis, keep), x)
        else:
            found = c.add(FirstEqual(axis, keep), x, c.add(ReduceMin((axis,), True), x))
        if not last:
            return found
        extent = c.numbers(x)[axis]
        return c.add(Sub(), c.scalar(extent - 1, found), found)

    return rule


def softmax(op: type[Softmax] | type[LogSoftmax]) -> Rule:
    """Up to opset 12 the tensor is a matrix, split at the axis."""

    def rule(c: Call) -> str:
        if c.opset >= 13:
            return c.add(op(c.axis(0, -1)), c[0])
        return as_matrix(c, lambda m: c.add(op(1), m))

    return rule


def as_matrix(c: Call, apply: Callable[[str], str]) -> str:
    axis, shape = c.axis(0, 1), c.shape(0)
    columns = 1
    for e in shape[axis:]:
        columns = columns * e  # type: ignore[assignment]
    rows = 1
    for e in shape[:axis]:
        rows = rows * e  # type: ignore[assignment]
    return c.reshape(apply(c.reshape(c[0], (rows, columns))), shape)


def hardmax(c: Call) -> str:
    """1 at the first largest element, else 0."""

    def of(x: str, axis: int) -> str:
        first = c.add(ArgMax(axis, True), x)
        extent, rank = c.numbers(x)[axis], c.rank(x)
        positions = np.arange(extent).reshape((extent, *[1] * (rank - 1 - axis)))
        return c.cast(c.add(Equal(), c.constant(positions, DType.int64), first), c.dtype(x))

    if c.opset >= 13:
        return of(c[0], c.axis(0, -1))
    return as_matrix(c, lambda m: of(m, 1))


def lp_normalization(c: Call) -> str:
    """x over its norm along an axis; 0 where that is 0."""
    axis, x = c.axis(0, -1), c.wide(c[0])
    if c.attr("p", 2) == 1:
        norm = c.add(ReduceSum((axis,), True), c.add(Abs(), x))
    else:
        norm = c.add(Sqrt(), c.add(ReduceSum((axis,), True), c.add(Mul(), x, x)))
    zero = c.scalar(0, x)
    quotient = c.add(Where(), c.add(Equal(), norm, zero), zero, c.add(Div(), x, norm))
    return c.cast(quotient, c.dtype(0))


RULES: dict[str, Rule] = {
    "ReduceSum": reduction(plain(ReduceSum)),
    "ReduceProd": reduction(plain(ReduceProd)),
    "ReduceMean": reduction(mean),
    "ReduceMax": reduction(extreme(ReduceMax)),
    "ReduceMin": reduction(extreme(ReduceMin)),
    "ReduceL1": reduction(l1),
    "ReduceL2": reduction(l2),
    "ReduceLogSum": reduction(log_sum),
    "ReduceLogSumExp": reduction(log_sum_exp),
    "ReduceSumSquare": reduction(sum_square),
    "ArgMax": arg(True),
    "ArgMin": arg(False),
    "Softmax": softmax(Softmax),
    "LogSoftmax": softmax(LogSoftmax),
    "Hardmax": hardmax,
    "LpNormalization": lp_normalization,
}
