"""The verifier refuses what breaks a graph's rules and quotes the node."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np
import pytest

from convc.errors import IRError
from convc.graph.ir import Graph, Node
from convc.graph.parser import parse_graph
from convc.graph.verify import verify_graph
from convc.ops.activations import Relu
from convc.ops.broadcasting import Add
from convc.types import Dim, DType, TensorType

GOOD = """
graph g(x: float32[N, 3]) -> (z) {
  weight w: float32[3] = [1.0, 2.0, 3.0]
  y = add(x, w) from "sum"
  z = relu(y)
}
"""


@dataclass(frozen=True)
class Stranger(Relu):
    """An operator that nobody registered."""


def good() -> Graph:
    return parse_graph(GOOD)


def float32(*shape: int) -> TensorType:
    return TensorType(DType.float32, shape)


def broken() -> dict[str, Graph]:
    g = good()
    add, relu = g.nodes
    return {
        "value 'y' is used before it is defined\n    z = relu(y)": replace(g, nodes=(relu, add)),
        "value 'q' is used before it is defined\n    z = relu(q)": replace(
            g, nodes=(add, Node(Relu(), ("q",), ("z",)))
        ),
        "value 'y' is defined twice\n    y = relu(y)": replace(
            g, nodes=(add, Node(Relu(), ("y",), ("y",)))
        ),
        "value 'x' is defined twice\n    x = relu(y)": replace(
            g, nodes=(add, Node(Relu(), ("y",), ("x",)))
        ),
        "'y' is float32[N, 3], its type is float32[3]\n    y = add(x, w) from \"sum\"": replace(
            g, types={**g.types, "y": float32(3)}
        ),
        "'z' is float32[N, 3], its type is None": replace(
            g, types={n: t for n, t in g.types.items() if n != "z"}
        ),
        "'q' has a type but is not defined": replace(g, types={**g.types, "q": float32(3)}),
        "output 'q' is not defined": replace(g, outputs=("q",)),
        "input 'x' is defined twice": replace(g, inputs=("x", "x")),
        "input 'q' has no type": replace(g, inputs=("x", "q")),
        "weight 'w' is float32[2], its type is float32[3]": replace(
            g, weights={"w": np.zeros(2, np.float32)}
        ),
        "operator Stranger is not registered": replace(
            g, nodes=(add, Node(Stranger(), ("y",), ("z",)))
        ),
        "1 outputs expected, got 2": replace(g, nodes=(add, Node(Relu(), ("y",), ("z", "q")))),
        "add: expects 2 inputs, got 1\n    z = add(y)": replace(
            g, nodes=(add, Node(Add(), ("y",), ("z",)))
        ),
    }


def test_a_good_graph_passes() -> None:
    verify_graph(good())


@pytest.mark.parametrize("message", list(broken()))
def test_a_broken_graph_is_refused(message: str) -> None:
    with pytest.raises(IRError, match=f"^graph g: {re.escape(message)}"):
        verify_graph(broken()[message])


def test_symbols_come_from_the_inputs() -> None:
    text = "graph g(x: float32[3]) -> (y) { y = broadcast(x) {shape=(M, 3)} }"
    with pytest.raises(IRError, match="no input has the symbol 'M' in its shape"):
        verify_graph(parse_graph(text))
    assert Dim.symbol("M") in parse_graph(text).types["y"].shape
