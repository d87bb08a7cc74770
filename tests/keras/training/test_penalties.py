"""What layers and variables add to a training step: add_loss, own regularizers and constraints; frozen layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import convc
from convc import keras
from convc.errors import ModelError
from convc.keras import layers, ops
from convc.keras.training.model import training_of
from convc.keras.training.rules import SGD
from convc.keras.training.scoring import Scoring
from convc.types import Dim, DType, TensorType

X = np.linspace(-1, 1, 24).reshape(8, 3).astype(np.float32)
Y = X.sum(1, keepdims=True)


def loss_before(model: Any, x: Any = X, y: Any = Y, loss: Any = "mse") -> float:
    """The loss of evaluation and of a first step, which are one."""
    model.compile("sgd", loss)
    found = model.evaluate(x, y, batch_size=8, verbose=0)
    first = model.fit(x, y, batch_size=8, epochs=1, verbose=0).history["loss"][0]
    assert found == pytest.approx(first, rel=1e-6)
    return float(found)


class Sparse(layers.Layer):
    """Adds a loss of its inputs and one of a weight of its own, each call."""

    def build(self, input_shape: Any) -> None:
        self.scale = self.add_weight((input_shape[-1],), "ones", name="scale")

    def call(self, inputs: Any) -> Any:
        y = inputs * self.scale
        self.add_loss(0.5 * ops.sum(ops.abs(y)))
        self.add_loss([ops.square(self.scale), ops.mean(y)])
        return y


def test_layers_add_to_the_loss() -> None:
    inputs = keras.Input((3,))
    outputs = layers.Dense(1, kernel_initializer="ones")(Sparse()(inputs))
    model = keras.Model(inputs, outputs)
    # The predictions are right: what is left is what the layer adds.
    wanted = 0.5 * np.abs(X).sum() + 3 + X.mean()
    assert loss_before(model) == pytest.approx(wanted, rel=1e-6)
    # The scale learns from them: its own loss and that of its outputs make it smaller.
    assert (model.get_weights()[0] < 1).all()


def test_nested_and_subclassed_models_add_too() -> None:
    inner = keras.Sequential(
        [keras.Input((3,)), Sparse(), layers.Dense(1, kernel_initializer="ones")]
    )
    inputs = keras.Input((3,))
    wanted = 0.5 * np.abs(X).sum() + 3 + X.mean()
    assert loss_before(keras.Model(inputs, inner(inputs))) == pytest.approx(wanted, rel=1e-6)

    class Own(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.first = Sparse()
            self.last = layers.Dense(1, kernel_initializer="ones")

        def call(self, x: Any) -> Any:
            y = self.last(self.first(x))
            self.add_loss(2.0 * ops.max(y))
            return y

    model = Own()
    model.build((None, 3))
    assert loss_before(model) == pytest.approx(wanted + 2 * Y.max(), rel=1e-6)


def test_a_functional_model_adds_a_loss_of_its_tensors() -> None:
    """As variational autoencoders of old tutorials do."""
    inputs = keras.Input((3,))
    hidden = layers.Dense(2, name="hidden")(inputs)
    outputs = layers.Dense(3)(hidden)
    model = keras.Model(inputs, outputs)
    model.add_loss(ops.mean(ops.square(outputs - inputs)))
    model.add_loss(0.1 * ops.sum(ops.square(hidden)))
    before = model.predict(X, verbose=0)
    code = keras.Model(inputs, hidden).predict(X, verbose=0)
    wanted = ((before - X) ** 2).mean() + 0.1 * (code**2).sum()
    model.compile(keras.optimizers.SGD(0.01))
    found = model.evaluate(X, batch_size=8, verbose=0)
    assert found == pytest.approx(wanted, rel=1e-5)
    history = model.fit(X, batch_size=8, epochs=20, verbose=0).history["loss"]
    assert history[-1] < history[0]


def test_outside_of_a_call_there_is_nothing_to_add_to() -> None:
    with pytest.raises(ModelError, match="expected to be used within call"):
        layers.Dense(2).add_loss(1.0)


def test_own_regularizers_and_constraints() -> None:
    class Rows(keras.constraints.Constraint):
        """Each row sums to 1: an axis of the Keras kernel, not of how it lies in memory."""

        def __call__(self, w: Any) -> Any:
            return w / ops.sum(ops.abs(w), axis=1, keepdims=True)

    class Pull(keras.regularizers.Regularizer):
        def __call__(self, x: Any) -> Any:
            return 0.25 * ops.sum(ops.square(x - 2.0))

    dense = layers.Dense(4, kernel_regularizer=Pull(), kernel_constraint=Rows())
    model = keras.Sequential([keras.Input((3,)), dense])
    kernel = dense.kernel.value.copy()
    y = model.predict(X, verbose=0)
    wanted = 0.25 * np.square(kernel - 2).sum()
    assert loss_before(model, y=y) == pytest.approx(wanted, rel=1e-5)
    moved = kernel - 0.01 * 0.5 * (kernel - 2)
    np.testing.assert_allclose(
        dense.kernel.value, moved / np.abs(moved).sum(1, keepdims=True), rtol=1e-5
    )


def test_convolutions_are_limited_along_keras_axes() -> None:
    limit = keras.constraints.MaxNorm(0.5, axis=(0, 1, 2))
    conv = layers.Conv2D(3, 2, kernel_constraint=limit, use_bias=False)
    model = keras.Sequential([keras.Input((4, 4, 2)), conv, layers.Flatten()])
    model.compile("sgd", "mse")
    x = np.ones((2, 4, 4, 2), np.float32)
    model.fit(x, np.full((2, 27), 5.0, np.float32), epochs=3, verbose=0)
    norms = np.sqrt((conv.kernel.value**2).sum((0, 1, 2)))
    np.testing.assert_allclose(norms, 0.5, rtol=1e-5)


def test_frozen_weights_have_no_penalty() -> None:
    frozen = layers.Dense(1, kernel_initializer="ones", kernel_regularizer="l2", trainable=False)
    model = keras.Sequential([keras.Input((3,)), frozen])
    model.add(layers.Dense(1, kernel_initializer="ones", kernel_regularizer="l2"))
    assert loss_before(model) == pytest.approx(0.01, rel=1e-5)


def test_losses_read_a_models_variables_as_they_are_now() -> None:
    dense = layers.Dense(1, use_bias=False, kernel_initializer="ones")
    model = keras.Sequential([keras.Input((3,)), dense])

    def loss(y_true: Any, y_pred: Any) -> Any:
        return ops.mean(ops.square(y_true - y_pred)) + ops.sum(ops.square(dense.kernel))

    model.compile(keras.optimizers.SGD(0.25), loss)
    history = model.fit(X, 0 * Y, batch_size=8, epochs=2, verbose=0).history["loss"]
    kernel = np.ones((3, 1))
    for found in history:
        predicted = X @ kernel
        assert found == pytest.approx((predicted**2).mean() + (kernel**2).sum(), rel=1e-5)
        kernel = kernel - 0.25 * (2 * X.T @ predicted / 8 + 2 * kernel)
    np.testing.assert_allclose(dense.kernel.value, kernel, rtol=1e-5)


def kernels(frozen: int) -> int:
    """How many kernels a step has whose first layers are frozen."""
    model = keras.Sequential([keras.Input((8, 8, 3))])
    for _ in range(3):
        model.add(layers.Conv2D(4, 3, padding="same", activation="relu"))
    model.add(layers.Flatten())
    model.add(layers.Dense(2))
    for layer in model.layers[:frozen]:
        layer.trainable = False
    target = TensorType(DType.float32, (Dim.symbol("N"), 2))
    scoring = Scoring("y", target, None, keras.losses.MeanSquaredError(), 1.0, (), ())
    graph = training_of(model, [scoring], SGD()).graphs["train_step"]
    driver = convc.driver
    options = driver.Options("training")
    made = driver.compile_graphs("m", {"step": graph}, driver.host_target(), options)
    return len(made.program.kernels)


def test_frozen_layers_cost_no_backward_work() -> None:
    free, first, all_convolutions = kernels(0), kernels(1), kernels(3)
    # A frozen layer has no gradient of its weights and no update; of the last one, no gradient of its input either.
    assert first <= free - 2
    assert all_convolutions <= first - 4
