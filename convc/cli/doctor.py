"""`convc doctor`: everything in an ONNX or Keras file that convc can't compile, at once."""

from __future__ import annotations

from typing import Annotated

import typer

from convc.cli.heavy import keras_saving, onnx_diagnosis, scripts
from convc.cli.options import Debug, Json, Shape, parse_shapes
from convc.cli.tables import show_json
from convc.cli.waiting import waiting
from convc.errors import UnsupportedError, UsageError


def doctor(
    source: Annotated[
        str, typer.Argument(metavar="MODEL", help="model.onnx, model.keras or model.h5.")
    ],
    shape: Shape = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List all that convc can't compile of an ONNX or Keras file: node or layer, why, and what works instead.

    Of an ONNX node also the operator, opset and types.
    """
    shapes = parse_shapes(shape)
    known = (".onnx", *scripts.KERAS_SUFFIXES)
    if not source.endswith(known):
        raise UsageError(f"{source}: expected a file whose name ends in {', '.join(known)}")
    with waiting(f"looking through {source}", as_json):
        if source.endswith(scripts.KERAS_SUFFIXES):
            lines = keras_saving.problems_of(source, shapes)
            listed = [{"problem": line} for line in lines]
        else:
            problems = onnx_diagnosis.diagnose(source, shapes)
            lines, listed = [p.text() for p in problems], [p.to_json() for p in problems]
    if as_json:
        show_json({"model": source, "problems": listed})
    else:
        typer.echo("\n".join(lines) if lines else f"{source}: everything compiles")
    if lines:
        raise typer.Exit(UnsupportedError.exit_code)
