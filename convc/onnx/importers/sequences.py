"""Import rules of sequences and optional values, whose lengths and presence are known at import."""

from __future__ import annotations

from convc.onnx.importers.call import Call, Many, Rejected, Rule
from convc.onnx.importers.control import stacked
from convc.ops.shape import Concat
from convc.types import DType

LONGEST = 1 << 12
"""Tensors in a sequence."""


def sequence(c: Call, k: int) -> tuple[str, ...]:
    """Input k as a sequence of tensors."""
    value = c.values[k] if k < len(c.values) else None
    if not isinstance(value, Many):
        raise Rejected(f"input {k} is not a sequence")
    return value.values


def position(c: Call, k: int, count: int) -> int:
    """Input k as a position in a sequence, counted from the front."""
    at = int(c.array(k).reshape(()))
    if not -count <= at < count:
        raise Rejected(f"position {at} in a sequence of {count}")
    return at % count


def construct(c: Call) -> Many:
    return Many(tuple(c.rest()))


def empty(c: Call) -> Many:
    return Many(())


def at(c: Call) -> str:
    values = sequence(c, 0)
    return values[position(c, 1, len(values))]


def insert(c: Call) -> Many:
    values = list(sequence(c, 0))
    where = position(c, 2, len(values) + 1) if c.has(2) else len(values)
    if c.has(2) and int(c.array(2).reshape(())) < 0:
        where -= 1
    return Many((*values[:where], c[1], *values[where:]))


def erase(c: Call) -> Many:
    values = list(sequence(c, 0))
    where = position(c, 1, len(values)) if c.has(1) else len(values) - 1
    return Many((*values[:where], *values[where + 1 :]))


def length(c: Call) -> str:
    return c.constant(len(sequence(c, 0)), DType.int64)


def split(c: Call) -> Many:
    """Parts of given sizes, or of one size, or single slices with or without their dimension."""
    axis = c.axis(0)
    extent = c.numbers(0)[axis]
    if not c.has(1):
        if extent > LONGEST:
            raise Rejected(f"makes a sequence of {extent} tensors: expected up to {LONGEST}")
        if c.attr("keepdims", 1):
            return Many(tuple(c.slice(c[0], axis, k, k + 1) for k in range(extent)))
        return Many(tuple(c.take(c[0], axis, k) for k in range(extent)))
    sizes = list(c.ints(1))
    if c.rank(1) == 0:
        (size,) = sizes
        if extent // size > LONGEST:
            raise Rejected(
                f"makes a sequence of {extent // size} tensors: expected up to {LONGEST}"
            )
        sizes = [min(size, extent - k) for k in range(0, extent, size)]
    starts = [sum(sizes[:k]) for k in range(len(sizes))]
    parts = zip(starts, sizes, strict=True)
    return Many(tuple(c.slice(c[0], axis, s, s + n) for s, n in parts))


def concat(c: Call) -> str:
    values = list(sequence(c, 0))
    if not values:
        raise Rejected("joins an empty sequence")
    axis = int(c.attr("axis"))
    if c.attr("new_axis", 0):
        return stacked(c, values, axis)
    return c.add(Concat(c.from_front(axis, c.rank(values[0]))), *values)


def optional(c: Call) -> object:
    """The value itself: whether there is one is known at import."""
    return c.values[0] if c.values else None


def has_element(c: Call) -> str:
    return c.constant(bool(c.values) and c.values[0] is not None, DType.bool)


def get_element(c: Call) -> object:
    if not c.has(0):
        raise Rejected("takes the element of an optional value that has none")
    return c.values[0]


RULES: dict[str, Rule] = {
    "SequenceConstruct": construct,
    "SequenceEmpty": empty,
    "SequenceAt": at,
    "SequenceInsert": insert,
    "SequenceErase": erase,
    "SequenceLength": length,
    "SplitToSequence": split,
    "ConcatFromSequence": concat,
    "Optional": optional,
    "OptionalHasElement": has_element,
    "OptionalGetElement": get_element,
}
