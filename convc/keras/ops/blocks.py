"""Blocks of pixels as channels, and how alike pictures are."""

from __future__ import annotations

import math
from typing import Any

from convc.keras.engine.call import operation
from convc.keras.engine.tensor import KerasTensor, apply, floating, promoted
from convc.keras.ops import elementwise, nn, reductions
from convc.ops import shape as kernels


def _blocks(owner: str, x: Any, data_format: str, op: Any) -> KerasTensor:
    image, last = nn._image(owner, x, data_format)
    return nn._back(apply(op, image), last)


@operation
def depth_to_space(x: Any, block_size: int, data_format: str = "channels_last") -> KerasTensor:
    """Blocks of channels as block_size x block_size pixels, channels ordered (row, column, channel)."""
    return _blocks("depth_to_space", x, data_format, kernels.DepthToSpace(int(block_size)))


@operation
def space_to_depth(x: Any, block_size: int, data_format: str = "channels_last") -> KerasTensor:
    """block_size x block_size pixels as channels: the inverse of `depth_to_space`."""
    return _blocks("space_to_depth", x, data_format, kernels.SpaceToDepth(int(block_size)))


@operation
def psnr(x1: Any, x2: Any, max_val: float) -> KerasTensor:
    """The peak signal-to-noise ratio of two tensors in decibels: 10 log10(max_val² / their mean square error)."""
    a, b = promoted(floating(x1), floating(x2))
    error = reductions.mean(elementwise.square(a - b))
    found: KerasTensor = 20.0 * math.log10(max_val) - 10.0 * elementwise.log10(error)
    return found


__all__ = ["depth_to_space", "psnr", "space_to_depth"]
