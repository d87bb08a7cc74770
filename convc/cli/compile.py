"""`convc compile`: a model script to an artifact, and a table of what became of each layer."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convc.cli import tuning
from convc.cli.compiled import facts_of, readable, show_states
from convc.cli.heavy import building, driver, report, training
from convc.cli.options import (
    Batch,
    Debug,
    Exact,
    Json,
    Shape,
    Target,
    parse_batch,
    parse_dtypes,
    parse_shapes,
)
from convc.cli.tables import show_facts, show_json, show_layers
from convc.cli.waiting import waiting
from convc.errors import TargetError, UsageError

if TYPE_CHECKING:
    from convc.cli.building import Built, Request

SUFFIXES = {
    "cvc": ".cvc",
    "so": ".so",
    "obj": ".o",
    "asm": ".s",
    "llvm": ".ll",
    "ir": ".kernel",
    "cuda": ".cu",
}
Source = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="model.py (model.py:name where it has several), model.onnx, .keras or .h5.",
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="What to write; its suffix says the kind.",
        show_default="the model's name.cvc",
    ),
]
Emit = Annotated[
    str | None,
    typer.Option(
        "--emit", metavar="|".join(SUFFIXES), help="What to write.", show_default="by -o, or cvc"
    ),
]
KeptThreads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        metavar="N",
        min=1,
        max=1024,
        help="Threads that the .cvc file runs on where nothing else is said.",
        show_default="all cores",
    ),
]
Dump = Annotated[
    Path | None, typer.Option("--dump", metavar="DIR", help="Write every stage there, as text.")
]
Verify = Annotated[
    bool, typer.Option("--verify", help="Check every stage's result against its rules.")
]
Optimize = Annotated[
    str,
    typer.Option(
        "--optimize",
        metavar="speed|size",
        help="The goal: with size, the weights take about what the model's take.",
    ),
]
Train = Annotated[
    bool,
    typer.Option(
        "--train",
        help="Compile training too: predict, train_step, test_step and metrics on one state, without Python.",
    ),
]
Optimizer = Annotated[
    str | None,
    typer.Option(
        "--optimizer", metavar="NAME", help="With --train: adam, sgd, … instead of the script's."
    ),
]
Loss = Annotated[
    str | None,
    typer.Option("--loss", metavar="NAME", help="With --train: the loss, instead of the script's."),
]
Metrics = Annotated[
    str | None,
    typer.Option(
        "--metrics",
        metavar="NAME,…",
        help="With --train: what is measured, instead of the script's.",
    ),
]
Dtype = Annotated[
    list[str] | None,
    typer.Option(
        "--dtype",
        metavar="NAME=DTYPE",
        help="With --train: what an input or an output's labels come as, such as image=uint8. May be repeated.",
    ),
]
Tune = Annotated[
    str | None,
    typer.Option(
        "--tune",
        metavar="20s",
        help="Time tiles, orders and algorithms on this machine for so long, and keep what is faster.",
    ),
]
Records = Annotated[
    Path | None,
    typer.Option(
        "--records",
        metavar="FILE",
        help="What tuning found, for this and later compilations.",
        show_default="in the cache folder",
    ),
]


def compile(
    source: Source,
    output: Output = None,
    target: Target = "host",
    batch: Batch = "dynamic",
    threads: KeptThreads = None,
    emit: Emit = None,
    shape: Shape = None,
    dump: Dump = None,
    verify: Verify = False,
    exact: Exact = False,
    optimize: Optimize = "speed",
    train: Train = False,
    optimizer: Optimizer = None,
    loss: Loss = None,
    metrics: Metrics = None,
    dtype: Dtype = None,
    tune: Tune = None,
    records: Records = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Compile a model to native code.

    With --train the application trains it as well, from C or Python and with no framework (examples/train_c):
    `convc compile model.py --train -o model.o`, where the script has called model.compile(optimizer, loss, metrics),
    or with --optimizer adam --loss sparse_categorical_crossentropy --metrics accuracy.
    """
    if source.endswith(".cvc"):
        raise UsageError(f"{source} is compiled already: expected the model it was made of")
    if target.startswith("cuda-") and emit is None and output is None and not train:
        emit = "cuda"
    kind, path = destination(source, output, emit)
    if threads is not None and kind != "cvc":
        raise UsageError(f"--threads: only a .cvc file keeps it, {path} can't")
    if (tune is not None or records is not None) and (train or kind == "cuda"):
        raise UsageError("--tune and --records are for inference on a CPU")
    options = building.options_of(exact, verify, optimize)
    options = replace(options, tune=tuning.parse_budget(tune), records=records)
    how = {"optimizer": optimizer, "loss": loss, "metrics": metrics}
    trained = {**how, "dtypes": parse_dtypes(dtype)} if train else None
    if trained is None:
        require_train(**how, dtype=dtype)
    request = building.Request(
        source, target, parse_batch(batch), dump is not None, options, parse_shapes(shape)
    )
    built = built_as(kind, request, trained, as_json)
    if dump is not None:
        built.stages.write(dump)
    files = building.emit(built, kind, path, threads)
    show_built(built, facts_of(built, files, threads), train, as_json)


def built_as(kind: str, request: Request, trained: dict[str, Any] | None, as_json: bool) -> Built:
    """The compiled model for a kind of file; `trained` says how it is trained, None for predictions alone."""
    if trained is not None:
        require_trainable(kind)
        with waiting(f"compiling the training of {request.source}", as_json):
            return training.build(request, **trained)
    with ExitStack() as around:
        around.enter_context(tuning.warnings_in_one_line())
        if request.options.tune is not None:
            progress = around.enter_context(tuning.shown_progress(as_json))
            return building.build(request, progress)
        around.enter_context(waiting(f"compiling {request.source}", as_json))
        return building.build_cuda(request) if kind == "cuda" else building.build(request)


def show_built(built: Built, facts: dict[str, Any], train: bool, as_json: bool) -> None:
    """Prints layers, states, what was tuned and the facts, warnings on stderr; or all of it as JSON."""
    states = training.state_rows(built.artifact.description) if train else []
    tuned = built.compiled.tuned if isinstance(built.compiled, driver.Compiled) else None
    warnings = [line for rows in built.rows.values() for line in report.warnings_of(rows)]
    entries = {entry: [r.to_json() for r in rows] for entry, rows in built.rows.items()}
    if as_json:
        found = tuning.tuned_facts(tuned) | {"warnings": warnings}
        show_json(facts | {"entries": entries} | ({"states": states} if train else {}) | found)
        return
    for entry, rows in entries.items():
        show_layers(f"{built.name}, {entry}", rows)
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


def require_train(**options: object) -> None:
    """UsageError for an option of --train without it."""
    for name, value in options.items():
        if value is not None:
            raise UsageError(f"--{name} is for training: say --train too")


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
