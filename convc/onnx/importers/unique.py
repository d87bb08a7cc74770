"""The import rule of Unique: a sort, and where its neighbours differ."""

from __future__ import annotations

import math

import numpy as np

from convc.onnx.importers.call import Call, Rule
from convc.onnx.importers.indexing import running_total
from convc.ops.broadcasting import And, NotEqual, Or, Sub
from convc.ops.elementwise import Cast, Not
from convc.ops.integer import IsNan
from convc.ops.reduce import ReduceMax
from convc.ops.shape import Concat, Gather
from convc.ops.sorting import Order, Positions, Scatter
from convc.types import DType


def unique(c: Call) -> tuple[str, ...]:
    """The different elements, or slices along an axis; of all values, only their number is read at import."""
    shape, axis = c.numbers(0), c.attr("axis")
    if axis is None:
        d, rows = 0, c.reshape(c[0], (math.prod(shape), 1))
        x = c.reshape(c[0], (math.prod(shape),))
    else:
        d, x = c.from_front(int(axis), len(shape)), c[0]
        rest = [k for k in range(len(shape)) if k != d]
        wide = c.transpose(x, (d, *rest))
        rows = c.reshape(wide, (shape[d], math.prod(shape[k] for k in rest)))
    order = row_order(c, rows)
    extent = c.numbers(order)[0]
    begins = differs(c, c.add(Gather(0), rows, order))
    count = int(np.count_nonzero(c.importer.evaluate(begins)))
    starts = c.add(Positions(count), begins)
    first = c.add(Gather(0), order, starts)
    groups = running_total(c, c.cast(begins, DType.int64), exclusive=False)
    groups = c.add(Sub(), groups, c.scalar(1, groups))
    inverse = placed(c, order, groups, extent)
    ends = [c.slice(starts, 0, 1, None)] if count > 1 else []
    last = [c.constant(np.array([extent]), DType.int64)] if count else []
    following = c.add(Concat(0), *ends, *last) if ends else (last or [starts])[0]
    counts = c.add(Sub(), following, starts)
    if not c.attr("sorted", 1):
        order = c.add(Order(0), first)
        first, counts = (c.add(Gather(0), v, order) for v in (first, counts))
        numbers = c.constant(np.arange(count), DType.int64)
        inverse = c.add(Gather(0), placed(c, order, numbers, count), inverse)
    return c.add(Gather(d), x, first), first, inverse, counts


def row_order(c: Call, rows: str) -> str:
    """The order of rows[n, w] by their columns, the first column first."""
    width = c.numbers(rows)[1]
    order: str | None = None
    for k in reversed(range(width)):
        column = c.take(rows, 1, k)
        if order is not None:
            column = c.add(Gather(0), column, order)
        step = c.add(Order(0), column)
        order = step if order is None else c.add(Gather(0), order, step)
    return order if order is not None else c.constant(np.arange(c.numbers(rows)[0]), DType.int64)


def differs(c: Call, rows: str) -> str:
    """Whether each of the sorted rows[n, w] is another one than the row before it."""
    count = c.numbers(rows)[0]
    begin = c.constant(np.ones(min(count, 1), np.bool_))
    if count < 2:
        return begin
    before, after = c.slice(rows, 0, 0, -1), c.slice(rows, 0, 1, None)
    other = c.add(NotEqual(), before, after)
    if c.dtype(rows).is_float:
        numbers = (c.add(Not(), c.add(IsNan(), v)) for v in (before, after))
        other = c.add(And(), other, c.add(Or(), *numbers))
    found = c.add(ReduceMax((1,), False), c.add(Cast(DType.uint8), other))
    return c.add(Concat(0), begin, c.add(Cast(DType.bool), found))


def placed(c: Call, where: str, values: str, extent: int) -> str:
    """y with y[where[k]] = values[k]; `where` is a permutation."""
    column = (extent, 1)
    zeros = c.constant(np.zeros(column), DType.int64)
    result = c.add(Scatter(), zeros, c.reshape(where, column), c.reshape(values, column))
    return c.reshape(result, (extent,))


RULES: dict[str, Rule] = {"Unique": unique}
