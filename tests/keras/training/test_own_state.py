"""Models with steps of their own train as others: class weights, moving averages, the optimizer's state in files."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convc import keras
from convc.errors import ConvcError
from convc.keras import layers, ops


class Own(keras.Model):
    """Keras' step, traced from Python."""

    def compute_loss(  # type: ignore[override, unused-ignore]
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None
    ) -> Any:
        return super().compute_loss(x, y, y_pred, sample_weight)


class Fixed(keras.Model):
    """A step for four rows."""

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        weights = ops.ones((4, 1)) * 0.5
        with keras.GradientTape() as tape:
            loss = ops.mean(weights * ops.square(self(x, training=True) - y))
        gradients = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        return {"loss": loss}


X = np.random.default_rng(0).random((32, 5)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 3, 32)
ONCE: dict[str, Any] = {"epochs": 1, "batch_size": 8, "shuffle": False, "verbose": 0}


def model(cls: Any, optimizer: Any) -> Any:
    keras.utils.set_random_seed(0)
    start = keras.Input((5,))
    made = cls(start, layers.Dense(3)(layers.Dense(4, "tanh")(start)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    made.compile(optimizer, loss, metrics=["accuracy"])
    return made


def test_own_steps_train_save_and_resume_as_others(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    plain, own = (
        model(cls, keras.optimizers.Adam(0.05, use_ema=True)) for cls in (keras.Model, Own)
    )
    for each in (plain, own):
        each.fit(X, Y, class_weight={0: 2.0, 1: 0.5}, **ONCE)
    own.save(tmp_path / "own.keras")
    loaded = keras.models.load_model(tmp_path / "own.keras", custom_objects={"Own": Own})
    for each in (plain, own, loaded):
        each.fit(X, Y, **ONCE)
        each.compile(each.optimizer, each.loss)  # the optimizer goes on
        each.fit(X, Y, **ONCE)
    for each in (own, loaded):
        for mine, wanted in zip(each.get_weights(), plain.get_weights(), strict=True):
            np.testing.assert_array_equal(mine, wanted)


def test_a_step_for_one_batch_size_is_traced_for_it() -> None:
    keras.utils.set_random_seed(0)
    start = keras.Input((5,))
    made = Fixed(start, layers.Dense(1)(start))
    made.compile(keras.optimizers.SGD(0.1))
    kernel, bias = made.get_weights()
    y = Y[:4, None].astype(np.float32)
    error = X[:4] @ kernel + bias - y
    history = made.fit(X[:4], y, epochs=1, batch_size=4, verbose=0, shuffle=False)
    assert history.history["loss"] == [pytest.approx(0.5 * np.mean(error**2), rel=1e-5)]
    wanted = kernel - 0.1 * 2 * 0.5 * X[:4].T @ error / 4
    np.testing.assert_allclose(made.get_weights()[0], wanted, rtol=1e-5)
    with pytest.raises(ConvcError, match="broadcast"):
        made.fit(X[:6], Y[:6, None].astype(np.float32), batch_size=6, verbose=0)


def test_a_call_under_a_decorator_is_told_of_training() -> None:
    def passed_on(call: Any) -> Any:
        @functools.wraps(call)
        def calling(*args: Any, **kwargs: Any) -> Any:
            return call(*args, **kwargs)

        return calling

    class Tripled(layers.Layer):
        @passed_on
        def call(self, x: Any, training: Any = None) -> Any:
            return x * 3 if training else x

    model = keras.Sequential([keras.Input((1,)), Tripled()])
    model.add(layers.Dense(1, use_bias=False, kernel_initializer="ones"))
    model.compile(keras.optimizers.SGD(0.0), "mse")
    ones = np.ones((4, 1), np.float32)
    assert model.fit(ones, ones, verbose=0).history["loss"] == [4.0]
    assert model.evaluate(ones, ones, verbose=0) == 0
