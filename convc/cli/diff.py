"""`convc diff`: which layer went wrong, who is off, and which step of the compiler brought it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convc.cli.heavy import building, comparing, files
from convc.cli.options import Debug, Exact, Json, Shape, Target, parse_shapes
from convc.cli.tables import show, show_json
from convc.cli.waiting import waiting
from convc.errors import UsageError

if TYPE_CHECKING:
    from convc.cli.differences.comparing import Comparison
    from convc.cli.differences.rounding import Array

WRONG = 1
PEERS = ("float64", "reference", "onnxruntime")
SHOWN = 12
COLUMNS = (
    "stage", "layer", "operators", "range of its inputs", ">max |y64|", ">max |y - y64|", ">explained", ">ratio",
)  # fmt: skip


def diff(
    source: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="model.onnx, model.py or model.py:name."),
    ],
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="PEER",
            help="onnxruntime, reference (ONNX' own) or float64 (convc's graph alone).",
            show_default="reference for an ONNX model, else float64",
        ),
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input", metavar="NAME=FILE", help="An input's array, .npy.", show_default="random"
        ),
    ] = None,
    shape: Shape = None,
    tolerance: Annotated[
        float,
        typer.Option(
            "--tolerance",
            metavar="T",
            min=0,
            help="Times what rounding explains that a layer may be off.",
        ),
    ] = 1.0,
    batch: Annotated[int, typer.Option("--batch", metavar="N", min=1, help="Images to try.")] = 2,
    seed: Annotated[int, typer.Option("--seed", help="Of the random inputs.")] = 0,
    target: Target = "host",
    exact: Exact = False,
    everything: Annotated[bool, typer.Option("--all", help="Show every layer.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Find the first layer that is further from float64 than rounding explains, in convc or in a peer.

    Each value is held against a float64 run from what its own runtime had computed before, so that a fault shows
    where it is made. What rounding explains comes from the same run with noise of the size of the dtypes' roundings.
    Exit code 1 where something is off.
    """
    peer = against or ("reference" if source.endswith(".onnx") else "float64")
    if peer not in PEERS:
        raise UsageError(f"--against: expected one of {', '.join(PEERS)}, got {peer!r}")
    if peer != "float64" and not source.endswith(".onnx"):
        raise UsageError(f"--against {peer} is for ONNX models, got {source}: use float64")
    shapes, given = parse_shapes(shape), read_inputs(inputs)
    options = building.options_of(exact)
    with waiting(f"comparing {source} with {peer}", as_json):
        found = comparing.compare(
            source, peer, target, shapes, given, batch, seed, tolerance, options
        )
    if as_json:
        show_json(as_dictionary(found, peer, tolerance))
    else:
        show_findings(found, peer, everything)
    if found.faults:
        raise typer.Exit(WRONG)


def read_inputs(texts: Iterable[str] | None) -> dict[str, Array]:
    """`name=x.npy` as arrays; UsageError for others."""
    found = {}
    for text in texts or ():
        name, equals, path = text.partition("=")
        if not equals or not name or not path:
            raise UsageError(f"--input: expected name=x.npy, got {text!r}")
        array = files.read_arrays(Path(path))
        if isinstance(array, dict):
            raise UsageError(f"--input {name}: expected one array (.npy), got {path}")
        found[name] = array
    return found


def as_dictionary(found: Comparison, peer: str, tolerance: float) -> dict[str, object]:
    return {
        "model": found.name,
        "against": peer,
        "tolerance": tolerance,
        "right": not found.faults,
        "faults": [f.to_json() for f in found.faults],
        "notes": list(found.notes),
        "rows": [r.to_json() for r in (*found.rows, *found.outputs)],
    }


def show_findings(found: Comparison, peer: str, everything: bool) -> None:
    """Two tables and the verdict. Unless all are wanted, the rows that come closest to what is explained."""
    worst = sorted(found.rows, key=lambda r: -r.difference.ratio)[:SHOWN]
    chosen = [r for r in found.rows if everything or any(r is w for w in worst)]
    left = len(found.rows) - len(chosen)
    title = f"{found.name}: each layer by itself, against float64" + (
        f" ({left} more with --all)" if left else ""
    )
    show(title, COLUMNS, (r.cells() for r in chosen))
    show("outputs, from the inputs on", COLUMNS, (r.cells() for r in found.outputs))
    for note in found.notes:
        typer.echo(note)
    for fault in found.faults:
        typer.echo(fault.text())
    if not found.faults:
        typer.echo(
            f"convc{'' if peer == 'float64' else ' and ' + peer}: rounding explains every difference"
        )
