"""Layers that change the colours of images, or hide parts of them, at random in training.

Each image of a batch is changed by itself. Called on arrays (not on tensors of a model), they change them at once, in
a compiled kernel, unless `training=False`, as Keras' do.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from convc import driver
from convc.errors import ModelError
from convc.keras import ops, random
from convc.keras.engine.arguments import fraction, is_integer, positive, refuse, title
from convc.keras.engine.call import collecting_losses
from convc.keras.engine.graphs import graph_of_variables
from convc.keras.engine.input import Input
from convc.keras.engine.naming import entered
from convc.keras.engine.phase import training_phase
from convc.keras.engine.tensor import KerasTensor, Operators, as_tensor
from convc.keras.layers.preprocessing import ImageLayer, known
from convc.keras.layers.preprocessing_random import RandomBrightness, RandomContrast
from convc.keras.utils.elements import as_values

_compiling = threading.Lock()
_compiled: WeakKeyDictionary[Any, dict[Any, tuple[Callable[..., Any], bool]]] = WeakKeyDictionary()
"""By layer: the changes of arrays by their dtype and size."""
Range = tuple[float, float]
BYTES: Range = (0.0, 255.0)


class ColourLayer(ImageLayer):
    """Base of the layers: subclasses define `changed(x)` for images (batch, rows, columns, channels).

    Those that work on arrays at once (`in_arrays`) or do the same to masks define what ImageLayer asks for.
    """

    traced_in_training = True
    """Steps with it are traced from Python: at inference it isn't there."""
    in_arrays = False
    """Whether arrays are changed by `changed_sample`."""

    def __init__(
        self,
        value_range: Any = (0, 255),
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format, **kwargs)
        if seed is not None and not is_integer(seed):
            refuse(self, "seed", "an integer or None", seed)
        self.seed = None if seed is None else int(seed)
        self.value_range = bounds(self, "value_range", value_range, None)
        self.generator = random.SeedGenerator(self.seed)
        self._calls = 0

    def changed(self, x: KerasTensor) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no changed()")

    def call(self, inputs: Any, training: Any = None) -> Any:
        x = self.images(inputs)
        return self.in_format(self.changed, x) if training else x

    def in_format(self, function: Callable[[KerasTensor], Any], x: KerasTensor) -> Any:
        """What a function for images with their channels last makes of images as they come."""
        if self.data_format == "channels_first":
            return ops.transpose(function(ops.transpose(x, (0, 2, 3, 1))), (0, 3, 1, 2))
        return function(x)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        given = args[0] if args else kwargs.pop("inputs")
        if isinstance(given, Mapping) and known(given):
            return self.sample(given, kwargs.get("training", True))
        if isinstance(given, Mapping) or not known(given):
            return super().__call__(given, *args[1:], **kwargs)
        training = args[1] if len(args) > 1 else kwargs.get("training", True)
        if training or self.at_inference or self.in_arrays:
            return self._changed_array(given, training)
        x = as_tensor(given, self.dtype.value)
        batch = x if x.ndim == 4 else ops.expand_dims(x, 0)
        found = as_tensor(self.call(batch, training=training))
        found = found if x.ndim == 4 else found[0]
        return found if isinstance(given, KerasTensor) else as_values(np.asarray(found))

    def _changed_array(self, given: Any, training: Any) -> Any:
        images = np.asarray(given)
        batch = images if images.ndim == 4 else images[None]
        if not self.in_arrays:
            batch = self._computed(batch)
        elif training is not False:
            batch = self.changed_sample({"images": batch})["images"]
        batch = batch.astype(self.dtype.numpy, copy=False)
        found = batch if images.ndim == 4 else batch[0]
        return as_tensor(found) if isinstance(given, Operators) else as_values(found)

    def _computed(self, images: NDArray[Any]) -> NDArray[Any]:
        """A batch as training has it, by a kernel that is compiled when a size of image is first met."""
        if images.ndim != 4:
            raise ModelError(
                f"{title(self)}: expected images of rank 3 or 4; received shape {images.shape}"
            )
        if images.dtype != np.uint8:
            images = images.astype(self.dtype.numpy, copy=False)
        with _compiling:
            known_ones = _compiled.setdefault(self, {})
            key = (images.dtype.name, images.shape[1:])
            if key not in known_ones:
                known_ones[key] = self._traced(*key)
            native, draws = known_ones[key]
            seed = np.array([0, self._calls], np.uint32)
            self._calls += 1
        return np.asarray(native(images, seed) if draws else native(images))

    def _traced(self, dtype: str, shape: tuple[int, ...]) -> tuple[Callable[..., Any], bool]:
        """The compiled change of batches of such images, and whether it takes a seed."""
        x = Input(shape, dtype=dtype)
        with collecting_losses(), entered("augment"), training_phase(True):
            found = self.call(x, training=True)
        graph, _ = graph_of_variables("augment", [("images", x)], [found])
        return driver.compile(graph, threads=1).model, len(graph.inputs) > 1

    # What subclasses draw and compute with.

    def drawn(self, x: KerasTensor, low: float = 0.0, high: float = 1.0) -> Any:
        """A number for each image, (batch, 1, 1, 1)."""
        return random.uniform((ops.shape(x)[0], 1, 1, 1), low, high, seed=self.generator)

    def chosen(self, x: KerasTensor, share: Range) -> Any:
        """Whether each image is changed: with a probability drawn from a range."""
        return self.drawn(x) < self.drawn(x, *share)

    def scaled(self, x: Any, before: Range, after: Range) -> Any:
        """Values of one range as those of another."""
        if before == after:
            return x
        factor = (after[1] - after[0]) / (before[1] - before[0])
        return (x - before[0]) * factor + after[0]

    def within(self, x: Any) -> Any:
        """Values cut to the range."""
        return ops.clip(x, *self.value_range)


def bounds(
    layer: ImageLayer, name: str, value: Any, most: float | None, least: float = 0.0
) -> Range:
    """Two numbers in order; for one number from `least` to it. With `most` they are between `least` and it."""
    numbers = value if isinstance(value, (tuple, list)) else (least, value)
    real = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in numbers)
    if len(numbers) != 2 or not real:
        refuse(layer, name, "a number or two numbers", value)
    low, high = sorted(float(v) for v in numbers)
    if most is not None and not least <= low <= high <= most:
        refuse(layer, name, f"a number or two numbers from {least:g} to {most:g}", value)
    return low, high


class RandomGrayscale(ColourLayer):
    """Images without colours, each with the probability `factor`."""

    def __init__(
        self,
        factor: float = 0.5,
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(BYTES, seed, data_format, **kwargs)
        self.factor = fraction(title(self), "factor", factor)

    def changed(self, x: KerasTensor) -> Any:
        return ops.where(
            self.drawn(x) < self.factor, ops.image.rgb_to_grayscale(x, "channels_last"), x
        )


class FactorLayer(ColourLayer):
    """Base of those with a `factor` from 0 to 1: two bounds, or the upper one."""

    def __init__(
        self,
        factor: Any = 1.0,
        value_range: Any = (0, 255),
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(value_range, seed, data_format, **kwargs)
        several = isinstance(factor, (tuple, list))
        self.factor = bounds(self, "factor", factor, 1.0, self.least if several else 0.0)

    least: ClassVar[float] = 0.0
    """The smallest lower bound: Keras' files have -factor for layers that it doesn't check."""

    def amount(self, x: KerasTensor) -> Any:
        return self.drawn(x, *self.factor)


class RandomColorDegeneration(FactorLayer):
    """Images nearer to gray by a share that is drawn from `factor`."""

    least = -1.0

    def changed(self, x: KerasTensor) -> Any:
        gray = ops.image.rgb_to_grayscale(x, "channels_last")
        return self.within(x + self.amount(x) * (gray - x))


class RandomHue(FactorLayer):
    """Images whose hue is turned by up to half of `factor` of the circle, either way."""

    def changed(self, x: KerasTensor) -> Any:
        unit = (0.0, 1.0)
        turn = ops.where(self.drawn(x) > 0.5, -0.5, 0.5) * self.amount(x)
        parts = ops.image.rgb_to_hsv(self.scaled(x, self.value_range, unit), "channels_last")
        hue, saturation, value = ops.split(parts, 3, axis=-1)
        turned = ops.concatenate([ops.mod(hue + turn, 1.0), saturation, value], axis=-1)
        colours = ops.clip(ops.image.hsv_to_rgb(turned, "channels_last"), 0.0, 1.0)
        return self.scaled(colours, unit, self.value_range)


class RandomSaturation(FactorLayer):
    """Images whose saturation is multiplied by f / (1 - f), for f drawn from `factor`: 0.5 changes nothing."""

    least = -1.0

    def changed(self, x: KerasTensor) -> Any:
        share = self.amount(x)
        unit = (0.0, 1.0)
        parts = ops.image.rgb_to_hsv(self.scaled(x, self.value_range, unit), "channels_last")
        hue, saturation, value = ops.split(parts, 3, axis=-1)
        more = ops.clip(saturation * (share / (1.0 - share + 1e-7)), 0.0, 1.0)
        colours = ops.image.hsv_to_rgb(ops.concatenate([hue, more, value], -1), "channels_last")
        return self.scaled(colours, unit, self.value_range)


class RandomSharpness(FactorLayer):
    """Images between smoothed ones (0) and ones twice as sharp (1); 0.5 changes nothing."""

    def changed(self, x: KerasTensor) -> Any:
        weights = np.full((3, 3, 1, 1), 1 / 13, x.type.dtype.numpy)
        weights[1, 1] = 5 / 13
        kernel = np.tile(weights, (1, 1, int(x.shape[-1] or 1), 1))
        smooth = ops.depthwise_conv(x, kernel, padding="same", data_format="channels_last")
        return self.within(x + (1.0 - 2.0 * self.amount(x)) * (smooth - x))


class RandomInvert(FactorLayer):
    """Images subtracted from the largest value, each with a probability drawn from `factor`."""

    def changed(self, x: KerasTensor) -> Any:
        return ops.where(self.chosen(x, self.factor), self.value_range[1] - x, x)


class RandomPosterization(ColourLayer):
    """Images whose colours have `factor` bits, from 1 to 8: a number, or two bounds."""

    def __init__(
        self,
        factor: Any,
        value_range: Any = (0, 255),
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(value_range, seed, data_format, **kwargs)
        both = (factor, factor) if is_integer(factor) else factor
        low, high = bounds(self, "factor", both, 8.0, 1.0)
        self.factor = int(low), int(high)

    def changed(self, x: KerasTensor) -> Any:
        low, high = self.factor
        bits = ops.floor(self.drawn(x, low, high)) if low < high else low
        step = 2.0 ** (8.0 - as_tensor(bits, x.dtype))
        levels = ops.floor(self.scaled(x, self.value_range, BYTES))
        return self.scaled(ops.floor(levels / step) * step, BYTES, self.value_range)


class RandomGaussianBlur(FactorLayer):
    """Images convolved with a Gaussian, each with a probability drawn from `factor`.

    `sigma`, drawn once per step and direction, is the Gaussian's width in pixels: two bounds, or the upper one.
    """

    def __init__(
        self,
        factor: Any = 1.0,
        kernel_size: Any = 3,
        sigma: Any = 1.0,
        value_range: Any = (0, 255),
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(factor, value_range, data_format, seed, **kwargs)
        sizes = (kernel_size, kernel_size) if is_integer(kernel_size) else tuple(kernel_size)
        self.kernel_size = tuple(positive(self, "kernel_size", s) for s in sizes)
        self.sigma = bounds(self, "sigma", sigma, None)

    def changed(self, x: KerasTensor) -> Any:
        widths = random.uniform((2,), *self.sigma, seed=self.generator) + 1e-6
        blurred = ops.image.gaussian_blur(x, self.kernel_size, widths, "channels_last")
        return self.within(ops.where(self.chosen(x, self.factor), blurred, x))


class RandomErasing(FactorLayer):
    """Images of which a rectangle is hidden, each with a probability drawn from `factor`.

    The rectangle's sides are roots of shares of the image's, drawn from `scale`. It shows `fill_value` (a number, or
    one for each channel), or noise.
    """

    def __init__(
        self,
        factor: Any = 1.0,
        scale: Any = (0.02, 0.33),
        fill_value: Any = None,
        value_range: Any = (0, 255),
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(factor, value_range, data_format, seed, **kwargs)
        self.scale = bounds(self, "scale", scale, 1.0)
        self.fill_value = fill_value

    def changed(self, x: KerasTensor) -> Any:
        inside = ops.logical_and(self.strip(x, 1), self.strip(x, 2))
        hidden = ops.logical_and(inside, self.chosen(x, self.factor))
        fill: Any = self.fill_value
        if fill is None:
            fill = random.normal(ops.shape(x), seed=self.generator) * self.value_range[1]
        fill = self.within(as_tensor(fill, x.dtype))
        return ops.where(hidden, fill, x)

    def strip(self, x: KerasTensor, axis: int) -> Any:
        """Which rows (or columns) are in a part of the image at a random place in it."""
        size = int(x.shape[axis])  # type: ignore[arg-type]
        extent = size * ops.sqrt(self.drawn(x, *self.scale))
        start = self.drawn(x) * (size - extent)
        shape = [1] * 4
        shape[axis] = size
        at = np.arange(size, dtype=x.type.dtype.numpy).reshape(shape)
        return ops.logical_and(at >= start, at < start + extent)


class Solarization(ColourLayer):
    """Images plus a drawn number, of which what isn't below a drawn threshold is inverted; factors are from 0 to 1."""

    def __init__(
        self,
        addition_factor: Any = 0.0,
        threshold_factor: Any = 0.0,
        value_range: Any = (0, 255),
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(value_range, seed, **kwargs)
        self.addition_factor = bounds(self, "addition_factor", addition_factor, 1.0)
        self.threshold_factor = bounds(self, "threshold_factor", threshold_factor, 1.0)

    def changed(self, x: KerasTensor) -> Any:
        added = self.drawn(x, self.addition_factor[0], self.addition_factor[1] * 255)
        limit = self.drawn(x, self.threshold_factor[0], self.threshold_factor[1] * 255)
        levels = ops.clip(self.scaled(x, self.value_range, BYTES) + added, *BYTES)
        found = ops.where(levels < limit, levels, 255.0 - levels)
        return self.scaled(found, BYTES, self.value_range)


class AutoContrast(ColourLayer):
    """Images whose channels reach from the least to the largest value, in training and at inference."""

    at_inference = True
    traced_in_training = False

    def __init__(self, value_range: Any = (0, 255), **kwargs: Any) -> None:
        super().__init__(value_range, **kwargs)

    def call(self, inputs: Any, training: Any = None) -> Any:
        x = self.images(inputs)
        low = ops.min(x, axis=self.axes, keepdims=True)
        high = ops.max(x, axis=self.axes, keepdims=True)
        full = self.value_range[1] - self.value_range[0]
        stretched = (x - low) * ops.divide_no_nan(full, high - low) + self.value_range[0]
        return ops.where(high > low, stretched, x)


class RandomColorJitter(ColourLayer):
    """RandomBrightness, RandomContrast, RandomSaturation and RandomHue, those of which a factor is given."""

    traced_in_training = False

    def __init__(
        self,
        value_range: Any = (0, 255),
        brightness_factor: Any = None,
        contrast_factor: Any = None,
        saturation_factor: Any = None,
        hue_factor: Any = None,
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(value_range, seed, data_format, **kwargs)
        self.brightness_factor, self.contrast_factor = brightness_factor, contrast_factor
        self.saturation_factor, self.hue_factor = saturation_factor, hue_factor
        common: dict[str, Any] = {"value_range": self.value_range, "seed": seed}
        kinds = (
            (RandomBrightness, brightness_factor),
            (RandomContrast, contrast_factor),
            (RandomSaturation, saturation_factor),
            (RandomHue, hue_factor),
        )
        self.parts = [
            kind(factor, data_format=data_format, **common)
            for kind, factor in kinds
            if factor is not None
        ]

    def call(self, inputs: Any, training: Any = None) -> Any:
        x = self.images(inputs)
        for part in self.parts:
            x = part(x, training=training)
        return x


__all__ = [
    "AutoContrast", "RandomColorDegeneration", "RandomColorJitter", "RandomErasing", "RandomGaussianBlur",
    "RandomGrayscale", "RandomHue", "RandomInvert", "RandomPosterization", "RandomSaturation", "RandomSharpness",
    "Solarization",
]  # fmt: skip
