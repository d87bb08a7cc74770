"""Labels that are no classes and numbers outside of a table are refused on every road, with what was expected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from convc import keras
from convc.errors import DataError
from convc.keras import layers, ops
from convc.keras.losses import sparse_categorical_crossentropy
from convc.keras.training.eager import GradientTape

X = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
GOOD = np.array([0, 1, 2, 0, 1, 2, 0, 2])


class Own(keras.Sequential):
    """Steps that are traced from Python."""

    def train_step(self, data: Any) -> Any:
        x, y = data
        with GradientTape() as tape:
            loss = self.compute_loss(y=y, y_pred=self(x, training=True))
        weights = self.trainable_weights
        self.optimizer.apply(tape.gradient(loss, weights), weights)
        return {"loss": loss}

    def test_step(self, data: Any) -> Any:
        x, y = data
        return {"loss": self.compute_loss(y=y, y_pred=self(x, training=False))}


def classifier(kind: Callable[..., Any] = keras.Sequential, **loss: Any) -> Any:
    model = kind([keras.Input((4,)), layers.Dense(3, activation="softmax", name="d")])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(**loss))
    return model


def embedder(kind: Callable[..., Any] = keras.Sequential) -> Any:
    inputs = keras.Input((2,), dtype="int32", name="ids")
    model = kind([inputs, layers.Embedding(5, 2, name="e"), layers.Flatten(), layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


@pytest.mark.parametrize("wrong", [3, -1, 255])
@pytest.mark.parametrize("kind", [keras.Sequential, Own])
def test_labels_that_are_no_classes_are_refused(wrong: int, kind: Callable[..., Any]) -> None:
    bad = np.where(np.arange(8) == 5, wrong, GOOD)
    told = rf"from 0 to 2, for 3 classes; received {wrong}$"
    for run in ("fit", "evaluate", "train_on_batch", "test_on_batch"):
        model = classifier(kind)
        with pytest.raises(DataError, match=told):
            getattr(model, run)(X, bad)
        assert np.isfinite(getattr(model, run)(X, GOOD) if run != "fit" else 0)
    with pytest.raises(DataError, match=told):
        sparse_categorical_crossentropy(bad, np.full((8, 3), 1 / 3, "float32"))
    with pytest.raises(DataError, match=told), GradientTape():
        sparse_categorical_crossentropy(ops.convert_to_tensor(bad), ops.ones((8, 3)))


@pytest.mark.parametrize("kind", [keras.Sequential, Own])
def test_the_ignored_class_is_no_mistake(kind: Callable[..., Any]) -> None:
    model = classifier(kind, ignore_class=255)
    some = np.where(np.arange(8) < 4, 255, GOOD)
    found = model.evaluate(X, some, verbose=0)
    probabilities = model.predict(X, verbose=0)
    losses = -np.log(probabilities[np.arange(4, 8), GOOD[4:]])
    np.testing.assert_allclose(found, losses.mean(), 1e-5)
    with pytest.raises(DataError, match="received 3"):
        sparse_categorical_crossentropy([255, 3], ops.ones((2, 3)), ignore_class=255)


@pytest.mark.parametrize("wrong", [5, -6, 99])
def test_numbers_outside_of_a_table_are_refused(wrong: int) -> None:
    ids, y = np.array([[0, 1], [2, wrong]]), np.zeros((2, 1))
    told = rf"'ids': expected numbers from 0 to 4, for layer 'e'; received {wrong}$"
    for kind in (keras.Sequential, Own):
        for run in ("fit", "evaluate", "train_on_batch", "test_on_batch"):
            its = (
                told
                if kind is keras.Sequential
                else rf"'x': .* for layer 'own\w*/e'; received {wrong}$"
            )
            with pytest.raises(DataError, match=its):
                getattr(embedder(kind), run)(ids, y)
    model = embedder()
    for predict in (model.predict, model.predict_on_batch):
        with pytest.raises(DataError, match=told):
            predict(ids)
    model.fit(ids % 5, y, verbose=0)
    with pytest.raises(DataError, match=told):  # by the training's own program
        model.predict(ids)
    with pytest.raises(DataError, match=rf"for layer 'e' \(Embedding\); received {wrong}"):
        model.layers[0](ids)
    with pytest.raises(DataError, match=rf"received {wrong}"), GradientTape():
        model(ids)


def test_numbers_below_0_count_from_the_end() -> None:
    model = embedder()
    first = model.predict(np.array([[0, -1], [-5, 4]]), verbose=0)
    np.testing.assert_array_equal(first, model.predict(np.array([[0, 4], [0, 4]]), verbose=0))


def test_what_a_model_computes_before_it_looks_up_is_its_own_affair() -> None:
    i = keras.Input((2,), dtype="int32")
    model = keras.Model(i, layers.Embedding(5, 2)(ops.minimum(i, 4)))
    assert np.isfinite(model.predict(np.array([[0, 99]]), verbose=0)).all()
    other = keras.Model(i, layers.Embedding(50, 2)(i))  # the same input, another table
    assert other.predict(np.array([[0, 49]]), verbose=0).shape == (1, 2, 2)
