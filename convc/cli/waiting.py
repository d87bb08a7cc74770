"""What a terminal shows while a command works: what it does, and for how long already."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


@contextmanager
def waiting(
    text: str, quiet: bool = False, still: bool = False, console: Console | None = None
) -> Iterator[None]:
    """Shows a line on a terminal's stderr until the block ends; nothing where `quiet` (--json), or elsewhere.

    `still` is for measurements: the line is written once, no thread moves it. Nothing may be printed on stdout within.
    """
    console = console or Console(stderr=True)
    if quiet or not console.is_terminal:
        yield
        return
    columns = [] if still else [SpinnerColumn(), TimeElapsedColumn()]
    line = Progress(
        *columns,
        TextColumn("{task.description}"),
        console=console,
        transient=True,
        auto_refresh=not still,
        redirect_stdout=False,
    )
    with line:
        line.add_task(escape(text), total=None)
        line.refresh()
        yield
