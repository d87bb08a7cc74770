"""`convc train`: a model that was compiled with --train, on arrays from files, with its state in a file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convc.cli.heavy import convc_runtime, epochs
from convc.cli.opening import is_artifact
from convc.cli.options import Debug, Json, Threads
from convc.cli.run import Inputs, gather, stateful
from convc.cli.tables import seconds_text, show_json
from convc.errors import ConvcError, InputFileError, UsageError

if TYPE_CHECKING:
    from convc_runtime import TensorInfo

TARGET = "target/"
"""What the names of a step's inputs begin with that are an output's targets."""


def train(
    source: Annotated[str, typer.Argument(metavar="MODEL", help="A .cvc file of compile --train.")],
    inputs: Inputs,
    state: Annotated[
        Path,
        typer.Option(
            "--state",
            metavar="FILE",
            help="Where the training stands: continued if it is there, written after each epoch.",
        ),
    ],
    validation: Annotated[
        list[str] | None,
        typer.Option(
            "--validation",
            metavar="[NAME=]FILE",
            help="Arrays as --input has them, for an evaluation after each epoch.",
        ),
    ] = None,
    number: Annotated[
        int, typer.Option("--epochs", metavar="N", min=1, help="Passes over the data.")
    ] = 1,
    batch: Annotated[
        int,
        typer.Option("--batch", metavar="N", min=1, help="Rows per step; the last has the rest."),
    ] = 32,
    shuffle: Annotated[
        bool, typer.Option(help="Take the rows in another order in each epoch.")
    ] = True,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Of those orders.")] = 0,
    rate: Annotated[
        float | None,
        typer.Option(
            "--learning-rate",
            metavar="X",
            help="Instead of the state's; not where a schedule decides.",
            show_default="the state's",
        ),
    ] = None,
    threads: Threads = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train a model on arrays from files, without a framework and without its script.

    Inputs and outputs go by their names: `-i image=images.npy -i digit=labels.npy`, or a .npz with both. The steps are
    those of `fit`; interrupted, the training continues from the epoch that was written last. An epoch whose loss is not
    finite ends it: the state stays as it was before that epoch.
    """
    if not is_artifact(source):
        raise UsageError(f"{source}: expected a .cvc file of `convc compile MODEL --train`")
    model = convc_runtime.load(source, threads)
    require_rate(source, rate, model.description.extra)
    context = stateful(model)
    wanted = context.entries["train_step"].info.inputs
    arrays = gather(plain(wanted), inputs)
    tested = gather(plain(wanted), validation, "--validation") if validation else None
    course = epochs.Course(context, batch, seed if shuffle else None)
    rows = course.checked("--input", arrays)
    if tested is not None:
        course.checked("--validation", tested)
    begun = resumed(context, state, rate, as_json)
    found: list[dict[str, Any]] = []
    for _ in range(number):
        found.append(course.epoch(arrays, tested))
        require_finite(found, number, state)
        context.save_state(state)
        if not as_json:
            typer.echo(line(len(found), number, found[-1]))
    steps = int(context.get("iterations"))
    if as_json:
        show_json(
            {"model": source, "rows": rows, "epochs": found, "state": str(state),
             "steps": steps - begun, "iterations": steps}
        )  # fmt: skip


def plain(infos: tuple[TensorInfo, ...]) -> list[TensorInfo]:
    """A step's inputs, the targets by their outputs' names."""
    return [epochs.renamed(info, info.name.removeprefix(TARGET)) for info in infos]


def require_rate(source: str, rate: float | None, extra: Mapping[str, Any]) -> None:
    """UsageError for a learning rate that is none, or that the model's schedule would replace at once.

    `extra` is the artifact's, which says whether there is a schedule.
    """
    if rate is None:
        return
    if not (math.isfinite(rate) and rate >= 0):
        raise UsageError(f"--learning-rate: expected a finite number from 0, got {rate}")
    if "schedule" not in extra:
        raise UsageError(
            f"--learning-rate: {source} doesn't say whether a schedule decides the rate, as files of older versions: "
            f"compile it again with --train"
        )
    if extra["schedule"] is not None:
        raise UsageError(
            f"--learning-rate: the model's schedule {extra['schedule']} decides the rate"
        )


def require_finite(epochs: list[dict[str, Any]], total: int, state: Path) -> None:
    """ConvcError where the last epoch's loss is NaN or infinite: nobody wants to go on from there."""
    loss = epochs[-1].get("loss", 0.0)
    if not math.isfinite(loss):
        raise ConvcError(
            f"epoch {len(epochs)}/{total}: the loss is {loss}: the training has diverged (a smaller learning rate, or "
            f"NaN in the data?); {state} stays as it was before this epoch"
        )


def resumed(context: Any, state: Path, rate: float | None, quiet: bool) -> int:
    """Takes over the state's file if there is one, and the learning rate; the steps that were made before."""
    if state.is_dir():
        raise InputFileError(f"{state}: expected a file for the state, got a folder")
    if state.exists():
        context.load_state(state)
    context.save_state(state)  # better refused now than after an epoch
    if rate is not None:
        context.set("learning_rate", rate)
    steps = int(context.get("iterations"))
    if steps and not quiet:
        typer.echo(f"continues after {steps} steps")
    return steps


def line(number: int, total: int, logs: dict[str, Any]) -> str:
    """An epoch as people read it."""
    values = "  ".join(f"{k} {v:.5g}" for k, v in logs.items() if k != "seconds")
    return f"epoch {number}/{total}  {values}  {seconds_text(logs['seconds'])}"
