"""Calls that say `training=` themselves: Monte Carlo dropout, frozen and ever-training normalisations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import convc
from convc import keras
from convc.errors import ModelError
from convc.keras import layers, ops

R = np.random.default_rng(0)
X = R.normal(1, 2, (40, 6)).astype("float32")
Y = R.normal(0, 1, (40, 2)).astype("float32")


def monte_carlo(seed: int | None = None) -> Any:
    i = keras.Input((6,))
    y = layers.Dropout(0.5, seed=seed)(i, training=True)
    return keras.Model(i, layers.Dense(2, kernel_initializer="ones", name="d")(y))


def compiled(model: Any) -> Any:
    model.compile(keras.optimizers.SGD(0.01), "mse")
    return model


def test_predictions_of_monte_carlo_dropout_differ_and_have_the_right_mean() -> None:
    model = monte_carlo()
    drawn = np.stack([model.predict(X, verbose=0) for _ in range(300)])
    assert not np.array_equal(drawn[0], drawn[1])
    deviation = np.sqrt((X**2).sum(1))  # of a sum of x * (0 or 2), each by chance
    np.testing.assert_array_less(
        np.abs(drawn.mean(0)[:, 0] - X.sum(1)), 5 * deviation / np.sqrt(300)
    )
    np.testing.assert_allclose(drawn[:, :, 0].std(0), deviation, rtol=0.25)


def test_the_same_seed_makes_the_same_predictions() -> None:
    found = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        model = compiled(monte_carlo())
        model.fit(X, Y, verbose=0)
        found.append([model.predict(X, verbose=0), model.predict(X, verbose=0)])
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.array_equal(found[0][0], found[0][1])


def test_evaluation_draws_as_well() -> None:
    model = compiled(monte_carlo())
    losses = {model.evaluate(X, Y, verbose=0) for _ in range(4)}
    assert len(losses) == 4
    assert np.ptp([model.test_on_batch(X, Y) for _ in range(4)]) > 0
    model.fit(X, Y, epochs=2, verbose=0)
    assert np.isfinite(model.predict(X, verbose=0)).all()


def test_dropout_that_is_switched_off_drops_nothing_in_training() -> None:
    class Kept(keras.layers.Layer):
        def call(self, x: Any, training: Any = None) -> Any:
            return x * 0 if training else x

    i = keras.Input((6,))
    inner = keras.Model(i, Kept()(layers.Dropout(0.9)(i)))
    for off in (layers.Dropout(0.9), layers.GaussianNoise(3.0), inner):
        model = keras.Model(i, layers.Dense(2, kernel_initializer="ones")(off(i, training=False)))
        compiled(model)
        loss = model.train_on_batch(X, Y)
        np.testing.assert_allclose(loss, np.mean((X.sum(1, keepdims=True) - Y) ** 2), 1e-5)


def frozen_base() -> Any:
    i = keras.Input((6,))
    base = keras.Model(i, layers.BatchNormalization(name="norm")(i), name="base")
    return keras.Model(i, layers.Dense(2, name="d")(base(i, training=False)))


def test_a_frozen_norm_keeps_its_statistics_while_its_scale_is_trained() -> None:
    model = compiled(frozen_base())
    norm = model.get_layer("base").get_layer("norm")
    kernel, bias = model.get_layer("d").get_weights()
    x = X / np.sqrt(1.001)
    slope = 2 / Y.size * (x @ kernel + bias - Y) @ kernel.T
    model.fit(X, Y, batch_size=40, epochs=1, verbose=0)
    np.testing.assert_array_equal(norm.moving_mean.value, np.zeros(6))
    np.testing.assert_array_equal(norm.moving_variance.value, np.ones(6))
    np.testing.assert_allclose(norm.gamma.value, 1 - 0.01 * (slope * x).sum(0), 1e-5)
    np.testing.assert_allclose(norm.beta.value, -0.01 * slope.sum(0), 1e-4, 1e-6)


def test_a_norm_that_always_trains_uses_the_batch_in_predictions() -> None:
    i = keras.Input((6,))
    model = keras.Model(i, layers.BatchNormalization(momentum=0.5, name="n")(i, training=True))
    expected = (X - X.mean(0)) / np.sqrt(X.var(0) + 1e-3)
    np.testing.assert_allclose(model.predict(X, batch_size=40, verbose=0), expected, 1e-4, 1e-5)
    norm: Any = model.get_layer("n")
    np.testing.assert_array_equal(norm.moving_mean.value, np.zeros(6))  # predicting assigns nothing
    compiled(model).fit(X, X, batch_size=40, verbose=0)
    np.testing.assert_allclose(norm.moving_mean.value, X.mean(0) / 2, 1e-5)
    np.testing.assert_allclose(norm.moving_variance.value, 0.5 + X.var(0) / 2, 1e-5)
    np.testing.assert_allclose(model(X), model.predict(X, batch_size=40, verbose=0), 1e-4, 1e-5)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_files_keep_what_calls_said(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("h5py")
    model = monte_carlo()
    model.save(tmp_path / f"m{suffix}")
    again: Any = keras.models.load_model(tmp_path / f"m{suffix}")
    assert not np.array_equal(again.predict(X, verbose=0), again.predict(X, verbose=0))
    frozen = frozen_base()
    frozen.save(tmp_path / f"f{suffix}")
    again = compiled(keras.models.load_model(tmp_path / f"f{suffix}"))
    again.fit(X, Y, verbose=0)
    norm = again.get_layer("base").get_layer("norm")
    np.testing.assert_array_equal(norm.moving_mean.value, np.zeros(6))


def test_compiled_programs_take_the_seed_of_their_draws() -> None:
    program = convc.compile(monte_carlo())
    first = np.asarray(program(X, np.array([1, 1], np.uint32)))
    same = np.asarray(program(X, np.array([1, 1], np.uint32)))
    other = np.asarray(program(X, np.array([1, 2], np.uint32)))
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)


def test_an_input_named_seed_does_not_become_the_seed_of_draws() -> None:
    i = keras.Input((6,), name="seed")
    model = keras.Model(i, layers.Dropout(0.5)(i, training=True))
    with pytest.raises(ModelError, match="give that Input another name"):
        model.predict(X, verbose=0)


def test_draws_of_own_layers_differ_in_predictions_that_train() -> None:
    class Noisy(keras.layers.Layer):
        def call(self, x: Any, training: Any = None) -> Any:
            return x + keras.random.normal(ops.shape(x)) if training else x

    i = keras.Input((6,))
    model = keras.Model(i, Noisy()(i, training=True))
    first, second = model.predict(X, verbose=0) - X, model.predict(X, verbose=0) - X
    assert abs(first.std() - 1) < 0.15
    assert not np.array_equal(first, second)


def test_what_keras_3_writes_where_nothing_was_said_is_not_taken_for_said() -> None:
    i = keras.Input((6,))
    x = layers.BatchNormalization(name="n")(layers.Dropout(0.5, name="drop")(i), training=False)
    config = keras.Model(i, layers.Reshape((6, 1))(x)).get_config()
    drop = next(entry for entry in config["layers"] if entry["name"] == "drop")
    assert drop["inbound_nodes"][0]["kwargs"] == {}
    drop["inbound_nodes"][0]["kwargs"] = {"training": False}  # the default of Keras' Dropout
    again: Any = keras.Model.from_config(config)
    norm, kept = (again.get_layer(n).calls[0].kwargs for n in ("n", "drop"))
    assert norm == {"training": False}
    assert kept == {}
    drop["inbound_nodes"][0]["kwargs"] = {"training": True}
    again = keras.Model.from_config(config)
    assert not np.array_equal(again.predict(X, verbose=0), again.predict(X, verbose=0))
