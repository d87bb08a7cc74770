"""Memory of batches that nobody uses any more, for those to come.

The system gives new pages slowly: to touch those of a batch of images takes longer than to augment it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

SMALLEST, LARGEST = 1 << 16, 1 << 25
"""Bytes of the arrays that are worth it: allocators keep smaller ones themselves, and larger ones are held too dear."""
KEPT = 1 << 26
"""Bytes that wait for their next use, at most, over all sizes."""


class _Pool:
    """Memory that waits for its next use, by size. Taking from a list and giving back is atomic."""

    def __init__(self) -> None:
        self.waiting: dict[int, list[Array]] = {}
        self.kept = 0

    def take(self, size: int) -> Array:
        try:
            memory = self.waiting[size].pop()
        except (KeyError, IndexError):
            return np.empty(size, np.uint8)
        self.kept -= size
        return memory

    def give(self, memory: Array) -> None:
        if self.kept + memory.nbytes <= KEPT:
            self.kept += memory.nbytes
            self.waiting.setdefault(memory.nbytes, []).append(memory)


class _Lease:
    """Memory in use: the arrays that lie in it hold it, and the last of them gives it back."""

    __slots__ = ("__array_interface__", "memory", "pool")

    def __init__(self, pool: _Pool, size: int) -> None:
        self.pool, self.memory = pool, pool.take(size)
        self.__array_interface__ = self.memory.__array_interface__

    def __del__(self) -> None:
        self.pool.give(self.memory)


_pool = _Pool()


def empty(shape: tuple[int, ...], dtype: Any) -> Array:
    """An uninitialised array, as numpy.empty gives it."""
    kind = np.dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    if not SMALLEST <= size <= LARGEST:
        return np.empty(shape, kind)
    found: Array = np.asarray(_Lease(_pool, size)).view(kind).reshape(shape)
    return found
