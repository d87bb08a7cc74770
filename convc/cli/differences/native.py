"""The compiled model, kernel by kernel: each against float64 on what the kernels before it really wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from convc.artifact import Artifact
from convc.cli.differences.findings import Fault, Row, range_of
from convc.cli.differences.rounding import Array, Oracle, distance
from convc.cli.stepping import Stepper
from convc.driver import Compiled
from convc.loops.cost import flops
from convc.loops.interp import run_kernel
from convc.loops.ir import Kernel
from convc.program.ir import Entry
from convc.types import evaluate

MOST_INTERPRETED = 4_000_000
"""Operations of a kernel that the loop interpreter may take over."""


def kernel_rows(
    compiled: Compiled,
    entry: Entry,
    artifact: Artifact,
    inputs: Mapping[str, Array],
    tolerance: float,
) -> tuple[list[Row], Fault | None, dict[str, Array]]:
    """A row per kernel that completes a value, the first that is off, and the entry's outputs.

    A kernel counts by itself: what it was given is taken as right, so that one fault shows once.
    """
    program = compiled.program
    stepper = Stepper(program, entry, artifact, inputs)
    oracle = Oracle(compiled.graphs[entry.name], stepper.symbols)
    leaves: dict[str, Array] = dict(inputs)
    rows: list[Row] = []
    fault: Fault | None = None
    for position, step in enumerate(entry.steps):
        stepper.run(position)
        if step.value not in oracle.producers:
            continue
        got = stepper.written(position).copy()
        nodes = oracle.part(step.value, leaves)
        read = [leaves[i] for n in nodes for i in n.inputs if i in leaves]
        difference = oracle.compare(step.value, got, leaves)
        operators = dict(program.kernels[step.kernel].notes).get("ops", "")
        row = Row("kernel", " + ".join(step.layers), operators, *range_of(read), difference)
        rows.append(row)
        leaves[step.value] = got
        if fault is None and difference.ratio > tolerance:
            step_name = brought_by(compiled, entry, artifact, inputs, position)
            fault = Fault("convc", row.layer, operators, f"{step_name} ({step.kernel})", row)
    return rows, fault, stepper.outputs


def brought_by(
    compiled: Compiled, entry: Entry, artifact: Artifact, inputs: Mapping[str, Array], position: int
) -> str:
    """Which step of the compiler made a kernel wrong, where the loop interpreter can tell in time."""
    stepper = Stepper(compiled.program, entry, artifact, inputs)
    for earlier in range(position):
        stepper.run(earlier)
    name = entry.steps[position].kernel
    given = stepper.parameters(position)
    stepper.run(position)
    native = stepper.written(position)
    scheduled, lowered = compiled.program.kernels[name], compiled.lowered.kernels.get(name)
    if moved := moved_weights(compiled, entry, position, given):
        return f"packing of the weight {moved!r}"
    count = evaluate(flops(lowered), stepper.symbols) if lowered is not None else 0
    if lowered is None or count > MOST_INTERPRETED:
        return "lowering, schedule or code generation"
    made = interpreted(scheduled, given, stepper.symbols)
    if distance(native, made) > 0:
        return "code generation"
    if distance(made, interpreted(lowered, given, stepper.symbols)) > 0:
        return "schedule"
    return "lowering"


def moved_weights(
    compiled: Compiled, entry: Entry, position: int, given: Mapping[str, Array]
) -> str | None:
    """A weight of a step that holds other numbers than the lowered program's."""
    for argument, array in zip(entry.steps[position].args, given.values(), strict=True):
        weight = compiled.lowered.weights.get(argument.region)
        if weight is not None and distance(box(array, weight.shape), np.asarray(weight)):
            return argument.region
    return None


def interpreted(kernel: Kernel, given: Mapping[str, Array], symbols: Mapping[str, int]) -> Array:
    """What the loop interpreter writes to a kernel's last parameter. Parameters are taken by their order."""
    arrays = {
        buffer.name: box(array, [evaluate(e, symbols) for e in buffer.shape]).copy()
        for buffer, array in zip(kernel.params, given.values(), strict=True)
    }
    run_kernel(kernel, arrays, symbols)
    return arrays[kernel.params[-1].name]


def box(array: Array, shape: Sequence[int]) -> Array:
    """The array without what a schedule padded it by."""
    return array[tuple(slice(n) for n in shape)] if array.ndim == len(shape) else array
