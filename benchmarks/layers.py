"""What bounds the layers of a network that convc computes at less than 70 % of the machine's peak, by kind."""

from __future__ import annotations

from typing import Any

from benchmarks.networks import network
from convc.cli import bounds, stepping
from convc.cli.peak import measured_peak
from convc.driver import compile_graphs, host_target
from convc.types import evaluate

LEAST = 0.01
"""The share of a network's time from which a line of the table is worth it."""


def layers_of(name: str, batch: int, target: str, seconds: float) -> list[dict[str, Any]]:
    """Kinds of kernels below 70 % of the peak with their bound, largest first; at the end all kernels, without one.

    `time_share` is of the network's time; `share_of_peak` 0 for what computes nothing.
    """
    graph, image = network(name, batch)
    machine = host_target(target)
    compiled = compile_graphs("network", {"predict": graph}, machine)
    program = compiled.program
    (entry,) = program.entries
    stepper = stepping.Stepper(program, entry, compiled.artifact, {graph.inputs[0]: image})
    before = measured_peak(1, target)
    times = stepping.profile(stepper, seconds)
    best, speeds = max(before, measured_peak(1, target)), bounds.bandwidths()
    rows = compiled.rows[entry.name]
    flops = [evaluate(row.flops, stepper.symbols) for row in rows]
    kinds: dict[tuple[str, str], list[float]] = {}
    for row, step, spent, count in zip(rows, entry.steps, times, flops, strict=True):
        share = count / spent / best
        plain = compiled.lowered.kernels[step.kernel]
        bound = bounds.bound_of(
            program, step, plain, stepper.symbols, spent, share, speeds, machine
        )
        if bound:
            sums = kinds.setdefault((kind_of(row.operators, row.algorithm), bound), [0.0, 0.0])
            sums[0] += spent
            sums[1] += count
    total = sum(times)
    found: list[dict[str, Any]] = [
        {"kind": kind, "bound": bound, "time_share": spent / total,
         "share_of_peak": count / spent / best}
        for (kind, bound), (spent, count) in sorted(kinds.items(), key=lambda item: -item[1][0])
        if spent >= LEAST * total
    ]  # fmt: skip
    whole = {
        "kind": "all",
        "bound": "",
        "time_share": 1.0,
        "share_of_peak": sum(flops) / total / best,
    }
    return [*found, whole]


def kind_of(operators: str, algorithm: str) -> str:
    """A kernel's kind in a few words: its first operators, and whether they are computed channel by channel."""
    first = operators.split(" + ")[0]
    if first == "mul" and "conv2d" in operators:
        return "scaled conv2d"
    return "depthwise conv2d" if first == "conv2d" and algorithm == "lanes" else first
