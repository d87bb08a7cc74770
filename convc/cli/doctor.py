"""`convc doctor`: everything in an ONNX or Keras file that convc can't compile, at once."""

from __future__ import annotations

from typing import Annotated

import typer

from convc.cli.heavy import keras_saving, onnx_importer, scripts
from convc.cli.options import Debug, Json, Shape, parse_shapes
from convc.cli.tables import show_json
from convc.errors import UnsupportedError


def doctor(
    source: Annotated[
        str, typer.Argument(metavar="MODEL", help="model.onnx, model.keras or model.h5.")
    ],
    shape: Shape = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List all that convc can't compile of an ONNX model (node, operator, opset, types) or a Keras file (layers)."""
    if source.endswith(scripts.KERAS_SUFFIXES):
        problems = keras_saving.problems_of(source, parse_shapes(shape))
    else:
        problems = onnx_importer.problems_of(source, parse_shapes(shape))
    if as_json:
        show_json({"model": source, "problems": problems})
    else:
        typer.echo("\n".join(problems) if problems else f"{source}: everything compiles")
    if problems:
        raise typer.Exit(UnsupportedError.exit_code)
