"""A compiled entry, one kernel at a time: for profiles, and to look at what each kernel wrote."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from convc_runtime.arrays import bind
from convc_runtime.memory import aligned, map_code
from numpy.typing import NDArray

from convc.artifact import Artifact
from convc.codegen.llvm_entry import Code
from convc.loops.families import family_of
from convc.loops.ir import Buffer
from convc.loops.memory import pack, physical_size, unpack
from convc.loops.tasks import task_count
from convc.program.interp import held_buffer
from convc.program.ir import Entry, Program, RegionKind, Step
from convc.program.turns import own_regions, turns
from convc.types import evaluate

Array = NDArray[Any]
_KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


class Stepper:
    """Memory for one run of an entry, and its steps. All runs on the caller's thread.

    The arena begins as 0xff bytes, which are NaN for floats: what a kernel reads before anyone wrote it shows.
    `inputs` has the entry's inputs and its state, `outputs` are the entry's, written when the last step has run.
    A step that the entry runs for one image after the other runs for all at once here, on room for all.
    """

    def __init__(
        self, program: Program, entry: Entry, artifact: Artifact, inputs: Mapping[str, Array]
    ) -> None:
        self.program, self.entry, self.artifact = program, entry, artifact
        self.code = map_code(artifact.image.code)
        infos = artifact.description.entry(entry.name).inputs
        shapes = [inputs[info.name].shape for info in infos]
        self.symbols = bind(infos, shapes, program.symbols)
        arrays = {p.region: np.ascontiguousarray(inputs[p.name]) for p in entry.inputs}
        self.outputs: dict[str, Array] = {}
        for port in entry.outputs:
            shape = tuple(evaluate(e, self.symbols) for e in port.type.shape)
            self.outputs[port.name] = np.zeros(shape, port.type.dtype.numpy)
            arrays[port.region] = self.outputs[port.name]
        self.memory: dict[str, NDArray[np.uint8]] = {n: _bytes(a) for n, a in arrays.items()}
        self._lay_out(inputs)
        self._calls = [self._call(step, self.symbols) for step in entry.steps]

    def _lay_out(self, inputs: Mapping[str, Array]) -> None:
        arena = aligned(max(1, evaluate(self.program.arena, self.symbols)))
        arena[:] = 0xFF
        self.planned: dict[str, NDArray[np.uint8]] = {}  # the loops' own regions, one image each
        weights = aligned(sum(a.nbytes + 64 for a in self.program.weights.values()) + 1)
        end = 0
        own = own_regions(self.program, self.entry)
        for region in self.program.regions:
            size = evaluate(region.size, self.symbols)
            if region.name in own and region.offset is not None:
                start = evaluate(region.offset, self.symbols)
                self.planned[region.name] = arena[start : start + size]
            if region.name in own:
                self.memory[region.name] = aligned(size * self.symbols[own[region.name]])
                self.memory[region.name][:] = 0xFF
            elif region.kind is RegionKind.arena and region.offset is not None:
                start = evaluate(region.offset, self.symbols)
                self.memory[region.name] = arena[start : start + size]
            elif region.kind is RegionKind.state:
                flat = aligned(size)
                flat[:] = _bytes(pack(np.asarray(inputs[region.name]), held_buffer(region), {}))
                self.memory[region.name] = flat
            elif region.kind is RegionKind.weight:
                self.memory[region.name] = weights[end : end + size]
                self.memory[region.name][:] = _bytes(self.program.weights[region.name])
                end += -(-size // 64) * 64

    def _call(
        self, step: Step, symbols: Mapping[str, int], planned: bool = False
    ) -> tuple[Any, Any, int]:
        """The native function of a step, its arguments and its number of tasks, for values of the symbols.

        With `planned`, what a loop has for itself lies where the memory plan says.
        """
        memory = {**self.memory, **self.planned} if planned else self.memory
        kernel = self.program.kernels[step.kernel]
        code = Code(family_of(kernel), self.artifact.description.identifier)
        address = self.code.address + self.artifact.image.symbols[code.name]
        places = [int(memory[a.region].ctypes.data) + a.offset for a in step.args]
        sizes = (symbols[s] if isinstance(s, str) else s for s in code.family.arguments)
        values = [*places, *sizes]
        arguments = (ctypes.c_int64 * max(1, len(values)))(*values)
        return _KERNEL(address), arguments, evaluate(task_count(kernel), symbols)

    def run(self, position: int) -> float:
        """Runs one step and returns its seconds."""
        return _seconds(self._calls[position])

    def turns(self) -> list[tuple[int, tuple[Any, Any, int]]]:
        """The calls of the entry with the positions of their steps, image by image where the entry runs so."""
        found = turns(self.program, self.entry, self.symbols)
        return [(t.position, self._call(t.step, t.symbols, planned=True)) for t in found]

    def written(self, position: int) -> Array:
        """The logical array that a step has just written: its kernel's last parameter."""
        step = self.entry.steps[position]
        buffer, argument = self.program.kernels[step.kernel].params[-1], step.args[-1]
        return self._logical(buffer, self.memory[argument.region][argument.offset :])

    def parameters(self, position: int) -> dict[str, Array]:
        """The logical array of each parameter of a step's kernel, as the memory is now."""
        step = self.entry.steps[position]
        pairs = zip(self.program.kernels[step.kernel].params, step.args, strict=True)
        return {
            buffer.name: self._logical(buffer, self.memory[argument.region][argument.offset :])
            for buffer, argument in pairs
        }

    def _logical(self, buffer: Buffer, memory: NDArray[np.uint8]) -> Array:
        """A buffer's logical array; a part of a larger region may end before its last row does."""
        size = physical_size(buffer, self.symbols) * buffer.dtype.itemsize
        flat = np.zeros(size, np.uint8)
        flat[: min(size, memory.size)] = memory[:size]
        return unpack(flat.view(buffer.dtype.numpy), buffer, self.symbols)


def profile(stepper: Stepper, seconds: float) -> list[float]:
    """The median seconds of each step over whole runs, for about so many seconds: in the entry's own order."""
    runs: list[list[float]] = []
    calls = stepper.turns()
    end = time.perf_counter() + seconds
    while len(runs) < 5 or time.perf_counter() < end:
        spent = [0.0] * len(stepper.entry.steps)
        for position, call in calls:
            spent[position] += _seconds(call)
        runs.append(spent)
    return [float(m) for m in np.median(np.array(runs), axis=0)]


def _seconds(call: tuple[Any, Any, int]) -> float:
    function, arguments, tasks = call
    start = time.perf_counter()
    function(arguments, 0, tasks)
    return time.perf_counter() - start


def _bytes(array: Array) -> NDArray[np.uint8]:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)
