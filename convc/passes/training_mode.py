"""The forward graph of training: parameters are inputs, normalisations use the batch, dropouts drop."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np

from convc.errors import ModelError
from convc.graph.ir import Builder, Graph, Node
from convc.graph.op import Op
from convc.ops.augment import Drawn
from convc.ops.broadcasting import Where
from convc.ops.elementwise import Dropout, Identity
from convc.ops.norm import BatchNorm, BatchNormTraining, MaskedBatchNorm
from convc.ops.random import SEED, DropoutMask
from convc.ops.values import Value, values
from convc.passes.fold_constants import FoldConstants
from convc.passes.fold_padding import FoldPadding
from convc.passes.hoist_transposes import HoistTransposes
from convc.passes.simplify_shapes import SimplifyShapes
from convc.passes.sink_transposes import SinkTransposes

FORWARD = (
    FoldConstants(),
    SimplifyShapes(keep_transposes=True),
    SinkTransposes(),
    HoistTransposes(),
    FoldPadding(),
)
"""What brings a model's normalisations into its convolutions' order, so that their gradients meet there too."""

SEED_INPUT = "seed"
"""uint32[2]: the generator's key and the number of the step. What draws adds its own number to the key."""


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
    those become inputs too, and new ones state. Other batch norms, and those that say `frozen`, stay as they are.
    With a dropout in it, the graph has the input `seed`. ModelError for a name that is no weight.
    """
    unknown = [p for p in parameters if p not in graph.weights]
    if unknown:
        raise ModelError(f"training: the graph has no weight {unknown[0]!r}")
    moving = {
        name for node in graph.nodes if is_training_norm(node, momenta) for name in node.inputs[3:5]
    }
    graph = with_inputs(graph, {*parameters, *moving})
    for run in FORWARD:
        graph = run(graph)
    builder = Builder(graph.name, dict(graph.weights), reserved=graph.types)
    for name in graph.inputs:
        builder.input(name, graph.types[name])
    drawing = [n for n in graph.nodes if draws(n.op)]
    if drawing and SEED_INPUT not in builder.inputs:
        builder.input(SEED_INPUT, SEED)
    state: dict[str, str] = {}
    for node in graph.nodes:
        builder.layer = node.layer
        if is_training_norm(node, momenta):
            state |= trained_norm(builder, node, momenta[node.layer])
        elif node in drawing:
            drawn(builder, node, drawing.index(node))
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
    is_norm = isinstance(node.op, (BatchNorm, MaskedBatchNorm)) and not node.op.frozen
    return is_norm and node.layer in momenta


def trained_norm(builder: Builder, node: Node, momentum: float) -> dict[str, str]:
    """The norm with the batch's statistics under its old name, and the next moving ones by the old ones' names."""
    (output,) = node.outputs
    if isinstance(node.op, MaskedBatchNorm):
        x, gamma, beta, _, _, mask = values(builder, node.inputs)
        y, mean, variance = node.op.trained(x, gamma, beta, mask)
        builder.emit(Node(Identity(), (y.name,), node.outputs, node.layer))
        statistics = (mean.name, variance.name)
    else:
        assert isinstance(node.op, BatchNorm)
        statistics = (builder.fresh(f"{output}/mean"), builder.fresh(f"{output}/variance"))
        op = BatchNormTraining(node.op.axis, node.op.epsilon)
        builder.emit(Node(op, node.inputs[:3], (output, *statistics), node.layer))
    found = {}
    for old, new in zip(node.inputs[3:5], statistics, strict=True):
        before, batch = values(builder, (old, new))
        found[old] = (before * momentum + batch * (1 - momentum)).name
    return found


def draws(op: Op) -> bool:
    """True for what is random in training."""
    return isinstance(op, Drawn) or (isinstance(op, Dropout) and op.rate > 0)


def drawn(builder: Builder, node: Node, number: int) -> None:
    """The node as it is in training, from draws of its own: those of its own seed, or the model's and its number."""
    own = node.op.seed if isinstance(node.op, Drawn) else None
    seed = Value(builder, SEED_INPUT)
    if own is not None:
        seed = seed * Value(builder, builder.weight("key", np.array([0, 1], np.uint32)))
    salt = np.array([number if own is None else own & 0xFFFFFFFF, 0], np.uint32)
    seed = seed + Value(builder, builder.weight("dropout", salt))
    if isinstance(node.op, Drawn):
        result = node.op.trained(values(builder, node.inputs), seed)
        builder.emit(Node(Identity(), (result.name,), node.outputs, node.layer))
    else:
        dropped(builder, node, seed)


def dropped(builder: Builder, node: Node, seed: Value) -> None:
    """x / (1 - rate) where a mask keeps it, else 0."""
    assert isinstance(node.op, Dropout)
    (x,) = values(builder, node.inputs)
    mask = Value(builder, builder.add(DropoutMask(node.op.rate, x.shape), seed.name))
    scaled = x * (1 / (1 - node.op.rate))
    choice = (mask.name, scaled.name, scaled.constant(0).name)
    builder.emit(Node(Where(), choice, node.outputs, node.layer))
