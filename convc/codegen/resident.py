"""Memory that compiling has left resident, given back to the system before a model runs.

LLVM's code and tables are pages of a file that the process has mapped, 50 to 70 MB after a compilation, and what was
freed on the heap stays with the C library. Neither is needed while a model runs; pages of the file come back by
themselves when LLVM is called again, out of the system's cache (2 ms for all that a kernel needs).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

_SMAPS = Path("/proc/self/smaps")
_MADV_DONTNEED = 4


@dataclass(frozen=True)
class Mapping:
    """A stretch of the address space that shows a file.

    `changed` are the KiB that no longer are what the file has, in memory or swapped out; None if that isn't known.
    """

    start: int
    stop: int
    rights: str
    file: str
    changed: int | None = None


def give_back(library: str) -> None:
    """Gives back the free heap, and a library's pages that are as its file has them: `library` is part of its name.

    Nothing happens where the system isn't Linux.
    """
    if not sys.platform.startswith("linux"):
        return
    c = ctypes.CDLL(None)
    with contextlib.suppress(OSError):
        c.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        for found in unchanged(lines_of(_SMAPS.read_bytes()), library):
            c.madvise(found.start, found.stop - found.start, _MADV_DONTNEED)
    trim()


def trim() -> None:
    """Gives back what was freed on the heap, where the C library can."""
    if not sys.platform.startswith("linux"):
        return
    c = ctypes.CDLL(None)
    if hasattr(c, "malloc_trim"):  # glibc
        c.malloc_trim(ctypes.c_size_t(0))


def lines_of(smaps: bytes) -> list[str]:
    """The lines of `/proc/PID/smaps`, whatever bytes the names of mapped files have."""
    return [line for line in os.fsdecode(smaps).split("\n") if line]


def unchanged(smaps: Iterable[str], library: str) -> Iterator[Mapping]:
    """The mappings of a library that nobody can write to and nobody, relocating it for one, has written to."""
    for found in mappings(smaps):
        inside = library in found.file.rpartition("/")[2]
        if (
            inside
            and found.rights.startswith("r")
            and "w" not in found.rights
            and found.changed == 0
        ):
            yield found


def mappings(smaps: Iterable[str]) -> Iterator[Mapping]:
    """The mappings of files in the text of `/proc/PID/smaps`."""
    found: Mapping | None = None
    for line in smaps:
        first, _, rest = line.partition(" ")
        if not first.endswith(":"):
            if found is not None:
                yield found
            start, stop = (int(x, 16) for x in first.split("-"))
            rights, _, _, _, *name = rest.split(maxsplit=4)
            found = Mapping(start, stop, rights, name[0]) if name else None
        elif found is not None and first in ("Anonymous:", "Swap:"):
            found = replace(found, changed=(found.changed or 0) + int(rest.split()[0]))
    if found is not None:
        yield found
