"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from convc.errors import UsageError

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Target = Annotated[
    str,
    typer.Option(
        "--target", metavar="NAME", help="The machine to compile for ('list' shows them)."
    ),
]
Batch = Annotated[
    str,
    typer.Option("--batch", metavar="N|dynamic", help="A fixed batch size, or any at run time."),
]
Threads = Annotated[
    int | None,
    typer.Option("--threads", metavar="N", min=1, help="Threads to run on. [default: all cores]"),
]


def parse_batch(text: str) -> int | str:
    """`dynamic` or a positive number; UsageError otherwise."""
    if text == "dynamic":
        return text
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--batch: expected a number from 1 or 'dynamic', got {text!r}")
    return int(text)
