"""Arithmetic on dimensions at import: what exporters write around Shape, on integers that may mention symbols.

Each rule gets the call and its inputs as object arrays (None where one isn't given) and returns Symbolic integers, or
None where only the run can tell.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from convc.onnx.importers.call import Call, Symbolic
from convc.types import Dim, DType, size_of

Arrays = list[Any]
SymbolicRule = Callable[[Call, Arrays], Any]


def objects(values: Any) -> Any:
    """An object array of integers and dimensions, of any rank."""
    return np.array(values, dtype=object)


def shape(call: Call, arrays: Arrays) -> Symbolic:
    value = call.values[0]
    extents = value.values.shape if isinstance(value, Symbolic) else call.shape(0)
    start, end = call.attr("start", 0), call.attr("end", len(extents))
    return Symbolic(objects(list(extents[start:end])).reshape(-1))


def size(call: Call, arrays: Arrays) -> Symbolic:
    value = call.values[0]
    extents = value.values.shape if isinstance(value, Symbolic) else call.shape(0)
    return Symbolic(objects(size_of(extents)).reshape(()))


def arithmetic(apply: Callable[[Any, Any], Any]) -> SymbolicRule:
    def rule(call: Call, arrays: Arrays) -> Symbolic | None:
        try:
            a, b = np.broadcast_arrays(*arrays)
            pairs = zip(a.reshape(-1), b.reshape(-1), strict=True)
            values = objects([apply(x, y) for x, y in pairs]).reshape(a.shape)
        except (ValueError, TypeError, ZeroDivisionError):
            return None  # an inexact quotient of a symbol
        return Symbolic(values, dtype_of(call))

    return rule


def dtype_of(call: Call) -> DType:
    return next((v.dtype for v in call.values if isinstance(v, Symbolic)), DType.int64)


def quotient(a: Any, b: Any) -> Any:
    """Division towards zero."""
    if isinstance(a, int) and isinstance(b, int):
        return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    return a // b


def largest(a: Any, b: Any) -> Any:
    """The larger one where it is certain: dimensions are at least 1. ValueError where it isn't."""
    if isinstance(a, int) and isinstance(b, int):
        return max(a, b)
    if a == b or (isinstance(b, int) and b <= 1):
        return a
    if isinstance(a, int) and a <= 1:
        return b
    raise ValueError(f"the larger of {a} and {b}")


def smallest(a: Any, b: Any) -> Any:
    """The smaller one where it is certain."""
    return a if largest(a, b) == b else b


def moved(apply: Callable[[Call, Arrays], Any]) -> SymbolicRule:
    """A rule that only moves the elements."""

    def rule(call: Call, arrays: Arrays) -> Symbolic | None:
        if not isinstance(call.values[0], Symbolic) and call.kind != "Concat":
            return None
        result = apply(call, arrays)
        return None if result is None else Symbolic(objects(result), dtype_of(call))

    return rule


def ints(values: Any) -> list[int]:
    return [int(v) for v in np.asarray(values).reshape(-1)]


def axes_of(call: Call, arrays: Arrays) -> list[int] | None:
    if len(arrays) > 1 and arrays[1] is not None:
        return ints(arrays[1])
    given = call.attr("axes")
    return None if given is None else list(given)


def gather(call: Call, arrays: Arrays) -> Any:
    return np.take(arrays[0], np.asarray(arrays[1]).astype(np.int64), axis=call.attr("axis", 0))


def slice_(call: Call, arrays: Arrays) -> Any:
    rank = arrays[0].ndim
    if call.opset < 10:
        starts, ends = call.attr("starts"), call.attr("ends")
        axes, steps = call.attr("axes", range(len(starts))), [1] * len(starts)
    else:
        starts, ends = ints(arrays[1]), ints(arrays[2])
        axes = ints(arrays[3]) if len(arrays) > 3 and arrays[3] is not None else range(len(starts))
        steps = ints(arrays[4]) if len(arrays) > 4 and arrays[4] is not None else [1] * len(starts)
    where = [slice(None)] * rank
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        stop = None if step < 0 and end < -arrays[0].shape[axis] else end
        where[axis] = slice(start, stop, step)
    return arrays[0][tuple(where)]


def unsqueeze(call: Call, arrays: Arrays) -> Any:
    axes = axes_of(call, arrays) or []
    return np.expand_dims(arrays[0], tuple(axes))


def squeeze(call: Call, arrays: Arrays) -> Any:
    axes = axes_of(call, arrays)
    return np.squeeze(arrays[0], None if axes is None else tuple(axes))


def concat(call: Call, arrays: Arrays) -> Any:
    return np.concatenate([np.asarray(a) for a in arrays], axis=call.attr("axis", 0))


def reshape(call: Call, arrays: Arrays) -> Any:
    return arrays[0].reshape(ints(arrays[1]))


def cast(call: Call, arrays: Arrays) -> Symbolic | None:
    targets = {6: DType.int32, 7: DType.int64}
    target = targets.get(call.attr("to"))
    return None if target is None else Symbolic(arrays[0], target)


def product(call: Call, arrays: Arrays) -> Symbolic:
    value: Any = size_of(arrays[0].reshape(-1))
    rank = arrays[0].ndim if call.attr("keepdims", 1) else 0
    return Symbolic(objects(value).reshape((1,) * rank), dtype_of(call))


def equal(call: Call, arrays: Arrays) -> Any:
    """Equality where it is certain: dimensions are positive, so that a plain -1 or 0 differs from a symbol."""
    a, b = np.broadcast_arrays(*arrays)
    found = []
    for x, y in zip(a.reshape(-1), b.reshape(-1), strict=True):
        numbers = not isinstance(x, Dim) and not isinstance(y, Dim)
        plain = y if isinstance(x, Dim) else x
        certain = numbers or x == y or (not isinstance(plain, Dim) and plain <= 0)
        if not certain:
            return None
        found.append(bool(x == y))
    return call.constant(np.array(found).reshape(a.shape))


def where(call: Call, arrays: Arrays) -> Symbolic:
    condition, x, y = np.broadcast_arrays(*arrays)
    return Symbolic(objects(np.where(condition.astype(bool), x, y)), dtype_of(call))


def split(call: Call, arrays: Arrays) -> Any:
    if not isinstance(call.values[0], Symbolic):
        return None
    sizes = call.attr("split") or (ints(arrays[1]) if len(arrays) > 1 else None)
    count = len(call.outputs)
    ends = np.cumsum(sizes)[:-1] if sizes else count
    parts = np.split(arrays[0], ends, axis=call.attr("axis", 0))
    return tuple(Symbolic(p, dtype_of(call)) for p in parts)


SYMBOLIC_RULES: dict[str, SymbolicRule] = {
    "Shape": shape,
    "Size": size,
    "Add": arithmetic(lambda a, b: a + b),
    "Sub": arithmetic(lambda a, b: a - b),
    "Mul": arithmetic(lambda a, b: a * b),
    "Div": arithmetic(quotient),
    "Max": arithmetic(largest),
    "Min": arithmetic(smallest),
    "Gather": moved(gather),
    "Slice": moved(slice_),
    "Unsqueeze": moved(unsqueeze),
    "Squeeze": moved(squeeze),
    "Concat": moved(concat),
    "Reshape": moved(reshape),
    "Identity": moved(lambda call, arrays: arrays[0]),
    "Cast": cast,
    "ReduceProd": product,
    "Equal": equal,
    "Where": where,
    "Split": split,
}
