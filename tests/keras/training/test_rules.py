"""Update rules against plain numpy versions of Keras 3's optimizers, step after step in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from convc.graph.interp import run_graph
from convc.graph.ir import Builder, Graph
from convc.keras.training.optimizer import PREFIX, first_state, slot_name, updated
from convc.keras.training.rules import (
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    AdamW,
    Lion,
    Nadam,
    RMSprop,
    Rule,
)
from convc.ops.values import Value
from convc.passes.gradient import with_outputs
from convc.types import DType, TensorType

TYPES = {
    "w": TensorType(DType.float64, (3, 2)),
    "b": TensorType(DType.float64, (2,)),
}
RATE, STEPS = 0.05, 6


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
    found = updated(rule, parameters, gradients, state, iterations, rate, without_decay=("b",))
    return with_outputs(builder, {f"next/{n}": v.name for n, v in found.items()})


def gradients_at(step: int) -> dict[str, Any]:
    rng = np.random.default_rng(step)
    return {f"d{n}": rng.normal(size=t.shape) for n, t in TYPES.items()}  # type: ignore[arg-type]


def start() -> dict[str, Any]:
    rng = np.random.default_rng(99)
    return {n: rng.normal(size=t.shape) for n, t in TYPES.items()}  # type: ignore[arg-type]


def trained(rule: Rule) -> dict[str, Any]:
    """The state after some steps."""
    graph, state = update_graph(rule), {**start(), **first_state(rule, TYPES)}
    for step in range(STEPS):
        inputs = {**state, **gradients_at(step), "rate": np.array(RATE)}
        result = run_graph(graph, {**inputs, "iterations": np.array(step)})
        state = {n.removeprefix("next/"): a for n, a in result.items()}
    return state


Update = Callable[[Any, Any, dict[str, Any], int], Any]


def expected(update: Update, decay: float = 0.0) -> dict[str, Any]:
    found = {}
    for name, array in start().items():
        slots: dict[str, Any] = {}
        for step in range(STEPS):
            if name == "w":
                array = array - array * decay * RATE
            array = update(array, gradients_at(step)[f"d{name}"], slots, step + 1)
        found[name] = array
    return found


def sgd(momentum: float, nesterov: bool) -> Update:
    def update(w: Any, g: Any, s: dict[str, Any], t: int) -> Any:
        s["v"] = momentum * s.get("v", 0) - RATE * g
        return w + (momentum * s["v"] - RATE * g if nesterov else s["v"])

    return update


def rmsprop(momentum: float, centered: bool) -> Update:
    def update(w: Any, g: Any, s: dict[str, Any], t: int) -> Any:
        s["v"] = 0.9 * s.get("v", 0) + 0.1 * g * g
        s["a"] = 0.9 * s.get("a", 0) + 0.1 * g
        step = RATE * g / np.sqrt(s["v"] - (s["a"] ** 2 if centered else 0) + 1e-7)
        s["m"] = momentum * s.get("m", 0) + step
        return w - s["m"]

    return update


def adam(amsgrad: bool) -> Update:
    def update(w: Any, g: Any, s: dict[str, Any], t: int) -> Any:
        s["m"] = 0.9 * s.get("m", 0) + 0.1 * g
        s["v"] = 0.999 * s.get("v", 0) + 0.001 * g * g
        s["h"] = np.maximum(s.get("h", 0), s["v"]) if amsgrad else s["v"]
        alpha = RATE * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        return w - alpha * s["m"] / (np.sqrt(s["h"]) + 1e-7)

    return update


def adagrad(w: Any, g: Any, s: dict[str, Any], t: int) -> Any:
    s["a"] = s.get("a", 0.1) + g * g
    return w - RATE * g / np.sqrt(s["a"] + 1e-7)


def adadelta(w: Any, g: Any, s: dict[str, Any], t: int) -> Any:
    s["g"] = 0.95 * s.get("g", 0) + 0.05 * g * g
    delta = -np.sqrt(s.get("d", 0) + 1e-7) * g / np.sqrt(s["g"] + 1e-7)
    s["d"] = 0.95 * s.get("d", 0) + 0.05 * delta * delta
    return w + RATE * delta


def nadam(w: Any, g: Any, s: dict[str, Any], t: int) -> Any:
    now, later = (0.9 * (1 - 0.5 * 0.96**k) for k in (t, t + 1))
    s["u"] = s.get("u", 1.0) * now
    s["m"] = 0.9 * s.get("m", 0) + 0.1 * g
    s["v"] = 0.999 * s.get("v", 0) + 0.001 * g * g
    ahead = later * s["m"] / (1 - s["u"] * later) + (1 - now) * g / (1 - s["u"])
    return w - RATE * ahead / (np.sqrt(s["v"] / (1 - 0.999**t)) + 1e-7)


def lion(w: Any, g: Any, s: dict[str, Any], t: int) -> Any:
    m = s.get("m", 0)
    s["m"] = 0.99 * m + 0.01 * g
    return w - RATE * np.sign(0.9 * m + 0.1 * g)


@pytest.mark.parametrize(
    ("rule", "update", "decay"),
    [
        (SGD(), sgd(0.0, False), 0.0),
        (SGD(momentum=0.9), sgd(0.9, False), 0.0),
        (SGD(momentum=0.9, nesterov=True), sgd(0.9, True), 0.0),
        (RMSprop(), rmsprop(0.0, False), 0.0),
        (RMSprop(momentum=0.5, centered=True), rmsprop(0.5, True), 0.0),
        (Adam(), adam(False), 0.0),
        (Adam(amsgrad=True), adam(True), 0.0),
        (AdamW(), adam(False), 0.004),
        (Adagrad(), adagrad, 0.0),
        (Adadelta(), adadelta, 0.0),
        (Nadam(), nadam, 0.0),
        (Lion(weight_decay=0.1), lion, 0.1),
    ],
    ids=lambda v: str(v) if isinstance(v, Rule) else "",
)
def test_rules_are_keras(rule: Rule, update: Update, decay: float) -> None:
    state, wanted = trained(rule), expected(update, decay)
    for name in TYPES:
        np.testing.assert_allclose(state[name], wanted[name], rtol=1e-9, atol=1e-12)


def clipped_update(rule: Rule) -> dict[str, Any]:
    """What a plain step of rate 1 takes off the parameters: the clipped gradients."""
    inputs = {**start(), **first_state(rule, TYPES), **gradients_at(0)}
    inputs |= {"rate": np.array(1.0), "iterations": np.array(0)}
    result = run_graph(update_graph(rule), inputs)
    return {n: np.asarray(inputs[n] - result[f"next/{n}"]) for n in TYPES}


def test_clipping() -> None:
    plain = clipped_update(SGD())
    for name, g in clipped_update(SGD(clipvalue=0.3)).items():
        np.testing.assert_allclose(g, np.clip(plain[name], -0.3, 0.3), rtol=1e-9)
    for name, g in clipped_update(SGD(clipnorm=0.5)).items():
        scale = min(1, 0.5 / np.linalg.norm(plain[name]))
        np.testing.assert_allclose(g, plain[name] * scale, rtol=1e-9)
    norm = np.sqrt(sum(np.sum(g**2) for g in plain.values()))
    for name, g in clipped_update(SGD(global_clipnorm=0.5)).items():
        np.testing.assert_allclose(g, plain[name] * min(1, 0.5 / norm), rtol=1e-9)
    for name, g in clipped_update(SGD(global_clipnorm=1e9)).items():
        np.testing.assert_allclose(g, plain[name], rtol=1e-9)


def test_moving_average_of_parameters() -> None:
    rule = SGD(use_ema=True, ema_momentum=0.8)
    state, wanted = trained(rule), start()
    average: dict[str, Any] = {}
    for step in range(STEPS):
        for name, g in gradients_at(step).items():
            n = name.removeprefix("d")
            wanted[n] = wanted[n] - RATE * g
            average[n] = wanted[n] if step == 0 else 0.8 * average[n] + 0.2 * wanted[n]
    for name in TYPES:
        np.testing.assert_allclose(state[slot_name(name, "average")], average[name], rtol=1e-12)


def test_first_state_has_the_rules_own_scalars() -> None:
    assert first_state(Nadam(), TYPES)[f"{PREFIX}/momentum_product"] == 1.0
    assert first_state(Adagrad(), TYPES)[slot_name("b", "accumulator")].tolist() == [0.1, 0.1]
