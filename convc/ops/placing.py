"""Parts of gradients that put elements back to where they came from."""

from __future__ import annotations

from convc.errors import UnsupportedError
from convc.ops.values import Value
from convc.types import Extent


def taken(x: Value, axis: int, start: Extent, end: Extent) -> Value:
    """x from start to end along an axis."""
    if start == 0 and end == x.shape[axis]:
        return x
    starts = tuple(start if d == axis else None for d in range(x.rank))
    ends = tuple(end if d == axis else None for d in range(x.rank))
    return x.apply("slice", starts=starts, ends=ends, steps=(1,) * x.rank)


def placed(x: Value, axis: int, first: Extent, step: int, extent: Extent) -> Value:
    """x among zeros along an axis of another extent, from `first` in steps."""
    count = x.shape[axis]
    if count == 0:
        return padded(x, axis, 0, extent)
    if step > 1:
        before, after = x.shape[:axis], x.shape[axis + 1 :]
        column = x.reshape((*before, count, 1, *after))
        x = padded(column, axis + 1, 0, step - 1).reshape((*before, count * step, *after))
    return padded(x, axis, first, extent - first - x.shape[axis])


def padded(x: Value, axis: int, before: Extent, after: Extent) -> Value:
    """x with zeros along an axis, or less of it where a number is negative."""
    if before == 0 and after == 0:
        return x
    if not (isinstance(before, int) and isinstance(after, int)):
        raise UnsupportedError(
            f"zeros around axis {axis} of {x.type}: expected numbers, got {before} and {after}"
        )
    pads = [(0, 0)] * x.rank
    pads[axis] = (before, after)
    return x.apply("pad", pads=tuple(pads))


def folded_back(dy: Value, axis: int, before: int, after: int, mode: str) -> Value:
    """Along an axis, what padding repeated or mirrored is added to where it came from."""
    if before == 0 and after == 0:
        return dy
    end = dy.shape[axis] - after
    extent = end - before
    total = taken(dy, axis, before, end)
    for count, start in ((before, 0), (after, end)):
        if count == 0:
            continue
        part = taken(dy, axis, start, start + count)
        if mode == "edge":
            part, at = part.sum((axis,), True), 0 if start == 0 else extent - 1
        else:
            steps = tuple(-1 if d == axis else 1 for d in range(dy.rank))
            open_ends = (None,) * dy.rank
            part = part.apply("slice", starts=open_ends, ends=open_ends, steps=steps)
            at = 1 if start == 0 else extent - 1 - count
        total = total + placed(part, axis, at, 1, extent)
    return total
