"""Reading arrays, and writing files so that none is ever half there."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from convc.errors import InputFileError, OutputError, UsageError

Array = NDArray[Any]


def read_arrays(path: Path) -> Array | dict[str, Array]:
    """The array of a .npy file, or the named arrays of a .npz file."""
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found
        with found:
            return {name: found[name] for name in found.files}
    except FileNotFoundError:
        raise InputFileError(f"{path}: no such file (expected .npy or .npz)") from None
    except OSError as error:
        raise InputFileError(f"{path}: {error.strerror or error} (expected .npy or .npz)") from None
    except (ValueError, EOFError, KeyError, SyntaxError) as error:
        raise InputFileError(f"{path}: not a .npy or .npz file that numpy can read ({error})") from None


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Writes one array as .npy, or named arrays as .npz, by the file's suffix."""
    match path.suffix:
        case ".npz":
            write_file(path, lambda stream: np.savez(stream, **arrays))
        case ".npy" if len(arrays) == 1:
            (only,) = arrays.values()
            write_file(path, lambda stream: np.save(stream, only))
        case ".npy":
            raise UsageError(f"{path}: {len(arrays)} outputs ({', '.join(arrays)}) need a .npz file")
        case _:
            raise UsageError(f"{path}: expected a name that ends in .npy or .npz")


def write_file(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Writes a file beside its place and moves it there when it is whole; OutputError otherwise."""
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"{path}: can't be written: {error.strerror or error}") from None
    finally:
        if temporary:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
