"""What is drawn for each image, and the affine maps that follow from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convc.keras.engine.arguments import is_integer
from convc.ops.random import np_philox

Array = NDArray[Any]

DRAWS = 16
"""Random numbers set aside for each image."""


@dataclass(frozen=True)
class Ranges:
    """The ranges of ImageDataGenerator, checked; lengths in pixels, or shares of the image below 1."""

    rotation: float = 0.0
    height_shift: Any = 0.0
    width_shift: Any = 0.0
    shear: float = 0.0
    zoom: tuple[float, float] = (1.0, 1.0)
    channel_shift: float = 0.0
    brightness: tuple[float, float] | None = None
    horizontal_flip: bool = False
    vertical_flip: bool = False

    @property
    def moves(self) -> bool:
        """True if pixels may change their places."""
        shifts = _given(self.height_shift) or _given(self.width_shift)
        flips = self.horizontal_flip or self.vertical_flip
        return bool(self.rotation or shifts or self.shear or self.zoom != (1, 1) or flips)

    @property
    def changes(self) -> bool:
        """True if images may change at all."""
        return self.moves or bool(self.channel_shift) or self.brightness is not None

    @property
    def draws(self) -> list[int]:
        """The columns of `uniforms` that `drawn` looks at."""
        asked = (
            (self.rotation, (0,)), (_given(self.height_shift), (1, 2)), (_given(self.width_shift), (3, 4)),
            (self.shear, (5,)), (self.zoom != (1, 1), (6, 7)), (self.horizontal_flip, (8,)),
            (self.vertical_flip, (9,)), (self.channel_shift, (10,)), (self.brightness is not None, (11,)),
        )  # fmt: skip
        return [column for wanted, columns in asked if wanted for column in columns]


@dataclass(frozen=True)
class Plan:
    """What is done to n images: `maps` float64[n, 2, 3] (None: they stay), and parameters of shape [n]."""

    maps: Array | None
    parameters: Mapping[str, Array]

    def part(self, low: int, high: int) -> Plan:
        """For the images from `low` to `high`."""
        maps = None if self.maps is None else self.maps[low:high]
        return Plan(maps, {name: values[low:high] for name, values in self.parameters.items()})


def planned(ranges: Ranges, seed: int, epoch: int, indices: Array, height: int, width: int) -> Plan:
    """What an epoch does to the images of those indices."""
    parameters = drawn(ranges, uniforms(seed, epoch, indices, ranges.draws), height, width)
    return Plan(matrices(parameters, height, width) if ranges.moves else None, parameters)


def uniforms(seed: int, epoch: int, indices: Array, draws: Sequence[int] = range(DRAWS)) -> Array:
    """float64[n, DRAWS] in (0, 1), which depend on the seed, the epoch and each image's index only.

    By Philox 2x32-10, with the counter (index and draw, epoch) and the seed as key. Columns that aren't among
    `draws` are 1/2.
    """
    columns = np.array(draws, np.uint64)
    counters = np.asarray(indices, np.uint64)[:, None] * DRAWS + columns
    stream = np.array(epoch, np.uint32)
    bits = np_philox(counters.astype(np.uint32), stream, np.array(seed, np.uint32))
    found = np.full((len(counters), DRAWS), 0.5)
    found[:, columns.astype(np.intp)] = (bits + 0.5) / 2.0**32
    return found


def drawn(ranges: Ranges, u: Array, height: int, width: int) -> dict[str, Array]:
    """The parameters of each image, by Keras' names, from its row of `uniforms`."""
    flips = [
        (u[:, k] < 0.5) & on for k, on in ((8, ranges.horizontal_flip), (9, ranges.vertical_flip))
    ]
    low, high = ranges.zoom
    found: dict[str, Array] = {
        "theta": _around(u[:, 0], ranges.rotation),
        "tx": _shift(u[:, 1], u[:, 2], ranges.height_shift, height),
        "ty": _shift(u[:, 3], u[:, 4], ranges.width_shift, width),
        "shear": _around(u[:, 5], ranges.shear),
        "zx": low + (high - low) * u[:, 6],
        "zy": low + (high - low) * u[:, 7],
        "flip_horizontal": flips[0],
        "flip_vertical": flips[1],
    }
    if ranges.channel_shift:
        found["channel_shift_intensity"] = _around(u[:, 10], ranges.channel_shift)
    if ranges.brightness is not None:
        darkest, brightest = ranges.brightness
        found["brightness"] = darkest + (brightest - darkest) * u[:, 11]
    return found


def _around(u: Array, radius: float) -> Array:
    return (2 * u - 1) * radius


def _given(shift: Any) -> bool:
    return bool(np.size(shift) and np.any(shift))


def _shift(u: Array, sign: Array, shift: Any, extent: int) -> Array:
    """A float is a radius; an integer k stands for 0, …, k - 1 and a list for its own numbers, with either sign."""
    if not _given(shift):
        return np.zeros(len(u))
    if is_integer(shift) or np.ndim(shift) == 1:
        choices = np.arange(shift) if is_integer(shift) else np.asarray(shift, np.float64)
        found = choices[(u * len(choices)).astype(np.int64)] * np.where(sign < 0.5, -1.0, 1.0)
    else:
        found = _around(u, float(shift))
    return found * extent if np.max(shift) < 1 else found


def matrices(parameters: Mapping[str, Any], height: int, width: int) -> Array:
    """float64[n, 2, 3]: the map from output to input pixels for parameters of shape [n].

    It is Keras': rotation, shift, shear and zoom around the centre, on (x, y), then x and y exchanged. So `tx` moves
    columns, and a turn's centre is right for square images only. Flips follow, of the output.
    """
    theta, tx, ty, shear, zx, zy = (
        np.asarray(parameters[k], np.float64) for k in ("theta", "tx", "ty", "shear", "zx", "zy")
    )
    theta, shear = np.deg2rad(theta), np.deg2rad(shear)
    cos, sin = np.cos(theta), np.sin(theta)
    a, b = cos * zx, (-cos * np.sin(shear) - sin * np.cos(shear)) * zy
    c, d = sin * zx, (-sin * np.sin(shear) + cos * np.cos(shear)) * zy
    x0, y0 = height / 2 - 0.5, width / 2 - 0.5
    x = cos * tx - sin * ty + x0 - a * x0 - b * y0
    y = sin * tx + cos * ty + y0 - c * x0 - d * y0
    found = np.stack([np.stack([d, c, y], -1), np.stack([b, a, x], -1)], -2)
    flipped(found, 0, parameters.get("flip_vertical"), height)
    flipped(found, 1, parameters.get("flip_horizontal"), width)
    return found


def flipped(maps: Array, axis: int, which: Any, extent: int) -> None:
    """Flips the output of the chosen maps along rows (0) or columns (1), in place."""
    if which is None or not np.any(which):
        return
    chosen = np.asarray(which, bool)
    maps[chosen, :, 2] += maps[chosen, :, axis] * (extent - 1)
    maps[chosen, :, axis] *= -1
