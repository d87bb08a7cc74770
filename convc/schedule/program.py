"""Schedules every kernel of a program, and packs the weights the way the schedules want to read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from convc.errors import TargetError
from convc.loops.ir import Buffer, Kernel
from convc.loops.memory import pack, physical_size
from convc.program.ir import Array, Program, Region, RegionKind
from convc.program.weights import page_aligned, weight_offsets
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
    """Weights in the layouts of their readers, side by side in one page-aligned block as the plan will place them."""
    readers = _weight_readers(program)
    sizes = {n: physical_size(readers[n], {}) * readers[n].dtype.itemsize for n in program.weights}
    offsets = weight_offsets(sizes)
    block = page_aligned(max((offsets[n] + sizes[n] for n in sizes), default=0))
    weights: dict[str, Array] = {}
    for name, array in program.weights.items():
        buffer = readers[name]
        place = block[offsets[name] : offsets[name] + sizes[name]].view(buffer.dtype.numpy)
        weights[name] = packed(array, buffer, place)
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


def packed(array: Array, buffer: Buffer, out: Array) -> Array:
    """A weight's memory for the parameter that reads it: padded to the parameter's shape, in its layout."""
    missing = [int(e) - n for e, n in zip(buffer.shape, array.shape, strict=True)]  # type: ignore[arg-type]
    if any(missing):
        array = np.pad(array, [(0, m) for m in missing])
    return pack(array, buffer, {}, out)
