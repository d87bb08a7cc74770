"""Runs a whole program exactly and slowly, every kernel by the loop interpreter: the oracle of a compilation.

Memory is bytes, as in the machine: regions lie where the memory plan put them, so that a plan that lets two living
regions share bytes shows as a wrong number. Unwritten memory is all ones, which is NaN in every float format.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

import numpy as np
from numpy.typing import NDArray

from convc.errors import DataError, IRError
from convc.loops.interp import prepare
from convc.loops.ir import Buffer
from convc.loops.memory import pack, physical_size, unpack
from convc.program.ir import Array, Entry, Program, Region, RegionKind
from convc.program.turns import Turn, turns
from convc.types import TensorType, evaluate

_UNWRITTEN = 0xFF
_ALIGNMENT = 64

Bytes = NDArray[np.uint8]
Run = Callable[[Mapping[str, Array]], None]


def run_program(
    program: Program,
    inputs: Mapping[str, Array],
    symbols: Mapping[str, int],
    entry: str = "predict",
    poison: bool = True,
) -> dict[str, Array]:
    """The outputs of an entry by name. Without `poison`, memory begins as zeros.

    `inputs` has the state too, by its names, and so has the result, as it is afterwards. Regions that have no
    offset yet each get bytes of their own. DataError where an input is missing or doesn't fit.
    """
    return _Memory(program, find_entry(program, entry), symbols, poison).run(inputs)


def find_entry(program: Program, name: str) -> Entry:
    """An entry by name; IRError lists those that exist."""
    for entry in program.entries:
        if entry.name == name:
            return entry
    known = ", ".join(e.name for e in program.entries)
    raise IRError(f"program {program.name}: there is no entry {name!r}: expected {known}")


class _Memory:
    """One run: the bytes of every region, in one array."""

    def __init__(
        self, program: Program, entry: Entry, symbols: Mapping[str, int], poison: bool
    ) -> None:
        self.program = program
        self.entry = entry
        self.symbols = symbols
        self.prepared: dict[tuple[str, str], Run] = {}
        self.starts: dict[str, int] = {}
        arena = _aligned(evaluate(program.arena, symbols))
        end = arena
        for region in program.regions:
            if region.kind is RegionKind.arena and region.offset is not None:
                self.starts[region.name] = evaluate(region.offset, symbols)
                arena = max(arena, self.starts[region.name] + self.size(region))
        end = _aligned(arena)
        for region in program.regions:
            if region.name not in self.starts:
                self.starts[region.name] = end
                end = _aligned(end + self.size(region))
        # A view of the last part of a region counts its whole pitch, past the region's end.
        slack = max((self.size(r) for r in program.regions), default=0)
        self.bytes: Bytes = np.full(end + slack, _UNWRITTEN if poison else 0, np.uint8)

    def size(self, region: Region) -> int:
        return evaluate(region.size, self.symbols)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        for name, array in self.program.weights.items():
            self.write(name, array)
        for port in self.entry.inputs:
            wanted = port.type.evaluate(self.symbols)
            if port.name not in inputs:
                raise DataError(f"input {port.name!r} of {port.type} is missing")
            array = inputs[port.name]
            if array.shape != wanted.shape or array.dtype != wanted.dtype.numpy:
                shown = f"{array.dtype.name}{list(array.shape)}"
                raise DataError(f"input {port.name!r} expects {wanted}, got {shown}")
            self.write(port.region, array)
        states = [r for r in self.program.states if r.name in inputs]
        for region in states:
            self.write(region.name, pack(inputs[region.name], held_buffer(region), {}))
        for turn in turns(self.program, self.entry, self.symbols):
            self.step(turn)
        outputs = {p.name: self.output(p.region, p.type) for p in self.entry.outputs}
        return {**outputs, **{r.name: self.state(r) for r in states}}

    def state(self, region: Region) -> Array:
        buffer = held_buffer(region)
        start = self.starts[region.name]
        flat = self.bytes[start : start + self.size(region)].copy()
        return unpack(flat.view(buffer.dtype.numpy), buffer, {})

    def write(self, region: str, array: Array) -> None:
        start = self.starts[region]
        flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        self.bytes[start : start + flat.size] = flat

    def step(self, turn: Turn) -> None:
        step, kernel = turn.step, self.program.kernels[turn.step.kernel]
        key = (step.kernel, step.each)
        if key not in self.prepared:
            self.prepared[key] = prepare(kernel, turn.symbols)
        memory: dict[str, Array] = {}
        for buffer, argument in zip(kernel.params, step.args, strict=True):
            start = self.starts[argument.region] + argument.offset
            count = physical_size(buffer, turn.symbols) * buffer.dtype.itemsize
            memory[buffer.name] = self.bytes[start : start + count].view(buffer.dtype.numpy)
        self.prepared[key](memory)

    def output(self, region: str, type: TensorType) -> Array:
        shape = [evaluate(e, self.symbols) for e in type.shape]
        start = self.starts[region]
        end = start + prod(shape) * type.dtype.itemsize
        return np.array(self.bytes[start:end].view(type.dtype.numpy)).reshape(shape)


def held_buffer(region: Region) -> Buffer:
    """What a state region holds, as a buffer."""
    assert region.held is not None, f"{region.name} is a {region.kind.value}"
    type, layout = region.held.type, region.held.layout
    return Buffer(region.name, type.dtype, type.shape, layout)


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
