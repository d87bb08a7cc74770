"""`convc doctor`: everything in an ONNX model that convc can't compile, at once."""

from __future__ import annotations

from typing import Annotated

import typer

from convc.cli.heavy import onnx_diagnosis
from convc.cli.options import Debug, Json, Shape, parse_shapes
from convc.cli.tables import show_json
from convc.errors import UnsupportedError


def doctor(
    source: Annotated[str, typer.Argument(metavar="MODEL", help="model.onnx.")],
    shape: Shape = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List all that convc can't compile of an ONNX model: node, operator, opset, types, why, and what works instead."""
    problems = onnx_diagnosis.diagnose(source, parse_shapes(shape))
    if as_json:
        show_json({"model": source, "problems": [p.to_json() for p in problems]})
    else:
        lines = [p.text() for p in problems]
        typer.echo("\n".join(lines) if lines else f"{source}: everything compiles")
    if problems:
        raise typer.Exit(UnsupportedError.exit_code)
