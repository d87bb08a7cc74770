"""How the operators that inference has of its own read in ONNX: a table as `export_rules` has one, in plain operators.

They are parts of what ONNX has one word for (TopK, TensorScatter, NonMaxSuppression with as many rows as somebody
said): what was imported can be written again.
"""

from __future__ import annotations

import numpy as np

from convc.errors import UnsupportedError
from convc.graph.op import Op
from convc.onnx.export_rules import order
from convc.onnx.rule import Emitter, Rule, pads_of
from convc.onnx.training_rules import philox
from convc.ops.base import axis_of
from convc.ops.conv import Conv2d
from convc.ops.integer import ShiftLeft, ShiftRight
from convc.ops.ordering import BitCast, CumProd, LastPosition, Rank
from convc.ops.random import RandomBits
from convc.ops.sorting import Leading, Order, Positions, Scatter
from convc.ops.suppression import NonMaxSuppression
from convc.ops.trees import COUNT, FEATURE, FIRST, MODE, MODES, NO, TRACKS_MISSING, YES, TreeSums
from convc.types import DType


def constant(e: Emitter, value: int) -> str:
    """A scalar int64."""
    return e.constant(np.array(value, np.int64))


def unsqueezed(e: Emitter, x: str, *axes: int) -> str:
    return e("Unsqueeze", x, e.integers(axes, "axes"))


def count_up(e: Emitter, extent: object) -> str:
    """int64[extent]: 0, 1, 2, …"""
    size = e("Squeeze", e.extents([extent]), e.integers([0], "axes"))  # type: ignore[list-item]
    return e("Range", constant(e, 0), size, constant(e, 1))


def reduced(e: Emitter, kind: str, x: str, axis: int) -> str:
    """A reduction of one axis, which goes away."""
    if e.opset >= 18:
        return e(kind, x, e.integers([axis], "axes"), keepdims=0)
    return e(kind, x, axes=[axis], keepdims=0)


# ---------------------------------------------------------------- order


def cum_prod(e: Emitter, op: CumProd, x: str) -> str:
    """Before opset 26 the product of what stands before each element, ones in the place of what doesn't."""
    type = e.types[x]
    axis = axis_of(op, op.axis, type.rank)
    if e.opset >= 26:
        place = constant(e, axis)
        return e("CumProd", x, place, exclusive=int(op.exclusive), reverse=int(op.reverse))
    if not type.dtype.is_float or type.dtype.itemsize < 4:
        wide = DType.float32 if type.dtype.is_float else DType.int64
        cast = e.cast(x, wide)
    else:
        cast = x
    places = count_up(e, type.shape[axis])
    mine, other = unsqueezed(e, places, 1), unsqueezed(e, places, 0)
    first, second = (mine, other) if op.reverse else (other, mine)
    before = e("Less" if op.exclusive else "LessOrEqual", first, second)
    shape = e.extents([type.shape[axis], type.shape[axis], *[1] * (type.rank - axis - 1)])
    factors = e("Where", e("Reshape", before, shape), unsqueezed(e, cast, axis), e.scalar(1, cast))
    return e.cast(reduced(e, "ReduceProd", factors, axis + 1), type.dtype)


def leading(e: Emitter, op: Leading, x: str) -> str:
    axis = axis_of(op, op.axis, e.types[x].rank)
    keys = e.cast(x, DType.float32) if e.types[x].dtype is DType.bfloat16 else x
    count = e.integers([op.count], "count")
    return e.second(
        "TopK", DType.int64, keys, count, axis=axis, largest=int(op.descending), sorted=1
    )


def rank(e: Emitter, op: Rank, x: str) -> str:
    """The order of the order: TopK keeps equal elements as they were."""
    type = e.types[x]
    places = order(e, Order(op.axis, op.descending), x)
    axis, count = axis_of(op, op.axis, type.rank), e.extents([type.shape[op.axis]])
    return e.second("TopK", DType.int64, places, count, axis=axis, largest=0, sorted=1)


def last_position(e: Emitter, op: LastPosition, indices: str) -> str:
    type = e.types[indices]
    axis = axis_of(op, op.axis, type.rank)
    behind = [1] * (type.rank - axis - 1)
    rows = e("Reshape", count_up(e, op.extent), e.extents([op.extent, 1, *behind]))
    places = e("Reshape", count_up(e, type.shape[axis]), e.extents([type.shape[axis], *behind]))
    hit = e("Equal", unsqueezed(e, indices, axis), rows)
    return reduced(e, "ReduceMax", e("Where", hit, places, constant(e, -1)), axis + 1)


# ---------------------------------------------------------------- rows that data decide


def first_rows(e: Emitter, found: str, count: int, columns: tuple[int, ...]) -> str:
    """The first `count` of the rows that were found, -1 behind them."""
    rest = e.constant(np.full((count, *columns), -1, np.int64), "none")
    ends = (e.integers([k], "rows") for k in (0, count, 0))
    return e("Slice", e("Concat", found, rest, axis=0), *ends)


def positions(e: Emitter, op: Positions, x: str) -> str:
    found = e("Squeeze", e("NonZero", x), e.integers([0], "axes"))
    return first_rows(e, found, op.count, ())


def non_max_suppression(e: Emitter, op: NonMaxSuppression, *inputs: str) -> str:
    given = inputs if op.filtered else inputs[:-1]
    vectors = [unsqueezed(e, v, 0) for v in given[2:]]
    found = e("NonMaxSuppression", *given[:2], *vectors, center_point_box=int(op.centered))
    return first_rows(e, found, op.rows, (3,))


def scatter(e: Emitter, op: Scatter, x: str, indices: str, updates: str) -> str:
    """What lies outside goes to a row behind the last, which is cut off."""
    if op.reduction in ("max", "min") and e.opset < 18:
        raise UnsupportedError(f"ScatterElements with the reduction {op.reduction} needs opset 18")
    type, wanted = e.types[x], e.types[updates]
    rows = e("Squeeze", e.extents([type.shape[0]]), e.integers([0], "axes"))
    inside = e("And", e("GreaterOrEqual", indices, constant(e, 0)), e("Less", indices, rows))
    where = e("Expand", e("Where", inside, indices, rows), e.extents(wanted.shape))
    spare = e("Expand", e.scalar(0, x), e.extents([1, type.shape[1]]))
    how = {"reduction": op.reduction} if op.reduction != "none" else {}
    whole = e("ScatterElements", e("Concat", x, spare, axis=0), where, updates, axis=0, **how)
    ends = (e.integers([0], "starts"), e.extents([type.shape[0]]), e.integers([0], "axes"))
    return e("Slice", whole, *ends)


# ---------------------------------------------------------------- integers


def unsigned(dtype: DType) -> DType:
    return DType(f"uint{8 * dtype.itemsize}")


def bit_cast(e: Emitter, op: BitCast, x: str) -> str:
    """Casts between integers of one size keep the bits; others need the operator's own word."""
    if e.types[x].dtype.is_integer and op.dtype.is_integer:
        return e.cast(x, op.dtype)
    if e.opset < 26:
        raise UnsupportedError("BitCast needs opset 26")
    return e("BitCast", x, to=e.code(op.dtype))


def shift(e: Emitter, op: ShiftLeft | ShiftRight, x: str, y: str) -> str:
    """ONNX shifts unsigned integers, by less than their width. A negative x moves as its complement -1 - x."""
    type = op.infer(e.types[x], e.types[y])[0].dtype
    right = isinstance(op, ShiftRight)
    width = 8 * type.itemsize
    inside = e("Less", e.cast(y, DType.float64), e.constant(np.array(width, np.float64)))
    if type.is_signed:
        inside = e("And", inside, e("GreaterOrEqual", y, e.scalar(0, y)))
    by = e.cast(e("Where", inside, y, e.scalar(0, y)), unsigned(type))
    direction = "RIGHT" if right else "LEFT"
    if not (type.is_signed and right):
        moved = e.cast(e("BitShift", e.cast(x, unsigned(type)), by, direction=direction), type)
        return e("Where", inside, moved, e.scalar(0, x))
    negative = e("Less", x, e.scalar(0, x))
    size = e("Where", negative, e("Sub", e.scalar(-1, x), x), x)
    moved = e.cast(e("BitShift", e.cast(size, unsigned(type)), by, direction=direction), type)
    moved = e("Where", inside, moved, e.scalar(0, x))
    return e("Where", negative, e("Sub", e.scalar(-1, x), moved), moved)


def integer_conv(e: Emitter, op: Conv2d, x: str, w: str) -> str:
    """A convolution of integers that ONNX' Conv doesn't take: a product of matrices of the windows' elements."""
    (outputs, per_group, *kernel), type = e.types[w].shape, e.types[x]
    (made,) = op.infer(type, e.types[w])
    batch, _, height, width = made.shape
    pads = pads_of(((0, 0), (0, 0), *op.padding))
    if any(pads):
        x = e("Pad", x, e.integers(pads, "pads"), e.scalar(0, x), mode="constant")
    shape = e.extents([batch, op.groups, per_group, height * width])
    axes, steps = e.integers([2, 3], "axes"), e.integers(op.stride, "steps")
    taps = []
    for r in range(int(kernel[0])):  # type: ignore[arg-type]
        for s in range(int(kernel[1])):  # type: ignore[arg-type]
            at = (r * op.dilation[0], s * op.dilation[1])
            reach = zip(at, (height, width), op.stride, strict=True)
            ends = e.extents([a + (n - 1) * step + 1 for a, n, step in reach])
            tap = e("Slice", x, e.integers(at, "starts"), ends, axes, steps)
            taps.append(e("Reshape", tap, shape))
    columns = e("Concat", *taps, axis=2) if len(taps) > 1 else taps[0]
    rows = e.extents([op.groups, outputs // op.groups, per_group * len(taps)])
    matrix = e("Reshape", e("Transpose", w, perm=[0, 2, 3, 1]), rows)
    sums = e("MatMul", e.cast(matrix, made.dtype), e.cast(columns, made.dtype))
    return e("Reshape", sums, e.extents(made.shape))


def random_bits(e: Emitter, op: RandomBits, seed: str) -> str:
    return e("Reshape", e.cast(philox(e, op.shape, seed), DType.uint32), e.extents(op.shape))


# ---------------------------------------------------------------- trees


def tree_sums(
    e: Emitter, op: TreeSums, x: str, nodes: str, values: str, roots: str, columns: str, weights: str, base: str
) -> str:  # fmt: skip
    """All trees at once, a level after the other. The weights of a leaf are a row of a table."""
    tables = [e.known(v) for v in (nodes, roots, columns, weights, base)]
    if any(t is None for t in tables):
        raise UnsupportedError("trees that aren't constants of the model")
    node, root, column, weight, sums = (np.asarray(t) for t in tables)
    leaves = np.full((len(node), len(sums)), op.start, weight.dtype)
    combine = {"sum": np.add, "min": np.minimum, "max": np.maximum}[op.aggregate]
    for row, (first, count) in enumerate(node[:, [FIRST, COUNT]]):
        for k in range(first, first + count):
            leaves[row, column[k]] = combine(leaves[row, column[k]], weight[k])
    batch, trees = e.types[x].shape[0], len(root)
    start = e.constant(root[None, :, 0].astype(np.int64), "roots")
    at = e("Expand", start, e.extents([batch, trees]))
    for level in range(int(root[:, 1].max(initial=0))):
        following = next_node(e, op, x, values, at, node.astype(np.int64))
        deeper = e.constant(root[None, :, 1] > level, "deeper")
        at = e("Where", deeper, following, at)
    reached = e("Gather", e.constant(leaves, "leaves"), at, axis=0)
    kind = {"sum": "ReduceSum", "min": "ReduceMin", "max": "ReduceMax"}[op.aggregate]
    total = (
        e(kind, reached, e.integers([1], "axes"), keepdims=0)
        if kind == "ReduceSum"
        else reduced(e, kind, reached, 1)
    )
    start_value = e.scalar(op.start, x)
    return e("Add", e("Where", e("Equal", total, start_value), e.scalar(0, x), total), base)


def next_node(e: Emitter, op: TreeSums, x: str, values: str, at: str, nodes: np.ndarray) -> str:
    """The node that each row of x goes to from `at` [rows, trees]."""

    def column(k: int) -> str:
        return e("Gather", e.constant(np.ascontiguousarray(nodes[:, k]), "nodes"), at, axis=0)

    feature = e("GatherElements", x, column(FEATURE), axis=1)
    limit, mode = e("Gather", values, at, axis=0), column(MODE)
    plain = e("Mod", mode, constant(e, TRACKS_MISSING))
    holds = ""
    for code in sorted({code % TRACKS_MISSING for code in op.modes}):
        found = compared(e, MODES[code], feature, limit)
        chosen = e("And", found, e("Equal", plain, constant(e, code)))
        holds = e("Or", holds, chosen) if holds else chosen
    missing = e("GreaterOrEqual", mode, constant(e, TRACKS_MISSING))
    holds = e("Where", e("IsNaN", feature), missing, holds)
    return e("Where", holds, column(YES), column(NO))


def compared(e: Emitter, mode: str, x: str, limit: str) -> str:
    if mode == "neq":
        return e("Not", e("Equal", x, limit))
    kind = {
        "leq": "LessOrEqual",
        "lt": "Less",
        "gte": "GreaterOrEqual",
        "gt": "Greater",
        "eq": "Equal",
    }
    return e(kind[mode], x, limit)


RULES: dict[type[Op], Rule] = {
    BitCast: bit_cast,
    CumProd: cum_prod,
    LastPosition: last_position,
    Leading: leading,
    NonMaxSuppression: non_max_suppression,
    Positions: positions,
    RandomBits: random_bits,
    Rank: rank,
    Scatter: scatter,
    ShiftLeft: shift,
    ShiftRight: shift,
    TreeSums: tree_sums,
}
"""The rule of each operator. `carrying` doesn't count them: a model that is written again keeps its own words."""

WIDER = {
    DType.bool: DType.int32,
    DType.int8: DType.int32,
    DType.uint8: DType.int32,
    DType.int16: DType.int32,
    DType.uint16: DType.int32,
    DType.int32: DType.float64,
    DType.uint32: DType.float64,
    DType.float16: DType.float32,
    DType.bfloat16: DType.float32,
}
"""The dtype that has all numbers of another one, for operators that ONNX has for it alone."""
