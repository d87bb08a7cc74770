"""What `convc compile` says about what it made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from convc.cli.heavy import building, description, driver, training
from convc.cli.tables import bytes_text, seconds_text, show

if TYPE_CHECKING:
    from convc.cli.building import Built


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


def memory_text(facts: dict[str, Any]) -> str:
    """What a call needs besides the weights: of one image where the batch is free, a formula where sizes are."""
    arena = facts["arena_bytes"]
    memory, least = (bytes_text(facts[f"{kind}_bytes_batch_1"]) for kind in ("arena", "live"))
    symbols = {s for _, names in description.terms(arena) for s in names}
    if not symbols:
        return f"{memory} for a call (largest live set {least})"
    if symbols != {"N"}:
        return f"{arena} bytes"
    return f"{memory} for one image (largest live set {least}); {arena} bytes for a batch of N"


def readable(facts: dict[str, Any]) -> dict[str, str]:
    """The facts as people read them."""
    phases = ", ".join(f"{name} {seconds_text(s)}" for name, s in facts["phases"].items())
    files = ", ".join(f"{f['path']} ({bytes_text(f['bytes'])})" for f in facts["files"])
    found = {
        "target": facts["target"],
        "kernels": f"{facts['kernels']} in {facts['steps']} calls, {facts['flops'] / 1e6:.2f} MFLOP per image",
        "memory": memory_text(facts),
        "weights": f"{bytes_text(facts['weight_bytes'])} packed, {bytes_text(facts['raw_weight_bytes'])} in the model",
        "compiled": f"in {seconds_text(facts['seconds'])}: {phases} (Python {seconds_text(facts['python_seconds'])})",
        "written": files,
    }
    if "state_bytes" not in facts:
        return found
    kinds = facts["state_bytes"]
    state = ", ".join(f"{kind} {bytes_text(size)}" for kind, size in kinds.items() if size)
    return {**found, "state": f"{bytes_text(sum(kinds.values()))} in each context: {state}"}
