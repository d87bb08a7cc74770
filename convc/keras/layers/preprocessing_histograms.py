"""Layers that make images' values even."""

from __future__ import annotations

from typing import Any

import numpy as np

from convc.keras import ops
from convc.keras.engine.arguments import number, pair, positive, title
from convc.keras.engine.tensor import KerasTensor, as_tensor
from convc.keras.layers.preprocessing_colours import BYTES, ColourLayer
from convc.keras.ops.image_batches import sides

LEVELS = 256


class EqualizingLayer(ColourLayer):
    """Base of layers that do the same in training and at inference."""

    at_inference = True
    traced_in_training = False

    def call(self, inputs: Any, training: Any = None) -> Any:
        return self.in_format(self.changed, self.images(inputs))


class Equalization(EqualizingLayer):
    """Images whose values are as frequent as each other: of each channel over the whole batch, as in Keras.

    Values are counted in `bins` over `value_range`.
    """

    def __init__(
        self,
        value_range: Any = (0, 255),
        bins: int = 256,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(value_range, None, data_format, **kwargs)
        self.bins = positive(self, "bins", bins)

    def changed(self, x: KerasTensor) -> Any:
        levels = self.scaled(x, self.value_range, BYTES)
        channels, last = int(x.shape[-1] or 1), self.bins - 1
        first = np.arange(channels, dtype=np.int32) * self.bins
        counted = self._bins(levels * last / 255.0) + first
        places = ops.reshape(counted, (-1,))
        counts = ops.segment_sum(
            ops.cast(ops.ones_like(places), x.dtype), places, channels * self.bins
        )
        below = ops.cumsum(ops.reshape(counts, (channels, self.bins)), -1)
        every = below[:, -1:]
        least = ops.min(ops.where(below > 0, below, every), axis=-1, keepdims=True)
        spread = ops.where(every > least, every - least, 1.0)
        table = ops.clip(ops.round((below - least) * 255.0 / spread), 0.0, 255.0)
        even = ops.take(ops.reshape(table, (-1,)), self._bins(levels / 255.0 * last) + first)
        several = ops.reshape(every > least, (channels,))
        return self.scaled(ops.where(several, even, levels), BYTES, self.value_range)

    def _bins(self, places: Any) -> Any:
        return ops.cast(ops.clip(ops.floor(places), 0.0, self.bins - 1.0), "int32")


class ContrastLimitedAdaptiveHistogramEqualization(EqualizingLayer):
    """Images whose values are made even within tiles, and between the tiles' middles by interpolation.

    The method is Zuiderveld's (Graphics Gems IV, 1994).

    `tile_grid_size` is how many tiles there are, down and along. No value counts more than `clip_limit` times its
    even share, if that is positive; what is cut off is shared out among all.
    """

    def __init__(
        self,
        value_range: Any = (0, 255),
        clip_limit: float = 4.0,
        tile_grid_size: Any = (8, 8),
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(value_range, None, data_format, **kwargs)
        self.clip_limit = number(self, "clip_limit", clip_limit, "a number of at least 0")
        self.tile_grid_size = pair(self, "tile_grid_size", tile_grid_size)

    def changed(self, x: KerasTensor) -> Any:
        levels = self.scaled(x, self.value_range, BYTES)
        high, wide = sides(title(self), x)
        tile = [
            -(-side // count) for side, count in zip((high, wide), self.tile_grid_size, strict=True)
        ]
        for axis, (side, size, count) in enumerate(
            zip((high, wide), tile, self.tile_grid_size, strict=True), 1
        ):
            if size * count > side:
                mirrored = np.pad(np.arange(side), (0, size * count - side), mode="symmetric")
                levels = ops.take(levels, mirrored.astype(np.int32), axis)
        whole = ops.cast(ops.clip(ops.floor(levels), 0.0, 255.0), "int32")
        even = self._between(self._tables(whole, tile), whole, tile)
        return self.scaled(even[:, :high, :wide], BYTES, self.value_range)

    def _tables(self, levels: KerasTensor, tile: list[int]) -> Any:
        """What each value becomes in each tile: (batch, tiles down, tiles along, channels, 256)."""
        (down, along), channels = self.tile_grid_size, int(levels.shape[-1] or 1)
        size = tile[0] * tile[1]
        cells = ops.reshape(levels, (-1, down, tile[0], along, tile[1], channels))
        cells = ops.reshape(
            ops.transpose(cells, (0, 1, 3, 5, 2, 4)), (-1, down, along, channels, size)
        )
        counts = ops.sum(ops.one_hot(cells, LEVELS), axis=-2)
        if self.clip_limit > 0:
            cut = ops.minimum(counts, self.clip_limit * size / LEVELS)
            counts = cut + ops.sum(counts - cut, axis=-1, keepdims=True) / LEVELS
        below = ops.cumsum(counts, -1)
        least = ops.min(below, axis=-1, keepdims=True)
        rest = float(size) - least
        return ops.clip(
            (below - least) * 255.0 / ops.where(ops.equal(rest, 0.0), 1.0, rest), 0.0, 255.0
        )

    def _between(self, tables: Any, levels: KerasTensor, tile: list[int]) -> Any:
        """Each pixel's value by the tables of the four tiles whose middles are around it."""
        (down, along), channels = self.tile_grid_size, int(levels.shape[-1] or 1)
        flat = ops.reshape(tables, (-1, down * along * channels * LEVELS))
        high, wide = sides(title(self), levels)
        rows, columns = (
            _neighbours(extent, size, count)
            for extent, size, count in zip((high, wide), tile, (down, along), strict=True)
        )
        found: Any = None
        for row, down_share in rows:
            for column, along_share in columns:
                tiles = (row[:, None] * along + column[None, :])[..., None] * channels
                first = (tiles + np.arange(channels)) * LEVELS
                places = ops.reshape(levels + first.astype(np.int32), (-1, high * wide * channels))
                seen = ops.reshape(ops.take_along_axis(flat, places, 1), (-1, high, wide, channels))
                share = (down_share[:, None] * along_share[None, :])[..., None]
                part = seen * as_tensor(share.astype(np.float32), seen.dtype)
                found = part if found is None else found + part
        return found


def _neighbours(extent: int, tile: int, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The tiles before and after each pixel of an axis, and their shares of it."""
    at = (np.arange(extent) - tile / 2) / tile
    before = np.floor(at)
    tiles = [np.clip(before + k, 0, count - 1).astype(np.int64) for k in (0, 1)]
    return [(tiles[0], 1 - (at - before)), (tiles[1], at - before)]


__all__ = ["ContrastLimitedAdaptiveHistogramEqualization", "Equalization"]
