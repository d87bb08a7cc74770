"""Keras 2's `K.conv2d`, `K.batch_dot` and the like, and the layers that only Keras 2 has, against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from convc import keras
from convc.errors import ModelError
from convc.keras import backend as K  # noqa: N812 - as scripts call it
from convc.keras import layers
from tests.keras.running import run_layer

RANDOM = np.random.default_rng(6)


def floats(*shape: int) -> Any:
    return RANDOM.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("left", "right", "axes", "wanted"),
    [
        ((5, 3, 4), (5, 4, 6), None, "nab,nbc->nac"),
        ((5, 4), (5, 4), None, "na,na->n"),
        ((5, 3, 4), (5, 4), (2, 1), "nab,nb->na"),
        ((5, 3, 4), (5, 2, 6, 4), (2, 3), "nab,ncdb->nacd"),
        ((5, 3, 4), (5, 6, 4), 2, "nab,ncb->nac"),
        ((5, 3, 2), (5, 3, 4), (1, -2), "nab,nac->nbc"),
    ],
)
def test_batch_dot(left: Any, right: Any, axes: Any, wanted: str) -> None:
    x, y = floats(*left), floats(*right)
    expected = np.einsum(wanted, x, y)
    expected = expected[:, None] if expected.ndim == 1 else expected
    np.testing.assert_allclose(K.eval(K.batch_dot(x, y, axes)), expected, rtol=1e-5, atol=1e-6)


def test_batch_dot_names_axes_that_dont_fit() -> None:
    with pytest.raises(ModelError, match=r"batch_dot: axes \(1, 1\) must have equal sizes"):
        K.batch_dot(floats(2, 3), floats(2, 4), 1)


def test_dot_of_tensors_of_rank_3() -> None:
    x, y = floats(2, 3), floats(4, 3, 5)
    np.testing.assert_allclose(K.eval(K.dot(x, y)), np.einsum("ab,cbd->acd", x, y), rtol=1e-5)


def windows(x: Any, size: Any, stride: Any) -> Any:
    """(batch, rows, columns, size, size, channels)."""
    found = np.lib.stride_tricks.sliding_window_view(x, size, (1, 2))
    return found[:, :: stride[0], :: stride[1]].transpose(0, 1, 2, 4, 5, 3)


def test_convolutions_and_pools() -> None:
    x, kernel = floats(2, 8, 9, 3), floats(3, 3, 3, 5)
    tiles = windows(x, (3, 3), (2, 1))
    wanted = np.einsum("nrcijk,ijkf->nrcf", tiles, kernel)
    np.testing.assert_allclose(
        K.eval(K.conv2d(x, kernel, strides=(2, 1))), wanted, rtol=1e-4, atol=1e-5
    )
    depthwise = floats(3, 3, 3, 2)
    middle = np.einsum("nrcijk,ijkm->nrckm", tiles[:, :, ::2], depthwise).reshape(2, 3, 4, 6)
    found = K.eval(K.depthwise_conv2d(x, depthwise, strides=(2, 2)))
    np.testing.assert_allclose(found, middle, rtol=1e-4, atol=1e-5)
    pooled = K.eval(K.pool2d(x, (3, 3), (2, 1)))
    np.testing.assert_array_equal(pooled, tiles.max((3, 4)))
    mean = K.eval(K.pool2d(x, (3, 3), (2, 1), pool_mode="avg"))
    np.testing.assert_allclose(mean, tiles.mean((3, 4)), rtol=1e-5, atol=1e-6)
    steps, weights = floats(2, 7, 3), floats(2, 3, 4)
    before = np.pad(steps, ((0, 0), (2, 0), (0, 0)))
    causal = np.einsum("nsc,cf->nsf", before[:, :-2], weights[0]) + steps @ weights[1]
    found = K.eval(K.conv1d(steps, weights, padding="causal", dilation_rate=2))
    np.testing.assert_allclose(found, causal, rtol=1e-4, atol=1e-5)


def test_borders_and_sizes() -> None:
    x = floats(2, 3, 4, 2)
    padded = np.pad(x, ((0, 0), (1, 0), (2, 3), (0, 0)))
    np.testing.assert_array_equal(K.eval(K.spatial_2d_padding(x, ((1, 0), (2, 3)))), padded)
    larger = x.repeat(2, 1).repeat(3, 2)
    np.testing.assert_array_equal(K.eval(K.resize_images(x, 2, 3, "channels_last")), larger)
    np.testing.assert_array_equal(
        K.eval(K.slice(x, [0, 1, 0, 1], [-1, 2, 2, 1])), x[:, 1:3, :2, 1:2]
    )
    bias = floats(2)
    found = K.eval(K.bias_add(x.transpose(0, 3, 1, 2), bias, "channels_first"))
    np.testing.assert_array_equal(found, (x + bias).transpose(0, 3, 1, 2))


def test_random_numbers() -> None:
    drawn = K.eval(K.random_normal((4000,), 2.0, 0.5))
    assert abs(drawn.mean() - 2) < 0.05
    assert abs(drawn.std() - 0.5) < 0.05
    ones = K.eval(K.random_binomial((4000,), 0.25))
    assert set(np.unique(ones)) == {0, 1}
    assert abs(ones.mean() - 0.25) < 0.05
    kept = K.random_uniform_variable((50,), 1.0, 2.0)
    assert kept.numpy().min() >= 1
    assert np.array_equal(kept.numpy(), kept.numpy())


@pytest.mark.parametrize("stride", [1, 2])
def test_locally_connected_1d(stride: int) -> None:
    layer = layers.LocallyConnected1D(4, 3, strides=stride, bias_initializer="normal")
    x = floats(2, 8, 3)
    found = run_layer(layer, x)
    kernel, bias = (w.numpy() for w in layer.weights)
    tiles = np.stack([x[:, k : k + 3].reshape(2, 9) for k in range(0, 6, stride)], 1)
    assert kernel.shape == (tiles.shape[1], 9, 4)
    wanted = np.einsum("nsk,skf->nsf", tiles, kernel) + bias
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_locally_connected_2d() -> None:
    layer = layers.LocallyConnected2D(
        4, (3, 2), strides=(2, 1), activation="relu", bias_initializer="normal"
    )
    x = floats(2, 7, 5, 3)
    found = run_layer(layer, x)
    kernel, bias = (w.numpy() for w in layer.weights)
    tiles = windows(x, (3, 2), (2, 1)).reshape(2, 12, 18)
    assert kernel.shape == (12, 18, 4)
    wanted = np.einsum("npk,pkf->npf", tiles, kernel).reshape(2, 3, 4, 4) + bias
    np.testing.assert_allclose(found, np.maximum(wanted, 0), rtol=1e-4, atol=1e-5)


def test_locally_connected_refuses_other_borders() -> None:
    with pytest.raises(ModelError, match="padding must be 'valid'; received 'same'"):
        layers.LocallyConnected2D(4, 3, padding="same")


def test_layers_take_weights() -> None:
    table, kernel, bias = floats(5, 2), floats(2, 3), floats(3)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Embedding(5, 2, weights=[table], trainable=False),
            layers.Dense(3, weights=[kernel, bias]),
        ]
    )
    x = RANDOM.integers(0, 5, (3, 4))
    np.testing.assert_allclose(
        model.predict(x, verbose=0), table[x] @ kernel + bias, rtol=1e-5, atol=1e-6
    )
    assert "weights" not in model.layers[0].get_config()
    with pytest.raises(ModelError, match="shape"):
        keras.Sequential([keras.Input((4,)), layers.Embedding(5, 2, weights=[kernel])])
