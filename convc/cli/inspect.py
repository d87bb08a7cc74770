"""`convc inspect`: what a model or an artifact is, any stage of its compilation, its memory plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from convc.cli.heavy import building, convc_runtime, description
from convc.cli.opening import is_artifact, refuse_choices
from convc.cli.options import Batch, Debug, Json, Shape, Target, parse_batch, parse_shapes
from convc.cli.tables import bytes_text, show, show_facts, show_json, show_layers
from convc.cli.waiting import waiting
from convc.errors import UsageError

if TYPE_CHECKING:
    from convc_runtime import Description, TensorInfo

    from convc.cli.building import Built
    from convc.cli.stages import Stage


def inspect(
    source: Annotated[str, typer.Argument(metavar="MODEL", help="A model script, or a .cvc file.")],
    stage: Annotated[
        str | None,
        typer.Option(
            "--stage", metavar="NAME", help="Print a stage: a name from the list, or its beginning."
        ),
    ] = None,
    memory: Annotated[bool, typer.Option("--memory", help="Print the memory plan.")] = False,
    target: Target = "host",
    batch: Batch = "dynamic",
    shape: Shape = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show a summary, the text of any stage, or the memory plan."""
    shapes = parse_shapes(shape)
    if is_artifact(source):
        refuse_choices(source, target, shapes, batch)
        if stage is not None or memory:
            raise UsageError(f"{source}: --stage and --memory need the model script it was made of")
        show_artifact(source, as_json)
        return
    request = building.Request(source, target, parse_batch(batch), keep=True, shapes=shapes)
    with waiting(f"compiling {source}", as_json):
        built = building.build(request)
    if stage is not None:
        show_stage(built, stage, as_json)
    elif memory:
        show_memory(built, as_json)
    else:
        show_summary(built, as_json)


def show_artifact(source: str, as_json: bool) -> None:
    """What a .cvc file says about itself; it is checked as if it were to run."""
    model = convc_runtime.load(source)
    about = model.description
    rows = about.extra.get("rows", {})
    if as_json:
        show_json(facts_of(about) | {"rows": rows})
        return
    show_facts(f"{source}: {about.name}", readable(about))
    for entry, found in rows.items():
        show_layers(f"{about.name}, {entry}", found)
    show(
        "entries",
        ("entry", "inputs", "outputs", "workspace"),
        (
            (e.name, tensors_text(e.inputs), tensors_text(e.outputs), f"{e.workspace} bytes")
            for e in about.entries
        ),
    )


def readable(about: Description) -> dict[str, str]:
    """The facts as people read them."""
    return {
        "compiler": about.compiler,
        "machine": about.machine,
        "cpu features": " ".join(about.cpu_features) or "baseline",
        "symbols": " ".join(about.symbols) or "none",
        "threads": str(about.extra.get("threads", "all cores")),
    }


def tensors_text(tensors: tuple[TensorInfo, ...]) -> str:
    return "; ".join(map(str, tensors))


def facts_of(about: Description) -> dict[str, Any]:
    """The facts for JSON: extents are numbers, or polynomials of the symbols as text."""
    facts = description.to_json(about)
    return {k: v for k, v in facts.items() if k not in ("identifier", "extra")} | {
        "threads": about.extra.get("threads")
    }


def show_summary(built: Built, as_json: bool) -> None:
    """The stages of a compilation, with their sizes."""
    rows = [
        {"stage": i, "kind": s.kind, "name": s.name, "lines": s.text.count("\n") + 1}
        for i, s in enumerate(built.stages.all)
    ]
    if as_json:
        show_json({"model": built.name, "target": built.target.name, "stages": rows})
        return
    show(
        f"{built.name} for {built.target.name}: --stage NAME prints one of these",
        (">stage", "kind", "name", ">lines"),
        (list(r.values()) for r in rows),
    )


def show_stage(built: Built, wanted: str, as_json: bool) -> None:
    """The text of the stage with that number or name, or of all whose name begins so."""
    found = stages_called(built, wanted)
    if not found:
        names = ", ".join(dict.fromkeys(s.name for s in built.stages.all))
        raise UsageError(f"--stage {wanted}: no such stage: expected one of {names}")
    if as_json:
        show_json([{"kind": s.kind, "name": s.name, "text": s.text} for s in found])
        return
    for stage in found:
        if len(found) > 1:
            typer.echo(f"# --- {stage.kind} {stage.name}")
        typer.echo(stage.text.rstrip("\n"))


def stages_called(built: Built, wanted: str) -> list[Stage]:
    stages = built.stages.all
    if wanted.isdecimal() and int(wanted) < len(stages):
        return [stages[int(wanted)]]
    exact = [s for s in stages if wanted in (s.name, s.kind)]
    return exact or [s for s in stages if s.name.startswith(wanted)]


def region_cells(row: dict[str, Any]) -> tuple[object, ...]:
    offset = "" if row["offset"] is None else row["offset"]
    return (
        row["region"],
        row["kind"],
        row["bytes"],
        offset,
        "-".join(map(str, row["steps"] or ())),
    )


def show_memory(built: Built, as_json: bool) -> None:
    """Each region: where it lies, and from which step to which it lives."""
    rows = building.memory_rows(built)
    program = built.program
    arena, least = (building.at_batch(e, 1) for e in (program.arena, building.lower_bound(program)))
    if as_json:
        show_json({"arena_bytes": building.extent_json(program.arena), "regions": rows})
        return
    columns = ("region", "kind", ">bytes", ">offset", "steps")
    show("memory plan", columns, map(region_cells, rows))
    facts = {
        "arena": f"{program.arena} bytes",
        "for one image": bytes_text(arena),
        "largest live set": bytes_text(least),
    }
    show_facts("", facts)
