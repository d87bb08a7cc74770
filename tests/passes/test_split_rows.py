"""Strips of rows: which maps are split, what they take along, and that every bit stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import convc
from convc import keras
from convc.driver import Options
from convc.graph.interp import run_graph
from convc.graph.ir import Graph
from convc.graph.verify import verify_graph
from convc.keras import layers
from convc.passes.pipelines import INFERENCE
from convc.passes.split_rows import SplitRows
from convc.types import DType


def before_splitting(model: Any) -> Graph:
    graph = model.graphs()["predict"]
    for step, _ in INFERENCE.steps:
        if not isinstance(step, SplitRows):
            graph = step(graph)
    return graph


def model_of(rows: int, *, residual: bool = False, pool: Any = None, padding: str = "same") -> Any:
    image = keras.Input((rows, 40, 32))
    x = layers.Conv2D(32, 3, padding=padding)(image)
    x = layers.BatchNormalization()(x)
    if residual:
        x = layers.Add()([x, image])
    x = layers.ReLU()(x)
    if pool is not None:
        x = pool(x)
    return keras.Model(image, x)


def count(graph: Graph, mnemonic: str) -> int:
    return sum(node.op.mnemonic == mnemonic for node in graph.nodes)


@pytest.mark.parametrize("rows", [16, 19, 21])
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(
    "after",
    [
        {},
        {"pool": layers.MaxPooling2D(2)},
        {"pool": layers.AveragePooling2D((3, 2))},
        {"pool": layers.MaxPooling2D(3, 2, padding="same")},
    ],
)
def test_strips_give_the_bits_of_the_whole(rows: int, padding: str, after: Any) -> None:
    graph = before_splitting(model_of(rows, padding=padding, **after))
    assert count(graph, "winograd_input") == 1
    split = SplitRows(whole=0, strip=150_000)(graph)
    verify_graph(split)
    assert count(split, "winograd_input") > 1
    x = np.random.default_rng(0).standard_normal((2, rows, 40, 32)).astype(np.float32)
    (name,) = graph.inputs
    (want,) = run_graph(graph, {name: x}, DType.float32).values()
    (got,) = run_graph(split, {name: x}, DType.float32).values()
    np.testing.assert_array_equal(got, want)


def test_strips_take_the_residual_along() -> None:
    split = SplitRows(whole=0, strip=150_000)(before_splitting(model_of(16, residual=True)))
    strips = count(split, "winograd_input")
    assert strips > 1
    assert count(split, "relu") == strips


def test_a_pooling_whose_windows_overlap_waits_for_the_whole() -> None:
    overlapping = model_of(16, pool=layers.MaxPooling2D(3, 2))
    split = SplitRows(whole=0, strip=150_000)(before_splitting(overlapping))
    assert count(split, "max_pool2d") == 1
    apart = model_of(16, pool=layers.MaxPooling2D(2))
    split = SplitRows(whole=0, strip=150_000)(before_splitting(apart))
    assert count(split, "max_pool2d") == count(split, "winograd_input")


def test_small_maps_stay_whole() -> None:
    graph = before_splitting(model_of(16))
    assert SplitRows()(graph) == graph


def test_a_large_map_runs_in_strips_of_little_memory() -> None:
    image = keras.Input((256, 256, 16))
    model = keras.Model(image, layers.Conv2D(16, 3, padding="same", activation="relu")(image))
    compiled = convc.compile(model, batch=1)
    program = compiled.compiled.program
    steps = [s for s in program.entries[0].steps if s.layers]
    assert len(steps) > 6
    assert len({s.kernel for s in steps}) < len(steps)  # strips share their kernels
    transforms = 2 * 36 * 64 * 64 * 16 * 4
    padded = 258 * 258 * 16 * 4
    assert isinstance(program.arena, int)
    assert program.arena < padded + transforms / 2
    x = np.random.default_rng(0).standard_normal((1, 256, 256, 16)).astype(np.float32)
    exact = convc.compile(model, batch=1, options=Options(mode="exact"))
    np.testing.assert_allclose(compiled(x), exact(x), rtol=0, atol=2e-5)
