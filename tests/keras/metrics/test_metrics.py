"""Metrics against the numbers that Keras computed, on arrays and traced into graphs; own metrics; names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from convc import keras
from convc.errors import ModelError
from convc.graph.interp import run_graph
from convc.graph.ir import Builder
from convc.keras import metrics
from convc.keras.training.tracing import Trace, state_names, updated_metric
from convc.ops.values import Value
from convc.passes.gradient import with_outputs
from convc.types import Dim, DType, TensorType
from tests.keras.references import make
from tests.keras.references.cases import METRICS, WEIGHTS, data, weights
from tests.keras.references.stored import STORED, assert_same, in_float64

N = Dim.symbol("N")


@pytest.mark.parametrize("name", METRICS)
def test_results_are_those_of_keras(name: str) -> None:
    with in_float64():
        assert_same(make.metric(keras, name), STORED["metrics"][name], 1e-6, name)


def traced_result(metric: Any, *batches: Any) -> Any:
    """The result after updates in a graph, whose batches are of any size."""
    builder = Builder("metric")
    given = []
    for name, array in zip(("t", "x", "w"), batches[0], strict=False):
        type = TensorType(DType.of(array.dtype), (N, *array.shape[1:]))
        given.append(Value(builder, builder.input(name, type)))
    updated = updated_metric(Trace(builder), "m", metric, *given)
    graph = with_outputs(builder, {f"next/{n}": v.name for n, v in updated.items()})
    names = state_names("m", metric)
    assert set(names) == set(updated)
    state = {n: v.value for n, v in names.items()}
    for batch in batches:
        feeds = dict(zip(("t", "x", "w"), batch, strict=False))
        found = run_graph(graph, {**state, **feeds})
        state = {n.removeprefix("next/"): np.asarray(a) for n, a in found.items()}
    for name, variable in names.items():
        assert state[name].dtype == variable.value.dtype
        variable.assign(state[name])
    return make.listed(metric.result())


@pytest.mark.parametrize("name", METRICS)
def test_traced_updates_have_the_results(name: str) -> None:
    kind, build = METRICS[name]
    t, x = data(kind)
    if "top" in name:
        x = x.astype(np.float32)
    wanted = STORED["metrics"][name]
    with in_float64():
        found = traced_result(build(keras), (t, x), (t[3:], x[3:]))
        assert_same(found, wanted[1], 1e-6, name)
        if len(wanted) > 2:
            given = weights(kind) if "auc" in name else WEIGHTS
            assert_same(traced_result(build(keras), (t, x, given)), wanted[2], 1e-6, name)


def test_sum_and_mean() -> None:
    total, mean = metrics.Sum(), metrics.Mean()
    for values in ([1, 3, 5, 7], [[1, 2], [3, 4]]):
        total.update_state(values)
        mean.update_state(values)
    assert float(total.result()) == 26
    assert float(mean.result()) == pytest.approx((16 + 1.5 + 3.5) / 6)
    mean.reset_state()
    assert float(mean([1.0, 3.0], sample_weight=[1, 3])) == 2.5
    assert float(metrics.Mean().result()) == 0


class Balance(metrics.Metric):
    """Written as users write them: a weight per kind, assigned to in two ways."""

    def __init__(self, name: str = "balance", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.above = self.add_weight(name="above", initializer="zeros")
        self.total = self.add_variable((), "ones", name="total")
        self.inner = metrics.Mean()

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        hits = keras.ops.cast(y_pred > y_true, "float32")
        self.above.assign_add(keras.ops.sum(hits))
        self.total.assign(self.total + keras.ops.sum(keras.ops.ones_like(hits)))
        self.inner.update_state(hits)

    def result(self) -> Any:
        return {"share": self.above / self.total, "mean": self.inner.result()}


def test_own_metrics() -> None:
    t, x = data("numbers")
    metric = Balance()
    assert [v.name for v in metric.variables] == [
        "balance/above",
        "balance/total",
        "mean/total",
        "mean/count",
    ]
    metric.update_state(t, x)
    above = float((x > t).sum())
    assert float(metric.result()["share"]) == pytest.approx(above / 25)
    metric.reset_state()
    assert float(metric.total) == 0
    builder = Builder("metric")
    type = TensorType(DType.float64, (N, 4))
    given = [Value(builder, builder.input(n, type)) for n in "tx"]
    updated = updated_metric(Trace(builder), "b", metric, *given)
    graph = with_outputs(
        builder, {n.replace("metrics", "next"): v.name for n, v in updated.items()}
    )
    state = {n: v.value for n, v in state_names("b", metric).items()}
    found = run_graph(graph, {**state, "t": t, "x": x})
    assert [float(np.asarray(v)) for v in found.values()] == [above, 24, above / 4, 6]
    # Tracing left the variables alone.
    assert float(metric.total) == 0


@pytest.mark.parametrize(
    ("target", "output", "wanted"),
    [
        ((None, 1), (None, 1), metrics.BinaryAccuracy),
        ((None,), (None, 1), metrics.BinaryAccuracy),
        ((None,), (None, 10), metrics.SparseCategoricalAccuracy),
        ((None, 1), (None, 10), metrics.SparseCategoricalAccuracy),
        ((None, 10), (None, 10), metrics.CategoricalAccuracy),
        ((None, 8, 8), (None, 8, 8, 3), metrics.SparseCategoricalAccuracy),
    ],
)
def test_accuracy_is_what_the_shapes_say(target: Any, output: Any, wanted: Any) -> None:
    for name in ("accuracy", "acc"):
        metric = metrics.metric_of(name, target, output)
        assert type(metric) is wanted
        assert metric.name == name


def test_names_and_configs() -> None:
    assert isinstance(metrics.get("mae"), metrics.MeanAbsoluteError)
    assert isinstance(metrics.get("AUC"), metrics.AUC)
    assert isinstance(metrics.get("true_positives"), metrics.TruePositives)
    for metric in (
        metrics.AUC(30, "PR", label_weights=None, thresholds=[0.2, 0.6]),
        metrics.Precision(top_k=3),
        metrics.MeanIoU(4, ignore_class=2),
        metrics.BinaryIoU(threshold=0.3),
        metrics.F1Score("macro"),
        metrics.SparseTopKCategoricalAccuracy(k=2),
        metrics.R2Score(),
    ):
        again = metrics.deserialize(metrics.serialize(metric))
        assert type(again) is type(metric)
        assert again.get_config() == metric.get_config()

    def distance(y_true: Any, y_pred: Any) -> Any:
        return keras.ops.max(keras.ops.abs(y_true - y_pred), axis=-1)

    own = metrics.metric_of(distance, (None, 4), (None, 4))
    assert own.name == "distance"
    t, x = data("numbers")
    assert float(own(t, x)) == pytest.approx(np.abs(t - x).max(-1).mean())


def test_mistakes_are_named() -> None:
    with pytest.raises(ModelError, match=r"unknown metric 'acuracy' \(did you mean"):
        metrics.metric_of("acuracy", (None,), (None, 3))
    with pytest.raises(ModelError, match="Precision: thresholds must be from 0 to 1"):
        metrics.Precision(1.5)
    with pytest.raises(ModelError, match="target_class_ids must be from 0 to 1"):
        metrics.IoU(2, [2])
    with pytest.raises(ModelError, match="curve must be one of"):
        metrics.AUC(curve="DET")

    class Empty(metrics.Metric):
        pass

    with pytest.raises(ModelError, match="Empty lacks update_state"):
        Empty().update_state([1.0], [1.0])
