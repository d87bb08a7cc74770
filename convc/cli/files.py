"""Reading arrays, and writing files so that none is ever half there."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from convc_runtime.writing import write_whole
from numpy.typing import NDArray

from convc.errors import DAMAGED_ARRAYS, InputFileError, UsageError

Array = NDArray[Any]
BEGINNINGS = (b"\x93NUMPY", b"PK\x03\x04", b"PK\x05\x06")
"""Of .npy files, and of .npz files with and without arrays."""


def read_arrays(path: Path) -> Array | dict[str, Array]:
    """The array of a .npy file, or the named arrays of a .npz file."""
    try:
        with path.open("rb") as file:
            start = file.read(len(BEGINNINGS[0]))
        if start and not start.startswith(BEGINNINGS):
            raise InputFileError(f"{path}: not a .npy or .npz file: it begins with {start!r}")
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found
        with found:
            return {name: found[name] for name in found.files}
    except InputFileError:
        raise
    except FileNotFoundError:
        raise InputFileError(f"{path}: no such file (expected .npy or .npz)") from None
    except OSError as error:
        raise InputFileError(f"{path}: {error.strerror or error} (expected .npy or .npz)") from None
    except DAMAGED_ARRAYS as error:
        raise InputFileError(
            f"{path}: not a .npy or .npz file that numpy can read ({error})"
        ) from None


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Writes one array as .npy, or named arrays as .npz, by the file's suffix."""
    match path.suffix:
        case ".npz":
            named: dict[str, Any] = dict(arrays)
            write_whole(path, encoded(lambda f: np.savez(f, **named)))
        case ".npy" if len(arrays) == 1:
            (only,) = arrays.values()
            write_whole(path, encoded(lambda f: np.save(f, only)))
        case ".npy":
            raise UsageError(
                f"{path}: {len(arrays)} outputs ({', '.join(arrays)}) need a .npz file"
            )
        case _:
            raise UsageError(f"{path}: expected a name that ends in .npy or .npz")


def encoded(save: Callable[[IO[bytes]], object]) -> bytes:
    """The bytes that a saving function writes."""
    stream = io.BytesIO()
    save(stream)
    return stream.getvalue()
