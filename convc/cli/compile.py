"""`convc compile`: a model script to an artifact, and a table of what became of each layer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convc.cli.heavy import building
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
from convc.cli.tables import bytes_text, seconds_text, show_facts, show_json, show_layers
from convc.errors import UsageError

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
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Compile a model to native code."""
    if target.startswith("cuda-") and emit is None and output is None:
        emit = "cuda"
    kind, path = destination(source, output, emit)
    if threads is not None and kind != "cvc":
        raise UsageError(f"--threads: only a .cvc file keeps it, {path} can't")
    build = building.build_cuda if kind == "cuda" else building.build
    options = building.options_of(exact, verify, optimize)
    built = build(
        source, target, parse_batch(batch), dump is not None, options, parse_shapes(shape)
    )
    if dump is not None:
        built.stages.write(dump)
    files = building.emit(built, kind, path, threads)
    facts = facts_of(built, files, threads)
    if as_json:
        entries = {entry: [r.to_json() for r in rows] for entry, rows in built.rows.items()}
        show_json(facts | {"entries": entries})
        return
    for entry, rows in built.rows.items():
        show_layers(f"{built.name}, {entry}", [r.to_json() for r in rows])
    show_facts("", readable(facts))


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
    }


def readable(facts: dict[str, Any]) -> dict[str, str]:
    """The facts as people read them."""
    phases = ", ".join(f"{name} {seconds_text(s)}" for name, s in facts["phases"].items())
    files = ", ".join(f"{f['path']} ({bytes_text(f['bytes'])})" for f in facts["files"])
    memory = bytes_text(facts["arena_bytes_batch_1"])
    least = bytes_text(facts["live_bytes_batch_1"])
    return {
        "target": facts["target"],
        "kernels": f"{facts['kernels']} in {facts['steps']} calls, {facts['flops'] / 1e6:.2f} MFLOP per image",
        "memory": f"{memory} for one image (largest live set {least}); {facts['arena_bytes']} bytes for a batch of N",
        "weights": f"{bytes_text(facts['weight_bytes'])} packed, {bytes_text(facts['raw_weight_bytes'])} in the model",
        "compiled": f"in {seconds_text(facts['seconds'])}: {phases} (Python {seconds_text(facts['python_seconds'])})",
        "written": files,
    }
