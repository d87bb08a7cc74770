"""Losses and metrics against numpy, and what they do where probabilities are 0 or 1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from convc.graph.interp import run_graph
from convc.graph.ir import Builder, Graph
from convc.keras.training import losses, metrics
from convc.ops.activations import Sigmoid
from convc.ops.norm import Softmax
from convc.ops.values import Value
from convc.passes.gradient import gradient
from convc.types import Dim, DType, TensorType
from tests.ops.differences import assert_gradient_holds

N = Dim.symbol("N")
EPS = 1e-7


def graph_of(
    function: Callable[[Value, Value], Any], targets: TensorType, head: Any = None
) -> Graph:
    """The function of inputs `t` and `x[N, 4]`, which goes through `head` first."""
    builder = Builder("loss")
    t = builder.input("t", targets)
    x = builder.input("x", TensorType(DType.float64, (N, 4)))
    y = Value(builder, builder.add(head, x) if head else x)
    found = function(Value(builder, t), y)
    parts = found if isinstance(found, list) else [found]
    return builder.finish([p.name for p in parts])


FLOATS = TensorType(DType.float64, (N, 4))
LABELS = TensorType(DType.int64, (N,))


def data(kind: str) -> tuple[Any, Any]:
    """Targets and predictions."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(5, 4))
    share = np.exp(x) / np.exp(x).sum(-1, keepdims=True)
    match kind:
        case "numbers":
            return rng.normal(size=(5, 4)), x
        case "bits":
            return (rng.random((5, 4)) < 0.5).astype(float), x
        case "likely bits":
            return (rng.random((5, 4)) < 0.5).astype(float), 1 / (1 + np.exp(-x))
        case "classes":
            return np.eye(4)[rng.integers(0, 4, 5)], share
        case _:
            return rng.dirichlet(np.ones(4), 5), share


def np_huber(t: Any, x: Any) -> Any:
    e = np.abs(t - x)
    return np.where(e <= 1, e * e / 2, e - 0.5).mean(-1)


def np_binary(t: Any, x: Any) -> Any:
    return -(t * np.log(x) + (1 - t) * np.log(1 - x)).mean(-1)


@pytest.mark.parametrize(
    ("loss", "kind", "expected"),
    [
        (losses.mean_squared_error, "numbers", lambda t, x: ((t - x) ** 2).mean(-1)),
        (losses.mean_absolute_error, "numbers", lambda t, x: np.abs(t - x).mean(-1)),
        (losses.mean_absolute_percentage_error, "numbers",
         lambda t, x: 100 * np.abs((t - x) / t).mean(-1)),
        (losses.mean_squared_logarithmic_error, "distributions",
         lambda t, x: ((np.log1p(t) - np.log1p(x)) ** 2).mean(-1)),
        (losses.huber, "numbers", np_huber),
        (losses.log_cosh, "numbers", lambda t, x: np.log(np.cosh(x - t)).mean(-1)),
        (losses.kl_divergence, "distributions", lambda t, x: (t * np.log(t / x)).sum(-1)),
        (losses.hinge, "bits", lambda t, x: np.maximum(1 - (2 * t - 1) * x, 0).mean(-1)),
        (losses.hinge, "numbers", lambda t, x: np.maximum(1 - t * x, 0).mean(-1)),
        (losses.squared_hinge, "bits", lambda t, x: (np.maximum(1 - (2 * t - 1) * x, 0) ** 2).mean(-1)),
        (losses.categorical_hinge, "classes",
         lambda t, x: np.maximum(1 + ((1 - t) * x).max(-1) - (t * x).sum(-1), 0)),
        (losses.dice, "likely bits", lambda t, x: 1 - 2 * (t * x).sum() / (t.sum() + x.sum() + EPS)),
        (losses.categorical_crossentropy, "distributions", lambda t, x: -(t * np.log(x)).sum(-1)),
        (losses.binary_crossentropy, "likely bits", np_binary),
    ],
    ids=lambda v: getattr(v, "__name__", str(v)),
)  # fmt: skip
def test_losses(loss: Any, kind: str, expected: Any) -> None:
    t, x = data(kind)
    (found,) = run_graph(graph_of(loss, FLOATS), {"t": t, "x": x}).values()
    np.testing.assert_allclose(np.asarray(found), expected(t, x), rtol=2e-6)
    graph = graph_of(lambda a, b: losses.averaged(loss(a, b)), FLOATS)
    assert_gradient_holds(graph, {"t": t, "x": x}, ["x"])


def test_label_smoothing() -> None:
    t, x = data("classes")
    smooth = t * 0.9 + 0.1 / 4
    graph = graph_of(
        lambda a, b: losses.categorical_crossentropy(a, b, label_smoothing=0.1), FLOATS
    )
    (found,) = run_graph(graph, {"t": t, "x": x}).values()
    np.testing.assert_allclose(np.asarray(found), -(smooth * np.log(x)).sum(-1), rtol=1e-6)


CROSSENTROPIES = [
    (losses.categorical_crossentropy, FLOATS, Softmax(), np.eye(4)[[0, 1]]),
    (losses.sparse_categorical_crossentropy, LABELS, Softmax(), np.array([0, 1])),
    (losses.binary_crossentropy, FLOATS, Sigmoid(), np.eye(4)[[0, 1]]),
]


@pytest.mark.parametrize(
    ("loss", "type", "head", "t"), CROSSENTROPIES, ids=lambda v: getattr(v, "__name__", "")
)
def test_certain_predictions_keep_a_loss_and_a_gradient(
    loss: Any, type: Any, head: Any, t: Any
) -> None:
    """Through the activation's logits: the probability of the wrong class is 0 in float64."""
    graph = graph_of(lambda a, b: losses.averaged(loss(a, b)), type, head)
    x = np.array([[-900.0, 900, 0, 0], [-900, 900, 0, 0]])
    result = run_graph(gradient(graph, graph.outputs[0], ["x"]), {"t": t, "x": x})
    value = float(np.asarray(result[graph.outputs[0]]))
    assert np.isfinite(value)
    assert value > 200
    assert np.abs(np.asarray(result["x_gradient"])[0]).max() > 0.1


@pytest.mark.parametrize(
    ("loss", "type", "head", "t"), CROSSENTROPIES, ids=lambda v: getattr(v, "__name__", "")
)
def test_logits_and_activations_are_one_loss(loss: Any, type: Any, head: Any, t: Any) -> None:
    x = np.random.default_rng(0).normal(size=(2, 4))
    (a,) = run_graph(graph_of(loss, type, head), {"t": t, "x": x}).values()
    from_logits = graph_of(lambda p, q: loss(p, q, from_logits=True), type)
    (b,) = run_graph(from_logits, {"t": t, "x": x}).values()
    (c,) = run_graph(graph_of(loss, type), {"t": t, "x": head.reference(x)}).values()
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-12)
    np.testing.assert_allclose(np.asarray(a), np.asarray(c), rtol=1e-6)


def measured(metric: Any, t: Any, x: Any, type: TensorType = FLOATS) -> list[Any]:
    return [
        np.asarray(v).tolist() for v in run_graph(graph_of(metric, type), {"t": t, "x": x}).values()
    ]


def test_accuracies() -> None:
    x = np.array([[0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1], [0.3, 0.4, 0.2, 0.1]])
    labels = np.array([3, 1, 2])
    classes = np.eye(4)[labels]
    assert measured(metrics.categorical_accuracy, classes, x) == [[1, 0, 0]]
    assert measured(metrics.sparse_categorical_accuracy, labels, x, LABELS) == [[1, 0, 0]]
    top = lambda t, p: metrics.sparse_top_k_categorical_accuracy(t, p, 2)  # noqa: E731
    assert measured(top, labels, x, LABELS) == [[1, 1, 0]]
    top_of_classes = lambda t, p: metrics.top_k_categorical_accuracy(t, p, 3)  # noqa: E731
    assert measured(top_of_classes, classes, x) == [[1, 1, 1]]
    bits = np.array([[0.0, 0, 0, 1], [1, 1, 0, 0], [0, 0, 0, 0]])
    assert measured(metrics.binary_accuracy, bits, x * 2) == [[0.75, 1, 0.5]]


def test_sums_of_metrics() -> None:
    t, x = data("numbers")
    total, count = measured(lambda a, b: metrics.mean_of(losses.mean_squared_error(a, b)), t, x)
    np.testing.assert_allclose(total / count, ((t - x) ** 2).mean())
    bits, likely = data("likely bits")
    given = likely > 0.5
    wanted = [np.sum(bits * given), np.sum((1 - bits) * given), np.sum(bits * (1 - given))]
    assert measured(metrics.confusion, bits, likely) == wanted
