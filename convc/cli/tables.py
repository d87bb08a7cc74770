"""Tables on the terminal, or the same as JSON."""

from __future__ import annotations

import json
import math
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from convc.cli.heavy import description

WIDE = 160


def console() -> Console:
    """Writes to stdout; where that is no terminal, wide enough not to fold tables."""
    return Console(width=None if sys.stdout.isatty() else WIDE, highlight=False, soft_wrap=False)


def show(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints a table. Columns whose name begins with ">" are flush right."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        flush = "right" if column.startswith(">") else "left"
        table.add_column(column.removeprefix(">"), justify=flush, overflow="fold")  # type: ignore[arg-type]
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    console().print(table)


def show_facts(title: str, facts: Mapping[str, object]) -> None:
    """Prints names and values under a title."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name, str(value))
    console().print(table)


def show_layers(title: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Prints what became of each layer: rows of convc/report.py as JSON. Flops are those of one image.

    Calls that differ only in where they read and write (the strips of a large map) are one line.
    """
    columns = (
        "layers",
        ">calls",
        "computed as",
        "output",
        "layout",
        "algorithm",
        "tile",
        ">MFLOP",
        ">weights",
    )
    alike: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        alike[json.dumps(row)].append(row)
    show(title, columns, (_layer_cells(found[0], len(found)) for found in alike.values()))


def _layer_cells(row: Mapping[str, Any], calls: int) -> tuple[str, ...]:
    mflop = calls * description.evaluate(row["flops"], defaultdict(lambda: 1)) / 1e6
    return (
        " + ".join(row["layers"]) or "-",
        str(calls) if calls > 1 else "",
        row["operators"],
        row["output"].removeprefix("float32"),
        row["layout"],
        row["algorithm"],
        row["tile"],
        f"{mflop:.2f}" if mflop >= 0.005 else "",
        bytes_text(row["weight_bytes"]) if row["weight_bytes"] else "",
    )


def show_json(value: object) -> None:
    """Prints a value as JSON, which has no numbers that aren't finite: those are null."""
    json.dump(_finite(value), sys.stdout, indent=2, default=str)
    sys.stdout.write("\n")


def _finite(value: object) -> object:
    match value:
        case float() if not math.isfinite(value):
            return None
        case Mapping():
            return {k: _finite(v) for k, v in value.items()}
        case list() | tuple():
            return [_finite(v) for v in value]
        case _:
            return value


def bytes_text(size: float) -> str:
    """A number of bytes as people say it: 12.3 MB."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.2f} GB"


def seconds_text(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.0f} ms"
