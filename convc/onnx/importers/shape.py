"""Import rules of operators that move elements or make constants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from convc.onnx.importers.call import Call, Packed, Rejected, Rule
from convc.onnx.narrow import NARROW
from convc.onnx.reading import dtype_of
from convc.ops.broadcasting import Add, Equal, GreaterEqual, Mul, Where
from convc.ops.elementwise import Identity
from convc.ops.shape import (
    Broadcast,
    Concat,
    DepthToSpace,
    Pad,
    Reshape,
    Slice,
    SpaceToDepth,
)
from convc.types import DType, Extent, size_of

LARGEST_CONSTANT = 1 << 24


def parameter(c: Call, k: int, name: str) -> list[int] | None:
    """Integers that are an attribute in old opsets and input k in newer ones; None where neither is given."""
    if c.has(k):
        return list(c.ints(k))
    given = c.attr(name)
    return None if given is None else [int(v) for v in given]


def constant(c: Call) -> str | Packed:
    for name in ("value_float", "value_floats", "value_int", "value_ints"):
        if name in c.attributes:
            dtype = DType.float32 if "float" in name else DType.int64
            return c.constant(np.array(c.attr(name)), dtype)
    if "value" not in c.attributes:
        raise Rejected(f"a constant of {', '.join(c.attributes) or 'nothing'} is not supported")
    tensor = c.attr("value")
    value = c.constant(c.importer.array(tensor))
    kind = NARROW.get(tensor.data_type)
    return value if kind is None else Packed(value, kind)


def constant_of_shape(c: Call) -> str:
    value = c.attr("value")
    filler = np.zeros((), np.float32) if value is None else c.importer.array(value).reshape(())
    return filled(c, filler, c.extents(0))


def filled(c: Call, filler: Any, shape: Sequence[Extent]) -> str:
    """A constant tensor of one value: small ones as they are, others broadcast at run time."""
    size = size_of(shape)
    if isinstance(size, int) and 0 <= size <= 4096:
        return c.constant(np.full(tuple(shape), filler, filler.dtype))
    return c.add(Broadcast(tuple(shape)), c.constant(filler))


def shape_of(c: Call) -> str:
    raise Rejected("the shape isn't known")


def reshape(c: Call) -> str:
    """0 keeps a dimension (unless allowzero), -1 is what remains."""
    old = c.shape(0)
    wanted: list[Extent] = list(c.extents(1)) if c.has(1) else list(c.attr("shape"))
    if not c.attr("allowzero", 0):
        for d, e in enumerate(wanted):
            if e == 0:
                if d >= len(old):
                    raise Rejected(f"0 in shape {wanted} stands for no dimension of {list(old)}")
                wanted[d] = old[d]
    return c.add(Reshape(tuple(wanted)), c[0])


def flatten(c: Call) -> str:
    shape, axis = c.shape(0), int(c.attr("axis", 1))
    axis = axis + len(shape) if axis < 0 else axis
    rows: Extent = 1
    columns: Extent = 1
    for d, e in enumerate(shape):
        rows, columns = (rows * e, columns) if d < axis else (rows, columns * e)
    return c.add(Reshape((rows, columns)), c[0])


def squeeze(c: Call) -> str:
    shape = c.shape(0)
    axes = parameter(c, 1, "axes")
    if axes is None:
        gone = {d for d, e in enumerate(shape) if e == 1}
    else:
        gone = {c.from_front(a, len(shape)) for a in axes}
    return c.add(Reshape(tuple(e for d, e in enumerate(shape) if d not in gone)), c[0])


def unsqueeze(c: Call) -> str:
    axes = parameter(c, 1, "axes") or []
    rank = c.rank(0) + len(axes)
    new = {c.from_front(a, rank) for a in axes}
    if len(new) != len(axes):
        raise Rejected(f"axes {axes} name one twice")
    old = iter(c.shape(0))
    return c.add(Reshape(tuple(1 if d in new else next(old) for d in range(rank))), c[0])


def transpose(c: Call) -> str:
    perm = c.attr("perm") or list(reversed(range(c.rank(0))))
    if tuple(perm) == tuple(range(c.rank(0))):
        return c.add(Identity(), c[0])
    return c.transpose(c[0], perm)


def concat(c: Call) -> str:
    values = c.rest()
    axis = c.axis(0, default=1)
    return c.add(Concat(axis), *values)


def split(c: Call) -> tuple[str, ...]:
    axis = c.axis(0)
    sizes = parameter(c, 1, "split")
    count = int(c.attr("num_outputs", len(c.outputs)))
    if count != len(c.outputs):
        raise Rejected(f"num_outputs is {count}, but there are {len(c.outputs)} outputs")
    if sizes is None:
        extent = c.shape(0)[axis]
        if not isinstance(extent, int):
            raise Rejected(f"splits the symbolic dimension {extent}: give --shape")
        size = -(-extent // count)
        sizes = [max(0, min(size, extent - k * size)) for k in range(count)]
    ends = np.cumsum(sizes).tolist()
    return tuple(c.slice(c[0], axis, e - s, e) for s, e in zip(sizes, ends, strict=True))


def slice_(c: Call) -> str:
    rank, shape = c.rank(0), c.shape(0)
    starts, ends = parameter(c, 1, "starts"), parameter(c, 2, "ends")
    if starts is None or ends is None:
        raise Rejected("starts or ends are missing")
    axes = parameter(c, 3, "axes") or list(range(len(starts)))
    steps = (list(c.ints(4)) if c.has(4) else None) or [1] * len(starts)
    begin: list[int | None] = [None] * rank
    stop: list[int | None] = [None] * rank
    step = [1] * rank
    for start, end, axis, pace in zip(starts, ends, axes, steps, strict=True):
        d = c.from_front(axis, rank)
        extent = shape[d]
        step[d] = pace
        if isinstance(extent, int):
            begin[d], stop[d] = bounded(start, end, pace, extent)
        else:
            begin[d] = None if start == 0 or pace < 0 and start >= (1 << 31) - 1 else start
            stop[d] = None if abs(end) >= (1 << 31) - 1 else end
    return c.add(Slice(tuple(begin), tuple(stop), tuple(step)), c[0])


def bounded(start: int, end: int, step: int, extent: int) -> tuple[int, int | None]:
    """ONNX' limits as Python's: an end before the first element is None."""
    if step == 0:
        raise Rejected("step 0")
    low, high = (0, extent) if step > 0 else (-1, extent - 1)
    start = start + extent if start < 0 else start
    end = end + extent if end < 0 else end
    start, end = (
        max(0 if step > 0 else -1, min(start, high)),
        max(low, min(end, high if step > 0 else extent)),
    )
    if step < 0 and start < 0:
        return 0, 0
    return start, None if end < 0 else end


def pad(c: Call) -> str:
    rank = c.rank(0)
    pads = parameter(c, 1, "pads" if c.opset > 1 else "paddings")
    if pads is None:
        raise Rejected("pads are missing")
    axes = list(c.ints(3)) if c.has(3) else list(range(rank))
    if len(pads) != 2 * len(axes):
        raise Rejected(f"{len(pads)} pads for {len(axes)} axes")
    full = [(0, 0)] * rank
    for k, axis in enumerate(axes):
        full[c.from_front(axis, rank)] = (pads[k], pads[len(axes) + k])
    mode = c.attr("mode", "constant")
    if mode == "wrap":
        return wrapped(c, full)
    if mode != "constant":
        return c.add(Pad(tuple(full), mode), c[0])
    if c.has(2) and c[2] not in c.builder.weights:
        return padded_by(c, full)
    value: Any = c.array(2).reshape(()).item() if c.has(2) else c.attr("value", 0.0)
    return c.add(Pad(tuple(full), "constant", value), c[0])


def padded_by(c: Call, pads: list[tuple[int, int]]) -> str:
    """Padding with a value that the run brings: chosen where a padded tensor of true says so."""
    inside = c.add(Broadcast(c.shape(0)), c.constant(np.array(True)))
    where = c.add(Pad(tuple(pads), "constant", 0), inside)
    data = c.add(Pad(tuple(pads), "constant", 0), c[0])
    return c.add(Where(), where, data, c.reshape(c[2], ()))


def wrapped(c: Call, pads: list[tuple[int, int]]) -> str:
    """Padding with what follows beyond the other end."""
    x = c[0]
    for d, (before, after) in enumerate(pads):
        extent = c.numbers(x)[d]
        if before == after == 0:
            continue
        c.require_small(before + extent + after)
        indices = np.arange(-before, extent + after) % extent
        parts = []
        first = 0
        while first < len(indices):
            run = int(min(extent - indices[first], len(indices) - first))
            start = int(indices[first])
            parts.append(c.slice(x, d, start, start + run))
            first += run
        x = c.add(Concat(d), *parts)
    return x if x != c[0] else c.add(Identity(), x)


def expand(c: Call) -> str:
    old, wanted = c.shape(0), c.extents(1)
    rank = max(len(old), len(wanted))
    a = (1,) * (rank - len(old)) + old
    b = (1,) * (rank - len(wanted)) + wanted
    shape = tuple(y if x == 1 else x for x, y in zip(a, b, strict=True))
    if any(y not in (1, s) for y, s in zip(b, shape, strict=True)):
        raise Rejected(f"{list(old)} doesn't broadcast with {list(wanted)}")
    return c.add(Broadcast(shape), c[0])


def tile(c: Call) -> str:
    """Each dimension with one of its own for the repeats in front, broadcast and merged."""
    old, repeats = c.shape(0), c.ints(1)
    if len(repeats) != len(old):
        raise Rejected(f"{len(repeats)} repeats for rank {len(old)}")
    inner = [e for extent in old for e in (1, extent)]
    outer = [e for r, extent in zip(repeats, old, strict=True) for e in (r, extent)]
    spread = c.add(Broadcast(tuple(outer)), c.reshape(c[0], inner))
    return c.reshape(spread, (r * e for r, e in zip(repeats, old, strict=True)))


def range_(c: Call) -> str:
    """start + delta * k; how many there are is decided at import."""
    start, limit, delta = (c.array(k).reshape(()) for k in range(3))
    if c.dtype(0).is_float:
        count = max(0, int(np.ceil((float(limit) - float(start)) / float(delta))))
    else:
        count = max(0, -((int(start) - int(limit)) // int(delta)))
    if count > LARGEST_CONSTANT:
        raise Rejected(f"a range of {count} elements")
    positions = c.constant(np.arange(count), c.dtype(0))
    shifted = c.add(Mul(), positions, c.reshape(c[2], ()))
    return c.add(Add(), shifted, c.reshape(c[0], ()))


def eye_like(c: Call) -> str:
    rows, columns = c.numbers(0)
    code = c.attr("dtype")
    dtype = c.dtype(0) if code is None else dtype_of(code)
    c.require_small(rows, columns)
    return c.constant(np.eye(rows, columns, int(c.attr("k", 0))), dtype)


def one_hot(c: Call) -> str:
    """values[1] where the index is the position, else values[0]; negative indices count from the end."""
    (depth,) = c.array(1).reshape(-1).tolist()
    depth = int(depth)
    indices = c[0] if c.dtype(0).is_integer else c.cast(c[0], DType.int64)
    rank = c.rank(0) + 1
    axis = c.from_front(int(c.attr("axis", -1)), rank)
    shape = c.shape(indices)
    spread = c.reshape(indices, (*shape[:axis], 1, *shape[axis:]))
    zero = c.scalar(0, spread)
    inside = c.add(GreaterEqual(), spread, zero)
    chosen = spread
    if c.dtype(spread).is_signed:
        chosen = c.add(Where(), inside, spread, c.add(Add(), spread, c.scalar(depth, spread)))
    c.require_small(depth)
    positions = np.arange(depth).reshape((depth, *[1] * (rank - 1 - axis)))
    hit = c.add(Equal(), chosen, c.constant(positions, c.dtype(spread)))
    off, on = (c.take(c[2], 0, k) for k in range(2))
    return c.add(Where(), hit, on, off)


def trilu(c: Call) -> str:
    rows, columns = c.shape(0)[-2:]
    if not isinstance(rows, int) or not isinstance(columns, int):
        raise Rejected(f"needs numbers of rows and columns, got {rows} x {columns}: give --shape")
    k = int(c.array(1).reshape(())) if c.has(1) else 0
    c.require_small(rows, columns)
    distance = np.arange(columns)[None, :] - np.arange(rows)[:, None]
    kept = distance >= k if c.attr("upper", 1) else distance <= k
    zero = c.constant(np.zeros((), c.dtype(0).numpy))
    return c.add(Where(), c.constant(kept), c[0], zero)


def depth_to_space(c: Call) -> str:
    return c.add(DepthToSpace(int(c.attr("blocksize")), c.attr("mode", "DCR").lower()), c[0])


def space_to_depth(c: Call) -> str:
    if c.attr("mode", "DCR") == "DCR":
        return c.add(SpaceToDepth(int(c.attr("blocksize"))), c[0])
    n, channels, h, w = c.shape(0)
    b = int(c.attr("blocksize"))
    parts = c.reshape(c[0], (n, channels, h // b, b, w // b, b))
    return c.reshape(c.transpose(parts, (0, 1, 3, 5, 2, 4)), (n, channels * b * b, h // b, w // b))


def center_crop_pad(c: Call) -> str:
    rank = c.rank(0)
    axes = [c.from_front(a, rank) for a in c.attr("axes", range(rank))]
    pads = [(0, 0)] * rank
    for axis, wanted in zip(axes, c.ints(1), strict=True):
        missing = wanted - c.numbers(0)[axis]
        before = missing // 2 if missing >= 0 else -((-missing) // 2)
        pads[axis] = (before, missing - before)
    return c.add(Pad(tuple(pads)), c[0])


RULES: dict[str, Rule] = {
    "Constant": constant,
    "ConstantOfShape": constant_of_shape,
    "Shape": shape_of,
    "Size": shape_of,
    "Reshape": reshape,
    "Flatten": flatten,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Transpose": transpose,
    "Concat": concat,
    "Split": split,
    "Slice": slice_,
    "Pad": pad,
    "Expand": expand,
    "Tile": tile,
    "Range": range_,
    "EyeLike": eye_like,
    "OneHot": one_hot,
    "Trilu": trilu,
    "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth,
    "CenterCropPad": center_crop_pad,
}
