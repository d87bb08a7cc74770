"""Pooling of images."""

from __future__ import annotations

from typing import Any

from convc.keras.engine.arguments import choice
from convc.keras.engine.tensor import KerasTensor, apply, floating
from convc.keras.layers.convolution import ImageLayer, paddings
from convc.ops import pool, reduce


class BasePooling2D(ImageLayer):
    """A window that moves over each channel; `strides` are the window's size unless given."""

    def __init__(
        self,
        pool_size: Any = (2, 2),
        strides: Any = None,
        padding: str = "valid",
        data_format: str | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self._set_format(data_format)
        self.pool_size = self._sizes("pool_size", pool_size)
        self.strides = self.pool_size if strides is None else self._sizes("strides", strides)
        self.padding = choice(self, "padding", padding, ("valid", "same"))


class MaxPooling2D(BasePooling2D):
    """The largest element of each window."""

    def call(self, inputs: Any) -> Any:
        x = self._first(inputs)
        pads = paddings(self.padding, x, self.pool_size, self.strides)
        return self._back(apply(pool.MaxPool2d(self.pool_size, self.strides, pads), x))


class AveragePooling2D(BasePooling2D):
    """The mean of each window's elements inside the image."""

    def call(self, inputs: Any) -> Any:
        x = floating(self._first(inputs))
        pads = paddings(self.padding, x, self.pool_size, self.strides)
        return self._back(apply(pool.AvgPool2d(self.pool_size, self.strides, pads), x))


class BaseGlobalPooling2D(ImageLayer):
    """One number per channel."""

    def __init__(
        self, data_format: str | None = None, keepdims: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._set_format(data_format)
        self.keepdims = bool(keepdims)

    def _axes(self, x: KerasTensor) -> tuple[int, int]:
        self._check_image(x.shape)
        return (2, 3) if self.data_format == "channels_first" else (1, 2)


class GlobalAveragePooling2D(BaseGlobalPooling2D):
    """The mean of each channel."""

    def call(self, inputs: Any) -> Any:
        return apply(reduce.ReduceMean(self._axes(inputs), self.keepdims), floating(inputs))


class GlobalMaxPooling2D(BaseGlobalPooling2D):
    """The largest element of each channel."""

    def call(self, inputs: Any) -> Any:
        return apply(reduce.ReduceMax(self._axes(inputs), self.keepdims), inputs)


MaxPool2D = MaxPooling2D
AvgPool2D = AveragePooling2D
GlobalAvgPool2D = GlobalAveragePooling2D
GlobalMaxPool2D = GlobalMaxPooling2D
