"""Arrays on their way into and out of a model: dtypes by name, harmless conversions, shapes against symbols."""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from convc_runtime.description import TensorInfo, evaluate, terms
from convc_runtime.errors import ArtifactError, InputError


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The numpy dtype for a tensor's dtype name; bfloat16 needs ml_dtypes, and is its bits (uint16) without."""
    if name != "bfloat16":
        try:
            return np.dtype(name)
        except TypeError:
            raise ArtifactError(f"this runtime does not know the dtype {name!r}") from None
    try:
        dtype: np.dtype[Any] = np.dtype(importlib.import_module("ml_dtypes").bfloat16)
    except ImportError:
        return np.dtype(np.uint16)
    return dtype


first_byte: Callable[[Any], ctypes.c_char] = ctypes.c_char.from_buffer
"""The first byte of a writable, C-contiguous array of a plain dtype, which is not empty; an exception for others.

Its address takes a fifth of the time that `array.ctypes.data` does.
"""


def address(array: np.ndarray) -> int:
    """Where the first element of a C-contiguous array lies."""
    try:
        return ctypes.addressof(first_byte(array))
    except (TypeError, ValueError, BufferError):
        return int(array.ctypes.data)


def converted(info: TensorInfo, value: Any, dtype: np.dtype[Any]) -> np.ndarray:
    """`value` as a C-contiguous array of `dtype`, converted where that is harmless.

    Harmless are other strides, alignments and byte orders, anything exact, and a number as a float of the
    model's precision. InputError for the rest, such as 1.5 for an integer input.
    """
    array = np.asarray(value)
    if array.dtype != dtype:
        array = _cast(info, array, dtype)
    return np.require(array, dtype, ["C_CONTIGUOUS", "ALIGNED"])


def _cast(info: TensorInfo, array: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    if array.dtype.kind in "OSUMmV" and array.dtype.name not in ("bfloat16", "float8_e4m3fn"):
        raise _wrong_dtype(info, array)
    if np.can_cast(array.dtype, dtype, "safe"):
        return array.astype(dtype)
    if dtype.kind == "f" or dtype.name == "bfloat16":
        if array.dtype.kind == "c":
            raise _wrong_dtype(info, array)
        return array.astype(dtype)
    with np.errstate(invalid="ignore"):
        cast = array.astype(dtype)
    if array.dtype.kind in "iu" and np.array_equal(cast, array):
        return cast
    raise _wrong_dtype(info, array)


def _wrong_dtype(info: TensorInfo, array: np.ndarray) -> InputError:
    return InputError(f"input {info.name}: expected {info.dtype}, got {array.dtype.name}")


def bind(
    infos: Sequence[TensorInfo], shapes: Sequence[tuple[int, ...]], symbols: Sequence[str]
) -> dict[str, int]:
    """The value of every symbol, from the shapes of the inputs. InputError if they don't fit.

    A symbol that only other entries have is 1.
    """
    values: dict[str, int] = {}
    for info, shape in zip(infos, shapes, strict=True):
        if len(shape) != len(info.shape):
            raise _wrong_shape(info, shape)
        for extent, got in zip(info.shape, shape, strict=True):
            if isinstance(extent, str) and extent in symbols:
                values.setdefault(extent, got)
    used = {s for info in infos for e in info.shape for _, names in terms(e) for s in names}
    missing = sorted(used - values.keys())
    if missing:
        raise ArtifactError(f"no input's shape gives the value of {', '.join(missing)}")
    values = {s: values.get(s, 1) for s in symbols}
    for info, shape in zip(infos, shapes, strict=True):
        if any(evaluate(e, values) != got for e, got in zip(info.shape, shape, strict=True)):
            raise _wrong_shape(info, shape, values)
    return values


def _wrong_shape(
    info: TensorInfo, shape: tuple[int, ...], values: Mapping[str, int] | None = None
) -> InputError:
    known = {s for e in info.shape for _, symbols in terms(e) for s in symbols}
    where = ", ".join(f"{s} = {v}" for s, v in (values or {}).items() if s in known)
    expected = f"expected shape ({', '.join(map(str, info.shape))})"
    return InputError(
        f"input {info.name}: {expected}{' with ' + where if where else ''}, got {shape}"
    )
