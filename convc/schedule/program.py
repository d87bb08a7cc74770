"""Schedules every kernel of a program, and packs the weights the way the schedules want to read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from convc.errors import TargetError
from convc.loops.ir import Buffer, Kernel, Layout, Space
from convc.loops.memory import physical_size
from convc.program.deferred import Packed, as_array, deferred
from convc.program.ir import Array, Program, Region, RegionKind
from convc.schedule import cpu, cuda
from convc.schedule.choices import DEFAULT, NO_CHOICES, Choice, Choices, kernel_key
from convc.target import Target

Trace = Callable[[str, Kernel], None]


COMPACT = 1.05
"""How many times its own bytes a packed weight may take in a small artifact."""


def schedule(
    program: Program,
    target: Target,
    trace: Trace | None = None,
    compact: bool = False,
    choices: Choices = NO_CHOICES,
) -> Program:
    """The program with scheduled kernels; weights are flat arrays in their packed layouts.

    `choices` are taken in place of estimates, by the key of the plain kernel.

    With `compact`, a kernel whose weights would be padded by more than `COMPACT` reads them as they are.
    """
    kernels: dict[str, Kernel] = {}
    for name, kernel in program.kernels.items():
        choice = choices.get(kernel_key(kernel, target), DEFAULT) if choices else DEFAULT
        scheduled = schedule_kernel(kernel, target, choice)
        kernels[name] = compacted(kernel, scheduled, target) if compact else scheduled
        if trace is not None:
            trace(name, kernels[name])
    return _with_packed_weights(replace(program, kernels=kernels))


def schedule_kernel(kernel: Kernel, target: Target, choice: Choice = DEFAULT) -> Kernel:
    """A plain kernel as the generator for a target takes it; choices are for CPUs."""
    match target.kind:
        case "cpu":
            return cpu.schedule_kernel(kernel, target, choice)
        case "cuda":
            return cuda.schedule_kernel(kernel)
        case kind:
            raise TargetError(f"target {target.name}: no schedules for the kind {kind!r}")


def compacted(kernel: Kernel, scheduled: Kernel, target: Target) -> Kernel:
    """The kernel scheduled so that no weight is padded by more than `COMPACT`.

    A schedule packs and pads constants only: for others it masks loads as it masks stores. So a weight that grew is
    scheduled as memory like any other, in the order of dimensions that its packing had, the vectors' innermost.
    """
    params = []
    for plain, packed in zip(kernel.params, scheduled.params, strict=True):
        if plain.space is Space.constant and _bytes(packed) > COMPACT * _bytes(plain):
            last = packed.layout.axes[-1].dim
            order = [d for d in range(len(plain.shape)) if d != last]
            plain = replace(plain, space=Space.global_, layout=Layout.permuted((*order, last)))
        params.append(plain)
    if tuple(params) == kernel.params:
        return scheduled
    again = schedule_kernel(replace(kernel, params=tuple(params)), target)
    spaces = zip(again.params, kernel.params, strict=True)
    return replace(again, params=tuple(replace(b, space=old.space) for b, old in spaces))


def _bytes(buffer: Buffer) -> int:
    return physical_size(buffer, {}) * buffer.dtype.itemsize


def _with_packed_weights(program: Program) -> Program:
    """Weights in the layouts of their readers, computed when they are placed."""
    readers = _weight_readers(program)
    weights = {
        name: as_array(Packed(deferred(array), readers[name]))
        for name, array in program.weights.items()
    }
    regions = tuple(_resized(r, weights) for r in program.regions)
    return replace(program, regions=regions, weights=weights)


def _resized(region: Region, weights: Mapping[str, Array]) -> Region:
    if region.kind is not RegionKind.weight:
        return region
    return replace(region, size=int(weights[region.name].nbytes))


def _weight_readers(program: Program) -> dict[str, Buffer]:
    """The parameter that reads each weight region: all steps that share a region share the kernel."""
    found = {}
    for entry in program.entries:
        for step in entry.steps:
            for buffer, argument in zip(
                program.kernels[step.kernel].params, step.args, strict=True
            ):
                if argument.region in program.weights:
                    found[argument.region] = buffer
    return found
