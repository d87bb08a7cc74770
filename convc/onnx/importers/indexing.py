"""Import rules of operators that pick or place elements by position."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from convc.onnx.importers.call import Call, Rejected, Rule
from convc.onnx.reading import dtype_of
from convc.ops.broadcasting import (
    Add,
    And,
    Equal,
    FloorDiv,
    GreaterEqual,
    Less,
    Maximum,
    Mod,
    Mul,
    NotEqual,
    Or,
    Where,
)
from convc.ops.elementwise import Cast
from convc.ops.integer import IsNan
from convc.ops.ordering import (
    BitCast,
    CumProd,
    CumSum,
    GatherElements,
    LastPosition,
    Rank,
    Running,
)
from convc.ops.reduce import ReduceMax, ReduceMin, ReduceProd, ReduceSum
from convc.ops.shape import Broadcast, Concat, Gather, Pad
from convc.ops.sorting import Leading, Order, Positions, Scatter
from convc.types import DType, Extent


def gather(c: Call) -> str:
    return c.add(Gather(c.axis(0)), c[0], c[1])


def gather_elements(c: Call) -> str:
    return c.add(GatherElements(c.axis(0)), c[0], c[1])


def from_front(c: Call, indices: str, extent: Extent) -> str:
    """int64 indices with the negative ones counted from the front."""
    wide = c.cast(indices, DType.int64)
    if not isinstance(extent, int):
        raise Rejected(f"indices into the symbolic extent {extent}: give --shape")
    negative = c.add(Less(), wide, c.scalar(0, wide))
    return c.add(Where(), negative, c.add(Add(), wide, c.scalar(extent, wide)), wide)


def linear(c: Call, indices: str, extents: tuple[int, ...]) -> str:
    """The row-major position of each index vector in the last dimension, which goes away."""
    last = c.rank(indices) - 1
    total: str | None = None
    for d, extent in enumerate(extents):
        part = from_front(c, c.take(indices, last, d), extent)
        stride = math.prod(extents[d + 1 :])
        scaled = c.add(Mul(), part, c.scalar(stride, part)) if stride != 1 else part
        total = scaled if total is None else c.add(Add(), total, scaled)
    if total is None:
        raise Rejected("has index vectors of no length")
    return total


def gather_nd(c: Call) -> str:
    """Index vectors into the dimensions after the batch, as positions in these merged to one."""
    batch = int(c.attr("batch_dims", 0))
    shape, indices = c.numbers(0), c.numbers(1)
    depth = indices[-1]
    picked, rest = shape[batch : batch + depth], shape[batch + depth :]
    groups = math.prod(shape[:batch])
    rows = linear(c, c[1], picked)
    count, width = math.prod(indices[batch:-1]), math.prod(rest)
    data = c.reshape(c[0], (groups, math.prod(picked), width))
    if groups == 1:
        result = c.add(Gather(1), data, c.reshape(rows, (count,)))
    else:
        spread = c.add(Broadcast((groups, count, width)), c.reshape(rows, (groups, count, 1)))
        result = c.add(GatherElements(1), data, spread)
    return c.reshape(result, (*indices[:-1], *rest))


# ---------------------------------------------------------------- scatter


def scatter(c: Call, data: str, rows: str, updates: str, reduction: str) -> str:
    """data[p, r] with the updates[k, r] for which rows[k, r or 0] is p; the last one wins, or all are combined."""
    op = Scatter(reduction or "none")
    if op.reduction not in ("add", "mul"):
        return c.add(op, data, rows, updates)
    return c.cast(c.add(op, c.wide(data), rows, c.wide(updates)), c.dtype(data))


def scatter_elements(c: Call) -> str:
    axis, shape = c.axis(0), c.numbers(0)
    given = c.numbers(1)
    if not math.prod(given):
        return c.add(Cast(c.dtype(0)), c[0])
    order = [axis, *(d for d in range(len(shape)) if d != axis)]
    back = [order.index(d) for d in range(len(shape))]
    rows = c.transpose(from_front(c, c[1], shape[axis]), order)
    updates, data = c.transpose(c[2], order), c.transpose(c[0], order)
    wide = [shape[d] for d in order]
    pads = tuple((0, 0) if d == 0 else (0, wide[d] - e) for d, e in enumerate(c.numbers(rows)))
    if any(p != (0, 0) for p in pads):
        rows, updates = c.add(Pad(pads, "constant", -1), rows), c.add(Pad(pads), updates)
    columns = math.prod(wide[1:])
    result = scatter(
        c,
        c.reshape(data, (wide[0], columns)),
        c.reshape(rows, (given[axis], columns)),
        c.reshape(updates, (given[axis], columns)),
        c.attr("reduction", "none"),
    )
    return c.transpose(c.reshape(result, wide), back)


def scatter_nd(c: Call) -> str:
    shape, indices = c.numbers(0), c.numbers(1)
    picked, rest = shape[: indices[-1]], shape[indices[-1] :]
    count, width = math.prod(indices[:-1]), math.prod(rest)
    rows = c.reshape(linear(c, c[1], picked), (count, 1))
    data = c.reshape(c[0], (math.prod(picked), width))
    updates = c.reshape(c[2], (count, width))
    return c.reshape(scatter(c, data, rows, updates, c.attr("reduction", "none")), shape)


def tensor_scatter(c: Call) -> str:
    """A cache with rows replaced from each batch's write index on."""
    shape, new = c.numbers(0), c.numbers(1)
    axis = c.from_front(int(c.attr("axis", -2)), len(shape))
    extent, count = shape[axis], new[axis]
    begin = c.cast(c[2], DType.int64) if c.has(2) else c.constant(np.zeros(shape[0], np.int64))
    steps = c.constant(np.arange(count).reshape((1, count)), DType.int64)
    rows = c.add(Add(), c.reshape(begin, (shape[0], 1)), steps)
    if c.attr("mode", "linear") == "circular":
        wrapped = c.add(Add(), rows, c.scalar(-extent, rows))
        rows = c.add(Where(), c.add(Less(), rows, c.scalar(extent, rows)), rows, wrapped)
    last = c.add(LastPosition(1, extent), rows)
    zero = c.scalar(0, last)
    middle = [1] * (axis - 1)
    spread = (shape[0], *middle, extent, *[1] * (len(shape) - axis - 1))
    where = c.reshape(c.add(Maximum(), last, zero), spread)
    chosen = c.add(GatherElements(axis), c[1], c.add(Broadcast(shape), where))
    hit = c.reshape(c.add(GreaterEqual(), last, zero), spread)
    return c.add(Where(), hit, chosen, c[0])


# ---------------------------------------------------------------- order


BLOCK = 32
"""Elements of a block of a running sum: each adds up to so many, and then what the blocks before it have."""


def running(op: type[Running]) -> Rule:
    def rule(c: Call) -> str:
        axis = c.from_front(int(c.array(1).reshape(())), c.rank(0))
        exclusive, reverse = bool(c.attr("exclusive", 0)), bool(c.attr("reverse", 0))
        dtype = c.dtype(0)
        x = c.cast(c[0], DType.int64) if dtype.is_integer and dtype.itemsize < 4 else c.wide(c[0])
        return c.cast(blocked(c, x, op(axis, exclusive, reverse)), dtype)

    return rule


def running_total(c: Call, x: str, exclusive: bool) -> str:
    """Sums of what stands before each element of x[n], itself included if not `exclusive`."""
    return blocked(c, x, CumSum(0, exclusive))


def blocked(c: Call, x: str, op: Running) -> str:
    """Blocks by themselves, then what comes before each block, by the same rule."""
    axis, (shape, extent) = op.axis, (c.shape(x), c.shape(x)[op.axis])
    if not isinstance(extent, int) or extent <= 2 * BLOCK:
        return c.add(op, x)
    sums = isinstance(op, CumSum)
    combine, total = (Add(), ReduceSum) if sums else (Mul(), ReduceProd)
    count = -(-extent // BLOCK)
    pads = tuple((0, count * BLOCK - extent if d == axis else 0) for d in range(len(shape)))
    padding = Pad(pads, "constant", 0.0 if sums else 1.0)
    whole = c.add(padding, x) if count * BLOCK != extent else x
    parts = c.reshape(whole, (*shape[:axis], count, BLOCK, *shape[axis + 1 :]))
    inside = c.add(replace(op, axis=axis + 1), parts)
    before = blocked(c, c.add(total((axis + 1,), False), parts), replace(op, exclusive=True))
    before = c.reshape(before, (*shape[:axis], count, 1, *shape[axis + 1 :]))
    joined = c.add(combine, inside, before)
    flat = c.reshape(joined, (*shape[:axis], count * BLOCK, *shape[axis + 1 :]))
    return flat if count * BLOCK == extent else c.slice(flat, axis, 0, extent)


MOST_ROUNDS = 8
"""The largest k that is chosen one by one, which takes k passes over n elements where ranks take n."""


MOST_RANKED = 64
"""Elements up to which each is compared with all others, which vectors do, rather than sorted."""


def top_k(c: Call) -> tuple[str, str]:
    """The element whose rank is k, for each k asked for."""
    count = int(c.array(1).reshape(())) if c.opset >= 10 else int(c.attr("k"))
    axis, largest = c.axis(0, -1), bool(c.attr("largest", 1))
    extent = c.numbers(0)[axis]
    if not 0 <= count <= extent:
        raise Rejected(f"k = {count} of {extent} elements")
    if largest and 0 < count <= MOST_ROUNDS and extent >= 8 * count:
        return chosen_one_by_one(c, axis, extent, count)
    if extent > MOST_RANKED and 0 < count <= extent // 4:
        positions = c.add(Leading(axis, count, largest), c[0])
        return c.add(GatherElements(axis), c[0], positions), positions
    if extent > MOST_RANKED:
        positions = c.slice(c.add(Order(axis, largest), c[0]), axis, 0, count)
        return c.add(GatherElements(axis), c[0], positions), positions
    ranks = c.add(Rank(axis, largest), c[0])
    positions = c.slice(c.add(LastPosition(axis, extent), ranks), axis, 0, count)
    return c.add(GatherElements(axis), c[0], positions), positions


def chosen_one_by_one(c: Call, axis: int, extent: int, count: int) -> tuple[str, str]:
    """The largest element that isn't taken yet and its first position, `count` times. NaN is the largest of all."""
    x, rank = c[0], c.rank(0)
    column = [1] * rank
    column[axis] = extent
    places = c.constant(np.arange(extent).reshape(column), DType.int64)
    beyond = c.scalar(extent, places)
    is_float = c.dtype(0).is_float
    least = -np.inf if is_float else np.iinfo(c.dtype(0).numpy).min
    lowest = c.scalar(least, x)
    free: str | None = None
    found = []
    for _ in range(count):
        left = x if free is None else c.add(Where(), free, x, lowest)
        top = c.add(ReduceMax((axis,), True), left)
        hit = c.add(Equal(), left, top)
        if is_float:
            hit = c.add(Or(), hit, c.add(IsNan(), left))
        if free is not None:
            hit = c.add(And(), hit, free)
        place = c.add(ReduceMin((axis,), True), c.add(Where(), hit, places, beyond))
        found.append(place)
        others = c.add(NotEqual(), places, place)
        free = others if free is None else c.add(And(), free, others)
    positions = c.add(Concat(axis), *found) if count > 1 else found[0]
    return c.add(GatherElements(axis), x, positions), positions


def reverse_sequence(c: Call) -> str:
    """x[len - 1 - t] for t < len, else x[t]."""
    shape, rank = c.shape(0), c.rank(0)
    time, batch = int(c.attr("time_axis", 0)), int(c.attr("batch_axis", 1))
    steps = shape[time]
    if not isinstance(steps, int):
        raise Rejected(f"reverses the symbolic dimension {steps}: give --shape")
    c.require_small(steps)
    positions = c.constant(
        np.arange(steps).reshape([-1 if d == time else 1 for d in range(rank)]), DType.int64
    )
    lengths = c.reshape(
        c.cast(c[1], DType.int64), [shape[d] if d == batch else 1 for d in range(rank)]
    )
    inside = c.add(Less(), positions, lengths)
    minus = c.add(Mul(), positions, c.scalar(-1, positions))
    mirrored = c.add(Add(), c.add(Add(), lengths, minus), c.scalar(-1, positions))
    chosen = c.add(Where(), inside, mirrored, positions)
    return c.add(GatherElements(time), c[0], c.add(Broadcast(shape), chosen))


def places_in(c: Call, chosen: str, count: int) -> str:
    """The first positions of True; where somebody said how many there are, one more is looked for."""
    if c.given_rows() is None:
        return c.add(Positions(count), chosen)
    found = c.add(Positions(count + 1), chosen)
    c.require_rows(c.slice(found, 0, count, count + 1), count)
    return c.slice(found, 0, 0, count)


def compress(c: Call) -> str:
    """The slices where a condition holds, of which only the number is read at import."""
    axis = c.attr("axis")
    x = c[0] if axis is not None else c.reshape(c[0], (math.prod(c.numbers(0)),))
    d = 0 if axis is None else c.from_front(int(axis), c.rank(0))
    count = c.rows(lambda: int(np.count_nonzero(c.array(1))))
    places = places_in(c, c.reshape(c[1], c.numbers(1)), count)
    chosen = c.add(Gather(d), x, places)
    if c.given_rows() is None:
        return chosen
    column = c.reshape(places, [count if k == d else 1 for k in range(c.rank(x))])
    found = c.add(GreaterEqual(), column, c.scalar(0, column))
    return c.add(Where(), found, chosen, c.constant(np.zeros(()), c.dtype(x)))


def non_zero(c: Call) -> str:
    """The positions [rank, count] of elements that aren't 0; only their count is read at import."""
    shape = c.numbers(0)
    count = c.rows(lambda: int(np.count_nonzero(c.array(0))))
    flat = c.reshape(c[0], (math.prod(shape),))
    if c.dtype(flat) is not DType.bool:
        flat = c.add(NotEqual(), flat, c.constant(np.zeros(()), c.dtype(flat)))
    places = places_in(c, flat, count)
    rows = []
    for d, extent in enumerate(shape):
        stride = math.prod(shape[d + 1 :])
        part = c.add(FloorDiv(), places, c.scalar(stride, places)) if stride != 1 else places
        rows.append(c.reshape(c.add(Mod(), part, c.scalar(extent, part)), (1, count)))
    whole = c.add(Concat(0), *rows)
    if c.given_rows() is None:
        return whole
    found = c.reshape(c.add(GreaterEqual(), places, c.scalar(0, places)), (1, count))
    return c.add(Where(), found, whole, c.scalar(-1, whole))


def max_unpool(c: Call) -> str:
    """Each element at its position in the whole output, zeros elsewhere."""
    shape = c.numbers(0)
    rank = len(shape) - 2
    kernel, stride = c.attr("kernel_shape"), c.attr("strides") or [1] * rank
    pads = c.attr("pads") or [0] * 2 * rank
    own = (*shape[:2], *(
        (e - 1) * s + k - pads[d] - pads[d + rank]
        for d, (e, s, k) in enumerate(zip(shape[2:], stride, kernel, strict=True))
    ))  # fmt: skip
    wanted = c.ints(2) if c.has(2) else own
    size = math.prod(own)
    c.require_small(size)
    zeros = c.constant(np.zeros((size, 1)), c.dtype(0))
    rows = c.reshape(c.cast(c[1], DType.int64), (math.prod(shape), 1))
    flat = scatter(c, zeros, rows, c.reshape(c[0], (math.prod(shape), 1)), "none")
    result = c.reshape(flat, own)
    grown = tuple((0, w - o) for w, o in zip(wanted, own, strict=True))
    return result if own == tuple(wanted) else c.add(Pad(grown), result)


def bit_cast(c: Call) -> str:
    dtype = dtype_of(int(c.attr("to")))
    if c.dtype(0) is DType.bool and dtype is DType.uint8:
        return c.cast(c[0], dtype)
    return c.add(BitCast(dtype), c[0])


RULES: dict[str, Rule] = {
    "Gather": gather,
    "GatherElements": gather_elements,
    "GatherND": gather_nd,
    "Scatter": scatter_elements,
    "ScatterElements": scatter_elements,
    "ScatterND": scatter_nd,
    "TensorScatter": tensor_scatter,
    "CumSum": running(CumSum),
    "CumProd": running(CumProd),
    "TopK": top_k,
    "ReverseSequence": reverse_sequence,
    "MaxUnpool": max_unpool,
    "Compress": compress,
    "NonZero": non_zero,
    "BitCast": bit_cast,
}
