"""Running graphs through the operators' references."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from convc import ops  # noqa: F401  (registers the operators)
from convc.errors import DataError
from convc.graph.interp import run_graph
from convc.graph.parser import parse_graph
from convc.types import DType

GRAPH = parse_graph(
    """
    graph g(x: float32[N, 2], k: int32[N]) -> (y, b) {
      weight w: float32[2] = [0.1, 0.3]
      a = mul(x, w)
      y = reshape(a) {shape=(2*N,)}
      h = cast(a) {dtype=float32}
      b = broadcast(h) {shape=(N, 2)}
    }
    """
)


def inputs(n: int = 3) -> dict[str, Any]:
    return {"x": np.arange(2 * n, dtype=np.float32).reshape(n, 2), "k": np.zeros(n, np.int32)}


def test_outputs_are_computed_with_the_inputs_batch() -> None:
    for n in (1, 3):
        result = run_graph(GRAPH, inputs(n))
        expected = inputs(n)["x"] * np.array([0.1, 0.3], np.float32)
        assert list(result) == ["y", "b"]
        np.testing.assert_array_equal(result["y"], expected.reshape(-1))
        np.testing.assert_array_equal(result["b"], expected)


def test_float64_run_is_float64_throughout() -> None:
    result = run_graph(GRAPH, inputs(), DType.float64, keep=True)
    assert {n: a.dtype.name for n, a in result.items()} == {
        **dict.fromkeys("xwayhb", "float64"),
        "k": "int32",
    }
    weights = np.array([0.1, 0.3], np.float32).astype(np.float64)
    np.testing.assert_array_equal(result["b"], inputs()["x"].astype(np.float64) * weights)


def test_keep_returns_every_value() -> None:
    assert set(run_graph(GRAPH, inputs(), keep=True)) == set(GRAPH.types)


def test_an_output_may_be_an_input_or_a_weight() -> None:
    graph = parse_graph("graph g(x: bool[2]) -> (x, w) { weight w: int8[1] = [4] y = not(x) }")
    result = run_graph(graph, {"x": np.array([True, False])})
    assert result["x"].tolist() == [True, False]
    assert result["w"].tolist() == [4]


def test_overflow_is_silent() -> None:
    graph = parse_graph("graph g(x: float32[1]) -> (y) { y = exp(x) }")
    assert np.isinf(run_graph(graph, {"x": np.array([1e9], np.float32)})["y"])


MISFITS: list[tuple[dict[str, Any], str]] = [
    ({"x": None}, "input 'x' of float32[N, 2] is missing"),
    ({"x": np.zeros(2, np.float32)}, "input 'x' expects float32[N, 2], got shape [2]"),
    ({"x": np.zeros((3, 3), np.float32)}, "input 'x' expects float32[N, 2], got shape [3, 3]"),
    ({"k": np.zeros(4, np.int32)}, "input 'k' expects int32[N], got shape [4]"),
    ({"x": np.zeros((3, 2))}, "input 'x' expects dtype float32, got float64"),
    ({"z": np.zeros(1)}, "unknown input 'z': expected x, k"),
]


@pytest.mark.parametrize(("change", "message"), MISFITS, ids=[m for _, m in MISFITS])
def test_inputs_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    given = {n: a for n, a in {**inputs(), **change}.items() if a is not None}
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        run_graph(GRAPH, given)


def test_a_symbol_that_no_input_gives_is_refused() -> None:
    graph = parse_graph("graph g(x: float32[2*N]) -> (y) { y = relu(x) }")
    with pytest.raises(DataError, match=re.escape("input 'x' expects float32[2*N], got shape [4]")):
        run_graph(graph, {"x": np.zeros(4, np.float32)})
