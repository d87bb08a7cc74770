"""Reverse-mode differentiation: from a graph of a loss to one that also computes the loss's gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from convc.errors import IRError, ModelError
from convc.graph.ir import Array, Builder, Graph, Node
from convc.ops.broadcasting import Add
from convc.ops.elementwise import Identity
from convc.ops.shape import Broadcast
from convc.passes.rewriter import live, renamed_all
from convc.types import size_of


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


def add_gradients(builder: Builder, loss: str, wrt: Sequence[str]) -> tuple[str, ...]:
    """Emits the gradients of a scalar loss after what a builder holds, and returns the name of each.

    Errors are those of `gradient`.
    """
    check_arguments(builder, loss, wrt)
    forward, layer = list(builder.nodes), builder.layer
    active = influenced(builder, forward, wrt)
    one = np.ones((), builder.types[loss].dtype.numpy)
    found = {loss: broadcast_scalar(builder, "one", one, loss)}
    for node in reversed(forward):
        if active.isdisjoint(node.inputs) or found.keys().isdisjoint(node.outputs):
            continue
        builder.layer = node.layer
        given = tuple(found.get(o) for o in node.outputs)
        parts = node.op.gradient(builder, node.inputs, node.outputs, given)
        for value, part in zip(node.inputs, parts, strict=True):
            if part is not None and value in active:
                check_type(builder, node, value, part)
                found[value] = builder.add(Add(), found[value], part) if value in found else part
    builder.layer = layer
    names = []
    for value in wrt:
        zero = np.zeros((), builder.types[value].dtype.numpy)
        missing = value not in found
        names.append(broadcast_scalar(builder, "zero", zero, value) if missing else found[value])
    drop_dead_nodes(builder, len(forward), names)
    return tuple(names)


def check_arguments(builder: Builder, loss: str, wrt: Sequence[str]) -> None:
    for name in (loss, *wrt):
        if name not in builder.types:
            raise ModelError(f"gradient: the graph has no value {name!r}")
        if not builder.types[name].dtype.is_float:
            raise ModelError(f"gradient: {name!r} expects a float dtype, got {builder.types[name]}")
    if size_of(builder.types[loss].shape) != 1:
        raise ModelError(
            f"gradient: the loss {loss!r} expects one element, got {builder.types[loss]}"
        )


def influenced(builder: Builder, nodes: list[Node], wrt: Sequence[str]) -> set[str]:
    """The float values that depend on some of the given ones: only these have gradients that are asked for."""
    found = {*wrt}
    for node in nodes:
        if not found.isdisjoint(node.inputs):
            found.update(o for o in node.outputs if builder.types[o].dtype.is_float)
    return found


def check_type(builder: Builder, node: Node, value: str, part: str) -> None:
    """A gradient has the type of its value; IRError names the operator that says otherwise."""
    expected, got = builder.types[value], builder.types[part]
    if expected != got:
        raise IRError(
            f"gradient of {node.op.mnemonic}: {value!r} is {expected}, its gradient {got}"
        )


def broadcast_scalar(builder: Builder, name: str, number: Array, value: str) -> str:
    """A constant of the shape of a value."""
    constant = builder.weight(name, number)
    shape = builder.types[value].shape
    return builder.add(Broadcast(shape), constant) if shape else constant


def drop_dead_nodes(builder: Builder, start: int, outputs: Sequence[str]) -> None:
    """Takes the nodes from `start` on that none of the outputs depends on out of a builder."""
    kept = live(builder.nodes[start:], tuple(outputs))
    names = {o for node in kept for o in node.outputs}
    for node in builder.nodes[start:]:
        for name in node.outputs:
            if name not in names:
                del builder.types[name]
    builder.nodes[start:] = kept
