"""Training of three-dimensional convolutions: on volumes of one slice they are the two-dimensional ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from convc import keras
from convc.keras import layers


def losses(model: Any, x: Any, y: Any) -> list[float]:
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    return [float(model.train_on_batch(x, y)) for _ in range(4)]


def test_volumes_of_one_slice_train_as_images_do() -> None:
    flat = keras.Sequential([
        keras.Input((7, 6, 2)),
        layers.Conv2D(4, 3, strides=2, padding="same", activation="tanh"),
        layers.Conv2D(6, 2, groups=2),
        layers.Flatten(),
    ])  # fmt: skip
    deep = keras.Sequential([
        keras.Input((1, 7, 6, 2)),
        layers.Conv3D(4, (1, 3, 3), strides=(1, 2, 2), padding="same", activation="tanh"),
        layers.Conv3D(6, (1, 2, 2), groups=2),
        layers.Flatten(),
    ])  # fmt: skip
    weights = flat.get_weights()
    deep.set_weights([w[None] if w.ndim == 4 else w for w in weights])
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5, 7, 6, 2)).astype(np.float32)
    y = rng.normal(size=(5, *flat.output_shape[1:])).astype(np.float32)
    expected = losses(flat, x, y)
    assert expected[-1] < expected[0]
    np.testing.assert_allclose(losses(deep, x[:, None], y), expected, rtol=1e-5)
    for found, wanted in zip(deep.get_weights(), flat.get_weights(), strict=True):
        np.testing.assert_allclose(found.reshape(wanted.shape), wanted, atol=1e-5)
