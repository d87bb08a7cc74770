"""Layers that change images at random in training, and pass them on at inference.

Called on an array or a sample (not on a tensor of a model), such a layer changes it at once, unless `training=False`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from convc import driver
from convc.errors import ModelError
from convc.graph.ir import Builder
from convc.graph.op import Op
from convc.keras.engine.arguments import choice, is_integer, positive, refuse, title
from convc.keras.engine.tensor import KerasTensor, apply, as_tensor, evaluate
from convc.keras.layers import bounding_boxes
from convc.keras.layers.preprocessing import ImageLayer, Sides, known
from convc.keras.preprocessing import recycling
from convc.keras.utils.elements import as_values
from convc.ops.augment import Drawn, RandomAffine, RandomMaps
from convc.ops.augment import RandomBrightness as Brightness
from convc.ops.augment import RandomContrast as Contrast
from convc.ops.augment import RandomCrop as Crop
from convc.ops.augment import RandomShear as Shear
from convc.ops.random import SEED
from convc.ops.values import Value
from convc.types import Dim, DType, TensorType

Range = tuple[float, float]
FILLS = {
    "reflect": "reflect", "wrap": "grid-wrap", "constant": "grid-constant", "nearest": "nearest",
}  # fmt: skip
"""Keras' names, and AffineWarp's."""


class RandomLayer(ImageLayer):
    """Base of the layers. Subclasses define `operator`, which is what a model's graph holds."""

    def __init__(
        self, seed: int | None = None, data_format: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(data_format, **kwargs)
        if seed is not None and not is_integer(seed):
            refuse(self, "seed", "an integer or None", seed)
        self.seed = None if seed is None else int(seed)
        self._calls = 0

    @property
    def operator(self) -> Op:
        """The operator that draws."""
        raise NotImplementedError(f"{type(self).__name__} has no operator")

    def call(self, inputs: Any, training: Any = None) -> Any:
        x = self.images(inputs)
        return x if training is False else apply(self.operator, x)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        given = args[0] if args else kwargs.get("inputs")
        if isinstance(given, (np.ndarray, list)):
            return self._changed(np.asarray(given), kwargs.get("training", True))
        if isinstance(given, KerasTensor) and known(given):
            changed = self._changed(evaluate(given.step), kwargs.get("training", True))
            return as_tensor(changed)
        return super().__call__(*args, **kwargs)

    def _changed(self, x: NDArray[Any], training: Any) -> NDArray[Any]:
        """An array of images, or one image, as training would have it."""
        batch = x if x.ndim == 4 else x[None]
        if batch.ndim != 4:
            raise ModelError(
                f"{title(self)}: expected images of rank 3 or 4; received shape {x.shape}"
            )
        if training is not False:
            result = self.changed_images(batch, self.draws(batch))
        else:
            result = self._settled(batch)
        return as_values(result if x.ndim == 4 else result[0])

    def draws(self, images: NDArray[Any]) -> NDArray[Any]:
        """The seed of a call's draws: the layer's own and the call's number, or one of numpy's global generator."""
        key = self.seed if self.seed is not None else int(np.random.randint(1 << 31))
        step = self._calls if self.seed is not None else 0
        self._calls += 1
        return np.array([key & 0xFFFFFFFF, step & 0xFFFFFFFF], np.uint32)

    def changed_images(self, images: NDArray[Any], drawn: Any) -> NDArray[Any]:
        return self._run(self.operator, images, drawn)

    def _run(self, op: Op, images: NDArray[Any], seed: NDArray[Any]) -> NDArray[Any]:
        known = images.dtype in (np.uint8, self.dtype.numpy)
        batch = np.ascontiguousarray(images, None if known else self.dtype.numpy)
        model = _eager(op, DType.of(batch.dtype), self.dtype, batch.shape[1:])
        return np.asarray(model(batch, seed, out=recycling.empty(batch.shape, self.dtype.numpy)))

    def _settled(self, batch: NDArray[Any]) -> NDArray[Any]:
        return batch.astype(self.dtype.numpy, copy=False)


@lru_cache(maxsize=64)
def _eager(op: Op, given: DType, dtype: DType, shape: tuple[int, ...]) -> Callable[..., Any]:
    """The compiled change of batches of images as `dtype`, which takes a seed besides."""
    builder = Builder("augment")
    name = builder.input("images", TensorType(given, (Dim.symbol("N"), *shape)))
    seed = Value(builder, builder.input("seed", SEED))
    assert isinstance(op, Drawn)
    result = op.trained([Value(builder, name).cast(dtype)], seed)
    return driver.compile(builder.finish([result.name]), threads=1).model


@lru_cache(maxsize=64)
def _maps(op: RandomMaps, shape: tuple[int, ...]) -> Callable[..., Any]:
    """The compiled maps float64[n, 2, 3] that such a change has for bytes of that shape and a seed."""
    builder = Builder("maps")
    name = builder.input("images", TensorType(DType.uint8, (Dim.symbol("N"), *shape)))
    seed = Value(builder, builder.input("seed", SEED))
    found = op.maps(Value(builder, name), seed)
    return driver.compile(builder.finish([found.name]), threads=1).model


class AffineLayer(RandomLayer):
    """Base of the layers whose operator is a RandomMaps: masks and boxes move as their images do."""

    moves = True
    inset: ClassVar[float] = 0.0
    """Where the first pixel's centre lies, as boxes count: Keras has it at 0 but for flips."""

    @property
    def operator(self) -> RandomMaps:
        raise NotImplementedError(f"{type(self).__name__} has no operator")

    def changed_masks(self, masks: NDArray[Any], drawn: Any) -> NDArray[Any]:
        operator: Any = self.operator
        return self._run(replace(operator, interpolation="nearest"), masks, drawn)

    def changed_boxes(self, corners: NDArray[Any], drawn: Any, sides: Sides) -> NDArray[Any]:
        shape = [1] * 3
        for a, side in zip(self.axes, sides, strict=True):
            shape[a - 1] = side
        images = np.zeros((len(corners), *shape), np.uint8)
        maps = np.asarray(_maps(self.operator, tuple(shape))(images, drawn))
        seen = bounding_boxes.points(corners)[..., ::-1] - self.inset - maps[:, None, None, :, 2]
        back = np.linalg.inv(maps[:, :, :2])
        found = np.einsum("nij,nbkj->nbki", back, seen) + self.inset
        return bounding_boxes.hull(found[..., ::-1])


class RandomFlip(AffineLayer):
    """Images flipped, each with probability 1/2: "horizontal", "vertical" or "horizontal_and_vertical"."""

    inset = 0.5

    def __init__(
        self,
        mode: str = "horizontal_and_vertical",
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed, data_format, **kwargs)
        known = ("horizontal", "vertical", "horizontal_and_vertical")
        self.mode = choice(self, "mode", mode, known)

    @property
    def operator(self) -> RandomAffine:
        flip = ("vertical" in self.mode, "horizontal" in self.mode)
        return RandomAffine(self.axes, flip, interpolation="nearest", seed=self.seed)


class RandomMove(AffineLayer):
    """Base of the layers that look between pixels and outside of the image."""

    def __init__(
        self,
        fill_mode: str,
        interpolation: str,
        seed: int | None,
        fill_value: float,
        data_format: str | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed, data_format, **kwargs)
        self.fill_mode = choice(self, "fill_mode", fill_mode, FILLS)
        self.interpolation = choice(self, "interpolation", interpolation, ("bilinear", "nearest"))
        self.fill_value = float(fill_value)

    def affine(self, **ranges: Any) -> RandomAffine:
        return RandomAffine(
            self.axes, interpolation=self.interpolation, fill_mode=FILLS[self.fill_mode],
            fill_value=self.fill_value, seed=self.seed, **ranges,
        )  # fmt: skip


class RandomRotation(RandomMove):
    """Images turned anticlockwise by up to `factor` turns (a number: either way)."""

    def __init__(
        self,
        factor: Any,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(fill_mode, interpolation, seed, fill_value, data_format, **kwargs)
        self.factor = around(self, "factor", factor)

    @property
    def operator(self) -> RandomAffine:
        return self.affine(rotation=self.factor)


class RandomTranslation(RandomMove):
    """Images moved down by `height_factor` of their height and to the right by `width_factor` of their width."""

    def __init__(
        self,
        height_factor: Any,
        width_factor: Any,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(fill_mode, interpolation, seed, fill_value, data_format, **kwargs)
        self.height_factor = around(self, "height_factor", height_factor)
        self.width_factor = around(self, "width_factor", width_factor)

    @property
    def operator(self) -> RandomAffine:
        return self.affine(height=self.height_factor, width=self.width_factor)


class RandomZoom(RandomMove):
    """Images of which 1 + factor of the height (and width; None: alike) are seen: positive factors zoom out."""

    def __init__(
        self,
        height_factor: Any,
        width_factor: Any = None,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(fill_mode, interpolation, seed, fill_value, data_format, **kwargs)
        self.height_factor = around(self, "height_factor", height_factor)
        self.width_factor = None
        if width_factor is not None:
            self.width_factor = around(self, "width_factor", width_factor)

    @property
    def operator(self) -> RandomAffine:
        return self.affine(zoom_height=self.height_factor, zoom_width=self.width_factor)


class RandomShear(RandomMove):
    """Images of which row i is moved by i * x_factor and column j by j * y_factor, either way: bounds from 0 to 1."""

    def __init__(
        self,
        x_factor: Any = 0.0,
        y_factor: Any = 0.0,
        interpolation: str = "bilinear",
        fill_mode: str = "reflect",
        fill_value: float = 0.0,
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(fill_mode, interpolation, seed, fill_value, data_format, **kwargs)
        self.x_factor, self.y_factor = (
            either_way(self, name, factor)
            for name, factor in (("x_factor", x_factor), ("y_factor", y_factor))
        )

    @property
    def operator(self) -> Shear:
        return Shear(
            self.axes, self.x_factor, self.y_factor, self.interpolation, FILLS[self.fill_mode], self.fill_value,
            self.seed,
        )  # fmt: skip


class RandomContrast(RandomLayer):
    """Images whose distance from each channel's mean is multiplied by 1 - lower to 1 + upper."""

    def __init__(
        self, factor: Any, value_range: Any = (0, 255), seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(seed, **kwargs)
        both = (factor, factor) if isinstance(factor, (int, float)) else factor
        self.factor = limits(self, "factor", both, 0.0, 1.0)
        self.value_range = limits(self, "value_range", value_range)

    @property
    def operator(self) -> Op:
        factor = (1 - self.factor[0], 1 + self.factor[1])
        return Contrast(self.axes, factor, self.value_range, self.seed)


class RandomBrightness(RandomLayer):
    """Images plus up to `factor` (a number: either way) of the difference of `value_range`, cut to that range."""

    def __init__(
        self, factor: Any, value_range: Any = (0, 255), seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(seed, **kwargs)
        self.factor = around(self, "factor", factor)
        self.value_range = limits(self, "value_range", value_range)

    @property
    def operator(self) -> Op:
        return Brightness(self.axes, self.factor, self.value_range, self.seed)


class RandomCrop(RandomLayer):
    """A window of a batch's images, drawn once for all of them.

    At inference, and where images are no larger, the largest part in the middle that has its shape, at its size.
    """

    moves = True

    def __init__(
        self,
        height: int,
        width: int,
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed, data_format, **kwargs)
        self.size = (positive(self, "height", height), positive(self, "width", width))

    @property
    def operator(self) -> Op:
        return Crop(self.axes, self.seed)

    def call(self, inputs: Any, training: Any = None) -> Any:
        x = self.images(inputs)
        settled = self.resized(self.middle(x, self.size), self.size)
        (height, width), (high, wide) = self.sides(x), self.size
        if training is False or height <= high or width <= wide:
            return settled
        return apply(self.operator, x, settled)

    def draws(self, images: NDArray[Any]) -> Any:
        """The window's first row and column; None for images that are no larger."""
        height, width = (images.shape[a] for a in self.axes)
        high, wide = self.size
        if height <= high or width <= wide:
            return None
        random = np.random.default_rng(super().draws(images))
        return int(random.integers(height - high + 1)), int(random.integers(width - wide + 1))

    def changed_images(self, images: NDArray[Any], drawn: Any) -> NDArray[Any]:
        if drawn is None:
            return self._settled(images)
        part: list[Any] = [slice(None)] * 4
        for a, start, size in zip(self.axes, drawn, self.size, strict=True):
            part[a] = slice(start, start + size)
        return np.ascontiguousarray(images[tuple(part)], self.dtype.numpy)

    def changed_masks(self, masks: NDArray[Any], drawn: Any) -> NDArray[Any]:
        if drawn is not None:
            return self.changed_images(masks, drawn)
        x = as_tensor(masks.astype(self.dtype.numpy))
        return np.asarray(self.resized(self.middle(x, self.size), self.size, "nearest"))

    def changed_boxes(self, corners: NDArray[Any], drawn: Any, sides: Sides) -> NDArray[Any]:
        if drawn is not None:
            return bounding_boxes.in_part(corners, drawn, self.size, self.size)
        (height, width), (high, wide) = sides, self.size
        part = max(min(height, width * high // wide), 1), max(min(width, height * wide // high), 1)
        start = ((height - part[0]) // 2, (width - part[1]) // 2)
        return bounding_boxes.in_part(corners, start, part, self.size)

    def _settled(self, batch: NDArray[Any]) -> NDArray[Any]:
        x = as_tensor(batch.astype(self.dtype.numpy, copy=False))
        return np.asarray(evaluate(self.call(x, training=False).step))


def around(layer: RandomLayer, argument: str, factor: Any) -> Range:
    """(-factor, factor) for a number, both bounds for two; each from -1 to 1."""
    if isinstance(factor, (int, float)) and not isinstance(factor, bool):
        factor = (-abs(factor), abs(factor))
    return limits(layer, argument, factor, -1.0, 1.0)


def either_way(layer: RandomLayer, argument: str, factor: Any) -> Range:
    """(-factor, factor) for a number from 0 to 1, both bounds for two."""
    if isinstance(factor, (int, float)) and not isinstance(factor, bool):
        _, high = limits(layer, argument, (0.0, factor), 0.0, 1.0)
        return -high, high
    return limits(layer, argument, factor, -1.0, 1.0)


def limits(
    layer: RandomLayer,
    argument: str,
    value: Any,
    least: float | None = None,
    most: float | None = None,
) -> Range:
    """Two numbers in order, from `least` to `most`."""
    bounds = "" if least is None else f" from {least:g} to {most:g}"
    expected = f"a number or two numbers{bounds}" if least is not None else "two numbers"
    numbers = isinstance(value, (tuple, list)) and len(value) == 2
    if not numbers or not all(isinstance(v, (int, float)) for v in value):
        refuse(layer, argument, expected, value)
    low, high = sorted(float(v) for v in value)
    if argument == "factor" and isinstance(layer, RandomContrast):
        low, high = float(value[0]), float(value[1])
    if (least is not None and min(low, high) < least) or (
        most is not None and max(low, high) > most
    ):
        refuse(layer, argument, expected, value)
    return low, high
