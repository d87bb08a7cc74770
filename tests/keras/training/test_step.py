"""Whole training steps: what they compute, that they learn, and that compiled they are the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from convc.errors import ModelError
from convc.graph.interp import run_graph
from convc.graph.ir import Builder, Graph
from convc.graph.parser import parse_graph
from convc.graph.printer import print_graph
from convc.graph.state import next_values
from convc.graph.verify import verify_graph
from convc.keras import losses, metrics
from convc.keras.training.data import target_name, weight_name
from convc.keras.training.optimizer import first_state
from convc.keras.training.rules import SGD, Adam, Nadam, Rule
from convc.keras.training.scoring import Scoring
from convc.keras.training.step import test_step, train_step
from convc.ops.activations import Relu
from convc.ops.broadcasting import Add
from convc.ops.conv import Conv2d
from convc.ops.elementwise import Dropout
from convc.ops.matmul import MatMul
from convc.ops.norm import BatchNorm, Softmax
from convc.ops.pool import MaxPool2d
from convc.ops.shape import Reshape
from convc.passes.decompose import Decompose
from convc.passes.eliminate_common_subexpressions import EliminateCommonSubexpressions
from convc.passes.training_mode import training_mode
from convc.types import Dim, DType, TensorType
from tests.codegen.native import RUNNABLE, Native, assert_same_bits

N = Dim.symbol("N")
LABELS = target_name("likely")
PARAMETERS = ("conv/kernel", "norm/gamma", "norm/beta", "dense/kernel", "dense/bias")
make_test_step = test_step  # a name that the collector leaves alone
del test_step


def run(graph: Graph, inputs: Mapping[str, Any]) -> dict[str, Any]:
    return dict(run_graph(graph, inputs))


def classifier(dtype: DType = DType.float64, rate: float = 0.25) -> Graph:
    """A small classifier of images as a model gives it for inference, its parameters as weights."""
    rng = np.random.default_rng(0)
    builder = Builder("classifier")

    def weight(name: str, array: Any) -> str:
        return builder.weight(name, np.asarray(array, dtype.numpy))

    x = builder.input("image", TensorType(dtype, (N, 2, 6, 6)))
    builder.layer = "conv"
    kernel = weight("conv/kernel", rng.normal(size=(4, 2, 3, 3)) * 0.3)
    x = builder.add(Conv2d(padding=((1, 1), (1, 1))), x, kernel)
    builder.layer = "norm"
    statistics = [
        weight(f"norm/{n}", np.full(4, v))
        for n, v in {"gamma": 1, "beta": 0, "mean": 0, "variance": 1}.items()
    ]
    x = builder.add(BatchNorm(), x, *statistics)
    x = builder.add(Reshape((N, 36)), builder.add(MaxPool2d(), builder.add(Relu(), x)))
    builder.layer = "dropout"
    x = builder.add(Dropout(rate), x)
    builder.layer = "dense"
    x = builder.add(MatMul(), x, weight("dense/kernel", rng.normal(size=(36, 3)) * 0.2))
    x = builder.add(Add(), x, weight("dense/bias", np.zeros(3)))
    return builder.finish([builder.add(Softmax(), x, name="likely")])


def scoring(dtype: DType) -> Scoring:
    return Scoring(
        "likely",
        TensorType(DType.int64, (N,)),
        None,
        losses.SparseCategoricalCrossentropy(dtype=dtype.value),
        1.0,
        [("accuracy", metrics.SparseCategoricalAccuracy(dtype=dtype.value))],
        (),
    )


def step_of(graph: Graph, rule: Rule, parameters: tuple[str, ...] = PARAMETERS) -> Graph:
    forward = training_mode(graph, parameters, {"norm": 0.9})
    return train_step(forward, [scoring(graph.types["image"].dtype)], parameters, rule)


def start(graph: Graph, step: Graph, rule: Rule) -> dict[str, Any]:
    """The state before the first step."""
    dtype = graph.types["image"].dtype
    state: dict[str, Any] = {n: a for n, a in graph.weights.items() if n in step.inputs}
    state |= first_state(
        rule, {p: step.types[p] for p in PARAMETERS if f"next/{p}" in step.outputs}
    )
    state |= {n: np.zeros((), dtype.numpy) for n in step.inputs if n.startswith("metrics/")}
    return {**state, "iterations": np.array(0)}


def batch(dtype: DType = DType.float64) -> dict[str, Any]:
    rng = np.random.default_rng(5)
    labels = np.arange(9) % 3
    image = rng.normal(size=(9, 2, 6, 6)) + labels.reshape(-1, 1, 1, 1)
    return {"image": image.astype(dtype.numpy), LABELS: labels}


def advanced(result: Mapping[str, Any]) -> dict[str, Any]:
    return {n.removeprefix("next/"): a for n, a in result.items() if n.startswith("next/")}


def fit(graph: Graph, step: Graph, rule: Rule, rate: float, steps: int) -> list[float]:
    state, curve = start(graph, step, rule), []
    given = batch()
    for k in range(steps):
        seed = np.array([1, k], np.uint32)
        inputs = {**state, **given, "learning_rate": np.array(rate), "seed": seed}
        result = run(step, inputs)
        curve.append(float(result["loss"]))
        state = advanced(result)
    return curve


@pytest.mark.parametrize("rule", [SGD(momentum=0.9), Adam(), Nadam()], ids=str)
def test_training_learns(rule: Rule) -> None:
    graph = classifier()
    step = step_of(graph, rule)
    verify_graph(step)
    curve = fit(graph, step, rule, 0.02, 30)
    assert curve[-1] < 0.4 * curve[0]


def test_step_is_text_and_its_state_has_pairs() -> None:
    step = step_of(classifier(), Adam())
    whole = Decompose()(step)
    assert set(next_values(step)) == set(step.inputs) - {"image", LABELS, "seed", "learning_rate"}
    assert parse_graph(print_graph(step), step.weights) == step
    assert next_values(whole) == next_values(step)


def test_metrics_and_loss_are_summed() -> None:
    graph = classifier()
    step = step_of(graph, SGD())
    state = start(graph, step, SGD())
    seed = np.array([1, 0], np.uint32)
    inputs = {**state, **batch(), "learning_rate": np.array(0.0), "seed": seed}
    result = run(step, inputs)
    assert result["next/metrics/accuracy/1"] == 9
    np.testing.assert_allclose(result["next/metrics/loss/0"], result["loss"] * 9)
    again = run(step, {**inputs, **advanced(result)})
    np.testing.assert_allclose(again["next/metrics/loss/1"], 18)
    assert again["next/iterations"] == 2


def test_moving_statistics_follow_the_batch() -> None:
    graph = classifier()
    step = step_of(graph, SGD())
    seed = np.array([1, 0], np.uint32)
    given = {**start(graph, step, SGD()), **batch(), "learning_rate": np.array(0.1), "seed": seed}
    result = run(step, given)
    conv = Conv2d(padding=((1, 1), (1, 1))).reference(given["image"], given["conv/kernel"])
    np.testing.assert_allclose(result["next/norm/mean"], 0.1 * conv.mean((0, 2, 3)))
    np.testing.assert_allclose(result["next/norm/variance"], 0.9 + 0.1 * conv.var((0, 2, 3)))


def test_dropout_is_the_seeds() -> None:
    graph = classifier(rate=0.5)
    step = step_of(graph, SGD())
    given = {**start(graph, step, SGD()), **batch(), "learning_rate": np.array(0.1)}
    found = [
        float(run(step, {**given, "seed": np.array([key, k], np.uint32)})["loss"])
        for key, k in [(1, 0), (1, 0), (1, 1), (2, 0)]
    ]
    assert found[0] == found[1]
    assert len(set(found)) == 3


def test_frozen_layers_keep_their_inference_form() -> None:
    graph = classifier(rate=0.0)
    forward = training_mode(graph, ["dense/kernel", "dense/bias"], {})
    step = train_step(forward, [scoring(DType.float64)], ["dense/kernel", "dense/bias"], SGD())
    operators = [node.op.mnemonic for node in step.nodes]
    assert "batch_norm" in operators
    left_out = {"batch_norm_training", "conv2d_weight_gradient", "max_pool2d_gradient"}
    assert left_out.isdisjoint(operators)
    assert "seed" not in step.inputs
    assert "conv/kernel" in step.weights


def test_evaluation_sums_without_changing_anything_else() -> None:
    graph = classifier()
    step = make_test_step(graph, [scoring(DType.float64)])
    zeros = {n: np.zeros(()) for n in step.inputs if n.startswith("metrics/")}
    result = run(step, {**batch(), **zeros})
    likely = run(graph, {"image": batch()["image"]})["likely"]
    labels = batch()[LABELS]
    wanted = -np.log(likely[np.arange(9), labels]).mean()
    np.testing.assert_allclose(result["loss"], wanted)
    hits = np.sum(np.argmax(likely, -1) == labels)
    assert result["next/metrics/accuracy/0"] == hits
    assert set(next_values(step)) == set(zeros)


def test_sample_weights() -> None:
    graph = classifier()
    type = TensorType(DType.float64, (N,))
    plain = scoring(DType.float64)
    weighted = replace(plain, sample_weight=type, weight=2.0, metrics=())
    step = make_test_step(graph, [weighted])
    zeros = {n: np.zeros(()) for n in step.inputs if n.startswith("metrics/")}
    weights = np.arange(9.0)
    result = run(step, {**batch(), **zeros, weight_name("likely"): weights})
    likely = run(graph, {"image": batch()["image"]})["likely"]
    each = -np.log(likely[np.arange(9), batch()[LABELS]])
    np.testing.assert_allclose(result["loss"], 2 * np.sum(each * weights) / 9)


def test_an_unknown_parameter_is_named() -> None:
    with pytest.raises(ModelError, match="the graph has no weight 'dense/kernle'"):
        training_mode(classifier(), ["dense/kernle"], {})


@pytest.mark.parametrize("dtype", [DType.float32, DType.float64], ids=lambda d: d.value)
def test_compiled_steps_are_the_interpreters(dtype: DType) -> None:
    graph = classifier(dtype)
    rule = Adam()
    step = EliminateCommonSubexpressions()(Decompose()(step_of(graph, rule)))
    compiled = Native.of({"step": step}, RUNNABLE[-1])
    state, given = start(graph, step, rule), batch(dtype)
    exact = dict(state)
    tolerance = 1e-9 if dtype is DType.float64 else 1e-3
    for k in range(5):
        extra = {
            **given,
            "learning_rate": np.array(0.02, dtype.numpy),
            "seed": np.array([1, k], np.uint32),
        }
        results = [
            compiled.model(threads).entries["step"]({**state, **extra}) for threads in (1, 3)
        ]
        for a, b in zip(*results, strict=True):
            assert_same_bits(a, b)
        found = dict(zip(step.outputs, results[0], strict=True))
        oracle = run(step, {**exact, **extra})
        np.testing.assert_allclose(found["loss"], oracle["loss"], rtol=tolerance)
        state, exact = advanced(found), advanced(oracle)
    for name in PARAMETERS:
        np.testing.assert_allclose(state[name], exact[name], rtol=tolerance, atol=tolerance)
