"""Runs one pass on graph text and shows the result as text."""

from __future__ import annotations

from convc.graph.ir import Graph
from convc.graph.parser import parse_graph
from convc.graph.printer import print_node
from convc.graph.verify import verify_graph
from convc.passes.manager import Pass
from tests.passes.agreement import assert_agrees


def rewritten(run: Pass, text: str) -> Graph:
    """The graph after a pass, verified, with the same results as before."""
    before = parse_graph(text)
    after = run(before)
    verify_graph(after)
    assert_agrees(before, after)
    return after


def nodes(graph: Graph) -> list[str]:
    """Each node's text."""
    return [print_node(node) for node in graph.nodes]


def operators(graph: Graph) -> list[str]:
    """Each node's operator."""
    return [node.op.mnemonic for node in graph.nodes]
