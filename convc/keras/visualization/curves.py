"""Training curves: a picture of a History or of a CSVLogger's file (extra `convc[plot]`)."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from convc_runtime import WriteError
from convc_runtime.writing import appearing

from convc.errors import DataError, InputFileError, OutputError, UsageError
from convc.keras.callbacks.history import History

VALIDATION = "val_"
INCHES = (6.0, 3.2)
"""Width of the picture, and height of each of its panels."""


def matplotlib_figure() -> Any:
    """The class of matplotlib's figures, which draws without a display; UsageError says how to get it."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError("curves need matplotlib: pip install 'convc[plot]'") from None
    except Exception as error:  # built for another numpy, or a damaged configuration
        raise UsageError(f"matplotlib can't be used: {error}") from None
    return Figure


def plot_history(
    history: History | Mapping[str, Sequence[float]],
    path: str | os.PathLike[str] | None = None,
    metrics: Iterable[str] | None = None,
    title: str = "",
) -> Any:
    """Draws one panel per metric, training and validation in it, and returns matplotlib's figure.

    `history` is what `fit` returns, or a list of values per name (with "epoch", if they don't count from 0). `path` is
    where the picture goes, in the format of its ending. `metrics` chooses panels; all by default.
    """
    series = series_of(history)
    epochs = series.pop("epoch")
    chosen = chosen_metrics(series, metrics)
    figure = matplotlib_figure()(figsize=(INCHES[0], INCHES[1] * len(chosen)), layout="constrained")
    panels = figure.subplots(len(chosen), 1, squeeze=False, sharex=True)[:, 0]
    for panel, metric in zip(panels, chosen, strict=True):
        for name, label in ((metric, "training"), (f"{VALIDATION}{metric}", "validation")):
            values = series.get(name, [])
            mark = "o" if sum(map(math.isfinite, values)) < 2 else ""
            if any(map(math.isfinite, values)):
                panel.plot(epochs, values, label=label, marker=mark)
        panel.set_ylabel(metric)
        panel.grid(alpha=0.3)
        panel.legend()
    panels[-1].set_xlabel("epoch")
    panels[-1].xaxis.get_major_locator().set_params(integer=True)
    if title:
        figure.suptitle(title)
    if path is not None:
        write(figure, Path(path))
    return figure


def write(figure: Any, path: Path) -> None:
    """Writes a figure; UsageError for an ending that matplotlib doesn't know."""
    known = figure.canvas.get_supported_filetypes()
    if path.suffix[1:].lower() not in known:
        raise UsageError(f"{path}: expected a name that ends in .{', .'.join(sorted(known))}")
    try:
        with appearing(path, durable=False) as scratch:
            figure.savefig(scratch, dpi=120)
    except WriteError as error:
        raise OutputError(str(error)) from None


def series_of(history: History | Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    """Lists of one length by name, the epochs among them. DataError where they differ or hold no numbers.

    Names that some epochs lack (validation every few epochs) can't be placed in a History, and are DataErrors too.
    """
    source: Mapping[str, Any]
    if isinstance(history, History):
        source = {"epoch": history.epoch, **history.history}
    elif isinstance(history, Mapping):
        source = history
    else:
        raise UsageError(
            f"plot_history: expected fit's History or a dict of lists, got {type(history).__name__}"
        )
    try:
        series = {
            name: [float(v) for v in np.asarray(values).ravel()] for name, values in source.items()
        }
    except (TypeError, ValueError) as error:
        raise DataError(f"plot_history: expected a number per epoch: {error}") from None
    rows = max(map(len, series.values()), default=0)
    if rows == 0 or set(series) <= {"epoch"}:
        raise DataError("plot_history: expected a value per epoch, got none")
    series.setdefault("epoch", [float(i) for i in range(rows)])
    for name, values in series.items():
        if len(values) != len(series["epoch"]):
            raise DataError(
                f"plot_history: {name}: expected {len(series['epoch'])} values, one per epoch, got {len(values)}"
            )
    return series


def chosen_metrics(series: Mapping[str, Any], wanted: Iterable[str] | None) -> list[str]:
    """Names without "val_": those wanted, or all, the loss first."""
    known = list(dict.fromkeys(name.removeprefix(VALIDATION) for name in series))
    if wanted is None:
        return sorted(known, key=lambda name: name != "loss")
    chosen = list(dict.fromkeys(name.removeprefix(VALIDATION) for name in wanted))
    if unknown := [name for name in chosen if name not in known]:
        raise UsageError(f"no metric {unknown[0]!r}: there are {', '.join(known)}")
    if not chosen:
        raise UsageError(f"metrics: expected one or more of {', '.join(known)}, got none")
    return chosen


def read_log(path: str | os.PathLike[str], separator: str | None = None) -> dict[str, list[float]]:
    """The columns of a CSVLogger's file: "epoch", and a list per name with NaN where a value is missing.

    The separator is the one that follows "epoch" in the first line, unless it is given. An epoch that was run again,
    after a resumption, counts once: with its last line. UsageError for a separator that isn't one character.
    """
    if separator and (len(separator) > 1 or separator in '"\r\n'):
        raise UsageError(f"separator: expected one character such as ';', got {separator!r}")
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise InputFileError(f"{path}: no such file (expected a CSVLogger's table)") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputFileError(f"{path}: can't be read as a table: {reason}") from None
    head = lines[0] if lines else ""
    if not head.startswith("epoch"):
        raise InputFileError(
            f"{path}: expected a first line of names from 'epoch' on, got {head[:40]!r}"
        )
    mark = separator or head[len("epoch") :][:1] or ","
    names, *rows = csv.reader(lines, delimiter=mark)
    by_epoch: dict[float, list[float]] = {}
    for number, row in enumerate(rows, 2):
        if not row:
            continue
        if len(row) != len(names):
            raise InputFileError(f"{path}:{number}: expected {len(names)} columns, got {len(row)}")
        values = [number_of(cell, path, number) for cell in row]
        by_epoch[values[0]] = values
    table = [by_epoch[epoch] for epoch in sorted(by_epoch)]
    columns = {name: [row[i] for row in table] for i, name in enumerate(names)}
    return {n: v for n, v in columns.items() if not all(map(math.isnan, v)) or not v}


def number_of(cell: str, path: Any, line: int) -> float:
    """A cell's number; NaN for "NA" and for nothing."""
    if cell in ("", "NA"):
        return math.nan
    try:
        return float(cell)
    except ValueError:
        raise InputFileError(f"{path}:{line}: expected a number, got {cell[:40]!r}") from None


def best_epochs(series: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """For each name its first, last, least and largest value with their epochs; NaN is left out."""
    found = []
    for name, values in series.items():
        finite = [
            (v, int(e)) for e, v in zip(series["epoch"], values, strict=True) if math.isfinite(v)
        ]
        if name == "epoch" or not finite:
            continue
        (least, at_least), (largest, at_largest) = (
            min(finite),
            max(finite, key=lambda p: (p[0], -p[1])),
        )
        found.append(
            {"metric": name, "epochs": len(finite), "first": finite[0][0], "last": finite[-1][0],
             "min": least, "min_epoch": at_least, "max": largest, "max_epoch": at_largest}
        )  # fmt: skip
    return found
