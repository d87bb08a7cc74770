"""`convc export`: a model as an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convc.cli.heavy import driver, formats, onnx_exporter
from convc.cli.opening import is_artifact
from convc.cli.options import Batch, Debug, Shape, parse_batch, parse_shapes
from convc.cli.tables import bytes_text
from convc.errors import UsageError


def export(
    source: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="model.py (model.py:name where it has several), model.onnx, .keras or .h5.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="[default: the model's name.onnx]"),
    ] = None,
    opset: Annotated[int, typer.Option("--opset", metavar="N", help="ONNX' operator set.")] = 17,
    batch: Batch = "dynamic",
    shape: Shape = None,
    debug: Debug = False,
) -> None:
    """Write the inference graph of a model as ONNX."""
    if is_artifact(source):
        raise UsageError(f"{source}: a .cvc can't be exported: expected the model it was made of")
    if output is not None and output.suffix != ".onnx":
        raise UsageError(f"{output}: expected a name that ends in .onnx")
    name, graphs = driver.graphs_of(source, parse_batch(batch), parse_shapes(shape))
    graph = graphs.get("predict") or next(iter(graphs.values()))
    path = output or Path(f"{name}.onnx")
    data = onnx_exporter.export_graph(graph, opset).SerializeToString()
    formats.write_atomically(path, [(0, data)])
    typer.echo(f"{path}: {bytes_text(len(data))}, opset {opset}")
