"""Reverse-mode differentiation of what a builder holds, through the operators' gradients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from convc.errors import IRError, ModelError
from convc.graph.ir import Array, Builder, Node
from convc.ops.broadcasting import Add
from convc.ops.shape import Broadcast
from convc.types import size_of


def add_gradients(builder: Builder, loss: str, wrt: Sequence[str]) -> tuple[str, ...]:
    """Emits the gradients of a scalar loss after what a builder holds, and returns the name of each.

    ModelError if the loss isn't a float scalar, or a value isn't a float.
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
    kept = live(builder.nodes[start:], outputs)
    names = {o for node in kept for o in node.outputs}
    for node in builder.nodes[start:]:
        for name in node.outputs:
            if name not in names:
                del builder.types[name]
    builder.nodes[start:] = kept


def live(nodes: list[Node], outputs: Sequence[str]) -> list[Node]:
    """The nodes that the outputs depend on."""
    read, kept = {*outputs}, []
    for node in reversed(nodes):
        if not read.isdisjoint(node.outputs):
            kept.append(node)
            read.update(node.inputs)
    return kept[::-1]
