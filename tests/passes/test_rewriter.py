"""A rewriter keeps a graph's signature whatever a pass replaces."""

from __future__ import annotations

import pytest

from convc.graph.parser import parse_graph
from convc.graph.printer import print_graph
from convc.graph.verify import verify_graph
from convc.ops.activations import Relu
from convc.passes.rewriter import Rewriter
from tests.passes.agreement import assert_agrees


def without_identities(text: str) -> str:
    """The graph's nodes, one per line, after all identities were replaced by what they copy."""
    graph = parse_graph(text)
    rewriter = Rewriter(graph)
    for node in graph.nodes:
        if node.op.mnemonic == "identity":
            rewriter.replace(node.outputs[0], rewriter.resolve(node).inputs[0])
        else:
            rewriter.keep(node)
    result = rewriter.done()
    verify_graph(result)
    assert_agrees(graph, result)
    lines = print_graph(result).splitlines()[1:-1]
    return "; ".join(line.split("#")[0].strip() for line in lines if "weight" not in line)


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ("-> (y) { a = relu(x) y = identity(a) }", "y = relu(x)"),
        ("-> (y) { y = identity(x) }", "y = identity(x)"),
        ("-> (y, z) { y = relu(x) z = identity(y) }", "y = relu(x); z = identity(y)"),
        (
            "-> (y, z) { a = relu(x) y = identity(a) z = identity(a) }",
            "y = relu(x); z = identity(y)",
        ),
        (
            "-> (y, z) { a = relu(x) y = identity(a) z = neg(y) }",
            "y = relu(x); z = neg(y)",
        ),
        ("-> (y) { weight w: float32[2] = [1.0, 2.0] y = identity(w) }", "y = identity(w)"),
    ],
)
def test_outputs_keep_their_names(nodes: str, expected: str) -> None:
    assert without_identities(f"graph g(x: float32[N, 2]) {nodes}") == expected


def test_an_unchanged_graph_is_the_same_object() -> None:
    graph = parse_graph("graph g(x: float32[N]) -> (y) { a = neg(x) y = relu(a) }")
    rewriter = Rewriter(graph)
    for node in graph.nodes:
        rewriter.keep(node)
    assert rewriter.done() is graph


def test_fresh_names_avoid_values_still_to_come() -> None:
    graph = parse_graph("graph g(x: float32[N]) -> (y) { relu = neg(x) y = relu(relu) }")
    rewriter = Rewriter(graph)
    assert rewriter.add(Relu(), "x") == "relu_1"


def test_kept_nodes_get_new_types_where_their_inputs_changed() -> None:
    graph = parse_graph(
        "graph g(x: float32[2, 3]) -> (y) { a = transpose(x) {perm=(1, 0)} b = relu(a)"
        " y = transpose(b) {perm=(1, 0)} }"
    )
    rewriter = Rewriter(graph)
    rewriter.replace("a", "x")
    rewriter.keep(graph.nodes[1])
    assert rewriter.types["b"].shape == (2, 3)
