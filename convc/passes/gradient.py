"""Reverse-mode differentiation: from a graph of a loss to one that also computes the loss's gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from convc.graph.ir import Builder, Graph, Node
from convc.ops.differentiation import add_gradients
from convc.ops.elementwise import Identity
from convc.passes.rewriter import renamed_all

__all__ = ["add_gradients", "gradient", "with_outputs"]


def gradient(graph: Graph, loss: str, wrt: Sequence[str]) -> Graph:
    """The graph whose outputs are a scalar loss and its gradients with respect to inputs, weights or other values.

    The gradient of `w` is called `w_gradient` and has w's type; it is zero where the loss doesn't depend on w. Nothing
    is computed for what is not asked for. ModelError if the loss isn't a float scalar, or a value isn't a float.

    before:
        graph g(x: float32[N, 3], w: float32[3, 1]) -> (loss) {
          y = mat_mul(x, w)
          z = relu(y)
          loss = reduce_sum(z) {axes=(0, 1)}
        }
    after:
        graph g(x: float32[N, 3], w: float32[3, 1]) -> (loss, w_gradient) {
          weight one: float32[] = [1.0]
          weight constant: float32[] = [0.0]
          weight constant_1: float32[] = [0.0]
          y = mat_mul(x, w)
          z = relu(y)
          loss = reduce_sum(z) {axes=(0, 1)}
          reshape_1 = reshape(one) {shape=(1, 1)}
          broadcast = broadcast(reshape_1) {shape=(N, 1)}
          greater = greater(z, constant)
          where = where(greater, broadcast, constant_1)
          transpose_1 = transpose(x) {perm=(1, 0)}
          w_gradient = mat_mul(transpose_1, where)
        }
    """
    builder = Builder(graph.name, dict(graph.weights))
    for name in graph.inputs:
        builder.input(name, graph.types[name])
    for node in graph.nodes:
        builder.emit(node)
    found = add_gradients(builder, loss, wrt)
    wanted = {loss: loss}
    for value, name in zip(wrt, found, strict=True):
        wanted[builder.fresh(f"{value}_gradient")] = name
    return with_outputs(builder, wanted)


def with_outputs(builder: Builder, outputs: Mapping[str, str]) -> Graph:
    """The builder's graph, whose outputs have the given names: the values get them, or are copied where they are
    inputs, weights or outputs already."""
    names: dict[str, str] = {}
    for wanted, name in outputs.items():
        fixed = name in builder.inputs or name in builder.weights or name in names
        if fixed and name != wanted:
            builder.emit(Node(Identity(), (name,), (wanted,)))
            names[wanted] = wanted
        else:
            names[name] = wanted
    graph = builder.finish(names)
    return replace(
        graph,
        nodes=tuple(renamed_all(node, names) for node in graph.nodes),
        outputs=tuple(outputs),
        types={names.get(n, n): t for n, t in graph.types.items()},
    )
