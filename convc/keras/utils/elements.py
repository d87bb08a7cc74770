"""The elements of data sets: arrays in structures of tuples and dicts.

Functions and loops get the arrays as tensors, whose `numpy()` is the array; strings stay arrays, with a `numpy()` too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convc.errors import DataError, UsageError
from convc.keras.engine.tensor import KerasTensor, Operators, as_tensor
from convc.types import DType

Array = NDArray[Any]


class Values(np.ndarray[Any, Any]):
    """An array with `numpy()`, as tensors have it; so have its parts."""

    def numpy(self) -> Any:
        """The array, or its only item; strings as bytes, as TensorFlow has them."""
        array = np.asarray(self)
        if array.dtype.kind == "U":
            array = np.char.encode(array, "utf-8").astype(object)
        return array if self.ndim else array[()]

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        return found if isinstance(found, np.ndarray) else as_values(found)

    def __iter__(self) -> Iterator[Any]:
        return (self[k] for k in range(len(self)))

    def __hash__(self) -> int:  # type: ignore[override] # of single numbers, as numpy's
        return hash(self.item())


def as_values(array: Any) -> Values:
    """An array or a number as one with `numpy()`."""
    return np.asarray(array).view(Values)


class TensorSpec:
    """The shape and the element type of a part of an element."""

    def __init__(self, shape: Any = None, dtype: Any = "float32", name: Any = None) -> None:
        self.shape, self.dtype, self.name = shape, dtype, name

    def __repr__(self) -> str:
        return f"TensorSpec(shape={self.shape}, dtype={self.dtype})"


def as_array(value: Any) -> Array:
    if isinstance(value, (str, bytes)) or (
        isinstance(value, (list, np.ndarray)) and np.asarray(value).dtype.kind in "SU"
    ):
        return np.asarray(value, object)
    if isinstance(value, Operators):
        return np.asarray(value)
    found = np.asarray(value)
    if isinstance(value, (float, list)) and found.dtype == np.float64:
        return found.astype(np.float32)
    if isinstance(value, (int, list)) and found.dtype == np.int64:
        return found.astype(np.int32)
    return found


def _typed(array: Array, dtype: Any) -> Array:
    if array.dtype.kind == "O" or str(dtype) in ("string", "object"):
        return array
    return array.astype(DType.of(dtype).numpy)


def rows(structure: Any, count: int) -> Iterator[Any]:
    for k in range(count):
        yield _row(structure, k)


def _row(structure: Any, k: int) -> Any:
    return mapped(lambda a: a[k, ...], structure)


def of_types(structure: Any, dtypes: Iterator[Any]) -> Any:
    return mapped(lambda a: _typed(a, next(dtypes)), structure)


def as_given(array: Any) -> Any:
    if not isinstance(array, (np.ndarray, np.generic)):
        return array  # a data set: a window of another
    if array.dtype.kind == "O":
        return as_values(array)
    return as_tensor(array)


def called(function: Callable[..., Any], element: Any) -> Any:
    """What a function of tensors gives for an element, as arrays."""
    return mapped(as_array, told(function, element))


def told(function: Callable[..., Any], element: Any) -> Any:
    given = mapped(as_given, element)
    return function(*given) if isinstance(given, tuple) else function(given)


def mapped(function: Callable[[Any], Any], structure: Any) -> Any:
    """A structure of tuples and dicts with its arrays (lists are arrays) replaced."""
    match structure:
        case tuple():
            return tuple(mapped(function, item) for item in structure)
        case Mapping():
            return {key: mapped(function, item) for key, item in structure.items()}
        case list() if any(isinstance(item, (np.ndarray, KerasTensor)) for item in structure):
            return tuple(mapped(function, item) for item in structure)
        case _:
            return function(structure)


def leaves(structure: Any) -> Iterator[Any]:
    match structure:
        case tuple():
            for item in structure:
                yield from leaves(item)
        case Mapping():
            for item in structure.values():
                yield from leaves(item)
        case _:
            yield structure


def stacked(elements: list[Any]) -> Any:
    return combined(lambda *arrays: np.stack(arrays), elements)


def combined(together: Callable[..., Any], elements: list[Any]) -> Any:
    """Elements of one structure as one, their arrays put together."""
    first = elements[0]
    if isinstance(first, tuple):
        return tuple(combined(together, list(part)) for part in zip(*elements, strict=True))
    if isinstance(first, Mapping):
        return {key: combined(together, [e[key] for e in elements]) for key in first}
    try:
        return together(*elements)
    except ValueError:
        shapes = sorted({e.shape for e in elements})
        raise DataError(
            f"Dataset.batch: expected elements of one shape; received {shapes}: padded_batch fills them up"
        ) from None


def shapes_of(padded_shapes: Any) -> list[Any]:
    match padded_shapes:
        case None:
            return []
        case tuple() | list() if padded_shapes and isinstance(
            padded_shapes[0], (tuple, list, dict)
        ):
            return [s for shape in padded_shapes for s in shapes_of(shape)]
        case Mapping():
            return [s for shape in padded_shapes.values() for s in shapes_of(shape)]
        case _:
            return [tuple(padded_shapes)]


def padded(arrays: list[Array], shape: Any, value: Any) -> Array:
    rank = arrays[0].ndim
    sizes = [max(a.shape[d] for a in arrays) for d in range(rank)]
    for d, size in enumerate(shape or ()):
        if size is not None and size >= 0:
            if size < sizes[d]:
                raise UsageError(
                    f"padded_batch: expected padded_shapes of at least {sizes}; received {shape}"
                )
            sizes[d] = size
    fill = value if value is not None else b"" if arrays[0].dtype.kind == "O" else 0
    found = np.full((len(arrays), *sizes), fill, arrays[0].dtype)
    for row, array in zip(found, arrays, strict=True):
        row[tuple(slice(s) for s in array.shape)] = array
    return found
