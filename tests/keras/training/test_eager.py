"""Programs that train by hand, outside of `fit`: against numbers computed by numpy, and against `fit` itself."""

from typing import Any

import numpy as np
import pytest

from convc import keras
from convc.errors import ModelError
from convc.keras import layers, ops
from convc.keras.training import hand_running, ledger

X = np.random.RandomState(0).rand(32, 6).astype(np.float32)
Y = X[:, :1] * 2 - X[:, 1:2]


def small(*middle: Any) -> Any:
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input((6,)), layers.Dense(5, "tanh"), *middle, layers.Dense(1)])


@pytest.fixture(params=["interpreted", "compiled"])
def way(request: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(hand_running, "SMALL", 0 if request.param == "compiled" else 1 << 60)


def test_a_loop_by_hand_makes_the_steps_that_fit_makes(way: None) -> None:
    fitted, own = small(), small()
    own.set_weights(fitted.get_weights())
    fitted.compile(keras.optimizers.Adam(0.05, clipnorm=1.0), "mse")
    fitted.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    optimizer, loss = keras.optimizers.Adam(0.05, clipnorm=1.0), keras.losses.MeanSquaredError()
    for _ in range(2):
        for start in range(0, 32, 8):
            with keras.GradientTape() as tape:
                value = loss(
                    Y[start : start + 8], own(X[start : start + 8].astype("float64"), training=True)
                )
            gradients = tape.gradient(value, own.trainable_weights)
            optimizer.apply_gradients(zip(gradients, own.trainable_weights, strict=True))
    assert int(optimizer.iterations) == 8
    for mine, theirs in zip(own.get_weights(), fitted.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("own", [False, True])
def test_fit_and_a_loop_by_hand_go_on_with_each_others_moments(own: bool, tmp_path: Any) -> None:
    class Own(keras.Model):
        def train_step(self, data: Any) -> Any:
            return super().train_step(data)

    def model() -> Any:
        keras.utils.set_random_seed(1)
        x = keras.Input((6,))
        made = (Own if own else keras.Model)(x, layers.Dense(1)(layers.Dense(5, "tanh")(x)))
        made.compile(keras.optimizers.Nadam(0.05), "mse")
        return made

    def by_hand(trained: Any) -> None:
        with keras.GradientTape() as tape:
            loss = ops.mean(ops.square(trained(X, training=True) - Y))
        weights = trained.trainable_weights
        gradients = tape.gradient(loss, weights)
        trained.optimizer.apply_gradients(zip(gradients, weights, strict=True))

    fitted, mixed = model(), model()
    fitted.fit(X, Y, batch_size=32, epochs=6, verbose=0)
    by_hand(mixed)
    mixed.fit(X, Y, batch_size=32, epochs=2, verbose=0)
    by_hand(mixed)
    mixed.save(tmp_path / "mixed.keras")
    mixed = keras.models.load_model(tmp_path / "mixed.keras", {"Own": Own})
    by_hand(mixed)
    mixed.fit(X, Y, batch_size=32, epochs=1, verbose=0)
    for mine, theirs in zip(mixed.get_weights(), fitted.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=2e-4, atol=2e-5)


def test_moving_statistics_and_dropouts_are_of_the_recorded_call(way: None) -> None:
    model = small(layers.BatchNormalization(momentum=0.5), layers.Dropout(0.5))
    norm = model.layers[1]
    with keras.GradientTape() as tape:
        y = model(X, training=True)
        first = y.numpy()
        loss = ops.sum(y**2)
    assert np.array_equal(first, y.numpy())  # One draw, however often it is read.
    (gradient,) = tape.gradient(loss, [y])
    np.testing.assert_allclose(gradient.numpy(), 2 * first, rtol=1e-5)
    inner = np.tanh(X @ model.layers[0].get_weights()[0])
    np.testing.assert_allclose(norm.moving_mean.numpy(), inner.mean(0) / 2, rtol=1e-4, atol=1e-6)
    assert np.ptp(np.asarray(model(np.ones((64, 6)), training=True))) > 0
    assert np.ptp(np.asarray(model(np.ones((64, 6))))) == 0


def test_values_are_those_of_the_moment() -> None:
    v = keras.Variable(2.0)
    before = v + 1
    with keras.GradientTape(persistent=True) as tape:
        y = v * v
    v.assign(5.0)
    assert [float(before), float(y), float(tape.gradient(y, v))] == [3, 4, 4]
    metric = keras.metrics.Sum()
    metric.update_state([1.0, 2.0])
    result = metric.result()
    metric.reset_state()
    assert float(result) == 3


def test_gradients_of_gradients() -> None:
    v = keras.Variable(3.0)
    with keras.GradientTape() as outer:
        with keras.GradientTape() as inner:
            y = v**3
        slope = inner.gradient(y, v)
    assert [float(slope), float(outer.gradient(slope, v))] == [27, 18]


def test_variables_that_change_within_a_tape_are_read_as_they_are() -> None:
    v = keras.Variable(2.0)
    with keras.GradientTape() as tape:
        first = v * 3
        v.assign(v * 5)
        y = v * v + first
    assert float(tape.gradient(y, v)) == 2 * 10 + 3  # No gradient goes through an assignment.
    v, optimizer = keras.Variable(1.0), keras.optimizers.SGD(0.1)
    with keras.GradientTape(persistent=True) as tape:
        for _ in range(3):
            optimizer.apply_gradients([(tape.gradient(v * v, v), v)])
    np.testing.assert_allclose(float(v), 0.8**3, rtol=1e-6)


def test_a_tape_that_stops_for_a_while_goes_on_with_what_was_assigned() -> None:
    v = keras.Variable(1.0)
    with keras.GradientTape() as tape:
        v.assign(2.0)
        with tape.stop_recording():
            assert [float(v), float(v * 3)] == [2, 6]
            v.assign_add(5.0)
        y = v * v
    assert [float(y), float(v), float(tape.gradient(y, v))] == [49, 7, 14]
    with keras.GradientTape() as tape:
        first = v * v
        tape.reset()
        y = first * 2 + v * 3
    assert [float(v * 2), float(tape.gradient(y, v))] == [14, 3]


def test_targets_of_several_parts_and_weights_of_their_elements() -> None:
    v = keras.Variable([1.0, 2.0])
    with keras.GradientTape(persistent=True) as tape:
        y, z = v * v, v * 3
    np.testing.assert_array_equal(tape.gradient([y, z], v), [5, 7])
    np.testing.assert_array_equal(tape.gradient(y, v, output_gradients=[1.0, 10.0]), [2, 40])


def test_draws_differ_within_a_tape_and_are_the_same_in_nested_ones(way: None) -> None:
    class Noise(layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.seeds = keras.random.SeedGenerator(3)

        def call(self, x: Any) -> Any:
            return x + keras.random.uniform((4, 8), seed=self.seeds)

    noise, dropout = Noise(), layers.Dropout(0.5)
    v = keras.Variable(np.ones((4, 8), np.float32))
    with keras.GradientTape() as outer:
        assert not np.array_equal(noise(v), noise(v))
        with keras.GradientTape() as inner:
            y = dropout(v, training=True)
            total = ops.sum(y**3)
        slope = inner.gradient(total, v)
    kept = y.numpy()
    assert sorted(np.unique(kept)) == [0, 2]
    np.testing.assert_allclose(slope, 6 * kept**2)
    np.testing.assert_allclose(outer.gradient(slope, v), 24 * kept)


def test_what_regularizers_and_layers_add_is_among_the_losses() -> None:
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(2, kernel_regularizer="l2", activity_regularizer="l2")]
    )
    kernel = model.get_weights()[0]
    with keras.GradientTape() as tape:
        y = model(X)
        loss = sum(model.losses)
    out = X @ kernel
    np.testing.assert_allclose(
        float(loss), 0.01 * (kernel**2).sum() + 0.01 * (out**2).sum() / 32, 1e-5
    )
    (gradient, _) = tape.gradient(loss, model.trainable_weights)
    np.testing.assert_allclose(
        gradient.numpy(), 0.02 * kernel + 0.02 * X.T @ out / 32, rtol=1e-4, atol=1e-6
    )
    assert y.shape == (32, 2)


def test_a_tape_without_a_loss_says_what_is_missing() -> None:
    tape = keras.GradientTape()
    with pytest.raises(ModelError, match="compute the loss within `with`"):
        tape.gradient(ops.ones(()), keras.Variable(1.0))


def test_programs_used_last_are_kept(monkeypatch: Any) -> None:
    monkeypatch.setattr(hand_running, "SMALL", 0)
    monkeypatch.setattr(hand_running, "PROGRAMS", 2)
    model = small()
    want = model.predict(X, verbose=0)
    for rows in (1, 2, 3, 4, 1):
        np.testing.assert_allclose(model(X[:rows]), want[:rows], rtol=1e-5, atol=1e-6)
    assert len(hand_running._programs) == 2


def test_an_update_that_could_not_be_computed_is_tried_again(monkeypatch: Any) -> None:
    v = keras.Variable(2.0)
    with keras.GradientTape():
        v.assign(v * 3.0)

    def fails(*given: Any) -> Any:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "run", fails)
        with pytest.raises(MemoryError):
            v.numpy()
    assert float(v.numpy()) == 6.0
