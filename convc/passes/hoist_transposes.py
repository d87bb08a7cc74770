"""Moves transposes up to the graph's inputs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from convc.graph.ir import Graph, Node
from convc.ops.broadcasting import Broadcasting
from convc.ops.norm import BatchNorm, LayerNorm
from convc.ops.shape import Transpose
from convc.passes.rewriter import Rewriter
from convc.passes.sink_transposes import Perm, inverse, relaid
from convc.types import evaluate, size_of, symbols_of


@dataclass(frozen=True)
class HoistTransposes:
    """f(input) -> Transpose becomes Transpose -> f', so that pads, scales and shifts of an input meet the convolution.

    A chain of operators with one operand beside constants, from an input down to nothing but equal transposes, follows
    if no operator in it makes its operand smaller.

    before:
        graph g(x: float32[N, 4, 4, 2]) -> (y) {
          weight mean: float32[2] = [1.0, 2.0]
          weight w: float32[1, 2, 1, 1] = [1.0, 2.0]
          a = sub(x, mean)
          b = pad(a) {pads=((0, 0), (1, 1), (1, 1), (0, 0))}
          c = transpose(b) {perm=(0, 3, 1, 2)}
          y = conv2d(c, w)
        }
    after:
        graph g(x: float32[N, 4, 4, 2]) -> (y) {
          weight w: float32[1, 2, 1, 1] = [1.0, 2.0]
          weight mean_1: float32[2, 1, 1] = [1.0, 2.0]
          x_transposed = transpose(x) {perm=(0, 3, 1, 2)}
          a = sub(x_transposed, mean_1)
          b = pad(a) {pads=((0, 0), (0, 0), (1, 1), (1, 1))}
          y = conv2d(b, w)
        }
    """

    name: ClassVar[str] = "hoist-transposes"

    def __call__(self, graph: Graph) -> Graph:
        wanted = wanted_orders(graph)
        if not any(o in wanted for node in graph.nodes for o in node.outputs):
            return graph
        rewriter, transposed = Rewriter(graph), dict[str, str]()
        for node in graph.nodes:
            output, perm = node.outputs[0], wanted.get(node.outputs[0])
            data = operand(graph, node) if perm else None
            if perm and data:
                if data not in transposed:
                    assert data in graph.inputs
                    transposed[data] = rewriter.add(
                        Transpose(perm), data, name=f"{data}_transposed"
                    )
                apply(rewriter, node, data, transposed[data], perm)
                transposed[output] = output
            elif isinstance(node.op, Transpose) and node.inputs[0] in wanted:
                x = node.inputs[0]
                if x not in transposed:
                    transposed[x] = rewriter.add(node.op, x, name=f"{x}_transposed")
                rewriter.replace(output, transposed[x])
            else:
                rewriter.keep(node)
        return rewriter.done()


def operand(graph: Graph, node: Node) -> str | None:
    """The one operand of an operator that can follow an order, beside constants."""
    data = [i for i in node.inputs if i not in graph.weights]
    if len(data) != 1 or len(node.outputs) != 1 or node.op.permute is None:
        return None
    others_broadcast = isinstance(node.op, (Broadcasting, BatchNorm, LayerNorm))
    x, y = graph.types[data[0]], graph.types[node.outputs[0]]
    if x.rank != y.rank or len(node.inputs) > 1 and not others_broadcast:
        return None
    ones = dict.fromkeys(symbols_of((*x.shape, *y.shape)), 1)
    grows = evaluate(size_of(x.shape), ones) <= evaluate(size_of(y.shape), ones)
    return data[0] if grows else None


def wanted_orders(graph: Graph) -> dict[str, Perm]:
    """The values, from inputs down, that are only read transposed by one and the same order."""
    wanted: dict[str, Perm | None] = dict.fromkeys(graph.outputs)
    data = {node.outputs[0]: operand(graph, node) for node in graph.nodes}
    for node in reversed(graph.nodes):
        order = wanted.get(node.outputs[0])
        follows = order is not None and can_follow(graph, node, order)
        for name in node.inputs:
            perm = node.op.perm if isinstance(node.op, Transpose) else None
            if follows and name == data[node.outputs[0]]:
                perm = order
            wanted[name] = perm if wanted.get(name, perm) == perm else None
    found: dict[str, Perm] = {}
    for name in (*graph.inputs, *data):
        order = wanted.get(name)
        if order and (name in graph.inputs or data[name] in found):
            found[name] = order
    return found


def can_follow(graph: Graph, node: Node, perm: Perm) -> bool:
    """Whether the operator exists for operands in that order."""
    if node.op.permute is None or operand(graph, node) is None:
        return False
    types = (graph.types[i] for i in node.inputs)
    return isinstance(node.op, Broadcasting) or node.op.permute(perm, *types) is not None


def apply(rewriter: Rewriter, node: Node, data: str, transposed: str, perm: Perm) -> None:
    """Emits the operator on its transposed operand under the old output's name."""
    op, inputs = node.op, []
    broadcasts = isinstance(op, Broadcasting)
    if not broadcasts:
        assert op.permute is not None
        op = op.permute(perm, *(rewriter.graph.types[i] for i in node.inputs))
    for name in node.inputs:
        if name == data:
            inputs.append(transposed)
        elif broadcasts and rewriter.graph.types[name].rank > 0:
            array = relaid(rewriter.graph.weights[name], inverse(perm), True)
            inputs.append(rewriter.weight(name, array))
        else:
            inputs.append(name)
    rewriter.emit(replace(node, op=op, inputs=tuple(inputs)))
