"""Models as training entries: their variables go out and come back, frozen ones stay."""

from __future__ import annotations

from typing import Any

import numpy as np

from convc import keras
from convc.graph.interp import run_graph
from convc.graph.verify import verify_graph
from convc.keras import layers, losses, metrics
from convc.keras.training.data import target_name
from convc.keras.training.model import Training, training_of
from convc.keras.training.rules import Adam
from convc.keras.training.scoring import Scoring
from convc.passes.decompose import Decompose
from convc.passes.eliminate_common_subexpressions import EliminateCommonSubexpressions
from convc.types import Dim, DType, TensorType

LABELS = Scoring(
    "dense",
    TensorType(DType.int64, (Dim.symbol("N"),)),
    None,
    losses.SparseCategoricalCrossentropy(),
    1.0,
    [("accuracy", metrics.SparseCategoricalAccuracy())],
    (),
)
TARGET = target_name("dense")


def classifier() -> Any:
    keras.utils.set_random_seed(1)
    inputs = keras.Input((6, 6, 2), name="image")
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="conv")(inputs)
    x = layers.BatchNormalization(momentum=0.9, name="norm")(x)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Dropout(0.1)(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(3, activation="softmax", name="dense")(x))


def batch() -> dict[str, Any]:
    rng = np.random.default_rng(5)
    labels = np.arange(12) % 3
    image = rng.normal(size=(12, 6, 6, 2)) + labels.reshape(-1, 1, 1, 1)
    return {"image": image.astype(np.float32), TARGET: labels}


def fitted(
    training: Training, steps: int, rate: float = 0.02
) -> tuple[list[float], dict[str, Any]]:
    graph = training.graphs["train_step"]
    state, curve = training.first_state(), []
    for k in range(steps):
        given = {**state, **batch(), "learning_rate": np.array(rate, np.float32)}
        given["seed"] = np.array([0, k], np.uint32)
        result = run_graph(graph, {n: given[n] for n in graph.inputs})
        state = {n.removeprefix("next/"): a for n, a in result.items() if n.startswith("next/")}
        curve.append(float(np.asarray(result["loss"])))
    return curve, state


def test_a_model_trains_and_takes_its_variables_back() -> None:
    model = classifier()
    training = training_of(model, [LABELS], Adam())
    for graph in training.graphs.values():
        verify_graph(graph)
    before = [w.value.copy() for w in model.weights]
    curve, state = fitted(training, 30)
    assert curve[-1] < 0.5 * curve[0]
    training.assign(state)
    for variable, old in zip(model.weights, before, strict=True):
        assert variable.shape == old.shape
        assert not np.array_equal(variable.value, old), variable.path
    test = training.graphs["test_step"]
    given = {**state, **training.first_metrics(), **batch()}
    result = run_graph(test, {n: given[n] for n in test.inputs})
    likely = model.predict(batch()["image"], verbose=0)
    hits = np.sum(np.argmax(likely, -1) == batch()[TARGET])
    assert np.asarray(result["next/metrics/accuracy/0"]) == hits


def test_variables_survive_the_way_there_and_back() -> None:
    model = classifier()
    training = training_of(model, [LABELS], Adam())
    before = [w.value.copy() for w in model.weights]
    training.assign(training.first_state())
    for variable, old in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(variable.value, old)


def test_frozen_layers_are_constants() -> None:
    model = classifier()
    for name in ("conv", "norm"):
        model.get_layer(name).trainable = False
    training = training_of(model, [LABELS], Adam())
    step = training.graphs["train_step"]
    assert training.parameters == ("dense/kernel", "dense/bias")
    assert "conv/kernel" in step.weights
    assert "conv2d_weight_gradient" not in {n.op.mnemonic for n in step.nodes}
    assert not [n for n in step.inputs if n.startswith("norm/")]


def test_the_softmax_and_its_loss_share_their_exponentials() -> None:
    step = training_of(classifier(), [LABELS], Adam()).graphs["train_step"]
    whole = EliminateCommonSubexpressions()(Decompose()(step))
    operators = [n.op.mnemonic for n in whole.nodes]
    assert operators.count("exp") == 1
    assert operators.count("log") == 1


def test_a_variable_read_in_two_ways_is_one_parameter() -> None:
    inputs = keras.Input((4,), name="image")
    first = layers.Dense(4, use_bias=False, name="tied")
    x = first(inputs)
    y = layers.Lambda(lambda t: keras.ops.matmul(t, keras.ops.transpose(first.kernel)))(x)
    model = keras.Model(inputs, layers.Softmax()(y))
    assert training_of(model, [LABELS], Adam()).parameters == ("tied/kernel",)
    model.compile(keras.optimizers.SGD(0.5), "mse")
    kernel = first.kernel.numpy().astype(np.float64)
    image, target = np.eye(4)[:3], np.eye(4)[1:]

    def loss(k: Any) -> float:
        scores = np.exp(image @ k @ k.T)
        return float(np.mean((scores / scores.sum(1, keepdims=True) - target) ** 2))

    slopes = np.zeros((4, 4))
    for at in np.ndindex(4, 4):
        step = np.zeros((4, 4))
        step[at] = 1e-5
        slopes[at] = (loss(kernel + step) - loss(kernel - step)) / 2e-5
    model.fit(image, target, epochs=1, verbose=0)
    np.testing.assert_allclose(first.kernel.numpy(), kernel - 0.5 * slopes, atol=1e-6)
