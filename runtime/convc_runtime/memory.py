"""Native code and weights in memory: mapped from a file, or copied from bytes."""

from __future__ import annotations

import ctypes
import mmap
from typing import BinaryIO

import numpy as np

from convc_runtime.errors import ArtifactError

PAGE = 4096
_OWN_PAGES = 1 << 18
"""Bytes from which an array has pages of its own."""
_PROT_READ, _PROT_WRITE, _PROT_EXEC = 1, 2, 4


class Mapping:
    """Bytes at a fixed page-aligned address for as long as this object lives.

    `address` is where they are, `array` a read-only uint8 view of them.
    """

    def __init__(self, memory: mmap.mmap, size: int) -> None:
        self._memory = memory
        self.array = np.frombuffer(memory, np.uint8, size)
        self.array.flags.writeable = False
        self.address = int(self.array.ctypes.data)
        self.size = size


def map_file(file: BinaryIO, offset: int, size: int, executable: bool = False) -> Mapping:
    """Private read-only (or executable) pages of `file`; `offset` is a multiple of the page size."""
    protection = _PROT_READ | (_PROT_EXEC if executable else 0)
    try:
        memory = mmap.mmap(
            file.fileno(), size, flags=mmap.MAP_PRIVATE, prot=protection, offset=offset
        )
    except PermissionError:
        if not executable:
            raise
        # A file system mounted noexec: the same bytes run from anonymous memory.
        file.seek(offset)
        return map_code(file.read(size))
    return Mapping(memory, size)


def map_code(code: bytes) -> Mapping:
    """A copy of `code` in anonymous memory that is executable and no longer writable."""
    size = max(1, len(code))
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    memory = mmap.mmap(-1, size, flags=flags, prot=_PROT_READ | _PROT_WRITE)
    memory[: len(code)] = code
    mapping = Mapping(memory, size)
    libc = ctypes.CDLL(None, use_errno=True)
    protect = libc.mprotect
    protect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    if protect(mapping.address, size, _PROT_READ | _PROT_EXEC) != 0:
        error = ctypes.get_errno()
        raise ArtifactError(f"the system refuses executable memory for native code (errno {error})")
    return mapping


def zeroed(size: int) -> np.ndarray:
    """A uint8 array of zeros in pages of its own, which the system gives one by one when they are first touched.

    They are ordinary pages, as nobody asks for huge ones: on virtual machines whose free memory goes back to the host,
    a huge page takes 4 ms to come (0.35 s of the first step of a ResNet-18, whose later steps are no faster for it).
    All goes back to the system with the array. A small one is on the heap. MemoryError if there isn't so much.
    """
    if size < _OWN_PAGES:
        array = aligned(size, PAGE)
        array[:] = 0
        return array
    try:
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError, ValueError):
        raise MemoryError(f"the system has no {size} bytes") from None
    return np.frombuffer(memory, np.uint8, size)


def aligned(size: int, alignment: int = 64) -> np.ndarray:
    """An uninitialised uint8 array of `size` bytes whose address is a multiple of `alignment`."""
    raw = np.empty(size + alignment, np.uint8)
    skip = -int(raw.ctypes.data) % alignment
    return raw[skip : skip + size]
