"""`convc optimize`: an ONNX model in, a smaller one out, for any runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convc.cli.heavy import onnx_files
from convc.cli.options import Debug, Json, Shape, parse_shapes
from convc.cli.tables import bytes_text, show, show_json
from convc.cli.waiting import waiting
from convc.errors import UsageError


def optimize(
    source: Annotated[str, typer.Argument(metavar="MODEL", help="model.onnx.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Where the new model goes.")
    ],
    opset: Annotated[
        int | None,
        typer.Option(
            "--opset",
            metavar="N",
            help="ONNX' operator set.",
            show_default="the model's, from 17",
        ),
    ] = None,
    shape: Shape = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Fold and fuse an ONNX model, for any runtime: constants, batch norms, biases, arithmetic, dead nodes.

    Inputs, outputs, named dimensions and metadata stay. Operators that convc has no better word for stay as they are.
    """
    if not source.endswith(".onnx"):
        raise UsageError(f"{source}: expected a model.onnx (convc export makes one of a script)")
    if output.suffix != ".onnx":
        raise UsageError(f"{output}: expected a name that ends in .onnx")
    shapes = parse_shapes(shape)
    with waiting(f"optimizing {source}", as_json):
        done = onnx_files.optimize(source, output, opset, shapes)
    rows = [r for r in done.rows() if r[1] != r[2]]
    if as_json:
        show_json(
            {
                "model": source,
                "opset": done.opset,
                "files": [str(f) for f in done.files],
                "nodes": [sum(done.before.values()), sum(done.after.values())],
                "bytes": [done.bytes_before, done.bytes_after],
                "operators": {kind: [before, after] for kind, before, after in done.rows()},
            }
        )
        return
    show("what changed", ("operator of ONNX", ">before", ">after"), rows)
    total = f"{sum(done.before.values())} nodes to {sum(done.after.values())}"
    size = f"{bytes_text(done.bytes_before)} to {bytes_text(done.bytes_after)}"
    typer.echo(f"{output}: opset {done.opset}, {total}, {size}")
