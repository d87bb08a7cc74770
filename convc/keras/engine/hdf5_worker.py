"""A process that reads one HDF5 file for another: libhdf5 may crash or never return on a damaged one.

Run as a script, fed through its standard streams with frames (a length of 8 bytes, little endian, and so many bytes).
The first frame is JSON: `path`, or null where the second frame is the file itself, and `seconds`, `bytes`: how much CPU
time and memory this process may take, and `modules`: where the parent finds its packages. Each further frame is
JSON, a question `[method, path, …]` of `Reader`'s, answered by a frame of JSON, `{"found": …}` or `{"refused": text}`;
one for an array is followed by a frame with its elements, little endian. Imports nothing of convc, to start quickly.
"""

from __future__ import annotations

import io
import json
import math
import os
import signal
import sys
from contextlib import suppress
from typing import Any, BinaryIO

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

LENGTH = 8
_LARGEST_ATTRIBUTE = 256 << 20
_SPREAD = 2000
"""How many times its stored size an array may take in memory (deflate reaches 1032)."""


class RefusedError(Exception):
    """What is wrong with the file, without its name."""


class Reader:
    """Answers about an open file: only plain numeric arrays that lie in the file itself are read."""

    def __init__(self, h5py: Any, file: Any) -> None:
        self._h5py = h5py
        self._file = file

    def _found(self, path: str) -> Any:
        """The group or dataset at a path, each step a link within the file; None if there is none."""
        place = self._file
        for part in filter(None, path.split("/")):
            if not isinstance(place, self._h5py.Group):
                return None
            link = place.get(part, getlink=True)
            if link is None:
                return None
            if not isinstance(link, self._h5py.HardLink):
                external = isinstance(link, self._h5py.ExternalLink)
                kind = "another file" if external else "another place"
                raise RefusedError(f": {path} is a link to {kind}; convc follows none")
            place = place[part]
        return place

    def contains(self, path: str) -> bool:
        return self._found(path) is not None

    def names(self, path: str) -> list[str]:
        """The names in a group, none for what isn't there."""
        group = self._found(path)
        return list(group) if isinstance(group, self._h5py.Group) else []

    def shape(self, path: str) -> list[int] | None:
        """The shape of the array at a path, or None where there is none."""
        found = self._found(path)
        if not isinstance(found, self._h5py.Dataset) or found.shape is None:
            return None
        return [int(n) for n in found.shape]

    def array(self, path: str) -> Any:
        """The array at a path; bfloat16 ones as 16-bit integers, which the name of the dtype tells."""
        dataset = self._found(path)
        if not isinstance(dataset, self._h5py.Dataset) or dataset.shape is None:
            raise RefusedError(f": there is no array at {path}")
        where = f": array {path}"
        bfloat16 = dataset.attrs.get("dtype") in ("bfloat16", b"bfloat16")
        raw = bfloat16 and dataset.dtype.kind == "V" and dataset.dtype.itemsize == 2
        if dataset.dtype.kind not in "fiub" and not raw:
            raise RefusedError(f"{where} has type {dataset.dtype}; expected numbers")
        if dataset.external or dataset.is_virtual:
            raise RefusedError(f"{where} lies in another file; convc reads this one only")
        size = math.prod(dataset.shape) * dataset.dtype.itemsize
        stored = dataset.id.get_storage_size()
        if size > stored * _SPREAD + (1 << 16):
            raise RefusedError(
                f"{where} says {size:,} bytes of shape {dataset.shape} but stores {stored:,}"
            )
        if (offset := self._place(dataset, size)) is not None and not raw:
            dtype = dataset.dtype.str
            return {"dtype": dtype, "shape": dataset.shape, "offset": offset}
        try:
            found = dataset[...]
        except (OSError, RuntimeError, ValueError, MemoryError) as error:
            raise RefusedError(f"{where} can't be read: {line(error)}") from None
        return found.view("<u2") if raw else found.astype(found.dtype.newbyteorder("<"), copy=False)

    def _place(self, dataset: Any, size: int) -> int | None:
        """Where in the file all the array's bytes lie as they are, so that the parent can take them itself."""
        kind = dataset.id.get_create_plist().get_layout()
        if kind != self._h5py.h5d.CONTIGUOUS or self._file.userblock_size:
            return None
        plain_numbers = dataset.dtype.kind in "fiu" and dataset.dtype.itemsize in (1, 2, 4, 8)
        same = dataset.id.get_type().equal(self._h5py.h5t.py_create(dataset.dtype))
        if not plain_numbers or not same or dataset.id.get_storage_size() != size:
            return None
        offset = dataset.id.get_offset()
        return None if offset is None else int(offset)

    def attribute(self, path: str, name: str) -> Any:
        """A text, number, or list of texts kept as an attribute; None if there is none."""
        place = self._found(path) if path else self._file
        if place is None or name not in place.attrs:
            return None
        identity = place.attrs.get_id(name)
        if 0 in identity.shape:
            return []
        if identity.get_storage_size() > _LARGEST_ATTRIBUTE:
            raise RefusedError(f": attribute {name} of {path or '/'} is too large")
        try:
            value = place.attrs[name]
        except (OSError, RuntimeError, TypeError, ValueError) as error:
            where = f"attribute {name} of {path or '/'}"
            raise RefusedError(f": {where} can't be read: {line(error)}") from None
        return plain(value)


def plain(value: Any) -> Any:
    """Texts, numbers and flat lists of them, as JSON has them; None for what is none of these."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, (str, bool, int, float)) and type(value).__module__ == "builtins":
        return value
    if hasattr(value, "ravel"):
        if getattr(value, "ndim", 0):
            return [plain(v) for v in value.ravel().tolist()]
        return plain(value.item())
    return None


def line(error: BaseException) -> str:
    return " ".join(str(error).split())


def frame(data: Any) -> bytes:
    """The head of a message and, but for what is written apart, the message."""
    return len(data).to_bytes(LENGTH, "little")


def read_frame(stream: BinaryIO) -> bytes | None:
    """The next message; None at the end of the stream, even within a message."""
    head = stream.read(LENGTH)
    size = int.from_bytes(head, "little")
    data = stream.read(size) if len(head) == LENGTH else b""
    return data if len(head) == LENGTH and len(data) == size else None


def limit(seconds: int, memory: int) -> None:
    """Ends this process, without a core file, once it has taken so much CPU time; memory beyond is denied."""
    if resource is None:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for kind, least in ((resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, memory)):
        _, hard = resource.getrlimit(kind)
        with suppress(OSError, ValueError):  # where the system has no such limit, or a lower one
            resource.setrlimit(kind, (least, hard))


def answer(stream: BinaryIO, found: Any, array: Any = None) -> None:
    text = json.dumps(found, default=str).encode()  # a damaged attribute may be anything
    stream.write(frame(text) + text)
    if array is not None:
        data = memoryview(array.reshape(-1).view("u1"))
        stream.write(frame(data))
        stream.write(data)
    stream.flush()


def respond(reader: Reader, stream: BinaryIO, method: str, *given: str) -> None:
    """Answers one question."""
    try:
        found = getattr(reader, method)(*given)
    except RefusedError as error:
        answer(stream, {"refused": str(error)})
    except Exception as error:  # whatever h5py raises for damaged parts
        answer(stream, {"refused": f" is damaged: {line(error) or type(error).__name__}"})
    else:
        if method != "array" or isinstance(found, dict):
            answer(stream, {"found": found})
            return
        bfloat16 = found.dtype.kind == "u" and reader._found(*given).dtype.kind == "V"
        dtype = "bfloat16" if bfloat16 else found.dtype.str
        answer(stream, {"found": {"dtype": dtype, "shape": found.shape}}, found)


def main() -> None:
    """Serves until the input ends. What the library prints goes to the error stream, Ctrl-C is the parent's affair."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    questions, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    settings = json.loads(read_frame(questions) or b"{}")
    sys.path[:] = settings["modules"]
    import h5py  # optional: the extra "h5", which the parent has found

    source: Any = settings["path"]
    if source is None:
        source = io.BytesIO(read_frame(questions) or b"")
    limit(settings["seconds"], settings["bytes"])
    try:
        file = h5py.File(source, "r")
    except Exception as error:  # whatever h5py raises for what is no such file
        answer(answers, {"refused": f" is not a readable HDF5 file: {line(error)}"})
        return
    reader = Reader(h5py, file)
    answer(answers, {"found": True})
    while (question := read_frame(questions)) is not None:
        respond(reader, answers, *json.loads(question))
    os._exit(0)  # a damaged file may make the library hang even as it closes it


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        os._exit(0)  # the parent is gone: nobody is left to tell
