"""The block that holds a program's weights: where each one lies, and memory for it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

ALIGNMENT = 64
PAGE = 4096


def weight_offsets(sizes: Mapping[str, int]) -> dict[str, int]:
    """The byte offset of each weight, in order, each at the start of a cache line."""
    offsets: dict[str, int] = {}
    end = 0
    for name, size in sizes.items():
        offsets[name] = end
        end = -(-(end + size) // ALIGNMENT) * ALIGNMENT
    return offsets


def page_aligned(size: int) -> NDArray[np.uint8]:
    """Zeros that begin at a page."""
    raw = np.zeros(size + PAGE, np.uint8)
    skip = -int(raw.ctypes.data) % PAGE
    return raw[skip : skip + size]
