"""Layers that move, cut, pad or repeat elements."""

from __future__ import annotations

import math
from typing import Any

from convc.errors import ModelError
from convc.keras.engine.arguments import borders, choice, is_integer, pair, positive, refuse
from convc.keras.engine.layer import Layer
from convc.keras.engine.tensor import apply as applied
from convc.keras.engine.tensor import as_tensor, floating, reshape, transpose
from convc.keras.layers.convolution import ImageLayer
from convc.ops import resize
from convc.ops import shape as shapes
from convc.types import Extent, size_of


class Flatten(ImageLayer):
    """Each sample as one row; channels_first images are flattened in channels_last order, as Keras does."""

    def __init__(self, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._set_format(data_format)

    def call(self, inputs: Any) -> Any:
        x = as_tensor(inputs)
        rank = x.type.rank
        if rank < 1:
            raise ModelError(
                f"layer {self.name!r} (Flatten): expected a batch; received shape {x.shape}"
            )
        if self.data_format == "channels_first" and rank > 2:
            x = transpose(x, (0, *range(2, rank), 1))
        size: Extent = size_of(x.type.shape[1:])
        return reshape(x, (x.type.shape[0], size))


class Reshape(Layer):
    """Each sample in another shape; one size may be -1."""

    def __init__(self, target_shape: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        target = (target_shape,) if is_integer(target_shape) else target_shape
        if not isinstance(target, (tuple, list)) or not all(
            is_integer(d) and d >= -1 for d in target
        ):
            refuse(
                self, "target_shape", "a tuple of integers, of which one may be -1", target_shape
            )
        if list(target).count(-1) > 1:
            refuse(self, "target_shape", "a tuple with one -1 at most", target_shape)
        self.target_shape = tuple(int(d) for d in target)

    def call(self, inputs: Any) -> Any:
        x = as_tensor(inputs)
        size = size_of(x.type.shape[1:])
        known = math.prod(d for d in self.target_shape if d != -1)
        fits = not isinstance(size, int) or (
            size % known == 0 if -1 in self.target_shape and known else size == known
        )
        if not fits:
            raise ModelError(
                f"layer {self.name!r} (Reshape): target_shape {self.target_shape} doesn't fit the {size} elements of "
                f"input {x.shape}"
            )
        rest = size // known if -1 in self.target_shape else 0
        return reshape(x, (x.type.shape[0], *(rest if d == -1 else d for d in self.target_shape)))


class Permute(Layer):
    """The axes of each sample in another order; they count from 1."""

    def __init__(self, dims: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(dims, (tuple, list)) or sorted(dims) != list(range(1, len(dims) + 1)):
            refuse(self, "dims", "an order of 1 … n such as (2, 1)", dims)
        self.dims = tuple(dims)

    def call(self, inputs: Any) -> Any:
        x = as_tensor(inputs)
        if x.type.rank != len(self.dims) + 1:
            raise ModelError(
                f"layer {self.name!r} (Permute): dims {self.dims} expects rank {len(self.dims) + 1}; received {x.shape}"
            )
        return transpose(x, (0, *self.dims))


class RepeatVector(Layer):
    """Each row of features n times: (batch, features) to (batch, n, features)."""

    def __init__(self, n: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.n = positive(self, "n", n)

    def call(self, inputs: Any) -> Any:
        x = as_tensor(inputs)
        if x.type.rank != 2:
            raise ModelError(
                f"layer {self.name!r} (RepeatVector): expected rank 2; received {x.shape}"
            )
        batch, size = x.type.shape
        return applied(shapes.Broadcast((batch, self.n, size)), reshape(x, (batch, 1, size)))


class ZeroPadding2D(ImageLayer):
    """Zeros around each image: an integer, (rows, columns) or ((top, bottom), (left, right))."""

    def __init__(
        self, padding: Any = (1, 1), data_format: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._set_format(data_format)
        self.padding = borders(self, "padding", padding)

    def call(self, inputs: Any) -> Any:
        self._check_image(inputs.shape)
        nothing = (0, 0)
        rows, columns = self.padding
        if self.data_format == "channels_last":
            return applied(shapes.Pad((nothing, rows, columns, nothing)), inputs)
        return applied(shapes.Pad((nothing, nothing, rows, columns)), inputs)


class Cropping2D(ImageLayer):
    """Each image without its borders: an integer, (rows, columns) or ((top, bottom), (left, right))."""

    def __init__(
        self, cropping: Any = ((0, 0), (0, 0)), data_format: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._set_format(data_format)
        self.cropping = borders(self, "cropping", cropping)

    def call(self, inputs: Any) -> Any:
        self._check_image(inputs.shape)
        first = 1 if self.data_format == "channels_last" else 2
        starts: list[int | None] = [None] * 4
        ends: list[int | None] = [None] * 4
        for axis, (before, after) in zip((first, first + 1), self.cropping, strict=True):
            size = inputs.type.shape[axis]
            if before + after >= size:
                raise ModelError(
                    f"layer {self.name!r} (Cropping2D): cropping {self.cropping} leaves nothing of input {inputs.shape}"
                )
            starts[axis], ends[axis] = before, size - after
        return applied(shapes.Slice(tuple(starts), tuple(ends), (1, 1, 1, 1)), inputs)


class UpSampling2D(ImageLayer):
    """Each image larger by whole factors."""

    def __init__(
        self,
        size: Any = (2, 2),
        data_format: str | None = None,
        interpolation: str = "nearest",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._set_format(data_format)
        self.size = pair(self, "size", size)
        self.interpolation = choice(self, "interpolation", interpolation, ("nearest", "bilinear"))

    def call(self, inputs: Any) -> Any:
        x = self._first(inputs)
        if self.interpolation == "bilinear":
            x = floating(x)
        return self._back(applied(resize.Resize2d(scale=self.size, mode=self.interpolation), x))
