"""Functions that order, pick and place elements: sorting, ranks within a sequence, segments, scattering."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

import numpy as np

from convc.errors import ModelError
from convc.keras import backend
from convc.keras.engine.arguments import axis_of, choice, is_integer
from convc.keras.engine.call import operation
from convc.keras.engine.naming import user_line
from convc.keras.engine.tensor import (
    KerasTensor,
    apply,
    as_tensor,
    cast,
    floating,
    promoted,
    reshape,
)
from convc.keras.ops import elementwise, further, nn, reductions, shaping
from convc.ops import indexing, sorting
from convc.ops.base import numbers
from convc.types import DType, size_of


def _extent(owner: str, x: KerasTensor, axis: int) -> int:
    """The number of elements along an axis, which must be known."""
    extent = x.type.shape[axis]
    if not isinstance(extent, int):
        raise ModelError(
            f"{user_line()}: {owner}: axis {axis} of {x.shape} must be of a known size"
        )
    return extent


def _ordered(owner: str, x: Any, axis: Any) -> tuple[KerasTensor, int]:
    x = as_tensor(x)
    if axis is None:
        return shaping.ravel(x), 0
    at = axis_of(owner, axis, x.type.rank)
    _extent(owner, x, at)
    return x, at


@operation
def argsort(x: Any, axis: int | None = -1) -> KerasTensor:
    """The positions (int32) that put x in ascending order along an axis, equal elements in theirs."""
    x, at = _ordered("argsort", x, axis)
    return cast(apply(sorting.Order(at), x), DType.int32)


@operation
def sort(x: Any, axis: int | None = -1) -> KerasTensor:
    """x in ascending order along an axis."""
    x, at = _ordered("sort", x, axis)
    return further.take_along_axis(x, apply(sorting.Order(at), x), at)


@operation
def top_k(x: Any, k: int, sorted: bool = True) -> tuple[KerasTensor, KerasTensor]:
    """The k largest elements of the last axis, the largest first, and their positions (int32)."""
    x, at = _ordered("top_k", x, -1)
    if not is_integer(k) or not 0 < k <= _extent("top_k", x, at):
        raise ModelError(f"{user_line()}: top_k: k must be from 1 to {x.shape[at]}; received {k!r}")
    order = apply(sorting.Order(at, True), x)[..., : int(k)]
    return further.take_along_axis(x, order, at), cast(order, DType.int32)


@operation
def argpartition(x: Any, kth: int, axis: int | None = -1) -> KerasTensor:
    """Positions that put the elements up to the kth before the others: those of the whole order."""
    del kth
    return argsort(x, axis)


@operation
def in_top_k(targets: Any, predictions: Any, k: int) -> KerasTensor:
    """Whether each row's target class is among its k highest predictions (ties with the k-th count)."""
    scores, labels = as_tensor(predictions), as_tensor(targets)
    own = further.take_along_axis(scores, shaping.expand_dims(labels, -1), -1)
    higher = reductions.sum(cast(elementwise.greater(scores, own), DType.int32), -1)
    return elementwise.less(higher, int(k))


def _at_ranks(owner: str, x: KerasTensor, q: Any, axis: Any, method: str, keepdims: bool) -> Any:
    """Quantiles of the sorted x at shares q, by numpy's rules."""
    word = choice(owner, "method", method, ("linear", "lower", "higher", "midpoint", "nearest"))
    share = np.asarray(as_tensor(q).numpy(), np.float64)
    if (share < 0).any() or (share > 1).any():
        raise ModelError(f"{user_line()}: {owner}: q must be from 0 to 1; received {q!r}")
    rank = x.type.rank
    axes = list(range(rank)) if axis is None else [axis] if is_integer(axis) else list(axis)
    axes = [axis_of(owner, a, rank) for a in axes]
    kept = [d for d in range(rank) if d not in axes]
    moved = shaping.transpose(x, [*kept, *axes])
    outer = tuple(x.type.shape[d] for d in kept)
    flat = reshape(moved, (*outer, size_of(x.type.shape[d] for d in axes)))
    ordered, count = sort(flat), _extent(owner, flat, len(kept))
    found = []
    for one in share.reshape(-1):
        place = one * (count - 1)
        low, high = int(np.floor(place)), int(np.ceil(place))
        weight = {"linear": place - low, "lower": 0.0, "higher": 1.0, "midpoint": 0.5}.get(
            word, 0.0
        )
        if word == "nearest":
            low = high = int(np.round(place))
        first, last = ordered[..., low], ordered[..., high]
        value = first if low == high else first * (1 - weight) + last * weight
        if keepdims:
            value = reshape(value, tuple(1 if d in axes else e for d, e in enumerate(x.type.shape)))
        found.append(value)
    return found[0] if share.ndim == 0 else shaping.stack(found)


@operation
def quantile(
    x: Any, q: Any, axis: Any = None, method: str = "linear", keepdims: bool = False
) -> KerasTensor:
    """The values below which the shares q of the elements are."""
    return as_tensor(_at_ranks("quantile", floating(x), q, axis, method, keepdims))


@operation
def percentile(
    x: Any, q: Any, axis: Any = None, method: str = "linear", keepdims: bool = False
) -> KerasTensor:
    share = np.asarray(as_tensor(q).numpy(), np.float64) / 100
    return as_tensor(_at_ranks("percentile", floating(x), share, axis, method, keepdims))


@operation
def median(x: Any, axis: Any = None, keepdims: bool = False) -> KerasTensor:
    return as_tensor(_at_ranks("median", floating(x), 0.5, axis, "linear", keepdims))


@operation
def searchsorted(sorted_sequence: Any, values: Any, side: str = "left") -> KerasTensor:
    """Where values belong in an ascending sequence (int32), before equal ones or after."""
    word = choice("searchsorted", "side", side, ("left", "right"))
    ascending, x = promoted(as_tensor(sorted_sequence), as_tensor(values))
    before = elementwise.less if word == "left" else elementwise.less_equal
    return reductions.sum(cast(before(ascending, shaping.expand_dims(x, -1)), DType.int32), -1)


@operation
def digitize(x: Any, bins: Any) -> KerasTensor:
    """Which of the ranges between ascending bounds each element is in (int32)."""
    return searchsorted(bins, x, "right")


@operation
def isin(x1: Any, x2: Any, assume_unique: bool = False, invert: bool = False) -> KerasTensor:
    a, b = promoted(as_tensor(x1), shaping.ravel(x2))
    found = reductions.any(elementwise.equal(shaping.expand_dims(a, -1), b), -1)
    return elementwise.logical_not(found) if invert else found


@operation
def bincount(x: Any, weights: Any = None, minlength: int = 0, sparse: bool = False) -> KerasTensor:
    """How often each number from 0 occurs in the last axis; up to minlength, if the numbers aren't known."""
    x = as_tensor(x)
    length = int(minlength)
    if not x.step.symbolic:
        length = builtins.max(length, int(np.max(x.numpy(), initial=-1)) + 1)
    elif not length:
        raise ModelError(
            f"{user_line()}: bincount: minlength must be given for {x.shape} of a model"
        )
    marks = nn.one_hot(x, length, dtype="int32" if weights is None else as_tensor(weights).dtype)
    counted = marks if weights is None else marks * shaping.expand_dims(weights, -1)
    return reductions.sum(counted, -2)


@operation
def multi_hot(
    inputs: Any, num_classes: int | None = None, axis: int = -1, dtype: Any = None, **others: Any
) -> KerasTensor:
    """Ones for the classes in the last axis."""
    count = int(others.get("num_tokens", num_classes) or 0)
    marks = nn.one_hot(as_tensor(inputs), count, axis=axis, dtype=dtype or backend.floatx())
    rank = as_tensor(inputs).type.rank
    return reductions.max(marks, axis=rank - 1 if axis in (-1, rank) else axis) if rank else marks


def _segments(owner: str, ids: KerasTensor, count: int | None) -> int:
    if count is not None:
        return int(count)
    if ids.step.symbolic:
        raise ModelError(f"{user_line()}: {owner}: num_segments must be given for ids of a model")
    return int(np.max(ids.numpy(), initial=-1)) + 1


@operation
def segment_sum(
    data: Any, segment_ids: Any, num_segments: int | None = None, sorted: bool = False
) -> KerasTensor:
    """The sums of the rows with each id; rows whose id is outside count nowhere."""
    x, ids = as_tensor(data), as_tensor(segment_ids)
    count = _segments("segment_sum", ids, num_segments)
    inside = elementwise.logical_and(
        elementwise.less(ids, count), elementwise.greater_equal(ids, 0)
    )
    wide = reshape(inside, (*ids.type.shape, *[1] * (x.type.rank - ids.type.rank)))
    return apply(indexing.ScatterAdd(0, count), elementwise.where(wide, x, 0), ids)


def _combined(
    name: str, reduction: str, first: Callable[[DType], Any]
) -> Callable[..., KerasTensor]:
    def segments(
        data: Any, segment_ids: Any, num_segments: int | None = None, sorted: bool = False
    ) -> KerasTensor:
        x, ids = as_tensor(data), as_tensor(segment_ids, "int64")
        count, width = _segments(name, ids, num_segments), x.type.shape[1:]
        rows = reshape(x, (x.type.shape[0], size_of(width)))
        start = shaping.full((count, size_of(width)), first(x.type.dtype), x.dtype)
        places = reshape(ids, (ids.type.shape[0], 1))
        return reshape(apply(sorting.Scatter(reduction), start, places, rows), (count, *width))

    segments.__name__ = name
    segments.__doc__ = (
        f"The {reduction} of the rows with each id, its neutral number where there are none."
    )
    return operation(segments)


def _lowest(dtype: DType) -> Any:
    return -np.inf if dtype.is_float else np.iinfo(dtype.numpy).min


def _highest(dtype: DType) -> Any:
    return np.inf if dtype.is_float else np.iinfo(dtype.numpy).max


segment_max = _combined("segment_max", "max", _lowest)
segment_min = _combined("segment_min", "min", _highest)
segment_prod = _combined("segment_prod", "mul", lambda dtype: 1)


def _scattered(x: KerasTensor, indices: Any, updates: Any, reduction: str) -> KerasTensor:
    """x with slices updated at indices (…, leading axes)."""
    places, new = as_tensor(indices, "int64"), as_tensor(updates, x.dtype)
    depth = places.type.shape[-1]
    if not isinstance(depth, int) or not 1 <= depth <= x.type.rank:
        raise ModelError(
            f"{user_line()}: indices must end with 1 to {x.type.rank} numbers for {x.shape}; received {places.shape}"
        )
    leading = [_extent("scatter", x, d) for d in range(depth)]
    steps = np.array([int(np.prod(leading[d + 1 :])) for d in range(depth)], np.int64)
    row = reductions.sum(places * steps, -1)
    width, count = size_of(x.type.shape[depth:]), size_of(places.type.shape[:-1])
    flat = reshape(x, (int(np.prod(leading)), width))
    found = apply(
        sorting.Scatter(reduction), flat, reshape(row, (count, 1)), reshape(new, (count, width))
    )
    return reshape(found, x.type.shape)


@operation
def scatter(indices: Any, values: Any, shape: Any) -> KerasTensor:
    """Zeros of a shape with values added at indices (…, leading axes)."""
    values = as_tensor(values)
    return _scattered(shaping.zeros(tuple(shape), values.dtype), indices, values, "add")


@operation
def scatter_update(
    inputs: Any, indices: Any, updates: Any, reduction: str | None = None
) -> KerasTensor:
    """The inputs with updates put at indices (…, leading axes), the last one of several in one place."""
    word = {None: "none", "add": "add", "mul": "mul", "max": "max", "min": "min"}.get(reduction)
    if word is None:
        raise ModelError(
            f"{user_line()}: scatter_update: reduction must be None, 'add', 'mul', 'max' or 'min'; "
            f"received {reduction!r}"
        )
    return _scattered(as_tensor(inputs), indices, updates, word)


def _starts(owner: str, start_indices: Any, rank: int) -> list[Any]:
    """Where a slice begins: numbers, or scalar tensors that are known when the model runs."""
    given = start_indices
    if not isinstance(given, (list, tuple)):
        given = [as_tensor(given)[k] for k in range(rank)]
    if len(given) != rank:
        raise ModelError(
            f"{user_line()}: {owner}: expected {rank} start indices; received {given!r}"
        )
    return [v if as_tensor(v).step.symbolic else int(as_tensor(v).numpy()) for v in given]


def slice_(inputs: Any, start_indices: Any, shape: Any) -> KerasTensor:
    """The part of a shape that begins at indices; -1 is what remains."""
    x = as_tensor(inputs)
    for d, (start, size) in enumerate(
        zip(_starts("slice", start_indices, x.type.rank), shape, strict=True)
    ):
        if not is_integer(start):
            x = shaping.take(x, start + np.arange(int(size), dtype=np.int32), axis=d)
        elif size is not None and not (start == 0 and size == x.type.shape[d]):
            end = None if size == -1 or not isinstance(x.type.shape[d], int) else start + int(size)
            x = x[(*[builtins.slice(None)] * d, builtins.slice(start, end))]
    return x


def slice_update(inputs: Any, start_indices: Any, updates: Any) -> KerasTensor:
    """The inputs with a block of updates that begins at indices."""
    x, new = as_tensor(inputs), as_tensor(updates, as_tensor(inputs).dtype)
    starts = _starts("slice_update", start_indices, x.type.rank)
    covers = new
    inside: Any = None
    for d, start in enumerate(starts):
        if start == 0 and is_integer(start) and new.type.shape[d] == x.type.shape[d]:
            continue
        size, extent = _extent("slice_update", new, d), _extent("slice_update", x, d)
        place = np.arange(extent, dtype=np.int32) - start
        here = elementwise.logical_and(
            elementwise.greater_equal(place, 0), elementwise.less(place, size)
        )
        covers = shaping.take(covers, elementwise.clip(place, 0, size - 1), axis=d)
        here = reshape(here, tuple(extent if k == d else 1 for k in range(x.type.rank)))
        inside = here if inside is None else elementwise.logical_and(inside, here)
    return covers if inside is None else elementwise.where(inside, covers, x)


slice_.__name__ = "slice"
slice_, slice_update = operation(slice_), operation(slice_update)


@operation
def unravel_index(indices: Any, shape: Any) -> tuple[KerasTensor, ...]:
    """The coordinates of flat positions."""
    flat, found = as_tensor(indices), []
    for size in reversed(numbers(tuple(shape))):
        found.append(elementwise.mod(flat, size))
        flat = elementwise.floor_divide(flat, size)
    return tuple(reversed(found))


__all__ = [
    "argpartition", "argsort", "bincount", "digitize", "in_top_k", "isin", "median", "multi_hot", "percentile",
    "quantile", "scatter", "scatter_update", "searchsorted", "segment_max", "segment_min", "segment_prod",
    "segment_sum", "slice_", "slice_update", "sort", "top_k", "unravel_index",
]  # fmt: skip
