"""What the differential fuzzing of `tests.onnx.fuzz` found, cut down, and a brief run of it."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import onnx
import pytest

from convc.onnx.importer import import_model
from tests.onnx.fuzz import differential, exported
from tests.onnx.fuzz.grower import Case, reference
from tests.onnx.models import model_of, node

RNG = np.random.default_rng(5)


def f32(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


BASES = np.tile(np.arange(-9, 10, dtype=np.int32), 4)
FOUND: dict[str, tuple[list[onnx.NodeProto], dict[str, Any], dict[str, Any]]] = {
    "pad-by-a-constant": (
        [node("Pad", "x p v")], {"x": f32(2, 3)}, {"p": np.array([0, 1, 2, 0]), "v": np.float32(-1.5)},
    ),
    "integers-to-a-power": (
        [node("Pow", "x e")], {"x": BASES, "e": np.repeat(np.arange(4, dtype=np.int32), 19)}, {},
    ),
    "reshape-over-three-dimensions": (
        [node("Reshape", "x s")], {"x": f32(3, 2, 2, 2, 2, 6)}, {"s": np.array([0, 4, 2, 2, 2, 3])},
    ),
    "integers-to-a-constant-power": ([node("Pow", "x e")], {"x": BASES}, {"e": np.array([3], np.int32)}),
}  # fmt: skip


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_once_holds(name: str) -> None:
    nodes, inputs, weights = FOUND[name]
    outputs = list(nodes[-1].output)
    model = model_of(nodes, inputs, outputs, weights, 20)
    wanted = dict(zip(outputs, reference(model, inputs), strict=True))
    assert differential.problem_of(Case(model, inputs, wanted)) == ""


def test_values_that_a_node_is_made_of_leave_an_output_its_name() -> None:
    """PyTorch's exporter calls an output `linear_1`, which the second value that makes `linear` would be too."""
    nodes = [node("Gemm", "x w b", "linear"), node("Neg", "linear", "linear_1")]
    model = model_of(nodes, {"x": f32(2, 4)}, ["linear_1"], {"w": f32(4, 4), "b": f32(4)})
    assert import_model(model).outputs == ("linear_1",)


def test_exported_random_models_agree_with_the_reference() -> None:
    until = time.monotonic() + 4
    tally = differential.run(
        range(70_000, 70_040), differential.Tally(), until, exported.problem_of
    )
    assert tally.graphs >= 3
    assert not tally.failures


def test_random_models_of_any_batch_agree_with_the_reference() -> None:
    until = time.monotonic() + 4
    judge = differential.symbolic_problem_of
    tally = differential.run(range(600_000, 600_040), differential.Tally(), until, judge)
    assert tally.graphs >= 3
    assert not tally.failures


def test_random_models_agree_with_the_reference() -> None:
    """Some seconds' worth; the script runs as many as one likes."""
    until = time.monotonic() + 5
    tally = differential.run(range(70_000, 70_040), differential.Tally(), until)
    assert tally.graphs >= 3
    assert not tally.failures
