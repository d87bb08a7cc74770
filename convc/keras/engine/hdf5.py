"""HDF5 files from anywhere, read by a process of their own: on a damaged one libhdf5 may crash or never return.

Only plain numeric arrays that lie in the file itself are read, none far beyond its size (see hdf5_worker).
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import ModuleType
from typing import IO, Any, BinaryIO

import numpy as np

from convc.errors import InputFileError, UsageError
from convc.keras.engine import hdf5_worker
from convc.keras.engine.hdf5_worker import LENGTH
from convc.keras.engine.tensor import Array
from convc.types import DType

CPU_SECONDS = 15
"""How much CPU time a small file may take; healthy ones of some megabytes take a tenth of a second."""
_BYTES_PER_SECOND = 10 << 20
_MEMORY = 4 << 30
_MISSING = (
    "files in HDF5 (.h5, and the weights in .keras) need the package h5py: pip install 'convc[h5]'"
)


def h5py() -> ModuleType:
    """The package, which is an extra, for writing."""
    try:
        import h5py as module  # optional: the extra "h5"
    except ImportError:
        raise UsageError(_MISSING) from None
    found: ModuleType = module
    return found


class Hdf5:
    """A file that another process is reading; `name` is what errors call it."""

    def __init__(self, process: subprocess.Popen[bytes], source: BinaryIO, name: str) -> None:
        self._process = process
        self._source = source
        self.name = name

    def __contains__(self, path: str) -> bool:
        return bool(self._ask("contains", path))

    def names(self, path: str = "") -> list[str]:
        """The names in a group, none for what isn't there."""
        return [str(name) for name in self._ask("names", path)]

    def shape(self, path: str) -> tuple[int, ...] | None:
        """The shape of the array at a path, or None where there is none."""
        found = self._ask("shape", path)
        return None if found is None else tuple(found)

    def array(self, path: str) -> Array:
        """The array at a path; InputFileError for what isn't a plain numeric array stored in this file."""
        found = self._ask("array", path)
        dtype = DType.bfloat16.numpy if found["dtype"] == "bfloat16" else np.dtype(found["dtype"])
        array = np.empty(found["shape"], dtype)
        target = array.reshape(-1).view(np.uint8).data
        if "offset" in found:
            self._take(path, found["offset"], target)
            return array.astype(dtype.newbyteorder("="), copy=False)
        self._fill(target)
        return array

    def _take(self, path: str, offset: int, target: memoryview) -> None:
        """Reads an array's bytes from where they lie in the file."""
        self._source.seek(offset)
        if self._source.readinto(target) != len(target):  # type: ignore[attr-defined]  # BinaryIO lacks it
            raise InputFileError(f"{self.name}: array {path} ends beyond the file: damaged?")

    def attribute(self, path: str, name: str) -> Any:
        """A text, number, or list of texts kept as an attribute; None if there is none."""
        return self._ask("attribute", path, name)

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

    def _ask(self, *question: str) -> Any:
        self.send(json.dumps(question).encode())
        return self.answer()

    def send(self, message: bytes) -> None:
        """A frame to the other process; InputFileError where it has ended."""
        try:
            pipe = _pipe(self._process.stdin)
            pipe.write(len(message).to_bytes(LENGTH, "little"))
            pipe.write(message)
            pipe.flush()
        except OSError:
            raise self._ended() from None

    def answer(self) -> Any:
        """What the other process found; InputFileError where that is an error."""
        found = json.loads(self._received())
        if "refused" in found:
            raise InputFileError(f"{self.name}{found['refused']}")
        return found["found"]

    def _received(self) -> bytes:
        """The next frame."""
        head = bytearray(LENGTH)
        self._exactly(memoryview(head))
        message = bytearray(int.from_bytes(head, "little"))
        self._exactly(memoryview(message))
        return bytes(message)

    def _fill(self, target: memoryview) -> None:
        """Reads a frame of that many bytes to where it belongs."""
        head = bytearray(LENGTH)
        self._exactly(memoryview(head))
        if int.from_bytes(head, "little") != len(target):
            raise InputFileError(f"{self.name} is damaged: an array has another size than it says")
        self._exactly(target)

    def _exactly(self, target: memoryview) -> None:
        pipe = _pipe(self._process.stdout)
        while len(target):
            count = pipe.readinto(target)  # type: ignore[attr-defined]  # a buffered reader's
            if not count:
                raise self._ended()
            target = target[count:]

    def _ended(self) -> InputFileError:
        """Why the other process has ended, in a line."""
        code = self._process.wait()
        if code in (-getattr(signal, "SIGXCPU", 24), -getattr(signal, "SIGKILL", 9)):
            return InputFileError(
                f"{self.name}: the HDF5 library does not finish reading it: damaged?"
            )
        if code < 0:
            reason = signal.Signals(-code).name
            return InputFileError(
                f"{self.name}: the HDF5 library crashes reading it ({reason}): damaged?"
            )
        return InputFileError(
            f"{self.name}: the process that reads it ended with exit code {code}: damaged?"
        )


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream


def _list_of_texts(value: Any) -> list[str]:
    return [str(v) for v in value] if isinstance(value, list) else []


@contextmanager
def opened(source: Path | BinaryIO, name: str) -> Iterator[Hdf5]:
    """A file for reading; InputFileError if it isn't HDF5."""
    if importlib.util.find_spec("h5py") is None:
        raise UsageError(_MISSING)
    content = None if isinstance(source, Path) else source.read()
    size = source.stat().st_size if isinstance(source, Path) else len(content or b"")
    settings = {
        "path": str(source.absolute()) if isinstance(source, Path) else None,
        "seconds": CPU_SECONDS + size // _BYTES_PER_SECOND,
        "bytes": _MEMORY + 8 * size,
        "modules": sys.path,
    }
    with (
        tempfile.TemporaryFile() as messages,
        source.open("rb") if isinstance(source, Path) else nullcontext(source) as bytes_of,
    ):
        process = subprocess.Popen(
            [sys.executable, "-P", hdf5_worker.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=messages,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        )
        try:
            file = Hdf5(process, bytes_of, name)
            file.send(json.dumps(settings).encode())
            if content is not None:
                file.send(content)
            file.answer()
            yield file
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    for pipe in (process.stdin, process.stdout):
        with suppress(OSError):
            _pipe(pipe).close()
    process.wait()
