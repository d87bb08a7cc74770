"""Dropout in recurrent layers: one draw for all steps of a sequence (Gal & Ghahramani, 2016), as in Keras."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from convc import keras

STEPS = 5
ONES = np.ones((64, STEPS, 8), np.float32)


def summed(loss: Any, recurrent: Any, **arguments: Any) -> tuple[float, Any]:
    """The mean loss of 30 steps of training that change nothing, and the prediction; the layer adds up its inputs."""
    keras.utils.set_random_seed(3)
    sequence = keras.Input((STEPS, 8))
    layer = keras.layers.SimpleRNN(
        8, "linear", False, keras.initializers.Identity(), recurrent, return_sequences=True, **arguments
    )  # fmt: skip
    model = keras.Model(sequence, layer(sequence))
    model.compile(keras.optimizers.SGD(0.0), loss)
    found = [float(np.ravel(model.train_on_batch(ONES, ONES))[0]) for _ in range(30)]
    return float(np.mean(found)), model.predict(ONES, verbose=0)


def test_all_steps_lose_the_same_inputs() -> None:
    """A kept input is 2, and the mean of a product of two steps 4 / 2; of independent draws it would be 1."""
    found, predicted = summed(lambda _, y: keras.ops.mean(y[:, 0] * y[:, 3]), "zeros", dropout=0.5)
    assert found == pytest.approx(2, rel=0.05)
    np.testing.assert_array_equal(predicted, ONES)


def test_all_steps_lose_the_same_states() -> None:
    """y_t = 1 + m y_(t-1) with one m of 0 or 2 has the mean 2^t; of independent draws it would be 1 + t."""
    found, predicted = summed(
        lambda _, y: keras.ops.mean(y[:, -1]), keras.initializers.Identity(), recurrent_dropout=0.5
    )
    assert found == pytest.approx(2 ** (STEPS - 1), rel=0.05)
    np.testing.assert_array_equal(predicted, np.cumsum(ONES, 1))


@pytest.mark.parametrize(
    ("kind", "settings"), [("LSTM", {}), ("GRU", {}), ("GRU", {"reset_after": False})]
)
def test_layers_learn_with_dropout(kind: str, settings: dict[str, Any]) -> None:
    keras.utils.set_random_seed(4)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(128, STEPS, 4)).astype("f4")
    y = (x.sum((1, 2)) > 0).astype("f4")
    layer = getattr(keras.layers, kind)(12, dropout=0.1, recurrent_dropout=0.1, **settings)
    model = keras.Sequential([keras.Input((STEPS, 4)), layer, keras.layers.Dense(1, "sigmoid")])
    model.compile(keras.optimizers.Adam(0.02), "binary_crossentropy")
    losses = model.fit(x, y, epochs=8, batch_size=32, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]
