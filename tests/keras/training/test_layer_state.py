"""Layers of a user's own whose `call` changes state, in functional and Sequential models.

The references are the same arithmetic in numpy; Keras 3.15 on TensorFlow gives these numbers too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from convc import keras
from convc.errors import ModelError, UnsupportedError
from convc.keras import layers, ops
from convc.keras.training.standalone import standalone

RATE = 0.1
RNG = np.random.default_rng(5)
X = RNG.normal(size=(24, 3)).astype("float32")
Y = RNG.normal(size=(24, 1)).astype("float32")
KERNEL = RNG.normal(size=(3, 1)).astype("float32")


@keras.saving.register_keras_serializable("tests")
class Centred(layers.Layer):
    """Takes away a moving average of the inputs, which has the latest batch in it, and counts its calls."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.count = self.add_weight(shape=(), initializer="zeros", dtype="int32", trainable=False)

    def build(self, input_shape: Any) -> None:
        self.average = self.add_weight(
            shape=(input_shape[-1],), initializer="zeros", trainable=False, name="average"
        )

    def call(self, x: Any) -> Any:
        self.count.assign_add(3)
        self.average.assign(self.average * 0.5 + ops.mean(x, axis=0) * 0.5)
        self.count.assign_sub(2)
        return x - self.average


class Reference:
    """The same model in float64: `Centred`, then a product with a kernel, trained by SGD towards the squared error."""

    def __init__(self) -> None:
        self.count, self.average, self.kernel = 0, np.zeros(3), KERNEL.astype(np.float64)

    def predict(self, x: NDArray[Any]) -> NDArray[Any]:
        self.count += 1
        self.average = self.average * 0.5 + x.mean(0) * 0.5
        self.seen = x - self.average
        return self.seen @ self.kernel

    def train(self, x: NDArray[Any], y: NDArray[Any]) -> float:
        apart = self.predict(x) - y
        self.kernel = self.kernel - RATE * 2 / len(x) * self.seen.T @ apart
        return float(np.square(apart).mean())


def made(sequential: bool) -> tuple[Any, Centred]:
    layer, dense = Centred(), layers.Dense(1, use_bias=False)
    if sequential:
        model: Any = keras.Sequential([keras.Input((3,)), layer, dense])
    else:
        x = keras.Input((3,))
        model = keras.Model(x, dense(layer(x)))
    dense.set_weights([KERNEL])
    model.compile(keras.optimizers.SGD(RATE), "mse")
    return model, layer


def check(model: Any, layer: Centred, reference: Reference) -> None:
    assert int(layer.count.value) == reference.count
    np.testing.assert_allclose(layer.average.value, reference.average, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.layers[-1].kernel.value, reference.kernel, rtol=1e-5)


@pytest.mark.parametrize("sequential", [False, True])
def test_state_changes_once_in_each_step_of_training_evaluation_and_prediction(
    sequential: bool, tmp_path: Path
) -> None:
    model, layer = made(sequential)
    reference = Reference()
    check(model, layer, reference)  # Describing the model changes nothing.
    history = model.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0).history
    batches = [slice(k, k + 8) for k in (0, 8, 16)]
    wanted = [np.mean([reference.train(X[b], Y[b]) for b in batches]) for _ in range(2)]
    np.testing.assert_allclose(history["loss"], wanted, rtol=1e-5)
    check(model, layer, reference)

    found = model.evaluate(X, Y, batch_size=12, verbose=0)
    halves = slice(0, 12), slice(12, 24)
    each = [np.square(reference.predict(X[h]) - Y[h]).mean() for h in halves]
    np.testing.assert_allclose(found, np.mean(each), rtol=1e-5)
    check(model, layer, reference)

    predicted = model.predict(X, batch_size=12, verbose=0)
    expected = np.concatenate([reference.predict(X[h]) for h in halves])
    np.testing.assert_allclose(predicted, expected, rtol=1e-4, atol=1e-5)
    check(model, layer, reference)

    np.testing.assert_allclose(model.train_on_batch(X, Y), reference.train(X, Y), rtol=1e-5)
    layer.average.assign(np.ones(3, "float32"))
    reference.average = np.ones(3)
    np.testing.assert_allclose(model.train_on_batch(X, Y), reference.train(X, Y), rtol=1e-5)
    check(model, layer, reference)

    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.train_on_batch(X, Y), reference.train(X, Y), rtol=1e-5)
    check(loaded, loaded.layers[-2], reference)


def test_a_layer_called_twice_and_one_within_a_model_change_state_in_each_call() -> None:
    twice, within = Centred(), Centred()
    model: Any
    x = keras.Input((3,))
    inner = keras.Model(x, within(x))
    model = keras.Sequential([keras.Input((3,)), inner, layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(X, Y, batch_size=8, verbose=0)
    assert int(within.count.value) == 3
    model = keras.Model(x, layers.Dense(1)(twice(twice(x))))
    model.compile("sgd", "mse")
    model.fit(X, Y, batch_size=8, verbose=0)
    assert int(twice.count.value) == 6


def test_state_that_only_training_changes_leaves_predictions_native() -> None:
    class Steps(layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.steps = keras.Variable(0.0, trainable=False)

        def call(self, x: Any, training: bool | None = None) -> Any:
            if training:
                self.steps.assign_add(1.0)
            return x

    layer = Steps()
    model = keras.Sequential([keras.Input((3,)), layer, layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(X, Y, batch_size=8, validation_data=(X, Y), verbose=0)
    model.predict(X, verbose=0)
    assert float(layer.steps.value) == 3.0
    assert not model.predicts_by_hand


class Endpoint(layers.Layer):
    """Keras' guide "Making new layers and models via subclassing": the loss and the metric of a model are a layer."""

    def __init__(self) -> None:
        super().__init__(name="predictions")
        self.loss = keras.losses.BinaryCrossentropy(from_logits=True)
        self.accuracy = keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)

    def call(self, targets: Any, logits: Any) -> Any:
        self.add_loss(self.loss(targets, logits))
        self.accuracy.update_state(targets, logits)
        return ops.sigmoid(logits)


def test_an_endpoint_layer_has_the_loss_and_a_metric() -> None:
    inputs, targets = keras.Input((3,), name="inputs"), keras.Input((1,), name="targets")
    dense = layers.Dense(1, use_bias=False)
    model = keras.Model([inputs, targets], Endpoint()(targets, dense(inputs)))
    dense.set_weights([KERNEL])
    model.compile(keras.optimizers.SGD(RATE))
    labels = (Y > 0).astype("float32")
    kernel, right, losses = KERNEL.astype(np.float64), [], []
    for k in (0, 8, 16):
        x, y = X[k : k + 8], labels[k : k + 8]
        logits = x @ kernel
        losses.append(np.mean(np.logaddexp(0, logits) - y * logits))
        right.append(np.mean((logits > 0) == y))
        kernel -= RATE / 8 * x.T @ (1 / (1 + np.exp(-logits)) - y)
    data = {"inputs": X, "targets": labels}
    history = model.fit(data, batch_size=8, shuffle=False, verbose=0).history
    np.testing.assert_allclose(history["loss"], [np.mean(losses)], rtol=1e-5)
    np.testing.assert_allclose(history["accuracy"], [np.mean(right)], rtol=1e-6)
    assert [m.name for m in model.metrics] == ["loss", "accuracy"]
    logits = X @ kernel
    found = model.evaluate(data, verbose=0, return_dict=True)
    np.testing.assert_allclose(found["accuracy"], np.mean((logits > 0) == labels), rtol=1e-6)
    # A list of inputs alone is no pair of inputs and targets.
    assert model.evaluate([X, labels], verbose=0, return_dict=True) == found


def test_python_may_not_look_at_what_a_call_assigns() -> None:
    class Looking(Centred):
        def call(self, x: Any) -> Any:
            found = super().call(x)
            return found * 2 if self.count > 3 else found

    with pytest.raises(ModelError, match=r"layer 'looks' assigns to .*ops\.where"):
        Looking(name="looks")(keras.Input((3,)))


def test_a_traced_tensor_is_assigned_within_calls_only() -> None:
    variable = keras.Variable(np.zeros(3, "float32"), name="outside")
    with pytest.raises(ModelError, match=r"variable 'outside' .*within call\(\)"):
        variable.assign(ops.mean(keras.Input((3,)), axis=0))


def test_add_metric_shows_means_of_what_calls_compute() -> None:
    class Measured(layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.largest = keras.metrics.Mean(name="largest")

        def call(self, x: Any) -> Any:
            self.add_metric(ops.abs(x), name="size", aggregation="mean")
            self.add_metric(self.largest(ops.max(x)), name="another name")
            return x

    class Outer(layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Measured()

        def call(self, x: Any) -> Any:
            return self.inner(x)

    x = keras.Input((3,))
    hidden = Outer()(x)
    model = keras.Model(x, layers.Dense(1)(hidden))
    model.add_metric(ops.min(hidden * 2), name="least")
    model.compile("sgd", "mse", metrics=["mae"])
    batches = X.reshape(3, -1)
    wanted = {
        "size": np.abs(X).mean(),
        "largest": batches.max(1).mean(),
        "least": 2 * batches.min(1).mean(),
    }
    history = model.fit(
        X, Y, batch_size=8, shuffle=False, epochs=2, validation_data=(X, Y), verbose=0
    ).history
    for name, value in wanted.items():
        np.testing.assert_allclose(history[name], value, rtol=1e-5)
        np.testing.assert_allclose(history[f"val_{name}"], value, rtol=1e-5)
    assert set(history) == {
        f"{kind}{name}" for kind in ("", "val_") for name in ("loss", "mae", *wanted)
    }
    assert [m.name for m in model.layers[1].metrics] == ["largest", "size"]
    assert model.metrics_names == ["loss", "mae", "largest", "size"]
    with pytest.raises(ModelError, match=r"add_metric: expected to be used within call\(\)"):
        model.layers[1].add_metric(1.0, name="outside")
    with pytest.raises(ModelError, match="add_metric: expected a name"):
        model.add_metric(hidden)


def test_add_update_carries_out_keras_2s_assignments() -> None:
    class Updating(layers.Layer):
        def build(self, input_shape: Any) -> None:
            self.total, self.latest, self.times = (
                self.add_weight(shape=(), initializer="zeros", trainable=False, name=name)
                for name in ("total", "latest", "times")
            )

        def call(self, x: Any) -> Any:
            self.add_update((self.total, self.total + ops.sum(x)))
            self.add_update([keras.backend.update(self.latest, ops.sum(x))], inputs=x)
            self.add_update(lambda: self.times.assign_add(1.0))
            return x

    layer = Updating()
    model = keras.Sequential([keras.Input((3,)), layer, layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
    found = layer.get_weights()
    np.testing.assert_allclose(found, [X.sum(), X[16:].sum(), 3.0], rtol=1e-4)


@pytest.mark.parametrize("sizes", [(3,), (None, 3)], ids=["known sizes", "open sizes"])
def test_a_functional_models_own_losses_count_beside_layers_that_change_state(sizes: Any) -> None:
    class Counting(layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.count = self.add_weight(shape=(), initializer="zeros", trainable=False)

        def call(self, x: Any) -> Any:
            self.count.assign_add(1.0)
            return x * 2

    inputs = keras.Input(sizes)
    hidden = Counting()(inputs)
    model = keras.Model(inputs, hidden + 1)
    model.add_loss(ops.mean(ops.square(hidden)))
    model.compile("sgd", "mse")
    x = X if len(sizes) == 1 else X.reshape(4, 6, 3)
    wanted = np.square(2 * x + 1).mean() + np.square(2 * x).mean()
    np.testing.assert_allclose(model.evaluate(x, np.zeros_like(x), verbose=0), wanted, rtol=1e-5)
    outer = keras.Sequential([keras.Input(sizes), model])
    outer.compile("sgd", "mse")
    np.testing.assert_allclose(outer.evaluate(x, np.zeros_like(x), verbose=0), wanted, rtol=1e-5)


def test_logs_have_the_loss_of_each_output_beside_layers_that_change_state() -> None:
    x = keras.Input((3,))
    centred = Centred()(x)
    ends = [layers.Dense(1, name=name)(centred) for name in ("left", "right")]
    model = keras.Model(x, ends)
    model.compile("sgd", ["mse", "mae"], loss_weights=[1.0, 0.25])
    log = model.fit(X, [Y, Y], batch_size=8, verbose=0).history
    assert set(log) == {"loss", "left_loss", "right_loss"}
    np.testing.assert_allclose(
        log["loss"], np.add(log["left_loss"], 0.25 * np.array(log["right_loss"])), rtol=1e-5
    )


def test_training_outside_of_python_names_the_layer_that_changes_state() -> None:
    model, layer = made(sequential=True)
    with pytest.raises(UnsupportedError, match=f"layer '{layer.name}', whose call.* changes state"):
        standalone(model)
