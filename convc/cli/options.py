"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer

from convc.errors import UsageError
from convc.target import TARGETS

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Target = Annotated[
    str,
    typer.Option(
        "--target",
        metavar="NAME",
        help=f"The machine to compile for: host, {', '.join(TARGETS)}.",
    ),
]
Batch = Annotated[
    str,
    typer.Option("--batch", metavar="N|dynamic", help="A fixed batch size, or any at run time."),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        metavar="N",
        min=1,
        max=1024,
        help="Threads to run on.",
        show_default="all cores",
    ),
]

Exact = Annotated[
    bool,
    typer.Option(
        "--exact", help="Compute every convolution as it is written: no Winograd, no folded norms."
    ),
]

Shape = Annotated[
    list[str] | None,
    typer.Option(
        "--shape",
        metavar="NAME=N|N,N,…",
        help="The whole shape of an input or its one open size, an ONNX model's named dimension, or the most rows of "
        "an output whose size data decide (NonMaxSuppression, NonZero, Compress). May be repeated.",
    ),
]


def parse_shapes(texts: Iterable[str] | None) -> dict[str, int | tuple[int, ...]]:
    """`name=4` and `name=1,3,224,224`; UsageError for others."""
    found: dict[str, int | tuple[int, ...]] = {}
    for text in texts or ():
        name, equals, value = text.rpartition("=")
        parts = value.split(",")
        if not name or not equals or not all(p.strip().isdecimal() for p in parts):
            raise UsageError(f"--shape: expected name=4 or name=1,3,224,224, got {text!r}")
        numbers = tuple(int(p) for p in parts)
        found[name] = numbers if len(numbers) > 1 else numbers[0]
    return found


def parse_dtypes(texts: Iterable[str] | None) -> dict[str, str]:
    """`name=dtype`, the dtype as it is written; UsageError for others."""
    found: dict[str, str] = {}
    for text in texts or ():
        name, equals, dtype = text.rpartition("=")
        if not name or not equals or not dtype:
            raise UsageError(f"--dtype: expected name=dtype such as image=uint8, got {text!r}")
        found[name] = dtype
    return found


def parse_batch(text: str) -> int | str:
    """`dynamic` or a positive number; UsageError otherwise."""
    if text == "dynamic":
        return text
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--batch: expected a number from 1 or 'dynamic', got {text!r}")
    return int(text)
