"""Optimizers and schedules against the numbers that Keras computed: alone, and in compiled training in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from convc import keras
from convc.errors import ModelError
from convc.graph.interp import run_graph
from convc.graph.ir import Builder, Graph
from convc.keras import optimizers
from convc.keras.optimizers import schedules
from convc.keras.training.optimizer import first_state, slot_name, updated
from convc.keras.training.rules import Rule
from convc.ops.values import Value
from convc.passes.gradient import with_outputs
from convc.types import DType, TensorType
from tests.keras.references import make
from tests.keras.references.cases import OPTIMIZERS, SCHEDULES, wave
from tests.keras.references.stored import STORED, assert_same, in_float64

TYPES = {"w": TensorType(DType.float64, (3, 2)), "b": TensorType(DType.float64, (2,))}

ROUNDED = {"adam defaults": 1e-4, "sgd momentum": 1e-6, "sgd nesterov": 1e-6}
"""Where Keras on TensorFlow rounds betas and momenta to float32: how far that goes in float64."""


def update_graph(rule: Rule) -> Graph:
    builder = Builder("update")

    def given(name: str, type: TensorType) -> Value:
        return Value(builder, builder.input(name, type))

    parameters = {n: given(n, t) for n, t in TYPES.items()}
    gradients = {n: given(f"d{n}", t) for n, t in TYPES.items()}
    arrays = first_state(rule, TYPES)
    state = {n: given(n, TensorType(DType.float64, a.shape)) for n, a in arrays.items()}
    iterations = given("iterations", TensorType(DType.int64, ()))
    rate = given("rate", TensorType(DType.float64, ()))
    found = updated(rule, parameters, gradients, state, iterations, rate)
    return with_outputs(builder, {f"next/{n}": v.name for n, v in found.items()})


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_updates_are_those_of_keras(name: str) -> None:
    with in_float64():
        optimizer = OPTIMIZERS[name](keras)
        rates = [np.array(optimizer.rate_at(k)) for k in range(12)]
    rule = optimizer.rule
    graph = update_graph(rule)
    state = {"w": wave(3, 2), "b": wave(2, start=1.1), **first_state(rule, TYPES)}
    found = []
    for step, rate in enumerate(rates):
        gradients = dict(zip(("dw", "db"), make.gradients_at(step), strict=True))
        feeds = {**state, **gradients, "rate": rate, "iterations": np.array(step)}
        result = run_graph(graph, feeds)
        state = {n.removeprefix("next/"): np.asarray(a) for n, a in result.items()}
        if step % 4 == 3:
            found.append([state["w"].tolist(), state["b"].tolist()])
    if rule.use_ema:
        found.append([state[slot_name(n, "average")].tolist() for n in TYPES])
    assert_same(found, STORED["optimizers"][name], ROUNDED.get(name, 1e-7), name)


ONE_OF_EACH = (
    "sgd nesterov", "rmsprop centered", "adam", "adamw", "adagrad", "adadelta", "adamax", "nadam", "lion", "lamb",
    "ftrl", "accumulated",
)  # fmt: skip


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_compiled_training_has_the_losses_of_keras(name: str) -> None:
    """50 steps in float64 from the same weights; the batch norm's moving statistics too."""
    with in_float64():
        found = make.training(keras, name)
    wanted = STORED["training"][name]
    np.testing.assert_allclose(found[0], wanted[0], rtol=0, atol=1e-7)
    assert_same(found[1], wanted[1], 1e-6, name)


def test_penalties_and_constraints_are_those_of_keras() -> None:
    with in_float64():
        found = make.penalties(keras)
    for a, b in zip(found, STORED["penalties"], strict=True):
        assert_same(a, b, 1e-7)


def test_batches_that_dont_divide_the_data() -> None:
    with in_float64():
        found = make.uneven(keras)
    # Adam with Keras' betas of float32.
    for a, b in zip(found, STORED["uneven"], strict=True):
        assert_same(a, b, 3e-6)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_are_those_of_keras(name: str) -> None:
    found = make.schedules(keras)[name]
    # Powers and cosines in float32: numpy's and Keras' differ in the last bit.
    np.testing.assert_allclose(found, STORED["schedules"][name], rtol=5e-7, atol=1e-9)


@pytest.mark.parametrize("name", make.limits(keras))
def test_regularizers_and_constraints_are_those_of_keras(name: str) -> None:
    np.testing.assert_allclose(make.limits(keras)[name], STORED["limits"][name], rtol=1e-6)


def test_learning_rates() -> None:
    optimizer = optimizers.Adam(0.25)
    assert float(optimizer.learning_rate) == 0.25
    optimizer.learning_rate = 0.5
    assert optimizer.rate_at(7) == 0.5
    optimizer.learning_rate.assign(0.125)
    assert float(optimizer.lr) == 0.125
    optimizer.lr = 2.0
    assert optimizer.learning_rate.numpy() == 2.0
    optimizer.learning_rate = schedules.PiecewiseConstantDecay([2], [1.0, 0.5])
    assert [optimizer.rate_at(k) for k in range(5)] == [1, 1, 1, 0.5, 0.5]
    optimizer.iterations.assign(4)
    assert float(optimizer.learning_rate) == 0.5
    with pytest.raises(ModelError, match="made with a schedule: its learning rate can't be set"):
        optimizer.learning_rate = 0.1
    assert optimizers.SGD(lambda: 0.75).rate_at(3) == 0.75


def test_old_spellings() -> None:
    optimizer = optimizers.SGD(lr=0.5, decay=0.25, momentum=0.5)
    assert [optimizer.rate_at(k) for k in (0, 2, 4)] == [0.5, 0.5 / 1.5, 0.25]
    again = optimizers.deserialize(optimizers.serialize(optimizer))
    assert again.rate_at(4) == 0.25


def test_own_schedules() -> None:
    class Transformer(schedules.LearningRateSchedule):
        """Vaswani et al. (2017), as tutorials write it."""

        def __call__(self, step: Any) -> Any:
            step = keras.ops.cast(step, "float32") + 1.0
            return 0.1 * keras.ops.minimum(keras.ops.rsqrt(step), step * 10**-1.5)

    optimizer = optimizers.Adam(Transformer())
    wanted = [0.1 * min((k + 1) ** -0.5, (k + 1) * 10**-1.5) for k in range(20)]
    np.testing.assert_allclose([optimizer.rate_at(k) for k in range(20)], wanted, rtol=1e-6)


def test_names_and_configs() -> None:
    assert type(optimizers.get("RMSProp")) is optimizers.RMSprop
    assert type(optimizers.get("adamw")) is optimizers.AdamW
    assert optimizers.get(None) is None
    optimizer = optimizers.AdamW(
        schedules.CosineDecay(0.1, 50, warmup_target=0.2, warmup_steps=5), beta_1=0.8, clipnorm=1.0
    )
    again = optimizers.deserialize(optimizers.serialize(optimizer))
    assert again.get_config() == optimizer.get_config()
    assert again.rule == optimizer.rule
    assert again.rule.clipnorm == 1.0
    assert again.rate_at(3) == optimizer.rate_at(3)


def test_variables_without_decay() -> None:
    inputs = keras.Input((3,))
    outputs = keras.layers.Dense(2, name="dense")(inputs)
    model = keras.Model(inputs, outputs)
    optimizer = optimizers.AdamW()
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    (found,) = optimizer.without_decay(model.weights)
    assert found is model.weights[1]
    optimizer.exclude_from_weight_decay(var_list=[model.weights[0]])
    (found,) = optimizer.without_decay(model.weights)
    assert found is model.weights[0]
    excluded = optimizers.SGD(0.5, weight_decay=1.0)
    excluded.exclude_from_weight_decay(var_names=["bias"])
    model.compile(excluded, "mse")
    model.set_weights([np.ones((3, 2)), np.ones(2)])
    # Targets that are met: only decay changes the weights.
    model.fit(np.zeros((4, 3)), np.ones((4, 2)), batch_size=4, epochs=1, verbose=0)
    np.testing.assert_array_equal(model.weights[0].value, np.full((3, 2), 0.5))
    np.testing.assert_array_equal(model.weights[1].value, np.ones(2))


@pytest.mark.parametrize("optimizer", ["nadam", "adam"])
def test_layers_of_float64_train_where_float32_is_the_default(optimizer: str) -> None:
    dense = keras.layers.Dense(2, dtype="float64", kernel_regularizer="l2")
    model = keras.Sequential([keras.Input((3,), dtype="float64"), dense])
    model.compile(optimizer, "mse")
    x = np.linspace(-1, 1, 24).reshape(8, 3)
    history = model.fit(x, x[:, :2], batch_size=8, epochs=5, verbose=0).history["loss"]
    assert history[-1] < history[0]
    assert dense.kernel.value.dtype == np.float64


def test_mistakes_are_named() -> None:
    with pytest.raises(ModelError, match=r"Adam has no argument 'beta1' \(did you mean 'beta_1'"):
        optimizers.Adam(beta1=0.5)
    with pytest.raises(ModelError, match="only one of clipnorm, clipvalue"):
        optimizers.SGD(clipnorm=1.0, clipvalue=1.0)
    with pytest.raises(ModelError, match="momentum must be a number from 0 to 1"):
        optimizers.SGD(momentum=2.0)
    with pytest.raises(ModelError, match="learning_rate must be a number"):
        optimizers.Adam("fast")
    with pytest.raises(ModelError, match=r"unknown optimizer 'adm' \(did you mean"):
        optimizers.get("adm")
    with pytest.raises(
        ModelError, match="gradient_accumulation_steps must be an integer of at least 2"
    ):
        optimizers.Adam(gradient_accumulation_steps=1)
    with pytest.raises(ModelError, match="decay_steps must be positive"):
        schedules.CosineDecay(0.1, 0)
