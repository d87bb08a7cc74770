"""The rules of a graph: every value is defined once, before its use, with the type that its operator gives it."""

from __future__ import annotations

from typing import NoReturn

from convc.errors import IRError
from convc.graph.ir import Graph, Node, type_of
from convc.graph.op import OPERATORS, OpError
from convc.graph.printer import print_node
from convc.types import TensorType, symbols_of


def verify_graph(graph: Graph) -> None:
    """Raises IRError, quoting the node, where a graph breaks a rule."""
    defined: dict[str, TensorType] = {}
    for name, array in graph.weights.items():
        if graph.types.get(name) != type_of(array):
            fail(graph, f"weight {name!r} is {type_of(array)}, its type is {graph.types.get(name)}")
        defined[name] = graph.types[name]
    for name in graph.inputs:
        if name in defined:
            fail(graph, f"input {name!r} is defined twice")
        if name not in graph.types:
            fail(graph, f"input {name!r} has no type")
        defined[name] = graph.types[name]
    for node in graph.nodes:
        verify_node(graph, node, defined)
    for name in graph.outputs:
        if name not in defined:
            fail(graph, f"output {name!r} is not defined")
    free = {s for t in defined.values() for s in symbols_of(t.shape)}
    bound = {s for n in graph.inputs for s in symbols_of(graph.types[n].shape)}
    if free - bound:
        fail(graph, f"no input has the symbol {min(free - bound)!r} in its shape")
    extra = [name for name in graph.types if name not in defined]
    if extra:
        fail(graph, f"{extra[0]!r} has a type but is not defined")


def verify_node(graph: Graph, node: Node, defined: dict[str, TensorType]) -> None:
    """Checks one node and adds its outputs to the defined values."""
    if OPERATORS.get(node.op.mnemonic) is not type(node.op):
        fail(graph, f"operator {type(node.op).__name__} is not registered", node)
    for name in node.inputs:
        if name not in defined:
            fail(graph, f"value {name!r} is used before it is defined", node)
    try:
        types = node.op.infer(*(defined[name] for name in node.inputs))
    except (OpError, TypeError) as error:
        fail(graph, str(error), node)
    if len(types) != len(node.outputs):
        fail(graph, f"{len(types)} outputs expected, got {len(node.outputs)}", node)
    for name, inferred in zip(node.outputs, types, strict=True):
        if name in defined:
            fail(graph, f"value {name!r} is defined twice", node)
        if graph.types.get(name) != inferred:
            fail(graph, f"{name!r} is {inferred}, its type is {graph.types.get(name)}", node)
        defined[name] = inferred


def fail(graph: Graph, message: str, node: Node | None = None) -> NoReturn:
    quoted = f"\n    {print_node(node)}" if node else ""
    raise IRError(f"graph {graph.name}: {message}{quoted}")
