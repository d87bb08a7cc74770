"""Layers that bring images into a size."""

from __future__ import annotations

from typing import Any

from convc.errors import ModelError, UnsupportedError
from convc.keras.backend import standardize_data_format
from convc.keras.engine.arguments import choice, positive, title
from convc.keras.engine.layer import Layer
from convc.keras.engine.tensor import KerasTensor, apply, cast, floating, transpose
from convc.ops import resize
from convc.ops import shape as shapes

Sides = tuple[int, int]


class ImageLayer(Layer):
    """Base of layers on a batch of images."""

    follows_phase = True
    """Keras' files say `training=True` in every call of it, and mean the phase that the model is in."""

    def __init__(self, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
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
        op = resize.Resize2d(size=size, mode=mode)
        if self.axes == (2, 3):
            return apply(op, x)
        return transpose(apply(op, transpose(x, (0, 3, 1, 2))), (0, 2, 3, 1))

    def middle(self, x: KerasTensor, size: Sides) -> KerasTensor:
        """The largest part in the middle that has the size's shape."""
        (height, width), (high, wide) = self.sides(x), size
        part = max(min(height, width * high // wide), 1), max(min(width, height * wide // high), 1)
        return self.window(x, ((height - part[0]) // 2, (width - part[1]) // 2), part)


class Resizing(ImageLayer):
    """Images at another size, by "bilinear" or "nearest" interpolation with half-pixel centres.

    Their shape is kept, if asked for, by cutting off what is too long (`crop_to_aspect_ratio`) or by adding
    `fill_value` where it is too short (`pad_to_aspect_ratio`).
    """

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
        if interpolation in ("bicubic", "lanczos3", "lanczos5", "area") or antialias:
            raise UnsupportedError(
                f"{title(self)}: interpolation {interpolation!r} with antialias={antialias!r} isn't supported; the "
                "nearest are 'bilinear' and 'nearest' with antialias=False"
            )
        self.interpolation = choice(self, "interpolation", interpolation, ("bilinear", "nearest"))
        if crop_to_aspect_ratio and pad_to_aspect_ratio:
            raise ModelError(
                f"{title(self)}: only one of crop_to_aspect_ratio and pad_to_aspect_ratio can be True"
            )
        self.crop, self.pad = bool(crop_to_aspect_ratio), bool(pad_to_aspect_ratio)
        self.fill_mode = choice(self, "fill_mode", fill_mode, ("constant",))
        self.fill_value = float(fill_value)

    def call(self, inputs: Any) -> Any:
        x = self.images(inputs)
        if self.crop:
            x = self.middle(x, self.size)
        if self.pad:
            x = self._padded(x)
        return self.resized(x, self.size, self.interpolation)

    def _padded(self, x: KerasTensor) -> KerasTensor:
        (height, width), (high, wide) = self.sides(x), self.size
        whole = max(height, width * high // wide), max(width, height * wide // high)
        pads = [(0, 0)] * 4
        for a, size, extent in zip(self.axes, whole, (height, width), strict=True):
            before = (size - extent) // 2
            pads[a] = (before, before)  # an odd pixel is left out, as Keras does
        return apply(shapes.Pad(tuple(pads), value=self.fill_value), x)


class CenterCrop(ImageLayer):
    """The middle of images; of those that are too small the largest part of that shape, at that size."""

    def __init__(
        self, height: int, width: int, data_format: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(data_format, **kwargs)
        self.size = (positive(self, "height", height), positive(self, "width", width))

    def call(self, inputs: Any) -> Any:
        x = self.images(inputs)
        (height, width), (high, wide) = self.sides(x), self.size
        if height >= high and width >= wide:
            return self.window(x, ((height - high) // 2, (width - wide) // 2), self.size)
        return self.resized(self.middle(x, self.size), self.size)
