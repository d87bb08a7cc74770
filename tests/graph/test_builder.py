"""Building and rebuilding graphs."""

from __future__ import annotations

import numpy as np
import pytest

from convc.graph.ir import Builder, Graph, Node, renamed
from convc.graph.op import OpError
from convc.graph.verify import verify_graph
from convc.ops.activations import Relu
from convc.ops.broadcasting import Add
from convc.types import DType, TensorType

FLOAT = TensorType(DType.float32, (2,))


def example() -> Graph:
    b = Builder("g")
    x = b.input("x", FLOAT)
    w, v = (b.weight("w", np.full(2, k, np.float32)) for k in range(2))
    y = b.add(Add(), b.add(Add(), x, w), v)
    return b.finish([b.add(Relu(), y)])


def test_names_are_made_unique() -> None:
    graph = example()
    verify_graph(graph)
    assert list(graph.weights) == ["w", "w_1"]
    assert [n.outputs[0] for n in graph.nodes] == ["add", "add_1", "relu"]


def test_producers_and_consumers() -> None:
    graph = example()
    assert graph.producers()["add_1"] is graph.nodes[1]
    assert graph.consumers()["add"] == [graph.nodes[1]]
    assert graph.consumers()["relu"] == []


def test_rebuilding_infers_types_and_drops_unused_weights() -> None:
    graph = example()
    first, _, relu = graph.nodes
    shorter = graph.rebuilt([first, renamed(relu, {"add_1": "add"})])
    verify_graph(shorter)
    assert list(shorter.weights) == ["w"]
    assert set(shorter.types) == {"x", "w", "add", "relu"}


def test_errors_name_the_layer() -> None:
    b = Builder("g")
    x, y = b.input("x", FLOAT), b.input("y", TensorType(DType.float32, (3,)))
    with pytest.raises(OpError, match=r"^layer 'merge': add: shapes"):
        b.emit(Node(Add(), (x, y), ("z",), "merge"))
    with pytest.raises(OpError, match=r"^relu: undefined value 'q'"):
        b.emit(Node(Relu(), ("q",), ("z",)))
    with pytest.raises(OpError, match="value 'x' is defined twice"):
        b.input("x", FLOAT)
