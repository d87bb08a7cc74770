"""The forward graph of training: parameters are inputs, normalisations use the batch, dropouts drop."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np

from convc.errors import ModelError
from convc.graph.ir import Builder, Graph, Node
from convc.ops.broadcasting import Where
from convc.ops.elementwise import Dropout
from convc.ops.norm import BatchNorm, BatchNormTraining
from convc.ops.random import SEED, DropoutMask
from convc.ops.values import Value, values
from convc.passes.fold_constants import FoldConstants
from convc.passes.simplify_shapes import SimplifyShapes
from convc.passes.sink_transposes import SinkTransposes

FORWARD = (FoldConstants(), SimplifyShapes(keep_transposes=True), SinkTransposes())
"""What brings a model's normalisations into its convolutions' order, so that their gradients meet there too."""

SEED_INPUT = "seed"
"""uint32[2]: the generator's key and the number of the step. Each dropout adds its own number to the key."""


@dataclass(frozen=True)
class TrainingGraph:
    """A graph in a builder, open for a loss. `state` maps inputs to their next values, computed in the forward pass."""

    builder: Builder
    outputs: tuple[str, ...]
    state: Mapping[str, str]


def training_mode(
    graph: Graph, parameters: Collection[str], momenta: Mapping[str, float]
) -> TrainingGraph:
    """The graph for training, with the named weights as inputs.

    `momenta` has, for each layer whose batch norms use the statistics of the batch, the momentum of its moving ones:
    those become inputs too, and new ones state. Other batch norms (frozen ones) stay as they are. With a dropout in
    it, the graph has the input `seed`. ModelError for a name that is no weight.
    """
    unknown = [p for p in parameters if p not in graph.weights]
    if unknown:
        raise ModelError(f"training: the graph has no weight {unknown[0]!r}")
    moving = {
        name for node in graph.nodes if is_training_norm(node, momenta) for name in node.inputs[3:]
    }
    graph = with_inputs(graph, {*parameters, *moving})
    for run in FORWARD:
        graph = run(graph)
    builder = Builder(graph.name, dict(graph.weights), reserved=graph.types)
    for name in graph.inputs:
        builder.input(name, graph.types[name])
    dropouts = [n for n in graph.nodes if isinstance(n.op, Dropout) and n.op.rate > 0]
    if dropouts:
        builder.input(SEED_INPUT, SEED)
    state: dict[str, str] = {}
    for node in graph.nodes:
        builder.layer = node.layer
        if is_training_norm(node, momenta):
            state |= trained_norm(builder, node, momenta[node.layer])
        elif node in dropouts:
            dropped(builder, node, dropouts.index(node))
        else:
            builder.emit(node)
    builder.layer = ""
    return TrainingGraph(builder, graph.outputs, state)


def with_inputs(graph: Graph, weights: Collection[str]) -> Graph:
    """The graph with some of its weights as inputs, after those that it has."""
    inputs = [*graph.inputs, *(n for n in graph.weights if n in weights)]
    constants = {n: a for n, a in graph.weights.items() if n not in weights}
    return replace(graph, inputs=tuple(inputs), weights=constants)


def is_training_norm(node: Node, momenta: Mapping[str, float]) -> bool:
    return isinstance(node.op, BatchNorm) and node.layer in momenta


def trained_norm(builder: Builder, node: Node, momentum: float) -> dict[str, str]:
    """The norm with the batch's statistics under its old name, and the next moving ones by the old ones' names."""
    assert isinstance(node.op, BatchNorm)
    (output,) = node.outputs
    statistics = (builder.fresh(f"{output}/mean"), builder.fresh(f"{output}/variance"))
    op = BatchNormTraining(node.op.axis, node.op.epsilon)
    builder.emit(Node(op, node.inputs[:3], (output, *statistics), node.layer))
    found = {}
    for old, new in zip(node.inputs[3:], statistics, strict=True):
        before, batch = values(builder, (old, new))
        found[old] = (before * momentum + batch * (1 - momentum)).name
    return found


def dropped(builder: Builder, node: Node, number: int) -> None:
    """x / (1 - rate) where a mask of the dropout's own draws keeps it, else 0."""
    assert isinstance(node.op, Dropout)
    (x,) = values(builder, node.inputs)
    salt = Value(builder, builder.weight("dropout", np.array([number, 0], np.uint32)))
    seed = Value(builder, SEED_INPUT) + salt
    mask = Value(builder, builder.add(DropoutMask(node.op.rate, x.shape), seed.name))
    scaled = x * (1 / (1 - node.op.rate))
    choice = (mask.name, scaled.name, scaled.constant(0).name)
    builder.emit(Node(Where(), choice, node.outputs, node.layer))
