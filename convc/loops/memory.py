"""Between logical arrays and the flat memory of a buffer, through its layout, vectorised.

Along one physical axis, index i of the axis' dimension stands at `((i + before) // divide) % modulus`,
where `before` is the dimension's border: a border's first element has position 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convc.errors import IRError
from convc.loops.ir import Axis, Buffer
from convc.types import DType, evaluate

Array = NDArray[Any]


def physical_size(buffer: Buffer, symbols: Mapping[str, int]) -> int:
    """Elements in memory, border and padding included."""
    return evaluate(buffer.size, symbols)


def poison(dtype: DType, size: int) -> Array:
    """Memory that nobody wrote: NaN for floats, an odd pattern otherwise."""
    if dtype.is_float:
        return np.full(size, np.nan, dtype.numpy)
    if dtype is DType.bool:
        return np.asarray(np.arange(size) % 2 == 0)
    return np.full(size, 0x55, dtype.numpy)


def pack(
    array: Array, buffer: Buffer, symbols: Mapping[str, int], out: Array | None = None
) -> Array:
    """The buffer's memory, flat, for a logical array; border and padding are zero.

    `out` is the memory to fill, flat and zero, if the caller has it.

    IRError if the array's shape or dtype isn't the buffer's.
    """
    shape = _check(array, buffer, symbols)
    flat = np.zeros(physical_size(buffer, symbols), buffer.dtype.numpy) if out is None else out
    view = _split_view(flat, buffer, shape, symbols)
    if view is None:
        flat[offsets(buffer, symbols)] = array
        return flat
    _blocks(view, array, buffer)
    return flat


def part_step(buffer: Buffer, dim: int) -> int | None:
    """`pack_part` takes ranges of a dimension that begin at multiples of this; None where it takes none."""
    view = _split_view(np.empty(physical_size(buffer, {}), np.bool_), buffer, _shape(buffer), {})
    if view is None or any(b != (0, 0) for b in buffer.layout.border):
        return None
    return int(prod(view.shape[a] for a in _groups(buffer)[dim][1:]))


def pack_part(array: Array, buffer: Buffer, out: Array, dim: int, start: int) -> None:
    """Puts what begins at `start` along a dimension into a buffer's flat memory, which is zero there.

    The array may be smaller than the buffer along any dimension: the rest is padding.
    """
    view = _split_view(out, buffer, _shape(buffer), {})
    assert view is not None, "part_step says so"
    groups = _groups(buffer)
    steps = [prod(view.shape[a] for a in group[1:]) for group in groups]
    whole = [-(-n // step) * step for n, step in zip(array.shape, steps, strict=True)]
    if whole != list(array.shape):
        wider = np.zeros(whole, array.dtype)
        wider[tuple(slice(n) for n in array.shape)] = array
        array = wider
    index = [slice(None)] * view.ndim
    for d, group in enumerate(groups):
        first = start // steps[d] if d == dim else 0
        index[group[0]] = slice(first, first + whole[d] // steps[d])
    place = view[tuple(index)]
    place[...] = array.reshape(place.shape)


def unpack(flat: Array, buffer: Buffer, symbols: Mapping[str, int]) -> Array:
    """The logical array that a buffer's flat memory holds (a copy)."""
    shape = tuple(evaluate(e, symbols) for e in buffer.shape)
    size = physical_size(buffer, symbols)
    if flat.shape != (size,) or flat.dtype != buffer.dtype.numpy:
        raise IRError(
            f"memory of {buffer.name}: expected {buffer.dtype.value}[{size}], "
            f"got {flat.dtype.name}{list(flat.shape)}"
        )
    view = _split_view(flat, buffer, shape, symbols)
    if view is None:
        return np.ascontiguousarray(flat[offsets(buffer, symbols)])
    # Merging the split axes of a dimension copies; then the border and the padding are cut off.
    merged = view.reshape([prod(view.shape[a] for a in group) for group in _groups(buffer)])
    inside = tuple(
        slice(before, before + extent)
        for (before, _), extent in zip(buffer.layout.border, shape, strict=True)
    )
    return np.array(merged[inside])


def offsets(buffer: Buffer, symbols: Mapping[str, int]) -> NDArray[np.int64]:
    """The place in flat memory of every logical element: int64 of the logical shape."""
    shape = tuple(evaluate(e, symbols) for e in buffer.shape)
    total = np.zeros(shape, np.int64)
    for dim, extent in enumerate(shape):
        part = dimension_offsets(buffer, symbols, dim, np.arange(extent))
        total += part.reshape([-1 if d == dim else 1 for d in range(len(shape))])
    return total


def dimension_offsets(
    buffer: Buffer, symbols: Mapping[str, int], dim: int, index: NDArray[np.int64]
) -> NDArray[np.int64]:
    """What the given indices of one dimension add to the place in memory."""
    total = np.zeros(index.shape, np.int64)
    strides = buffer.layout.strides(buffer.shape)
    for axis, stride in zip(buffer.layout.axes, strides, strict=True):
        if axis.dim != dim:
            continue
        position = (index + buffer.layout.border[dim][0]) // axis.divide
        if axis.modulus is not None:
            position = position % axis.modulus
        total += position * evaluate(stride, symbols)
    return total


def _shape(buffer: Buffer) -> tuple[int, ...]:
    return tuple(evaluate(e, {}) for e in buffer.shape)


def _check(array: Array, buffer: Buffer, symbols: Mapping[str, int]) -> tuple[int, ...]:
    shape = tuple(evaluate(e, symbols) for e in buffer.shape)
    if array.shape != shape or array.dtype != buffer.dtype.numpy:
        raise IRError(
            f"array for {buffer.name}: expected {buffer.dtype.value}{list(shape)}, "
            f"got {array.dtype.name}{list(array.shape)}"
        )
    return shape


def _groups(buffer: Buffer) -> list[list[int]]:
    """Positions in `_split_view` of the axes of each dimension, outermost first."""
    groups, position = [], 0
    for dim in range(len(buffer.shape)):
        count = sum(a.dim == dim for a in buffer.layout.axes)
        groups.append(list(range(position, position + count)))
        position += count
    return groups


def _order(buffer: Buffer, dim: int) -> list[int]:
    axes = buffer.layout.axes
    return sorted((i for i, a in enumerate(axes) if a.dim == dim), key=lambda i: -axes[i].divide)


def _split_view(
    flat: Array, buffer: Buffer, shape: tuple[int, ...], symbols: Mapping[str, int]
) -> Array | None:
    """Memory as an array whose axes are grouped by dimension, if each dimension is split evenly.

    That is every layout of permuted and blocked dimensions; None for the odd ones (rolling buffers).
    """
    extents = [evaluate(e, symbols) for e in buffer.layout.extents(buffer.shape)]
    order: list[int] = []
    for dim in range(len(shape)):
        mine = _order(buffer, dim)
        before, after = buffer.layout.border[dim]
        axes = [buffer.layout.axes[i] for i in mine]
        if not _evenly_split(axes, [extents[i] for i in mine], shape[dim] + before + after):
            return None
        order += mine
    return flat.reshape(extents).transpose(order)


def _evenly_split(axes: list[Axis], extents: list[int], logical: int) -> bool:
    if not axes or axes[-1].divide != 1 or axes[0].modulus is not None:
        return False
    if extents[0] * axes[0].divide < logical:
        return False
    inner = zip(axes, axes[1:], extents[1:], strict=False)
    return all(a.modulus == e and a.divide * e == outer.divide for outer, a, e in inner)


def _blocks(view: Array, array: Array, buffer: Buffer) -> None:
    """Copies a logical array into its split view, padding it first where it doesn't fill the blocks."""
    groups = _groups(buffer)
    full = [prod(view.shape[a] for a in group) for group in groups]
    inside = tuple(
        slice(before, before + extent)
        for (before, _), extent in zip(buffer.layout.border, array.shape, strict=True)
    )
    if all(len(group) == 1 for group in groups):
        view[inside] = array
        return
    if full != list(array.shape):
        padded = np.zeros(full, array.dtype)
        padded[inside] = array
        array = padded
    view[...] = array.reshape(view.shape)
