"""Values that a training step computes again: which ones, what that saves, and that the bits stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from convc_runtime import Model

from benchmarks.training_steps import scoring
from convc import driver, keras
from convc.graph.ir import Graph
from convc.keras.training import rules
from convc.keras.training.model import Training, training_of
from convc.loops.parser import parse_kernel
from convc.plan.recompute import is_elementwise
from convc.program.ir import Program
from convc.types import evaluate

BATCH = 6
SHARE = "convc.plan.recompute._SHARE"


def training() -> Training:
    """Four convolutions, each with a batch norm and a relu6, which the next one reads."""
    layers = keras.layers
    parts: list[Any] = [layers.Input((12, 12, 3))]
    for _ in range(4):
        parts += [layers.Conv2D(16, 3, padding="same", use_bias=False)]
        parts += [layers.BatchNormalization(), layers.ReLU(6.0)]
    keras.utils.set_random_seed(1)
    model = keras.Sequential([*parts, layers.GlobalAveragePooling2D(), layers.Dense(10)])
    return training_of(model, [scoring()], rules.SGD(momentum=0.9))


def step(made: Training) -> dict[str, Graph]:
    return {"train_step": made.graphs["train_step"]}


def planned(made: Training, share: float, monkeypatch: pytest.MonkeyPatch) -> Program:
    monkeypatch.setattr(SHARE, share)
    options = driver.Options("training", in_place=True, verify=True)
    return driver.plan_graphs("t", step(made), driver.host_target(), options).program


def again(program: Program) -> list[str]:
    return [r.name for r in program.regions if r.name.endswith(".again")]


def test_activations_are_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made = training()
    plain, found = (planned(made, share, monkeypatch) for share in (0.0, 1.0))
    assert not again(plain)
    assert again(found)
    once, twice = (evaluate(p.arena, {"N": 32}) for p in (plain, found))
    assert twice < 0.9 * once
    names = [a.region for s in plain.entries[0].steps for a in s.args]
    assert all(name.removesuffix(".again") in names for name in again(found))
    assert len(found.kernels) == len(plain.kernels)


def test_a_small_share_allows_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not again(planned(training(), 0.001, monkeypatch))


def test_training_has_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    made = training()
    options = driver.Options("training", in_place=True, recall=False)
    results = []
    for share in (0.0, 1.0):
        monkeypatch.setattr(SHARE, share)
        compiled = driver.compile_graphs("t", step(made), driver.host_target(), options)
        assert bool(again(compiled.program)) is bool(share)
        results.append(trained(made, compiled.artifact.model(2)))
    for name, array in results[0].items():
        np.testing.assert_array_equal(results[1][name], array, err_msg=name)


def trained(made: Training, model: Model) -> dict[str, np.ndarray]:
    """The state after three steps."""
    context = model.context()
    first = made.first_state()
    for state in context.states:
        context.set(state.name, first[state.name])
    rng = np.random.default_rng(0)
    graph = made.graphs["train_step"]
    for _ in range(3):
        given = {
            "learning_rate": np.array(0.01, "f4"),
            **{n: rng.random((BATCH, 12, 12, 3), "f4") for n in graph.inputs if "input" in n},
            **{n: rng.integers(0, 10, BATCH) for n in graph.inputs if n.startswith("target/")},
        }
        context.entries["train_step"](given)
    return {s.name: context.get(s.name) for s in context.states}


@pytest.mark.parametrize(
    ("value", "cheap"),
    [
        ("max((x[i, j] - a[j, 0]) * a[j, 0], 0.0)", True),
        ("exp(x[i, j])", False),
        ("x[i, j] + x[j, i]", False),
        ("x[i, 7 - j]", False),
    ],
)
def test_which_kernels_are_elementwise(value: str, cheap: bool) -> None:
    kernel = parse_kernel(
        "kernel k(in x: float32[8, 8], in a: float32[8, 1], out y: float32[8, 8]) {"
        f" for i in 8 {{ for j in 8 {{ y[i, j] = {value} }} }} }}"
    )
    assert is_elementwise(kernel) is cheap
