"""`convc run`: a model on arrays from files, with the state of a training where it has one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convc.cli.heavy import files, numpy
from convc.cli.opening import open_model
from convc.cli.options import Debug, Json, Threads
from convc.cli.tables import show, show_json
from convc.cli.waiting import waiting
from convc.errors import DataError, UsageError

if TYPE_CHECKING:
    from convc_runtime import Context, Entry, Model, TensorInfo

Inputs = Annotated[
    list[str],
    typer.Option(
        "--input",
        "-i",
        metavar="[NAME=]FILE",
        help="A .npy file, or a .npz with an array per input.",
    ),
]


def run(
    source: Annotated[str, typer.Argument(metavar="MODEL", help="A .cvc file, or a model script.")],
    inputs: Inputs,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write .npy or .npz here.")
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(
            "--state",
            metavar="FILE",
            help="What a training saved: for a model that was compiled with --train.",
        ),
    ] = None,
    threads: Threads = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Run a compiled model on arrays from files."""
    with waiting(f"opening {source}", as_json):
        model, _ = open_model(source, threads=threads)
    entry = prediction(model, state)
    result = entry(gather(entry.info.inputs, inputs))
    arrays = result if isinstance(result, list) else [result]
    named = {info.name: array for info, array in zip(entry.info.outputs, arrays, strict=True)}
    if output is not None:
        files.write_arrays(output, named)
    rows = [row(name, array) for name, array in named.items()]
    if as_json:
        show_json({"outputs": rows, "written": str(output) if output else None})
        return
    columns = ("output", "dtype", "shape", ">min", ">mean", ">max")
    show(f"{model.name}{f' -> {output}' if output else ''}", columns, map(cells, rows))


def prediction(model: Model, state: Path | None = None) -> Entry:
    """The entry that predicts: with a saved state, or else as the model was compiled."""
    if state is None and not model.description.states:
        return next(iter(model.entries.values()))
    context = stateful(model)
    if state is not None:
        context.load_state(state)
    return context.entries["predict"]


def stateful(model: Model) -> Context:
    """A context of a model that trains. UsageError for others."""
    context = model.context()
    if not context.states or "predict" not in context.entries:
        raise UsageError(f"{model.name} has no state: it wasn't compiled with --train")
    return context


def gather(
    infos: Sequence[TensorInfo], specs: Sequence[str], option: str = "--input"
) -> dict[str, Any]:
    """The arrays of `FILE` and `NAME=FILE` arguments by input name."""
    names = [info.name for info in infos]
    expected = "; ".join(map(str, infos))
    arrays: dict[str, Any] = {}
    for spec in specs:
        name, equals, file = spec.partition("=")
        found = files.read_arrays(Path(file if equals else spec))
        if isinstance(found, dict):
            if equals:
                raise UsageError(
                    f"{option} {spec}: a .npz brings its own names, expected FILE alone"
                )
            new = found
        elif equals:
            new = {name: found}
        elif len(names) == 1:
            new = {names[0]: found}
        else:
            raise UsageError(
                f"{option} {spec}: {len(names)} inputs: expected NAME=FILE for {expected}"
            )
        if twice := sorted(arrays.keys() & new.keys()):
            raise UsageError(f"{option} {spec}: a second array for {', '.join(twice)}")
        arrays |= new
    if len(arrays) == 1 and len(names) == 1:
        return (
            {names[0]: next(iter(arrays.values()))}
            if set(arrays) <= {names[0], "arr_0"}
            else arrays
        )
    missing = [n for n in names if n not in arrays]
    if missing:
        raise DataError(
            f"no array for {', '.join(missing)}: expected {expected}; got {', '.join(arrays)}"
        )
    return arrays


def row(name: str, array: Any) -> dict[str, Any]:
    """What is shown of an output, for JSON."""
    values = array.astype("float64")
    some = values.size > 0
    return {
        "output": name,
        "dtype": array.dtype.name,
        "shape": list(array.shape),
        "min": float(values.min()) if some else None,
        "mean": float(numpy.mean(values)) if some else None,
        "max": float(values.max()) if some else None,
    }


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """The row as people read it."""
    numbers = ("-" if row[k] is None else f"{row[k]:.5g}" for k in ("min", "mean", "max"))
    return (row["output"], row["dtype"], "×".join(map(str, row["shape"])), *numbers)
