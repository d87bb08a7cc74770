"""Tuning on the command line: its budget, its progress, and what it gained."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from convc.cli.tables import show, show_facts
from convc.errors import UsageError

if TYPE_CHECKING:
    from convc.tuning.search import Progress, Tuned

_UNITS = {"s": 1.0, "min": 60.0, "m": 60.0}
_ROWS = 20
"""Layers to show: those that gained most."""


def parse_budget(text: str | None) -> float | None:
    """`20s`, `20` or `2min` in seconds; UsageError for others."""
    if text is None:
        return None
    number = text.strip().rstrip("smin ")
    unit = text.strip()[len(number) :].strip() or "s"
    try:
        seconds = float(number) * _UNITS[unit]
    except (ValueError, KeyError):
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise UsageError(f"--tune: expected a time like 20s or 2min, got {text!r}")
    return seconds


@contextmanager
def shown_progress(quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """A bar of the seconds that are spent, on a terminal's stderr; nothing where `quiet`, or elsewhere."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda progress: None
        return
    columns = (TextColumn("tuning"), BarColumn(), TextColumn("{task.completed:.0f} s"))
    with Bar(*columns, TextColumn("{task.description}"), console=console, transient=True) as bar:
        task = bar.add_task("", total=None)

        def update(progress: Progress) -> None:
            text = progress.what if len(progress.what) <= 60 else f"{progress.what[:59]}…"
            text = text.replace("[", "\\[")
            bar.update(task, total=progress.budget, completed=progress.spent, description=text)

        yield update


@contextmanager
def warnings_in_one_line() -> Iterator[None]:
    """Warnings as this program's errors look: one line on stderr."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for message in dict.fromkeys(str(w.message) for w in caught):
        print(f"convc: {' '.join(message.split())}", file=sys.stderr)


def tuned_facts(tuned: Tuned | None) -> dict[str, Any]:
    """What tuning found, with plain values for JSON: seconds are CPU time on one thread, medians."""
    if tuned is None:
        return {}
    gain = None
    if tuned.default_seconds is not None and tuned.seconds:
        gain = tuned.default_seconds / tuned.seconds if tuned.kept else 1.0
    return {
        "tuning": {
            "seconds": tuned.spent,
            "timed": tuned.timed,
            "recorded": tuned.recorded,
            "left": tuned.left,
            "kept": tuned.kept,
            "default_seconds": tuned.default_seconds,
            "tuned_seconds": tuned.seconds,
            "gain": gain,
            "gains": [
                {
                    "what": g.what,
                    "layers": list(g.layers),
                    "calls": g.calls,
                    "default": g.default,
                    "choice": g.choice,
                    "default_seconds": g.default_seconds,
                    "seconds": g.seconds,
                    "saved_seconds": g.saved,
                }
                for g in tuned.gains
            ],
        }
    }


def show_tuned(tuned: Tuned | None) -> None:
    """Prints what tuning gained: a line for each layer that changed, and the whole network."""
    if tuned is None:
        return
    columns = ("layers", ">calls", "default", "choice", ">µs before", ">µs after", ">µs saved")
    if tuned.gains:
        show("tuned", columns, ([*_cells(gain)] for gain in tuned.gains[:_ROWS]))
    show_facts("", {"tuning": summary(tuned)})


def _cells(gain: Any) -> tuple[str, ...]:
    name = f"{gain.layers[0]} + {len(gain.layers) - 1} more" if len(gain.layers) > 1 else ""
    times = (gain.default_seconds, gain.seconds, gain.saved)
    return (
        name or " ".join(gain.layers) or gain.what,
        str(gain.calls),
        gain.default,
        gain.choice,
        *(f"{t * 1e6:.1f}" for t in times),
    )


def summary(tuned: Tuned) -> str:
    """In one line: what was timed, and how the whole network does."""
    text = f"{tuned.timed} timed in {tuned.spent:.1f} s, {len(tuned.gains)} changed"
    text += f", {tuned.recorded} on record" if tuned.recorded else ""
    text += f", {tuned.left} left for another time" if tuned.left else ""
    if tuned.default_seconds is None or tuned.seconds is None:
        return f"{text}; nothing faster than the default was found"
    before, after = tuned.default_seconds * 1e3, tuned.seconds * 1e3
    whole = f"{before:.3f} ms before, {after:.3f} ms after on one thread"
    if not tuned.kept:
        return f"{text}; the whole network is not faster ({whole}): the default stays"
    return f"{text}; the whole network: {whole}, {before / after:.3f} times as fast"
