"""`convc curves`: a CSVLogger's file as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convc.cli.heavy import curve_plots
from convc.cli.options import Debug, Json
from convc.cli.tables import show, show_json


def curves(
    log: Annotated[
        Path, typer.Argument(metavar="LOG", help="A file that keras.callbacks.CSVLogger wrote.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Draw here: .png, .svg or .pdf (needs convc[plot]).",
        ),
    ] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            "--metric", metavar="NAME", help="A panel to draw; may be repeated. Without it, all."
        ),
    ] = None,
    separator: Annotated[
        str | None,
        typer.Option(
            "--separator",
            metavar="C",
            help="Between columns, if not what follows epoch in the first line.",
        ),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Draw training curves, and print the best epoch of each metric."""
    series = curve_plots.read_log(log, separator)
    rows = curve_plots.best_epochs(series)
    if output is not None:
        curve_plots.plot_history(series, output, metrics, title=log.name)
    if as_json:
        show_json({"log": str(log), "written": str(output) if output else None, "metrics": rows})
        return
    columns = ("metric", ">epochs", ">first", ">last", ">min", ">at epoch", ">max", ">at epoch")
    show(f"{log}{f' -> {output}' if output else ''}", columns, map(cells, rows))


def cells(row: dict[str, object]) -> tuple[str, ...]:
    """The row as people read it."""
    return tuple(f"{v:.5g}" if isinstance(v, float) else str(v) for v in row.values())
