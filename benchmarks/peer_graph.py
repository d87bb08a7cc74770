"""A network as another engine would like to get it: the same operators and weights, channels first."""

from __future__ import annotations

from convc.graph.ir import Builder, Graph, renamed
from convc.ops.shape import Transpose
from convc.passes.eliminate_dead_code import EliminateDeadCode
from convc.passes.fold_constants import FoldConstants
from convc.passes.fold_padding import FoldPadding
from convc.passes.hoist_transposes import HoistTransposes
from convc.passes.manager import Pipeline
from convc.passes.simplify_algebra import SimplifyAlgebra
from convc.passes.simplify_shapes import SimplifyShapes
from convc.passes.sink_transposes import SinkTransposes
from convc.types import TensorType

PEER = Pipeline(
    "peer",
    (
        (EliminateDeadCode(), "nothing to compute for unused values"),
        (FoldConstants(), "plain weights"),
        (SimplifyAlgebra(), "no identities"),
        (SimplifyShapes(), "few transposes"),
        (SinkTransposes(), "the front end's channels_last leaves none between layers"),
        (HoistTransposes(), "nor after the input"),
        (FoldPadding(), "a convolution pads by itself"),
    ),
)
"""Batch norms stay: every engine folds its own."""

TO_NCHW = (0, 3, 1, 2)
TO_NHWC = (0, 2, 3, 1)


def peer_graph(graph: Graph) -> Graph:
    """The graph of a channels_last model for another engine: its images are NCHW."""
    return PEER.run(with_nchw_images(graph))


def with_nchw_images(graph: Graph) -> Graph:
    """The graph with NCHW images in place of its NHWC ones, and a transpose after each."""
    builder = Builder(graph.name, dict(graph.weights))
    names: dict[str, str] = {}
    for name in graph.inputs:
        type = graph.types[name]
        builder.input(name, TensorType(type.dtype, tuple(type.shape[p] for p in TO_NCHW)))
    for name in graph.inputs:
        names[name] = builder.add(Transpose(TO_NHWC), name, name=f"{name}/channels_last")
    for node in graph.nodes:
        builder.emit(renamed(node, names))
    return builder.finish(graph.outputs)
