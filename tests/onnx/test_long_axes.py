"""Running sums and top-k along axes that are long enough for their faster forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from convc.graph.ir import Graph
from convc.onnx.backend import CompiledRep
from convc.onnx.importer import import_model
from convc.ops.ordering import Rank
from convc.ops.sorting import Order
from tests.onnx.models import model_of, node

RNG = np.random.default_rng(4)


@pytest.mark.parametrize("dtype", [np.float32, np.int64])
@pytest.mark.parametrize("reverse", [0, 1])
@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize(("shape", "axis"), [((3, 500), 1), ((2100, 2), 0)])
def test_running_sums(shape: Any, axis: int, exclusive: int, reverse: int, dtype: Any) -> None:
    x = RNG.integers(-9, 9, shape).astype(dtype)
    nodes = [node("CumSum", "x a", exclusive=exclusive, reverse=reverse)]
    found = CompiledRep(model_of(nodes, {"x": x}, ["y"], {"a": np.array(axis)})).run([x])[0]
    moved = np.flip(x, axis) if reverse else x
    expected = np.cumsum(moved, axis)
    expected = expected - moved if exclusive else expected
    np.testing.assert_array_equal(found, np.flip(expected, axis) if reverse else expected)
    assert found.dtype == dtype


def test_running_sums_take_time_in_line_with_their_length() -> None:
    x = np.ones(200_000, np.float32)
    graph = import_model(model_of([node("CumSum", "x a")], {"x": x}, ["y"], {"a": np.array(0)}))
    longest = max(graph.types[n.inputs[0]].shape[n.op.axis] for n in sums(graph))
    assert longest <= 64


def sums(graph: Graph) -> list[Any]:
    return [n for n in graph.nodes if n.op.mnemonic == "cum_sum"]


def highest(x: Any, k: int) -> tuple[Any, Any]:
    """Values and first positions along the last axis, a NaN above all numbers."""
    order: Any = np.array([first_of(row.tolist(), k) for row in x])
    return np.take_along_axis(x, order, -1), order


def first_of(row: list[Any], k: int) -> list[int]:
    return sorted(range(len(row)), key=lambda i: (row[i] == row[i], -row[i], i))[:k]


@pytest.mark.parametrize("k", [1, 3, 8])
@pytest.mark.parametrize("kind", ["noise", "ties", "lowest", "nan", "integers"])
def test_a_few_of_many(kind: str, k: int) -> None:
    x: Any = RNG.standard_normal((4, 120)).astype(np.float32)
    if kind == "ties":
        x = np.round(x)
    if kind == "lowest":
        x[:] = -np.inf
        x[0, 7] = 1
    if kind == "nan":
        x[1, [5, 9]] = np.nan
    if kind == "integers":
        x = RNG.integers(-3, 3, (4, 120)).astype(np.int64)
        x[2] = np.iinfo(np.int64).min
    model = model_of(
        [node("TopK", "x k", "v i", axis=-1)], {"x": x}, ["v", "i"], {"k": np.array([k])}
    )
    values, positions = CompiledRep(model).run([x])
    expected, order = highest(x, k)
    np.testing.assert_array_equal(positions, order)
    np.testing.assert_array_equal(values, expected)
    assert not any(isinstance(n.op, Rank) for n in import_model(model).nodes)


@pytest.mark.parametrize("order", ["random", "ascending", "descending", "equal", "nan"])
@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize(("extent", "count"), [(2500, 9), (2500, 300), (130, 30), (5000, 1250)])
def test_the_first_of_many_whatever_their_order(
    extent: int, count: int, largest: int, order: str
) -> None:
    """Elements that come in the worst order make room again and again; equal ones stay in theirs, a NaN is largest."""
    x = RNG.standard_normal((2, extent)).astype(np.float32)
    match order:
        case "ascending":
            x = np.sort(x, 1)
        case "descending":
            x = np.sort(x, 1)[:, ::-1].copy()
        case "equal":
            x[:] = 3
        case "nan":
            x[:, ::7] = np.nan
    nodes = [node("TopK", "x k", "v i", largest=largest)]
    model = model_of(nodes, {"x": x}, ["v", "i"], {"k": np.array([count])})
    values, positions = CompiledRep(model).run([x])
    expected = Order(1, bool(largest)).reference(x)[:, :count]
    np.testing.assert_array_equal(positions, expected)
    np.testing.assert_array_equal(values, np.take_along_axis(x, expected, 1))
