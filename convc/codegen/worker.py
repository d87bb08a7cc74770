"""A process that turns LLVM text into objects: `python -m convc.codegen.worker`, fed through its standard streams.

The first frame on the input is a target as JSON. Each further one is the text of a module, which is answered by one
frame: `=` and the object, or `!` and what LLVM has against the text. A frame is its length (8 bytes, little endian)
and its bytes. The process ends with its input, so it never outlives its parent for longer than one module takes.
"""

from __future__ import annotations

import json
import os
import signal
from dataclasses import asdict
from typing import Any, BinaryIO

from convc.codegen.llvmc import compile_object
from convc.errors import IRError
from convc.target import Target

LENGTH = 8
MADE, REFUSED = b"=", b"!"


def frame(*parts: bytes) -> bytes:
    """One message: the length of the parts together, and the parts."""
    return b"".join((sum(map(len, parts)).to_bytes(LENGTH, "little"), *parts))


def target_message(target: Target) -> bytes:
    """The first frame that a worker reads."""
    return frame(json.dumps(asdict(target)).encode())


def main() -> None:
    """Serves until the input ends. What LLVM prints goes to the error stream, Ctrl-C is the parent's affair."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    first = _read(requests)
    if first is None:
        return
    fields: dict[str, Any] = json.loads(first)
    fields |= {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
    target = Target(**fields)
    while (text := _read(requests)) is not None:
        try:
            answers.write(frame(MADE, compile_object(text.decode(), target)))
        except IRError as error:
            answers.write(frame(REFUSED, str(error).encode()))
        answers.flush()


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
