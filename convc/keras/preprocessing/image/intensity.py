"""Standardization of batches."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


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
            # Python's root: numpy's is float64, which all that follows would become.
            self.whitening = (u * (math.sqrt(len(x)) / (s + self.zca_epsilon))) @ u.T

    @staticmethod
    def _fitted(what: str, measured: Array | None) -> bool:
        if measured is None:
            warnings.warn(
                f"This ImageDataGenerator specifies `{what}`, but it hasn't been fit on any training data. "
                "Fit it first by calling `.fit(numpy_data)`.",
                stacklevel=4,
            )
        return measured is not None
