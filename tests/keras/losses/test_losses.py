"""Losses against the numbers that Keras computed, on arrays and traced into graphs; certain predictions; names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from convc import keras
from convc.errors import ModelError
from convc.graph.interp import run_graph
from convc.graph.ir import Builder, Graph
from convc.keras import losses
from convc.keras.training.tracing import Trace
from convc.ops.activations import Sigmoid
from convc.ops.norm import Softmax
from convc.ops.values import Value
from convc.passes.gradient import gradient
from convc.types import DType, TensorType
from tests.keras.references import make
from tests.keras.references.cases import LOSSES, WITHOUT_WEIGHTS, data, weights
from tests.keras.references.stored import STORED, assert_same, in_float64
from tests.ops.differences import assert_gradient_holds

ROUNDED = {"log cosh": 1e-7}
"""Where Keras takes a constant in float32."""


@pytest.mark.parametrize("name", LOSSES)
def test_values_are_those_of_keras(name: str) -> None:
    with in_float64():
        found = make.loss(keras, name)
    assert_same(found, STORED["losses"][name], ROUNDED.get(name, 1e-10), name)


def graph_of(loss: Any, y_true: Any, y_pred: Any, head: Any = None, weighted: Any = None) -> Graph:
    """The loss of inputs t, x and w; x goes through `head` first."""
    builder = Builder("loss")

    def given(name: str, array: Any) -> Value:
        type = TensorType(DType.of(array.dtype), array.shape)
        return Value(builder, builder.input(name, type))

    t, x = given("t", y_true), given("x", y_pred)
    y = Value(builder, builder.add(head, x.name)) if head else x
    w = given("w", weighted) if weighted is not None else None
    return builder.finish([Trace(builder).run(loss, t, y, w).name])


@pytest.mark.parametrize("name", LOSSES)
def test_traced_losses_have_the_values_and_their_gradients(name: str) -> None:
    kind, build = LOSSES[name]
    t, x = data(kind)
    feeds = {"t": t, "x": x}
    if not name.startswith(WITHOUT_WEIGHTS):
        feeds["w"] = weights(kind)
    with in_float64():
        graph = graph_of(build(keras), t, x, weighted=feeds.get("w"))
    (found,) = run_graph(graph, feeds).values()
    wanted = STORED["losses"][name]
    tolerance = ROUNDED.get(name, 1e-10)
    assert_same(found, wanted[2 if "w" in feeds else 1], tolerance, name)
    assert_gradient_holds(graph, feeds, ["x"])


CERTAIN = [
    (losses.CategoricalCrossentropy, Softmax(), np.eye(4)[[0, 1]]),
    (losses.SparseCategoricalCrossentropy, Softmax(), np.array([0, 1])),
    (losses.BinaryCrossentropy, Sigmoid(), np.eye(4)[[0, 1]]),
]


@pytest.mark.parametrize(("loss", "head", "t"), CERTAIN, ids=lambda v: getattr(v, "__name__", ""))
def test_certain_predictions_keep_a_loss_and_a_gradient(loss: Any, head: Any, t: Any) -> None:
    """Through the activation's logits: the probability of the wrong class is 0 in float64."""
    x = np.array([[-900.0, 900, 0, 0], [-900, 900, 0, 0]])
    with in_float64():
        graph = graph_of(loss(), t, x, head)
        logits = loss(from_logits=True)(t, x).numpy()
    result = run_graph(gradient(graph, graph.outputs[0], ["x"]), {"t": t, "x": x})
    value = float(np.asarray(result[graph.outputs[0]]))
    np.testing.assert_allclose(value, logits, rtol=1e-12)
    assert value > 200
    assert np.abs(np.asarray(result["x_gradient"])[0]).max() > 0.1


@pytest.mark.parametrize("axis", [1, -2])
def test_classes_on_another_axis(axis: int) -> None:
    t, x = data("one-hot images")
    moved = [np.moveaxis(a, -1, axis) for a in (t, x)]
    with in_float64():
        found = losses.CategoricalCrossentropy(axis=axis)(*moved).numpy()
        focal = losses.CategoricalFocalCrossentropy(axis=axis)(*moved).numpy()
        wanted = losses.CategoricalFocalCrossentropy()(t, x).numpy()
    np.testing.assert_allclose(found, STORED["losses"]["categorical images"][1], rtol=1e-10)
    np.testing.assert_allclose(focal, wanted, rtol=1e-12)


def test_weights_of_samples_reach_the_pixels_of_images() -> None:
    """Keras asks for axes of size 1 there."""
    t, x = data("label images")
    plain = np.array([1.0, 0, 2, 0, 1, 0])
    a = losses.SparseCategoricalCrossentropy()(t, x, plain).numpy()
    b = losses.SparseCategoricalCrossentropy()(t, x, plain[:, None, None]).numpy()
    np.testing.assert_allclose(a, b, rtol=1e-6)


def test_logits_that_a_softmax_made_are_said_to_be_none() -> None:
    t, x = data("logits")
    with in_float64(), pytest.warns(UserWarning, match="from_logits=True, but a softmax made"):
        graph_of(losses.CategoricalCrossentropy(from_logits=True), t, x, Softmax())


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("mse", "mean_squared_error"), ("MAE", "mean_absolute_error"), ("bce", "binary_crossentropy"),
        ("KLD", "kl_divergence"), ("sparse_categorical_crossentropy", "sparse_categorical_crossentropy"),
        ("kullback_leibler_divergence", "kl_divergence"), ("logcosh", "log_cosh"),
        ("MAPE", "mean_absolute_percentage_error"),
    ],
)  # fmt: skip
def test_names(name: str, function: str) -> None:
    assert losses.get(name) is getattr(losses, function)
    assert losses.loss_of(name).name == function


def test_objects_and_configs() -> None:
    loss = losses.BinaryFocalCrossentropy(gamma=3.0, label_smoothing=0.1, reduction="sum")
    again = losses.deserialize(losses.serialize(loss))
    assert again.get_config() == loss.get_config()
    assert again.gamma == 3.0
    assert losses.get("Huber").delta == 1.0
    assert losses.get(None) is None
    assert losses.get(losses.deserialize("mse")) is losses.mean_squared_error


def test_own_losses() -> None:
    class Cubic(losses.Loss):
        def call(self, y_true: Any, y_pred: Any) -> Any:
            return keras.ops.mean(keras.ops.abs(y_true - y_pred) ** 3, axis=-1)

    t, x = data("numbers")
    wanted = (np.abs(t - x) ** 3).mean()
    np.testing.assert_allclose(Cubic()(t, x).numpy(), wanted, rtol=1e-6)
    own = losses.loss_of(lambda a, b: keras.ops.mean(keras.ops.square(a - b) * 2.0, axis=-1))
    np.testing.assert_allclose(own(t, x).numpy(), 2 * ((t - x) ** 2).mean(), rtol=1e-6)
    assert Cubic().name.startswith("cubic")


def test_mistakes_are_named() -> None:
    with pytest.raises(ModelError, match=r"unknown loss 'mean_sqared_error' \(did you mean"):
        losses.get("mean_sqared_error")
    with pytest.raises(ModelError, match="reduction must be one of"):
        losses.Huber(reduction="average")
    with pytest.raises(ModelError, match="expected labels of rank 1"):
        losses.SparseCategoricalCrossentropy()(np.zeros((2, 3, 4)), np.ones((2, 4)))
    with pytest.raises(ModelError, match="expected a loss"):
        losses.get(3)


def test_masked_means_are_of_the_loss_dtype() -> None:
    logits = np.random.default_rng(0).normal(size=(3, 6, 4))
    labels = np.random.default_rng(1).integers(0, 4, (3, 6))
    each = (
        np.log(np.exp(logits).sum(-1)) - np.take_along_axis(logits, labels[..., None], -1)[..., 0]
    )
    loss = losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=1, dtype="float64")
    assert np.asarray(loss(labels, logits)) == pytest.approx(each[labels != 1].mean(), rel=1e-14)
