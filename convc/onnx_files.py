"""Models through the passes that help any runtime, into ONNX files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from convc.graph.ir import Array, Graph
from convc.onnx import rewriting
from convc.onnx.exporter import LARGEST_FILE, export_graph, tensor
from convc.passes.boundary_layout import FIRST, LAST, TransposeBoundary, is_channels_last
from convc.passes.portable import EXPORT, OPTIMIZE


@dataclass(frozen=True)
class Optimized:
    """What was written. `before` and `after` count nodes by operator."""

    opset: int
    files: Sequence[Path]
    before: Mapping[str, int]
    after: Mapping[str, int]
    bytes_before: int
    bytes_after: int

    def rows(self) -> list[tuple[str, int, int]]:
        kinds = sorted({*self.before, *self.after})
        return [(kind, self.before.get(kind, 0), self.after.get(kind, 0)) for kind in kinds]


def optimize(
    source: str | os.PathLike[str],
    output: Path,
    opset: int | None,
    shapes: Mapping[str, int | tuple[int, ...]],
) -> Optimized:
    """Reads, folds, fuses and writes a model. Errors as import_model's and export_graph's."""
    read = rewriting.read_for_rewriting(source, opset, shapes)
    graph = OPTIMIZE.run(read.carried.graph)
    made = rewriting.written_back(graph, read)
    files = rewriting.save(made, output)
    return Optimized(
        read.opset,
        files,
        rewriting.node_counts(read.original),
        rewriting.node_counts(made),
        read.bytes,
        sum(f.stat().st_size for f in files),
    )


def export(
    graph: Graph,
    path: Path,
    opset: int,
    io_layout: str,
    defaults: Mapping[str, Array] | None = None,
) -> list[Path]:
    """Writes a graph without the transposes between its layers; `io_layout` is "model", "nchw" or "nhwc".

    `defaults` are first values of inputs, which a run may leave out then.
    """
    match io_layout, is_channels_last(graph):
        case "nchw", True:
            graph = TransposeBoundary(FIRST)(graph)
        case "nhwc", False:
            graph = TransposeBoundary(LAST)(graph)
    graph = EXPORT.run(graph)
    size = sum(array.nbytes for array in graph.weights.values())
    model = export_graph(graph, opset, check=size <= LARGEST_FILE)
    model.graph.initializer.extend(tensor(n, a) for n, a in (defaults or {}).items())
    return rewriting.save(model, path)
