"""Layers that bring images into a size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convc.errors import DataError, ModelError
from convc.keras import ops
from convc.keras.backend import standardize_data_format
from convc.keras.engine.arguments import choice, positive, title
from convc.keras.engine.layer import Layer
from convc.keras.engine.naming import scope
from convc.keras.engine.phase import stepping
from convc.keras.engine.tensor import KerasTensor, Operators, apply, as_tensor, cast, floating
from convc.keras.layers import bounding_boxes
from convc.keras.utils.elements import as_values
from convc.ops import shape as shapes

Array = NDArray[Any]
Sides = tuple[int, int]
PARTS = ("images", "labels", "bounding_boxes", "segmentation_masks")
"""What a sample may consist of; other keys stay as they are."""


class ImageLayer(Layer):
    """Base of layers on a batch of images, or on samples: dicts of images and what goes with them.

    Samples are changed at once, as arrays. Subclasses that draw do it in `draws`, so that all parts of a sample get
    the same; which parts change besides the images is up to `changed_labels`, `changed_masks` and `changed_boxes`.
    """

    at_inference = False
    """Whether images change at inference too."""
    moves = False
    """Whether pixels change their places: so do bounding boxes."""
    follows_phase = True
    """Keras' files say `training=True` in every call of it, and mean the phase that the model is in."""

    def __init__(
        self,
        data_format: str | None = None,
        bounding_box_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bounding_box_format = bounding_box_format
        if bounding_box_format is not None:
            choice(self, "bounding_box_format", bounding_box_format, bounding_boxes.FORMATS)
        self.data_format = standardize_data_format(data_format, title(self))
        first = self.data_format == "channels_first"
        self.axes = (2, 3) if first else (1, 2)
        """Of rows and columns."""

    def images(self, x: Any) -> KerasTensor:
        """x as floats, if it is a batch of images."""
        tensor = cast(floating(x), self.dtype) if self.dtype.is_float else floating(x)
        if tensor.type.rank != 4:
            raise ModelError(
                f"{title(self)}: expected a batch of images (rank 4); received shape {tensor.shape}"
            )
        return tensor

    def sides(self, x: KerasTensor) -> Sides:
        """Rows and columns."""
        height, width = (x.type.shape[a] for a in self.axes)
        if not isinstance(height, int) or not isinstance(width, int):
            raise ModelError(
                f"{title(self)}: expected images of a known size; received shape {x.shape}"
            )
        return height, width

    def window(self, x: KerasTensor, start: Sides, size: Sides) -> KerasTensor:
        """A part of the images."""
        if size == self.sides(x):
            return x
        starts: list[int | None] = [None] * 4
        ends: list[int | None] = [None] * 4
        for a, begin, extent in zip(self.axes, start, size, strict=True):
            starts[a], ends[a] = begin, begin + extent
        return apply(shapes.Slice(tuple(starts), tuple(ends), (1,) * 4), x)

    def resized(self, x: KerasTensor, size: Sides, mode: str = "bilinear") -> KerasTensor:
        """The images at another size."""
        if size == self.sides(x):
            return x
        return ops.image.resize(x, size, mode, data_format=self.data_format)

    def middle(self, x: KerasTensor, size: Sides) -> KerasTensor:
        """The largest part in the middle that has the size's shape."""
        (height, width), (high, wide) = self.sides(x), size
        part = max(min(height, width * high // wide), 1), max(min(width, height * wide // high), 1)
        return self.window(x, ((height - part[0]) // 2, (width - part[1]) // 2), part)

    def get_config(self) -> dict[str, Any]:
        found = {**super().get_config(), "data_format": self.data_format}
        if self.bounding_box_format is not None:
            found["bounding_box_format"] = self.bounding_box_format
        return found

    # ------------------------------------------------------------ samples

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        given = args[0] if args else kwargs.get("inputs", kwargs.get("data"))
        if isinstance(given, Mapping) and known(given):
            return self.sample(given, kwargs.get("training", True))
        return super().__call__(*args, **kwargs)

    def sample(self, data: Mapping[str, Any], training: Any = True) -> dict[str, Any]:
        """A dict of "images" and, where there are any, "labels", "bounding_boxes" and "segmentation_masks", changed."""
        if "images" not in data:
            raise DataError(f"{title(self)}: expected 'images' in {sorted(map(str, data))}")
        images = np.asarray(data["images"])
        single = images.ndim == 3
        parts = {
            name: part(title(self), name, data[name], single) for name in PARTS if name in data
        }
        if self.at_inference or training is not False:
            parts = self.changed_sample(parts)
        else:
            parts["images"] = parts["images"].astype(self.dtype.numpy, copy=False)
        back = as_tensor if isinstance(data["images"], Operators) else as_values
        return {
            **data,
            **{name: unpacked(value, single, back) for name, value in parts.items()},
        }

    def changed_sample(self, parts: dict[str, Any]) -> dict[str, Any]:
        """Batches of arrays, changed; the boxes are (boxes, labels)."""
        images = parts["images"]
        drawn = self.draws(images)
        found = {**parts, "images": self.changed_images(images, drawn)}
        if "labels" in parts:
            found["labels"] = self.changed_labels(parts["labels"], drawn)
        if "segmentation_masks" in parts:
            found["segmentation_masks"] = self._masks(parts["segmentation_masks"], drawn)
        if "bounding_boxes" in parts and self.moves:
            sides = (images.shape[self.axes[0]], images.shape[self.axes[1]])
            after = tuple(found["images"].shape[a] for a in self.axes)
            boxes, labels = parts["bounding_boxes"]
            found["bounding_boxes"] = self._boxes(boxes, labels, drawn, sides, after)
        elif "bounding_boxes" in parts:
            boxes, labels = parts["bounding_boxes"]
            found["bounding_boxes"] = self.other_boxes(boxes, labels, drawn)
        return found

    def _masks(self, masks: Array, drawn: Any) -> Array:
        """Masks in their dtype, with a channel or without."""
        last = self.axes == (1, 2)
        flat = masks.ndim == 3
        found = self.changed_masks(
            np.expand_dims(masks, -1 if last else 1) if flat else masks, drawn
        )
        found = np.asarray(found)
        found = (found[..., 0] if last else found[:, 0]) if flat else found
        return found.astype(masks.dtype, copy=False) if masks.dtype.kind in "biu" else found

    def _boxes(
        self, boxes: Array, labels: Array, drawn: Any, sides: Sides, after: Any
    ) -> tuple[Array, Array]:
        format = self.bounding_box_format
        if format is None:
            raise DataError(
                f"{title(self)}: a sample with 'bounding_boxes' needs their format: give the layer "
                "bounding_box_format='xyxy', or as it is"
            )
        corners = bounding_boxes.to_corners(boxes, format, sides)
        moved = self.changed_boxes(corners, drawn, sides)
        corners, labels = bounding_boxes.clipped(moved, labels, after)
        return bounding_boxes.from_corners(corners, format, after), labels

    def other_boxes(self, boxes: Array, labels: Array, drawn: Any) -> tuple[Array, Array]:
        """Boxes in their format, and labels, where pixels keep their places."""
        return boxes, labels

    def draws(self, images: Array) -> Any:
        """What is drawn for a batch."""

    def changed_images(self, images: Array, drawn: Any) -> Array:
        return np.asarray(self(images, training=True))

    def changed_labels(self, labels: Array, drawn: Any) -> Array:
        return labels

    def changed_masks(self, masks: Array, drawn: Any) -> Array:
        """Masks (batch, rows, columns, channels)."""
        return masks

    def changed_boxes(self, corners: Array, drawn: Any, sides: Sides) -> Array:
        """Boxes (batch, boxes, 4) as left, top, right and bottom in images of those rows and columns."""
        return corners


def known(value: Any) -> bool:
    """Whether a structure holds values only, no tensors of a model."""
    if isinstance(value, Mapping):
        return all(known(v) for v in value.values())
    if not isinstance(value, Operators):
        return True
    # Within a model's call values may be those of one call of many.
    return isinstance(value, KerasTensor) and not (value.step.symbolic or stepping() or scope())


def part(owner: str, name: str, value: Any, single: bool) -> Any:
    """A part of a sample as a batch: an array, or the boxes' (boxes, labels)."""
    if name != "bounding_boxes":
        array = np.asarray(value)
        return array[None] if single else array
    boxes, labels = bounding_boxes.dense(owner, value)
    return (boxes[None], labels[None]) if single else (boxes, labels)


def unpacked(value: Any, single: bool, back: Any) -> Any:
    """A part as the sample had it."""
    if isinstance(value, tuple):
        return {
            name: unpacked(v, single, back)
            for name, v in zip(("boxes", "labels"), value, strict=True)
        }
    return back(value[0] if single else value)


class Resizing(ImageLayer):
    """Images at another size, with half-pixel centres; integers stay integers.

    `interpolation` is "bilinear", "nearest", "bicubic", "lanczos3", "lanczos5" or "area". Their shape is kept, if
    asked for, by cutting off what is too long (`crop_to_aspect_ratio`) or by adding `fill_value` where it is too short
    (`pad_to_aspect_ratio`).
    """

    at_inference = True
    moves = True

    def __init__(
        self,
        height: int,
        width: int,
        interpolation: str = "bilinear",
        crop_to_aspect_ratio: bool = False,
        pad_to_aspect_ratio: bool = False,
        fill_mode: str = "constant",
        fill_value: float = 0.0,
        antialias: bool = False,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format, **kwargs)
        self.size = (positive(self, "height", height), positive(self, "width", width))
        known_ones = ("bilinear", "nearest", "bicubic", "lanczos3", "lanczos5", "area")
        self.interpolation = choice(self, "interpolation", interpolation, known_ones)
        if crop_to_aspect_ratio and pad_to_aspect_ratio:
            raise ModelError(
                f"{title(self)}: only one of crop_to_aspect_ratio and pad_to_aspect_ratio can be True"
            )
        self.crop, self.pad = bool(crop_to_aspect_ratio), bool(pad_to_aspect_ratio)
        self.antialias = bool(antialias)
        self.fill_mode = choice(self, "fill_mode", fill_mode, ("constant",))
        self.fill_value = float(fill_value)

    def call(self, inputs: Any) -> Any:
        return self._resized(as_tensor(inputs), self.interpolation, self.antialias)

    def _resized(self, x: KerasTensor, interpolation: str, antialias: bool) -> KerasTensor:
        if x.ndim not in (3, 4):
            raise ModelError(
                f"{title(self)}: expected a batch of images (rank 4) or an image; received shape {x.shape}"
            )
        x = x if x.type.dtype.is_integer else floating(x)
        return ops.image.resize(
            x, self.size, interpolation, antialias, self.crop, self.pad, self.fill_mode, self.fill_value,
            self.data_format,
        )  # fmt: skip

    def changed_images(self, images: Array, drawn: Any) -> Array:
        return np.asarray(self(images))

    def changed_masks(self, masks: Array, drawn: Any) -> Array:
        return np.asarray(self._resized(as_tensor(masks), "nearest", False))

    def changed_boxes(self, corners: Array, drawn: Any, sides: Sides) -> Array:
        (height, width), (high, wide) = sides, self.size
        part = (height, width)
        if self.crop:
            part = (
                max(min(height, width * high // wide), 1),
                max(min(width, height * wide // high), 1),
            )
        if self.pad:
            part = tuple(  # type: ignore[assignment]
                s + 2 * ((max(s, f) - s) // 2)
                for s, f in ((height, width * high // wide), (width, height * wide // high))
            )
        start = ((height - part[0]) // 2, (width - part[1]) // 2)
        there = (corners[..., 2:] > corners[..., :2]).all(-1, keepdims=True)
        moved = bounding_boxes.in_part(corners, start, part, self.size)
        return np.where(there, moved, np.float32(0))


class CenterCrop(ImageLayer):
    """The middle of images; of those that are too small the largest part of that shape, at that size."""

    at_inference = True
    moves = True

    def __init__(
        self, height: int, width: int, data_format: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(data_format, **kwargs)
        self.size = (positive(self, "height", height), positive(self, "width", width))

    def call(self, inputs: Any) -> Any:
        x = as_tensor(inputs)
        if x.ndim == 3:
            return self.call(ops.expand_dims(x, 0))[0]
        x = self.images(x)
        start, part = self._part(self.sides(x))
        return self.resized(self.window(x, start, part), self.size)

    def _part(self, sides: Sides) -> tuple[Sides, Sides]:
        """Where the part that is seen begins, and its size."""
        (height, width), (high, wide) = sides, self.size
        if height < high or width < wide:
            high, wide = (
                max(min(height, width * high // wide), 1),
                max(min(width, height * wide // high), 1),
            )
        return ((height - high) // 2, (width - wide) // 2), (high, wide)

    def changed_images(self, images: Array, drawn: Any) -> Array:
        return np.asarray(self(images))

    def changed_masks(self, masks: Array, drawn: Any) -> Array:
        x = as_tensor(masks.astype(self.dtype.numpy))
        start, part = self._part(self.sides(x))
        return np.asarray(self.resized(self.window(x, start, part), self.size, "nearest"))

    def changed_boxes(self, corners: Array, drawn: Any, sides: Sides) -> Array:
        return bounding_boxes.in_part(corners, *self._part(sides), self.size)
