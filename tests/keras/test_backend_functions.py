"""Keras 2's `K.*`: on arrays, and in losses that are traced into a training step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from convc import keras
from convc.errors import ModelError, UnsupportedError
from convc.keras import backend as K  # noqa: N812 - as scripts call it
from convc.keras import layers

X = np.array([[0.5, -2.0, 3.0], [4.0, 1.0, -1.5]], np.float32)


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (lambda: K.mean(X, axis=-1), X.mean(-1)),
        (lambda: K.sum(K.square(X)), np.sum(X**2)),
        (lambda: K.sqrt(X), np.sqrt(np.maximum(X, 0))),
        (lambda: K.clip(X, 0, 1), np.clip(X, 0, 1)),
        (lambda: K.pow(X, 3), X**3),
        (lambda: K.flatten(X), X.ravel()),
        (lambda: K.batch_flatten(X[:, :, None]), X),
        (lambda: K.dot(X, X.T), X @ X.T),
        (lambda: K.permute_dimensions(X, (1, 0)), X.T),
        (lambda: K.argmax(X), X.argmax(-1)),
        (lambda: K.cast(K.greater(X, 0), "float32"), (X > 0).astype(np.float32)),
        (lambda: K.expand_dims(X), X[..., None]),
        (lambda: K.concatenate([X, X]), np.concatenate([X, X], -1)),
        (lambda: K.l2_normalize(X, axis=1), X / np.linalg.norm(X, axis=1, keepdims=True)),
        (lambda: K.switch(X > 1, X, K.zeros_like(X)), np.where(X > 1, X, 0)),
        (lambda: K.relu(X, alpha=0.1, max_value=2.0), np.clip(np.where(X < 0, 0.1 * X, X), None, 2)),
        (lambda: K.repeat_elements(X, 2, 0), X.repeat(2, 0)),
        (lambda: K.reverse(X, 1), X[:, ::-1]),
        (lambda: K.one_hot(np.array([2, 0]), 3), np.eye(3)[[2, 0]]),
        (lambda: K.gather(X, np.array([1])), X[[1]]),
        (lambda: K.constant([1, 2]), np.array([1.0, 2.0])),
        (lambda: K.logsumexp(X, axis=1), np.log(np.exp(X).sum(1))),
    ],
)  # fmt: skip
def test_functions(found: Any, wanted: Any) -> None:
    np.testing.assert_allclose(found().numpy(), wanted, rtol=1e-6)


def test_variables_and_shapes() -> None:
    v = K.variable([[1.0, 2.0]])
    K.set_value(v, [[3.0, 4.0]])
    K.update_add(v, K.ones_like(v))
    assert K.get_value(v).tolist() == [[4, 5]]
    assert K.eval(K.sum(v)) == 9
    assert K.int_shape(v) == (1, 2)
    assert K.dtype(v) == "float32"
    with pytest.raises(UnsupportedError, match="has no 'ctc_decode'"):
        K.ctc_decode  # noqa: B018


def dice(y_true: Any, y_pred: Any, smooth: float = 1.0) -> Any:
    true, predicted = K.flatten(y_true), K.flatten(y_pred)
    both = K.sum(true * predicted)
    return 1 - (2.0 * both + smooth) / (K.sum(true) + K.sum(predicted) + smooth)


def focal(gamma: float) -> Any:
    def loss(y_true: Any, y_pred: Any) -> Any:
        y_pred = K.clip(y_pred, K.epsilon(), 1.0 - K.epsilon())
        p = y_true * y_pred + (1 - y_true) * (1 - y_pred)
        return -K.mean(K.pow(1.0 - p, gamma) * K.log(p), axis=-1)

    return loss


def coverage(y_true: Any, y_pred: Any) -> Any:
    return K.mean(K.cast(K.equal(K.round(y_pred), y_true), K.floatx()), axis=-1)


@pytest.mark.parametrize("loss", [dice, focal(2.0)], ids=["dice", "focal"])
def test_own_losses_and_metrics_train(loss: Any) -> None:
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4, activation="sigmoid")])
    model.compile(keras.optimizers.Adam(0.05), loss, metrics=[coverage])
    x = np.linspace(-1, 1, 60).reshape(20, 3).astype(np.float32)
    y = (x[:, :1] + np.array([[0, 0.3, -0.3, 0.6]]) > 0).astype(np.float32)
    history = model.fit(x, y, batch_size=20, epochs=30, verbose=0).history
    predicted = model.predict(x, verbose=0)
    found, metric = model.evaluate(x, y, batch_size=20, verbose=0)
    np.testing.assert_allclose(found, loss(y, predicted).numpy().mean(), rtol=1e-5)
    np.testing.assert_allclose(metric, np.mean((predicted > 0.5) == y), rtol=1e-6)
    assert history["loss"][-1] < 0.8 * history["loss"][0]


def test_values_that_only_the_run_knows_are_refused() -> None:
    def branching(y_true: Any, y_pred: Any) -> Any:
        return y_pred if K.sum(y_pred) > 1 else y_true

    model = keras.Sequential([keras.Input((3,)), layers.Dense(1)])
    model.compile("sgd", branching)
    with pytest.raises(ModelError, match=r"test_backend_functions\.py"):
        model.fit(X, np.zeros((2, 1)), verbose=0)


def test_numbers_without_axes_are_scalars() -> None:
    rate = keras.optimizers.Adam(0.00123456).learning_rate
    assert isinstance(rate.numpy(), np.float32)
    assert round(rate.numpy(), 5) == np.float32(0.00123)
    assert round(rate, 5) == 0.00123
    assert isinstance(keras.backend.get_value(rate), np.float32)
    assert f"{(keras.ops.sum(np.ones(3, np.float32))).numpy():.1f}" == "3.0"
