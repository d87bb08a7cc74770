"""The weights by which rows of pixels become longer or shorter ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.float64]


def _triangle(x: Weights) -> Weights:
    return np.maximum(0.0, 1.0 - np.abs(x))


def _cubic(x: Weights) -> Weights:
    """Keys' cubic convolution with a = -1/2 (IEEE Trans. ASSP 29, 1981)."""
    x = np.abs(x)
    near, far = (1.5 * x - 2.5) * x * x + 1.0, ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _lanczos(radius: int) -> Callable[[Weights], Weights]:
    def kernel(x: Weights) -> Weights:
        return np.where(np.abs(x) < radius, np.sinc(x) * np.sinc(x / radius), 0.0)

    return kernel


KERNELS = {
    "bilinear": _triangle, "bicubic": _cubic, "lanczos3": _lanczos(3), "lanczos5": _lanczos(5),
}  # fmt: skip


def resampling(size: int, target: int, method: str, antialias: bool) -> Weights:
    """The weights (target, size) by which a row of pixels becomes a longer or shorter one.

    Pixel centres are at halves, and weights outside of the image are shared out among those inside. With antialias a
    shrinking kernel is as wide as the pixels that it makes. "area" takes means of what each new pixel covers.
    """
    ratio = size / target
    if method == "area":
        edges = np.arange(target + 1) * ratio
        cells = np.arange(size)
        upper = np.minimum(edges[1:, None], cells + 1)
        covered = np.maximum(upper - np.maximum(edges[:-1, None], cells), 0.0)
        return np.asarray(covered / ratio, np.float64)
    scale = max(ratio, 1.0) if antialias else 1.0
    centres = (np.arange(target) + 0.5) * ratio - 0.5
    distances = np.asarray((centres[:, None] - np.arange(size)) / scale, np.float64)
    weights = KERNELS[method](distances)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))
