"""What a training step's program looks like: how many kernels, in which order, on which copies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from convc import driver, keras
from convc.graph.interp import run_graph
from convc.keras import layers, losses
from convc.keras.training.model import training_of
from convc.keras.training.rules import Adam
from convc.keras.training.scoring import Scoring
from convc.loops.ir import Role
from convc.program.interp import run_program
from convc.program.ir import Program, Step
from convc.target import TARGETS
from convc.types import Dim, DType, TensorType


@pytest.fixture(scope="module")
def made() -> tuple[Any, Program]:
    """The training of a small network with a batch norm, and its program for a CPU."""
    keras.utils.set_random_seed(3)
    x = image = keras.Input((8, 8, 2), name="image")
    x = layers.BatchNormalization(name="norm")(layers.Conv2D(64, 3, use_bias=False, name="conv")(x))
    x = layers.MaxPooling2D()(layers.ReLU()(x))
    x = layers.Conv2D(64, 2, name="second")(x)
    x = layers.Dense(32, activation="relu", name="hidden")(layers.Flatten()(x))
    model = keras.Model(image, layers.Dense(3, activation="softmax", name="scores")(x))
    labels = TensorType(DType.int64, (Dim.symbol("N"),))
    loss = losses.SparseCategoricalCrossentropy()
    training = training_of(model, [Scoring("scores", labels, None, loss, 1.0, [], ())], Adam())
    options = driver.Options("training", verify=True, in_place=True)
    graphs = {"step": training.graphs["train_step"]}
    planned = driver.plan_graphs("m", graphs, TARGETS["x86-64-avx2"], options)
    return training, planned.program


def written(program: Program, step: Step) -> set[str]:
    """The regions that a step writes."""
    params = program.kernels[step.kernel].params
    return {a.region for b, a in zip(params, step.args, strict=True) if b.role is not Role.in_}


def test_each_parameter_is_updated_with_its_slots_by_one_kernel(made: Any) -> None:
    training, program = made
    (entry,) = program.entries
    for parameter in training.parameters:
        slots = {f"optimizer/{parameter}/{slot}" for slot in ("momentum", "velocity")}
        writers = [s for s in entry.steps if parameter in written(program, s)]
        assert len(writers) == 1
        assert slots <= {a.region for a in writers[0].args}


def test_an_update_follows_its_gradient(made: Any) -> None:
    _, program = made
    (entry,) = program.entries
    places = {s.args[-1].region: i for i, s in enumerate(entry.steps)}
    assert places["scores/kernel"] < places["second/kernel"] < places["conv/kernel"]


def test_masks_and_deviations_are_computed_where_they_are_read(made: Any) -> None:
    _, program = made
    alone = {"greater", "square", "sub", "sub + square"}
    assert alone.isdisjoint(dict(k.notes)["ops"] for k in program.kernels.values())


def test_nothing_large_is_left_to_scalars(made: Any) -> None:
    _, program = made
    for kernel in program.kernels.values():
        notes = dict(kernel.notes)
        large = len(kernel.params[-1].shape) == 4
        assert notes["strategy"] != "scalar" or not large, notes["ops"]


def test_weights_are_turned_for_the_gradients_of_inputs(made: Any) -> None:
    _, program = made
    copies = [r.name for r in program.regions if ".packed" in r.name]
    assert any(name.startswith("second/kernel") for name in copies)
    assert not any(name.startswith("conv/kernel") for name in copies)


def test_the_program_computes_the_graph(made: Any) -> None:
    training, program = made
    graph = training.graphs["train_step"]
    rng = np.random.default_rng(0)
    given = {
        "image": rng.normal(size=(3, 8, 8, 2)).astype("f4"),
        "learning_rate": np.array(0.1, "f4"),
    }
    given |= training.first_state()
    given |= {n: np.array([0, 1, 2]) for n in graph.inputs if n not in given}
    found: Mapping[str, Any] = run_program(program, given, {"N": 3}, "step")
    wanted: Mapping[str, Any] = run_graph(graph, {n: given[n] for n in graph.inputs})
    for name, value in wanted.items():
        actual = found[name.removeprefix("next/")]
        np.testing.assert_allclose(actual, value, rtol=2e-3, atol=2e-3, err_msg=name)
