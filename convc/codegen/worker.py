"""A process that makes objects of LLVM text or of kernels: `python -m convc.codegen.worker`, fed by its standard input.

The first frame on the input is JSON: two targets, and the cache's folder or null. Each further one is a request: a
number (8 bytes), which of the targets (a byte), the key of the object in the cache (64 bytes, or blanks) and the text
of an LLVM module, or of a kernel in loop IR. It is answered by one frame on the standard output: the number, `=` and
the object, or the number, `!` and what LLVM has against the text. What is answered has been kept in the cache. A frame
is its length (8 bytes, little endian, as all numbers) and its bytes. The process ends with its input, so it never
outlives its parent for longer than one module takes.
"""

from __future__ import annotations

import json
import os
import signal
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from convc.codegen.cache import Cache
from convc.codegen.llvm_module import llvm_text
from convc.codegen.llvmc import compile_object
from convc.errors import IRError
from convc.target import Target

LENGTH = 8
MADE, REFUSED = b"=", b"!"
_KEY = 64


def frame(*parts: bytes) -> bytes:
    """One message: the length of the parts together, and the parts."""
    return b"".join((number(sum(map(len, parts))), *parts))


def number(value: int) -> bytes:
    return value.to_bytes(LENGTH, "little")


def greeting(target: Target, baseline: Target, folder: Path | None) -> bytes:
    """The first frame that a worker reads."""
    targets = [asdict(target), asdict(baseline)]
    kept = None if folder is None else str(folder)
    return frame(json.dumps({"targets": targets, "folder": kept}).encode())


def request(index: int, text: str, key: str = "", baseline: bool = False) -> bytes:
    """The frame that asks for an object."""
    which = b"1" if baseline else b"0"
    return frame(number(index), which, key.ljust(_KEY).encode(), text.encode())


def main() -> None:
    """Serves until the input ends. What LLVM prints goes to the error stream, Ctrl-C is the parent's affair."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    first = _read(requests)
    if first is None:
        return
    greeted: dict[str, Any] = json.loads(first)
    targets = [_target(fields) for fields in greeted["targets"]]
    cache = Cache(Path(greeted["folder"]) if greeted["folder"] else None)
    while (data := _read(requests)) is not None:
        index, which, rest = data[:LENGTH], int(data[LENGTH : LENGTH + 1]), data[LENGTH + 1 :]
        key, text = rest[:_KEY].decode().strip(), rest[_KEY:].decode()
        try:
            code = compile_object(llvm_text(text, targets[which]), targets[which])
        except IRError as error:
            answers.write(frame(index, REFUSED, str(error).encode()))
        else:
            if key:
                cache.put(key, code)  # first: who has the last answer ends this process
            answers.write(frame(index, MADE, code))
        answers.flush()


def _target(fields: dict[str, Any]) -> Target:
    fields |= {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
    return Target(**fields)


def _read(stream: BinaryIO) -> bytes | None:
    """The next frame; None at the end of the stream, even within a frame."""
    head = stream.read(LENGTH)
    if len(head) < LENGTH:
        return None
    size = int.from_bytes(head, "little")
    data = stream.read(size)
    return data if len(data) == size else None


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        os._exit(0)  # the parent is gone: nobody is left to tell
