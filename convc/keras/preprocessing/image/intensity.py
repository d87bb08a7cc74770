"""Changes of colour and brightness, and standardization, of batches."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convc.errors import DataError

Array = NDArray[Any]


def channel_shifted(images: Array, intensity: Array) -> Array:
    """images[n, …] + intensity[n], clipped to each image's own least and largest value."""
    each = tuple(range(1, images.ndim))
    low, high = images.min(each, keepdims=True), images.max(each, keepdims=True)
    moved = images + _per_image(intensity, images)
    return np.clip(moved, low, high, out=moved)


def brightened(images: Array, factor: Array, channel_axis: int, scale: bool = False) -> Array:
    """images[n, …] times factor[n], as bytes, as Keras does it through Pillow's ImageEnhance.Brightness.

    Values are cut to whole numbers from 0 to 255 before and after. Images with values outside of that range are
    scaled to it first and back afterwards; with `scale` all are, and not back. A fourth channel (alpha) stays.
    """
    channels = images.shape[channel_axis]
    if channels not in (1, 3, 4):
        raise DataError(f"brightness: expected images of 1, 3 or 4 channels; received {channels}")
    each = tuple(range(1, images.ndim))
    low, high = images.min(each, keepdims=True), images.max(each, keepdims=True)
    beyond = (low < 0) | (high > 255)
    shifted = images - low
    widest = shifted.max(each, keepdims=True)
    scaled = shifted / np.where(widest == 0, 1, widest) * 255
    whole = np.floor(np.where(beyond | scale, scaled, images)).astype(np.float32)
    lit = np.floor(np.clip(whole * _per_image(factor.astype(np.float32), images), 0, 255))
    if channels == 4:
        alpha: list[Any] = [slice(None)] * images.ndim
        alpha[channel_axis] = 3
        lit[tuple(alpha)] = whole[tuple(alpha)]
    back = lit / 255 * (high - low) + low
    return np.where(beyond & (not scale), back, lit).astype(images.dtype)


def _per_image(values: Array, images: Array) -> Array:
    return values.astype(images.dtype).reshape(-1, *[1] * (images.ndim - 1))


@dataclass
class Standardization:
    """The steps of `ImageDataGenerator.standardize` after a preprocessing function, and what `fit` measured."""

    rescale: float | None = None
    samplewise_center: bool = False
    samplewise_std: bool = False
    featurewise_center: bool = False
    featurewise_std: bool = False
    zca_whitening: bool = False
    zca_epsilon: float = 1e-6
    mean: Array | None = None
    std: Array | None = None
    whitening: Array | None = None

    def apply(self, x: Array, each: tuple[int, ...] | None) -> Array:
        """Standardizes floats in place and returns them. `each` are the axes of one sample (None: all)."""
        if self.rescale:
            x *= self.rescale
        if self.samplewise_center:
            x -= x.mean(axis=each, keepdims=True)
        if self.samplewise_std:
            x /= x.std(axis=each, keepdims=True) + 1e-6
        if self.featurewise_center and self._fitted("featurewise_center", self.mean):
            x -= self.mean
        if self.featurewise_std and self._fitted("featurewise_std_normalization", self.std):
            x /= self.std + 1e-6  # type: ignore[operator]
        if self.zca_whitening and self._fitted("zca_whitening", self.whitening):
            assert self.whitening is not None
            x = (x.reshape(-1, self.whitening.shape[0]) @ self.whitening).reshape(x.shape)
        return x

    def fit(self, x: Array, axes: tuple[int, int, int]) -> None:
        """Measures floats [n, …], which it changes; `axes` are those of the batch, rows and columns."""
        if self.featurewise_center:
            self.mean = x.mean(axis=axes, keepdims=True)[0]
            x -= self.mean
        if self.featurewise_std:
            self.std = x.std(axis=axes, keepdims=True)[0]
            x /= self.std + 1e-6
        if self.zca_whitening:
            flat = x.reshape(len(x), -1)
            u, s, _ = np.linalg.svd(flat.T, full_matrices=False)
            self.whitening = (u * (np.sqrt(len(x)) / (s + self.zca_epsilon))) @ u.T

    @staticmethod
    def _fitted(what: str, measured: Array | None) -> bool:
        if measured is None:
            warnings.warn(
                f"This ImageDataGenerator specifies `{what}`, but it hasn't been fit on any training data. "
                "Fit it first by calling `.fit(numpy_data)`.",
                stacklevel=4,
            )
        return measured is not None
