"""`convc export`: a model as an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convc.cli.heavy import driver, onnx_files, scripts, training_graph
from convc.cli.opening import is_artifact
from convc.cli.options import Batch, Debug, Json, Shape, parse_batch, parse_shapes
from convc.cli.tables import bytes_text, show_json
from convc.cli.waiting import waiting
from convc.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from convc.graph.ir import Graph
    from convc.scripts import Shapes

LAYOUTS = ("model", "nchw", "nhwc")


def export(
    source: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="model.py (model.py:name where it has several) or model.onnx."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="What to write.",
            show_default="the model's name.onnx",
        ),
    ] = None,
    opset: Annotated[int, typer.Option("--opset", metavar="N", help="ONNX' operator set.")] = 17,
    io_layout: Annotated[
        str,
        typer.Option(
            "--io-layout",
            metavar="model|nchw|nhwc",
            help="How images are given and come: as the model says, channels first or channels last.",
        ),
    ] = "model",
    training: Annotated[
        bool,
        typer.Option(
            "--training",
            help="A whole training step of a model that the script has compiled: state in, next/state out.",
        ),
    ] = False,
    batch: Batch = "dynamic",
    shape: Shape = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write the inference graph of a model as ONNX, or a step of its training.

    ONNX' convolutions take channels first: a model for channels last has one transpose at each end, or none with
    --io-layout nchw. A training step takes and gives each parameter, what the optimizer keeps for it and the metrics'
    sums; first values are in the file, so that a first run needs data alone.
    """
    if is_artifact(source):
        raise UsageError(f"{source}: a .cvc can't be exported: expected the model it was made of")
    if output is not None and output.suffix != ".onnx":
        raise UsageError(f"{output}: expected a name that ends in .onnx")
    if io_layout not in LAYOUTS:
        raise UsageError(f"--io-layout: expected one of {', '.join(LAYOUTS)}, got {io_layout!r}")
    if training:
        require_training(source, io_layout, batch)
    size, shapes = parse_batch(batch), parse_shapes(shape)
    with waiting(f"exporting {source}", as_json):
        if training:
            files = export_training(source, output, opset, shapes)
        else:
            name, graphs = driver.graphs_of(source, size, shapes)
            path = output or Path(f"{name}.onnx")
            files = onnx_files.export(chosen(graphs), path, opset, io_layout)
    show_files(files, opset, as_json)


def require_training(source: str, io_layout: str, batch: str) -> None:
    """UsageError for what --training isn't for."""
    if source.endswith(".onnx"):
        raise UsageError(
            "--training is for model scripts: an ONNX file has no loss and no optimizer"
        )
    if io_layout != "model":
        raise UsageError("--io-layout is for inference graphs, not with --training")
    if batch != "dynamic":
        raise UsageError("--batch is for inference graphs, not with --training")


def export_training(source: str, output: Path | None, opset: int, shapes: Shapes) -> list[Path]:
    """Writes a step of the model's training and returns the files."""
    model = scripts.load_model(source, shapes)
    graph, state = training_graph.training_graph(model)
    path = output or Path(f"{getattr(model, 'name', 'model')}_training.onnx")
    return onnx_files.export(graph, path, opset, "model", state)


def show_files(files: Iterable[Path], opset: int, as_json: bool) -> None:
    """What was written: a line for each file, or JSON."""
    if as_json:
        found = [{"path": str(f), "bytes": f.stat().st_size} for f in files]
        show_json({"opset": opset, "files": found})
        return
    for file in files:
        typer.echo(f"{file}: {bytes_text(file.stat().st_size)}, opset {opset}")


def chosen(graphs: Mapping[str, Graph]) -> Graph:
    """The graph for inference, else the first."""
    return graphs.get("predict") or next(iter(graphs.values()))
