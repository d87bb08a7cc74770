"""`convc compile`: a model script to an artifact, and a table of what became of each layer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convc.cli import tuning
from convc.cli.heavy import building, driver, report, training
from convc.cli.options import (
    Batch,
    Debug,
    Exact,
    Json,
    Shape,
    Target,
    parse_batch,
    parse_shapes,
)
from convc.cli.tables import (
    bytes_text,
    seconds_text,
    show,
    show_facts,
    show_json,
    show_layers,
)
from convc.errors import TargetError, UsageError

if TYPE_CHECKING:
    from convc.cli.building import Built

SUFFIXES = {
    "cvc": ".cvc",
    "so": ".so",
    "obj": ".o",
    "asm": ".s",
    "llvm": ".ll",
    "ir": ".kernel",
    "cuda": ".cu",
}
Emit = Annotated[
    str | None,
    typer.Option(
        "--emit", metavar="|".join(SUFFIXES), help="What to write. [default: by -o, or cvc]"
    ),
]


def compile(
    source: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="model.py (model.py:name where it has several), model.onnx, .keras or .h5.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="[default: the model's name.cvc]"),
    ] = None,
    target: Target = "host",
    batch: Batch = "dynamic",
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads",
            metavar="N",
            min=1,
            max=1024,
            help="Threads that the .cvc file runs on where nothing else is said. [default: all cores]",
        ),
    ] = None,
    emit: Emit = None,
    shape: Shape = None,
    dump: Annotated[
        Path | None, typer.Option("--dump", metavar="DIR", help="Write every stage there, as text.")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check every stage's result against its rules.")
    ] = False,
    exact: Exact = False,
    optimize: Annotated[
        str,
        typer.Option(
            "--optimize",
            metavar="speed|size",
            help="The goal: with size, the weights take about what the model's take.",
        ),
    ] = "speed",
    train: Annotated[
        bool,
        typer.Option(
            "--train",
            help="Compile training too: predict, train_step, test_step and metrics on one state, without Python.",
        ),
    ] = False,
    optimizer: Annotated[
        str | None,
        typer.Option(
            "--optimizer",
            metavar="NAME",
            help="With --train: adam, sgd, … instead of the script's.",
        ),
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(
            "--loss", metavar="NAME", help="With --train: the loss, instead of the script's."
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            "--metrics",
            metavar="NAME,…",
            help="With --train: what is measured, instead of the script's.",
        ),
    ] = None,
    tune: Annotated[
        str | None,
        typer.Option(
            "--tune",
            metavar="20s",
            help="Time tiles, orders and algorithms on this machine for so long, and keep what is faster.",
        ),
    ] = None,
    records: Annotated[
        Path | None,
        typer.Option(
            "--records",
            metavar="FILE",
            help="What tuning found, for this and later compilations. [default: in the cache folder]",
        ),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Compile a model to native code.

    With --train the application trains it as well, from C or Python and with no framework (examples/train_c):
    `convc compile model.py --train -o model.o`, where the script has called model.compile(optimizer, loss, metrics),
    or with --optimizer adam --loss sparse_categorical_crossentropy --metrics accuracy.
    """
    if target.startswith("cuda-") and emit is None and output is None and not train:
        emit = "cuda"
    kind, path = destination(source, output, emit)
    if threads is not None and kind != "cvc":
        raise UsageError(f"--threads: only a .cvc file keeps it, {path} can't")
    options = building.options_of(exact, verify, optimize)
    options = replace(options, tune=tuning.parse_budget(tune), records=records)
    if (tune is not None or records is not None) and (train or kind == "cuda"):
        raise UsageError("--tune and --records are for inference on a CPU")
    common = (source, target, parse_batch(batch), dump is not None, options, parse_shapes(shape))
    if train:
        require_trainable(kind)
        built = training.build(*common, optimizer=optimizer, loss=loss, metrics=metrics)
    else:
        require_train(optimizer=optimizer, loss=loss, metrics=metrics)
        with tuning.warnings_in_one_line(), tuning.shown_progress(as_json) as progress:
            if kind == "cuda":
                built = building.build_cuda(*common)
            else:
                built = building.build(*common, progress=progress)
    if dump is not None:
        built.stages.write(dump)
    files = building.emit(built, kind, path, threads)
    facts = facts_of(built, files, threads)
    states = training.state_rows(built.artifact.description) if train else []
    tuned = built.compiled.tuned if isinstance(built.compiled, driver.Compiled) else None
    warnings = [line for rows in built.rows.values() for line in report.warnings_of(rows)]
    if as_json:
        entries = {entry: [r.to_json() for r in rows] for entry, rows in built.rows.items()}
        found = tuning.tuned_facts(tuned) | {"warnings": warnings}
        show_json(facts | {"entries": entries} | ({"states": states} if train else {}) | found)
        return
    for entry, rows in built.rows.items():
        show_layers(f"{built.name}, {entry}", [r.to_json() for r in rows])
    if states:
        show_states(built.name, states)
    tuning.show_tuned(tuned)
    show_facts("", readable(facts))
    for line in warnings:
        typer.echo(f"convc: warning: {line}", err=True)


def require_trainable(kind: str) -> None:
    """TargetError for files of code that can't be trained."""
    if kind == "cuda":
        raise TargetError("--train compiles for CPUs: expected --emit cvc, so or obj, got cuda")


def require_train(**options: str | None) -> None:
    """UsageError for an option of --train without it."""
    for name, value in options.items():
        if value is not None:
            raise UsageError(f"--{name} is for training: say --train too")


def show_states(name: str, states: list[dict[str, Any]]) -> None:
    """Prints what a context of the model keeps; what the optimizer keeps for a parameter stands beside that."""
    slots = [s for s in states if s["kind"] == "optimizer"]
    rows = []
    for state in states:
        if state["kind"] == "optimizer" and state["shape"]:
            continue
        own = [s for s in slots if s["name"].rpartition("/")[0] == f"optimizer/{state['name']}"]
        names = ", ".join(s["name"].rpartition("/")[2] for s in own)
        size = bytes_text(sum(s["bytes"] for s in own)) if own else ""
        shape = f"{state['dtype']}{state['shape']}"
        rows.append((state["kind"], state["name"], shape, bytes_text(state["bytes"]), names, size))
    columns = ("kind", "state", "type", ">memory", "optimizer's", ">memory")
    show(f"{name}, state", columns, rows)


def destination(source: str, output: Path | None, emit: str | None) -> tuple[str, Path]:
    """The kind of file to write and its path; UsageError where --emit and the file's suffix differ."""
    if emit is not None and emit not in SUFFIXES:
        raise UsageError(f"--emit: expected one of {', '.join(SUFFIXES)}, got {emit!r}")
    if output is None:
        kind = emit or "cvc"
        return kind, Path(Path(source.partition(".py:")[0]).stem + SUFFIXES[kind])
    kinds = [kind for kind, suffix in SUFFIXES.items() if suffix == output.suffix]
    if not kinds:
        raise UsageError(f"{output}: expected a name that ends in {', '.join(SUFFIXES.values())}")
    if emit is not None and emit not in kinds:
        raise UsageError(f"{output}: --emit {emit} writes {SUFFIXES[emit]} files")
    return kinds[0], output


def facts_of(built: Built, files: list[Path], threads: int | None) -> dict[str, Any]:
    """What was made, with plain values for JSON."""
    summary = built.summary
    return {
        "model": built.name,
        "target": built.target.name,
        "threads": threads,
        "kernels": summary.kernels,
        "steps": summary.steps,
        "flops": building.at_batch(built.flops, 1),
        "arena_bytes": building.extent_json(summary.arena),
        "arena_bytes_batch_1": building.at_batch(summary.arena, 1),
        "live_bytes_batch_1": building.at_batch(summary.live, 1),
        "weight_bytes": summary.weight_bytes,
        "raw_weight_bytes": summary.raw_weight_bytes,
        "files": [{"path": str(f), "bytes": f.stat().st_size} for f in files],
        "seconds": built.seconds,
        "phases": built.phases,
        "python_seconds": built.python_seconds,
    } | state_facts(built)


def state_facts(built: Built) -> dict[str, Any]:
    """The bytes of state by kind, for a model that trains."""
    if isinstance(built.compiled, driver.Planned) or not built.artifact.description.states:
        return {}
    return {"state_bytes": training.state_bytes(built.artifact.description)}


def readable(facts: dict[str, Any]) -> dict[str, str]:
    """The facts as people read them."""
    phases = ", ".join(f"{name} {seconds_text(s)}" for name, s in facts["phases"].items())
    files = ", ".join(f"{f['path']} ({bytes_text(f['bytes'])})" for f in facts["files"])
    memory = bytes_text(facts["arena_bytes_batch_1"])
    least = bytes_text(facts["live_bytes_batch_1"])
    found = {
        "target": facts["target"],
        "kernels": f"{facts['kernels']} in {facts['steps']} calls, {facts['flops'] / 1e6:.2f} MFLOP per image",
        "memory": f"{memory} for one image (largest live set {least}); {facts['arena_bytes']} bytes for a batch of N",
        "weights": f"{bytes_text(facts['weight_bytes'])} packed, {bytes_text(facts['raw_weight_bytes'])} in the model",
        "compiled": f"in {seconds_text(facts['seconds'])}: {phases} (Python {seconds_text(facts['python_seconds'])})",
        "written": files,
    }
    if "state_bytes" not in facts:
        return found
    kinds = facts["state_bytes"]
    state = ", ".join(f"{kind} {bytes_text(size)}" for kind, size in kinds.items() if size)
    return {**found, "state": f"{bytes_text(sum(kinds.values()))} in each context: {state}"}
