"""HDF5 files from anywhere: only plain numeric arrays that lie in the file itself are read, none beyond its size."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np

from convc.errors import InputFileError, UsageError
from convc.keras.engine.tensor import Array
from convc.types import DType

_LARGEST_ATTRIBUTE = 256 << 20
_SPREAD = 2000
"""How many times its stored size an array may take in memory (deflate reaches 1032)."""


def h5py() -> ModuleType:
    """The package, which is an extra."""
    try:
        import h5py as module  # optional: the extra "h5"
    except ImportError:
        raise UsageError(
            "files in HDF5 (.h5, and the weights in .keras) need the package h5py: pip install 'convc[h5]'"
        ) from None
    found: ModuleType = module
    return found


class Hdf5:
    """A file that is being read; `name` is what errors call it."""

    def __init__(self, file: Any, name: str) -> None:
        self._file = file
        self.name = name

    def __contains__(self, path: str) -> bool:
        return self._found(path) is not None

    def _found(self, path: str) -> Any:
        """The group or dataset at a path, each step a link within the file; None if there is none."""
        module, place = h5py(), self._file
        for part in filter(None, path.split("/")):
            if not isinstance(place, module.Group):
                return None
            link = place.get(part, getlink=True)
            if link is None:
                return None
            if not isinstance(link, module.HardLink):
                kind = "another file" if isinstance(link, module.ExternalLink) else "another place"
                raise InputFileError(f"{self.name}: {path} is a link to {kind}; convc follows none")
            place = place[part]
        return place

    def names(self, path: str = "") -> list[str]:
        """The names in a group, none for what isn't there."""
        group = self._found(path)
        return list(group) if isinstance(group, h5py().Group) else []

    def group(self, path: str) -> Any:
        found = self._found(path)
        if not isinstance(found, h5py().Group):
            raise InputFileError(f"{self.name}: group {path or '/'} isn't there")
        return found

    def shape(self, path: str) -> tuple[int, ...] | None:
        """The shape of the array at a path, or None where there is none."""
        found = self._found(path)
        return tuple(found.shape) if isinstance(found, h5py().Dataset) else None

    def array(self, path: str) -> Array:
        """The array at a path; InputFileError for what isn't a plain numeric array stored in this file."""
        module, dataset = h5py(), self._found(path)
        if not isinstance(dataset, module.Dataset) or dataset.shape is None:
            raise InputFileError(f"{self.name}: there is no array at {path}")
        where = f"{self.name}: array {path}"
        bfloat16 = dataset.attrs.get("dtype") in ("bfloat16", b"bfloat16")
        if dataset.dtype.kind not in "fiub" and not (bfloat16 and dataset.dtype.kind == "V"):
            raise InputFileError(f"{where} has type {dataset.dtype}; expected numbers")
        if dataset.external or dataset.is_virtual:
            raise InputFileError(f"{where} lies in another file; convc reads this one only")
        size = math.prod(dataset.shape) * dataset.dtype.itemsize
        stored = dataset.id.get_storage_size()
        if size > stored * _SPREAD + (1 << 16):
            raise InputFileError(
                f"{where} says {size:,} bytes of shape {dataset.shape} but stores {stored:,}"
            )
        try:
            found = np.asarray(dataset[()])
        except (OSError, RuntimeError, ValueError, MemoryError) as error:
            raise InputFileError(f"{where} can't be read: {_line(error)}") from None
        return found.view(DType.bfloat16.numpy) if bfloat16 and found.dtype.kind == "V" else found

    def attribute(self, path: str, name: str) -> Any:
        """A text, number, or list of texts kept as an attribute; None if there is none."""
        place = self._found(path) if path else self._file
        if place is None or name not in place.attrs:
            return None
        identity = place.attrs.get_id(name)
        if 0 in identity.shape:
            return []
        if identity.get_storage_size() > _LARGEST_ATTRIBUTE:
            raise InputFileError(f"{self.name}: attribute {name} of {path or '/'} is too large")
        try:
            value = place.attrs[name]
        except (OSError, RuntimeError, TypeError, ValueError) as error:
            raise InputFileError(
                f"{self.name}: attribute {name} of {path or '/'} can't be read: {_line(error)}"
            ) from None
        return _text(value)

    def texts(self, path: str, name: str) -> list[str]:
        """A list of texts, which Keras spreads over `name0`, `name1`, … where one attribute would be too large."""
        found = self.attribute(path, name)
        if found is not None:
            return _list_of_texts(found)
        parts: list[str] = []
        chunk = 0
        while (part := self.attribute(path, f"{name}{chunk}")) is not None:
            parts.extend(_list_of_texts(part))
            chunk += 1
        return parts


def _list_of_texts(value: Any) -> list[str]:
    return [str(v) for v in value] if isinstance(value, list) else []


def _text(value: Any) -> Any:
    match value:
        case bytes():
            return value.decode("utf-8", "replace")
        case np.ndarray():
            return [_text(v) for v in value.ravel().tolist()]
        case np.generic():
            return _text(value.item())
        case _:
            return value


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())


@contextmanager
def opened(source: Path | BinaryIO, name: str) -> Iterator[Hdf5]:
    """A file for reading; InputFileError if it isn't HDF5."""
    module = h5py()
    try:
        file = module.File(source, "r")
    except (OSError, RuntimeError, ValueError) as error:
        raise InputFileError(f"{name} is not a readable HDF5 file: {_line(error)}") from None
    try:
        yield Hdf5(file, name)
    except RecursionError:
        raise
    except (OSError, RuntimeError, KeyError) as error:  # what h5py raises for damaged parts
        raise InputFileError(f"{name} is damaged: {_line(error)}") from None
    finally:
        with suppress(OSError, RuntimeError):
            file.close()
