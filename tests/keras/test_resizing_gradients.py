"""Gradients of resizing, by every method: it is linear, so one difference quotient is exact."""

from __future__ import annotations

import numpy as np
import pytest

from convc.keras import ops
from convc.keras.training.eager import GradientTape

R = np.random.default_rng(0)
METHODS = [
    *(
        (m, a)
        for m in ("bilinear", "bicubic", "lanczos3", "lanczos5", "area")
        for a in (False, True)
    ),
    ("nearest", False),
]


@pytest.mark.parametrize(("method", "antialias"), METHODS)
@pytest.mark.parametrize("size", [(5, 7), (12, 9), (3, 4)])
def test_gradient_of_resizing(method: str, antialias: bool, size: tuple[int, int]) -> None:
    x, direction = R.normal(size=(2, 2, 8, 6, 3))
    weights = R.normal(size=(2, *size, 3))

    def total(images: object) -> object:
        return ops.sum(ops.image.resize(images, size, method, antialias) * weights)

    with GradientTape() as tape:
        images = ops.convert_to_tensor(x)
        tape.watch(images)
        loss = total(images)
    gradient = np.asarray(tape.gradient(loss, images))
    assert gradient.dtype == np.float64
    steep = np.asarray(total(x + direction)) - np.asarray(total(x - direction))
    np.testing.assert_allclose(np.sum(gradient * direction), steep / 2, 1e-10)
