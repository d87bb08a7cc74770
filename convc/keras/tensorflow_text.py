"""Arrays of strings with TensorFlow's names for what is done to them before they become numbers."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from convc.keras.engine.tensor import KerasTensor
from convc.keras.utils.elements import Values, as_values


def is_text(value: Any) -> bool:
    """Strings, and lists and arrays of them."""
    if isinstance(value, (str, bytes)):
        return True
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "USO" and (
            value.size == 0 or isinstance(value.flat[0], (str, bytes))
        )
    return isinstance(value, (list, tuple)) and bool(value) and is_text(value[0])


def texts(value: Any) -> Values:
    """Strings as an array of them."""
    array = np.asarray(value.numpy() if isinstance(value, KerasTensor) else value)
    if array.dtype.kind in "SO":
        array = (
            np.vectorize(plain, otypes=[object])(array).astype(str)
            if array.size
            else array.astype(str)
        )
    return as_values(array)


def plain(text: Any) -> str:
    return text.decode("utf-8") if isinstance(text, bytes) else str(text)


def or_text(
    function: Callable[..., Any], on_text: Callable[..., Any], several: bool = False
) -> Callable[..., Any]:
    """A function of tensors that strings (`several` arrays of them) go through by a function of numpy's."""

    def called(value: Any, *args: Any, **kwargs: Any) -> Any:
        if is_text(value):
            kwargs.pop("name", None)
            given = [texts(v) for v in value] if several else texts(value)
            return as_values(on_text(given, *args, **kwargs))
        return function(value, *args, **kwargs)

    called.__name__ = getattr(function, "__name__", "function")
    return called


def whole(array: Any, dtype: Any = None, shape: Any = None) -> Any:
    """Strings as they are, or one of them in a shape."""
    return array if shape is None else np.broadcast_to(array, shape)


def joined(arrays: Any, axis: int = 0) -> Any:
    return np.concatenate(list(arrays), axis)


def each(function: Callable[[str], Any], value: Any, dtype: Any = str) -> Values:
    array = texts(value)
    found = [function(str(v)) for v in np.asarray(array).reshape(-1)]
    return as_values(np.asarray(found, dtype).reshape(array.shape))


def lower(input: Any, encoding: str = "", name: Any = None) -> Values:
    return each(str.lower, input)


def upper(input: Any, encoding: str = "", name: Any = None) -> Values:
    return each(str.upper, input)


def strip(input: Any, name: Any = None) -> Values:
    return each(str.strip, input)


def regex_replace(
    input: Any, pattern: str, rewrite: str, replace_global: bool = True, name: Any = None
) -> Values:
    """Matches of a pattern replaced; the groups are \\1, \\2, …"""
    found = re.compile(plain(np.asarray(pattern)[()]))
    return each(lambda t: found.sub(plain(rewrite), t, count=0 if replace_global else 1), input)


def regex_full_match(input: Any, pattern: str, name: Any = None) -> Values:
    return each(lambda t: re.fullmatch(pattern, t) is not None, input, bool)


def length(input: Any, unit: str = "BYTE", name: Any = None) -> Values:
    return each(lambda t: len(t if unit == "UTF8_CHAR" else t.encode()), input, np.int32)


def substr(input: Any, pos: int, len: int, unit: str = "BYTE", name: Any = None) -> Values:
    return each(lambda t: t[int(pos) : int(pos) + int(len)], input)


def join(inputs: Any, separator: str = "", name: Any = None) -> Values:
    """Arrays of strings joined element by element."""
    first, *others = [texts(v) for v in inputs]
    found = first
    for other in others:
        found = as_values(np.char.add(np.char.add(found, separator), other))
    return found


def reduce_join(
    inputs: Any, axis: Any = None, separator: str = "", name: Any = None, **others: Any
) -> Values:
    """The strings along an axis (all of them) as one."""
    array = np.asarray(texts(inputs))
    if axis is None:
        return as_values(separator.join(map(str, array.reshape(-1))))
    moved = np.moveaxis(array, axis, -1)
    rows = [separator.join(map(str, row)) for row in moved.reshape(-1, moved.shape[-1])]
    return as_values(np.asarray(rows).reshape(moved.shape[:-1]))


class Parts(Values):
    """Strings' parts, padded with empty ones where there are fewer."""

    def to_tensor(self, default_value: str = "", shape: Any = None) -> Values:
        return as_values(self)

    def to_list(self) -> Any:
        if self.ndim == 1:
            return [str(v) for v in np.asarray(self)]
        return [[str(v) for v in row if v != ""] for row in np.asarray(self)]


def parts(found: list[list[str]], scalar: bool) -> Any:
    if scalar:
        return np.asarray(found[0], str).view(Parts)
    width = max(map(len, found), default=0)
    return np.asarray([row + [""] * (width - len(row)) for row in found], str).view(Parts)


def split(input: Any, sep: Any = None, maxsplit: int = -1, name: Any = None) -> Any:
    array = np.asarray(texts(input))
    rows = [str(v).split(sep, maxsplit) for v in array.reshape(-1)]
    return parts(rows, array.ndim == 0)


def unicode_split(input: Any, input_encoding: str, name: Any = None, **others: Any) -> Any:
    array = np.asarray(texts(input))
    return parts([list(str(v)) for v in array.reshape(-1)], array.ndim == 0)


NAMES: dict[str, Callable[..., Any]] = {
    f"strings.{function.__name__}": function
    for function in (
        join, length, lower, reduce_join, regex_full_match, regex_replace, split, strip, substr, unicode_split, upper,
    )
}  # fmt: skip
