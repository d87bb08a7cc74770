"""Layers on samples: those that mix the images of a batch, with their labels, and one that counts bounding boxes.

They work on dicts of arrays (or on images alone), in pipelines of data rather than in models.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from convc.errors import UnsupportedError
from convc.keras.engine.arguments import number, positive, title, whole
from convc.keras.layers.preprocessing import ImageLayer
from convc.keras.layers.preprocessing_colours import BYTES, ColourLayer, bounds

Array = NDArray[Any]


class MixingLayer(ColourLayer):
    """Base of layers that mix the images of a batch with the same ones in another order."""

    in_arrays = True

    def call(self, inputs: Any, training: Any = None) -> Any:
        if training:
            raise UnsupportedError(
                f"{title(self)}: mixes data, not tensors of a model: call it on arrays, or in dataset.map()"
            )
        return self.images(inputs)

    def generator_now(self) -> np.random.Generator:
        """What draws for one call."""
        return np.random.default_rng(self.generator.next())

    def floats(self, images: Array) -> Array:
        return images.astype(self.dtype.numpy, copy=False)


def mixed(values: Array, drawn: dict[str, Array]) -> Array:
    """values[n, …] and the same in the other order, in the drawn shares."""
    floats = values if values.dtype.kind == "f" else values.astype(np.float32)
    share = drawn["share"].reshape(-1, *[1] * (values.ndim - 1)).astype(floats.dtype)
    return np.asarray(share * floats + (1 - share) * floats[drawn["order"]])


class MixUp(MixingLayer):
    """Pairs of images, and of their labels, mixed in shares of the Beta(alpha, alpha) distribution.

    The method is that of Zhang et al. (ICLR 2018).

    Bounding boxes are those of both images.
    """

    def __init__(
        self,
        alpha: float = 0.2,
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(BYTES, seed, data_format, **kwargs)
        self.alpha = number(self, "alpha", alpha, "a positive number")

    def draws(self, images: Array) -> dict[str, Array]:
        random = self.generator_now()
        order = random.permutation(len(images))
        return {"order": order, "share": random.beta(self.alpha, self.alpha, len(images))}

    def changed_images(self, images: Array, drawn: Any) -> Array:
        return mixed(self.floats(images), drawn)

    def changed_labels(self, labels: Array, drawn: Any) -> Array:
        return mixed(labels, drawn)

    def changed_masks(self, masks: Array, drawn: Any) -> Array:
        return mixed(masks, drawn)

    def other_boxes(self, boxes: Array, labels: Array, drawn: Any) -> tuple[Array, Array]:
        order = drawn["order"]
        return np.concatenate([boxes, boxes[order]], 1), np.concatenate([labels, labels[order]], 1)


class CutMix(MixingLayer):
    """Images with a rectangle of another one, and labels mixed by its area (Yun et al., 2019).

    The rectangle's share of the image is one minus a number of the Beta(a, a) distribution, a drawn from `factor`.
    """

    def __init__(
        self,
        factor: Any = 1.0,
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(BYTES, seed, data_format, **kwargs)
        self.factor = bounds(self, "factor", factor, 1.0)

    def draws(self, images: Array) -> dict[str, Array]:
        """The other order, "inside" (n, rows, columns), and the shares of the images that stay."""
        random, count = self.generator_now(), len(images)
        alpha = random.uniform(*self.factor) + 1e-6
        side = np.sqrt(1 - random.beta(alpha, alpha, count))
        strips = []
        for a in self.axes[::-1]:
            size = images.shape[a]
            start = random.uniform(size=count) * (size - side * size)
            at = np.arange(size)
            strips.append((at >= start[:, None]) & (at < (start + side * size)[:, None]))
        inside = strips[1][:, :, None] & strips[0][:, None, :]
        return {"order": random.permutation(count), "inside": inside, "share": 1 - side * side}

    def changed_images(self, images: Array, drawn: Any) -> Array:
        return self.changed_masks(self.floats(images), drawn)

    def changed_labels(self, labels: Array, drawn: Any) -> Array:
        return mixed(labels, drawn)

    def changed_masks(self, masks: Array, drawn: Any) -> Array:
        inside = np.expand_dims(drawn["inside"], 3 if self.axes == (1, 2) else 1)
        return np.where(inside, masks[drawn["order"]], masks)

    def changed_sample(self, parts: dict[str, Any]) -> dict[str, Any]:
        if "bounding_boxes" in parts:
            raise UnsupportedError(
                f"{title(self)}: can't say what becomes of bounding boxes; the nearest is MixUp"
            )
        return super().changed_sample(parts)


class MaxNumBoundingBoxes(ImageLayer):
    """Samples of `max_number` bounding boxes: what is too much is left out, what is missing is `fill_value`."""

    at_inference = True

    def __init__(self, max_number: int, fill_value: int = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.max_number = positive(self, "max_number", max_number)
        self.fill_value = whole(self, "fill_value", fill_value, -(1 << 31))

    def call(self, inputs: Any, training: Any = None) -> Any:
        return inputs

    def changed_sample(self, parts: dict[str, Any]) -> dict[str, Any]:
        if "bounding_boxes" not in parts:
            return parts
        found = []
        for values in parts["bounding_boxes"]:
            kept = values[:, : self.max_number]
            pads = [(0, 0), (0, self.max_number - kept.shape[1])] + [(0, 0)] * (kept.ndim - 2)
            found.append(np.pad(kept, pads, constant_values=self.fill_value))
        return {**parts, "bounding_boxes": tuple(found)}


__all__ = ["CutMix", "MaxNumBoundingBoxes", "MixUp"]
