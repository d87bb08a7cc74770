"""`convc curves`: a CSVLogger's file as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convc.cli.heavy import curve_plots
from convc.cli.options import Debug, Json
from convc.cli.tables import show, show_json
from convc.errors import UsageError

PICTURES = (".png", ".svg", ".pdf")


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
            help="Draw here: .png, .svg or .pdf (needs convc\\[plot]).",
        ),
    ] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            "--metric", metavar="NAME", help="A metric to show; may be repeated. Without it, all."
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
    if output is not None and output.suffix.lower() not in PICTURES:
        raise UsageError(f"{output}: expected a name that ends in {', '.join(PICTURES)}")
    series = curve_plots.read_log(log, separator)
    rows = curve_plots.best_epochs(series)
    if metrics:
        chosen = curve_plots.chosen_metrics(series, metrics)
        rows = [r for r in rows if r["metric"].removeprefix("val_") in chosen]
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
