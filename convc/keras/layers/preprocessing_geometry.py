"""Layers that look at images from elsewhere, or distort them, at random in training."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from convc.keras import ops, random
from convc.keras.engine.arguments import choice, fraction, title
from convc.keras.engine.tensor import KerasTensor, as_tensor
from convc.keras.layers import bounding_boxes
from convc.keras.layers.preprocessing import Sides
from convc.keras.layers.preprocessing_colours import BYTES, FactorLayer, bounds
from convc.keras.ops.image_batches import sides
from convc.keras.ops.image_geometry import FILL_MODES, INTERPOLATIONS, distorted, homography

Array = NDArray[Any]


class MappedLayer(FactorLayer):
    """Base of layers that move pixels, each image's with a probability drawn from `factor`; their masks', too.

    Subclasses define `drawn_for(x)`, which draws, and `altered(x, drawn, interpolation)`.
    """

    interpolation: str

    def drawn_for(self, x: KerasTensor) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no drawn_for()")

    def altered(self, x: KerasTensor, drawn: Any, interpolation: str) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no altered()")

    def changed(self, x: KerasTensor) -> Any:
        return self.altered(x, self.drawn_for(x), self.interpolation)

    def draws(self, images: Array) -> Any:
        return self.drawn_for(self._last(images))

    def changed_images(self, images: Array, drawn: Any) -> Array:
        x = self.images(images)
        return np.asarray(self.in_format(lambda v: self.altered(v, drawn, self.interpolation), x))

    def changed_masks(self, masks: Array, drawn: Any) -> Array:
        x = self.images(masks)
        return np.asarray(self.in_format(lambda v: self.altered(v, drawn, "nearest"), x))

    def _last(self, images: Array) -> KerasTensor:
        x = self.images(images)
        return ops.transpose(x, (0, 2, 3, 1)) if self.data_format == "channels_first" else x


class RandomPerspective(MappedLayer):
    """Images whose corners are moved by up to half of `scale` times their distance from the first one."""

    moves = True

    def __init__(
        self,
        factor: Any = 1.0,
        scale: float = 1.0,
        interpolation: str = "bilinear",
        fill_value: float = 0.0,
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(factor, BYTES, data_format, seed, **kwargs)
        self.scale = fraction(title(self), "scale", scale)
        self.interpolation = choice(self, "interpolation", interpolation, INTERPOLATIONS)
        self.fill_value = float(fill_value)

    def drawn_for(self, x: KerasTensor) -> Any:
        """Which images are seen in perspective, and where their corners come to: (batch, 4, 2), as x and y."""
        high, wide = sides(title(self), x)
        corners = np.array(
            [[0, 0], [wide - 1, 0], [0, high - 1], [wide - 1, high - 1]], x.type.dtype.numpy
        )
        shares = random.uniform(
            (ops.shape(x)[0], 4, 2), -0.5 * self.scale, 0.5 * self.scale, seed=self.generator
        )
        chosen = self.chosen(x, self.factor)
        return chosen, corners, corners + corners * ops.cast(shares, x.dtype)

    def altered(self, x: KerasTensor, drawn: Any, interpolation: str) -> Any:
        chosen, start, end = drawn
        start = end * 0.0 + start
        seen = ops.image.perspective_transform(
            x, start, end, interpolation, self.fill_value, "channels_last"
        )
        return ops.where(chosen, seen, x)

    def changed_boxes(self, corners: Array, drawn: Any, sides: Sides) -> Array:
        chosen, start, end = (np.asarray(d) for d in drawn)
        maps = np.asarray(homography(as_tensor(end), as_tensor(end * 0 + start)))
        matrices = np.concatenate([maps, np.ones((len(maps), 1))], 1).reshape(-1, 1, 1, 3, 3)
        points = bounding_boxes.points(corners)
        there = np.concatenate([points, np.ones((*points.shape[:-1], 1))], -1)[..., None]
        found = (matrices @ there)[..., 0]
        moved = bounding_boxes.hull(found[..., :2] / found[..., 2:])
        return np.where(chosen[..., 0], moved, corners)


class RandomElasticTransform(MappedLayer):
    """Images with smooth random distortions, whose strength is drawn from `scale` once per step.

    Boxes stay as they are, as in Keras.
    """

    def __init__(
        self,
        factor: Any = 1.0,
        scale: Any = 1.0,
        interpolation: str = "bilinear",
        fill_mode: str = "reflect",
        fill_value: float = 0.0,
        value_range: Any = (0, 255),
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(factor, value_range, data_format, seed, **kwargs)
        self.scale = bounds(self, "scale", scale, 1.0)
        self.interpolation = choice(self, "interpolation", interpolation, INTERPOLATIONS)
        self.fill_mode = choice(self, "fill_mode", fill_mode, FILL_MODES)
        self.fill_value = float(fill_value)

    def drawn_for(self, x: KerasTensor) -> Any:
        """Which images are distorted, how much, and standard normal noise (batch, rows, columns, 1) for x and for y."""
        shape = (ops.shape(x)[0], *x.type.shape[1:3], 1)
        noise = tuple(
            ops.cast(random.normal(shape, seed=self.generator), x.dtype) for _ in range(2)
        )
        strength = ops.cast(random.uniform((), *self.scale, seed=self.generator), x.dtype)
        return self.chosen(x, self.factor), strength, noise

    def altered(self, x: KerasTensor, drawn: Any, interpolation: str) -> Any:
        chosen, strength, noise = drawn
        if not self.scale[1] or not self.factor[1]:
            return x
        high, wide = sides(title(self), x)
        widest = 0.05 * min(high, wide) * self.scale[1]
        moved = distorted(
            x, noise, max(high, wide) * 0.1 * strength, min(high, wide) * 0.05 * strength + 1e-6,
            int(6 * widest) | 1, INTERPOLATIONS.index(interpolation), self.fill_mode, self.fill_value,
        )  # fmt: skip
        found = ops.where(chosen, moved, x)
        return found if interpolation == "nearest" else self.within(found)


__all__ = ["RandomElasticTransform", "RandomPerspective"]
