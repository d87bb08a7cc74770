"""Schedules every kernel of a program, and packs the weights the way the schedules want to read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from convc.errors import TargetError
from convc.loops.ir import Buffer, Kernel
from convc.program.deferred import Packed, as_array, deferred
from convc.program.ir import Array, Program, Region, RegionKind
from convc.schedule import cpu, cuda
from convc.target import Target

Trace = Callable[[str, Kernel], None]


def schedule(program: Program, target: Target, trace: Trace | None = None) -> Program:
    """The program with scheduled kernels; weights are flat arrays in their packed layouts."""
    kernels: dict[str, Kernel] = {}
    for name, kernel in program.kernels.items():
        kernels[name] = schedule_kernel(kernel, target)
        if trace is not None:
            trace(name, kernels[name])
    return _with_packed_weights(replace(program, kernels=kernels))


def schedule_kernel(kernel: Kernel, target: Target) -> Kernel:
    """A plain kernel as the generator for a target takes it."""
    match target.kind:
        case "cpu":
            return cpu.schedule_kernel(kernel, target)
        case "cuda":
            return cuda.schedule_kernel(kernel)
        case kind:
            raise TargetError(f"target {target.name}: no schedules for the kind {kind!r}")


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
