"""The rules of a program: who may touch which bytes, and when."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from convc.errors import IRError
from convc.loops.ir import Buffer, Kernel, Role
from convc.loops.tasks import task_count
from convc.program.footprint import box, span, written_offsets
from convc.program.ir import Argument, Entry, Program, Region, RegionKind, Share, Step
from convc.program.printer import print_region, print_step
from convc.program.replacing import replaceable
from convc.program.turns import loops_of, own_regions, turns
from convc.types import Dim, evaluate, size_of, symbols_of

SAMPLES = (1, 3)
"""The values of the first symbol for which sizes and bytes are checked, where no extent is negative with them.

Each further symbol, in order of their names, is 2 more than the one before: no two are equal by accident.
"""


def verify_program(program: Program) -> None:
    """Raises IRError, quoting the region or step, where a program breaks a rule.

    - Names are unique, and regions and kernels exist; arguments match the kernels' parameters.
    - A step's share has all of its kernel's tasks, and a time in the kernel's symbols.
    - Every parameter fits in its region, at its byte offset, for small and larger symbols.
    - Kernels write to outputs, state and the arena only, and read only bytes that were written before in the same
      entry: a border counts, so whatever writes it comes before the first reader.
    - An entry's outputs are written whole, its state whole or not at all.
    - State that was written is not read any more in the same entry, nor written by another step: whoever reads it means
      its old value. The step that writes it may read it only to replace it element by element.
    - Once planned, arena regions that live at the same time share no byte and lie inside the workspace.
    """
    _names(program)
    _weights(program)
    _states(program)
    for value in SAMPLES:
        symbols = _sample(program, value)
        footprints = _Footprints()
        for entry in program.entries:
            _ports(program, entry, symbols)
            _EntryCheck(program, entry, symbols, footprints).run()
            _plan(program, entry, symbols)


# Beyond this, a size is not looked for.
_LARGEST = 1 << 12


def _sample(program: Program, value: int) -> dict[str, int]:
    """Values for all symbols, from this one on, or the next that no extent of a kernel's parameter is negative with."""
    names = sorted(_all_symbols(program))
    extents = {e for k in program.kernels.values() for b in k.params for e in b.shape}

    def values(first: int) -> dict[str, int]:
        return {name: first + 2 * k for k, name in enumerate(names)}

    for candidate in range(value, value + _LARGEST):
        symbols = values(candidate)
        if all(e.evaluate(symbols) > 0 for e in extents if isinstance(e, Dim)):
            return symbols
    return values(value)


def fail(program: Program, message: str, quoted: str = "") -> NoReturn:
    raise IRError(f"program {program.name}: {message}" + (f"\n    {quoted}" if quoted else ""))


def _all_symbols(program: Program) -> set[str]:
    found = set(program.symbols)
    for region in program.regions:
        found |= symbols_of([region.size, region.offset or 0])
    if found - set(program.symbols):
        stranger = min(found - set(program.symbols))
        fail(program, f"no input has the symbol {stranger!r} in its shape")
    return found


def _names(program: Program) -> None:
    for what, names in (
        ("region", [r.name for r in program.regions]),
        ("entry", [e.name for e in program.entries]),
    ):
        for name in _repeated(names):
            fail(program, f"{what} {name!r} is defined twice")
    regions = {r.name for r in program.regions}
    for entry in program.entries:
        for port in (*entry.inputs, *entry.outputs):
            if port.region not in regions:
                fail(program, f"port {port.name!r}: there is no region {port.region!r}")
        for step in entry.steps:
            _step(program, step, regions)


def _repeated(names: Iterable[str]) -> list[str]:
    seen: set[str] = set()
    return [n for n in names if n in seen or seen.add(n)]  # type: ignore[func-returns-value]


def _step(program: Program, step: Step, regions: set[str]) -> None:
    kernel = program.kernels.get(step.kernel)
    if kernel is None:
        fail(program, f"there is no kernel {step.kernel!r}", print_step(step))
    if len(step.args) != len(kernel.params):
        message = f"{step.kernel} has {len(kernel.params)} parameters, got {len(step.args)}"
        fail(program, message, print_step(step))
    for argument in step.args:
        if argument.region not in regions:
            fail(program, f"there is no region {argument.region!r}", print_step(step))
    free = set(kernel.symbols) - set(program.symbols)
    if free:
        fail(program, f"no input gives {step.kernel} the symbol {min(free)!r}", print_step(step))
    if step.share is not None:
        _share(program, step, kernel, step.share)


def _share(program: Program, step: Step, kernel: Kernel, share: Share) -> None:
    for value in SAMPLES:
        symbols = {s: 1 if s == step.each else value + 2 * k for k, s in enumerate(kernel.symbols)}
        tasks = evaluate(task_count(kernel), symbols)
        for cut in filter(None, (share.cut, share.single)):
            free = symbols_of((cut.rows, cut.length)) - symbols.keys()
            if free or evaluate(cut.rows * cut.length, symbols) != tasks:
                fail(program, f"{step.kernel} has {task_count(kernel)} tasks", print_step(step))
    if share.symbols and set(share.symbols) != set(kernel.symbols) - {step.each}:
        fail(program, f"{step.kernel} doesn't take a time in {share.product}", print_step(step))


def _weights(program: Program) -> None:
    for region in program.regions:
        if region.kind is not RegionKind.weight:
            continue
        array = program.weights.get(region.name)
        if array is None:
            fail(program, "a weight has no array", print_region(region))
        if array.nbytes != region.size:
            fail(program, f"the weight's array has {array.nbytes} bytes", print_region(region))


def _states(program: Program) -> None:
    """A state region is as large as the tensor that it says it holds; no other region says one."""
    for region in program.regions:
        if (region.kind is RegionKind.state) != (region.held is not None):
            fail(program, "a state region says what it holds, no other does", print_region(region))
        if region.held is None:
            continue
        type, layout = region.held.type, region.held.layout
        size = size_of(layout.extents(type.shape)) * type.dtype.itemsize
        if not isinstance(size, int) or size != region.size:
            fail(program, f"the state's tensor has {size} bytes", print_region(region))


def _ports(program: Program, entry: Entry, symbols: Mapping[str, int]) -> None:
    """Inputs and outputs are the caller's memory: one region each, of the type's size."""
    ports = [(p, RegionKind.input) for p in entry.inputs]
    ports += [(p, RegionKind.output) for p in entry.outputs]
    for name in _repeated(p.region for p, _ in ports):
        fail(program, f"entry {entry.name}: two ports share the region {name!r}")
    for port, kind in ports:
        region = program.region(port.region)
        if region.kind is not kind:
            fail(program, f"{kind.value} {port.name!r} is in no {kind.value}", print_region(region))
        size = evaluate(size_of(port.type.shape), symbols) * port.type.dtype.itemsize
        if size != evaluate(region.size, symbols):
            fail(program, f"{port.name}: {port.type} has {size} bytes", print_region(region))


def _loops(program: Program, entry: Entry) -> None:
    """Steps of a loop know its symbol, which is one of the program's, and change no state."""
    states = {r.name for r in program.states}
    sizes = {r.name: r.size for r in program.regions}
    for step in entry.steps:
        if not step.each:
            continue
        if step.each not in program.symbols:
            fail(program, f"no input has the symbol {step.each!r} in its shape", print_step(step))
        if any(a.region in states for a in step.args):
            fail(program, f"a step of each {step.each} takes state", print_step(step))
        for argument in step.args:
            size = sizes[argument.region]
            if isinstance(size, Dim) and any(m.count(step.each) != 1 for m, _ in size.terms):
                message = f"{argument.region!r} has {size} bytes, not so many for each {step.each}"
                fail(program, message, print_step(step))


def _plan(program: Program, entry: Entry, symbols: Mapping[str, int]) -> None:
    """No two regions that live at the same time may share bytes."""
    lives: dict[str, list[int]] = {}
    own = own_regions(program, entry)
    loops = loops_of(entry)
    for position, step in enumerate(entry.steps):
        loop = next((x for x in loops if x.first <= position < x.stop), None)
        for argument in step.args:
            whole = loop is not None and argument.region not in own
            seen = [loop.first, loop.stop - 1] if loop is not None and whole else [position]
            lives.setdefault(argument.region, []).extend(seen)
    arena = evaluate(program.arena, symbols)
    placed: list[tuple[int, int, Region]] = []
    for region in program.regions:
        if region.offset is None or region.name not in lives:
            continue
        start = evaluate(region.offset, symbols)
        end = start + evaluate(region.size, symbols)
        if region.kind is RegionKind.arena and not 0 <= start <= end <= arena:
            fail(
                program,
                f"the workspace has {arena} bytes with {_shown(symbols)}",
                print_region(region),
            )
        for other_start, other_end, other in placed:
            if other.kind is region.kind and start < other_end and other_start < end:
                together = region.kind in (RegionKind.weight, RegionKind.state) or (
                    min(lives[other.name]) <= max(lives[region.name])
                    and min(lives[region.name]) <= max(lives[other.name])
                )
                if together:
                    message = f"entry {entry.name}: two regions share bytes with {_shown(symbols)}"
                    fail(program, message, f"{print_region(other)}\n    {print_region(region)}")
        placed.append((start, end, region))


def _shown(symbols: Mapping[str, int]) -> str:
    return ", ".join(f"{s} = {v}" for s, v in sorted(symbols.items())) or "no symbols"


class _Footprints:
    """What each kernel touches, once per kernel, parameter and values of its symbols."""

    def __init__(self) -> None:
        self.written: dict[tuple[str, str, tuple[int, ...]], NDArray[np.int64]] = {}

    def writes(
        self, kernel: Kernel, buffer: Buffer, symbols: Mapping[str, int]
    ) -> NDArray[np.int64]:
        key = (kernel.name, buffer.name, tuple(symbols[s] for s in kernel.symbols))
        if key not in self.written:
            self.written[key] = written_offsets(kernel, buffer.name, symbols)
        return self.written[key]


@dataclass
class _EntryCheck:
    """Runs an entry's steps on a shadow of its memory: one flag per byte that says whether it was written.

    `now` are the symbols of the step that runs.
    """

    program: Program
    entry: Entry
    symbols: Mapping[str, int]
    footprints: _Footprints

    def run(self) -> None:
        self.regions = {r.name: r for r in self.program.regions}
        self.shadow: dict[str, NDArray[np.uint8]] = {}
        self.replaced: set[str] = set()  # the state that was written
        self.now = self.symbols
        _loops(self.program, self.entry)
        own = own_regions(self.program, self.entry)
        starts = {loop.first for loop in loops_of(self.entry)}
        for turn in turns(self.program, self.entry, self.symbols):
            step, self.now = turn.step, turn.symbols
            if turn.position in starts:  # nothing is left of the turn before
                for name in own.keys() & self.shadow.keys():
                    self.shadow[name][:] = 0
            kernel = self.program.kernels[step.kernel]
            pairs = list(zip(kernel.params, step.args, strict=True))
            self.replaces(step, kernel)
            for buffer, argument in pairs:
                self.fits(step, buffer, argument)
                if buffer.role in (Role.in_, Role.inout):
                    self.read(step, buffer, argument)
            for buffer, argument in pairs:
                if buffer.role in (Role.out, Role.inout):
                    self.write(step, kernel, buffer, argument)
        for name in sorted(self.replaced):
            missing = int((self.flags(name) == 0).sum())
            if missing:
                message = f"{missing} bytes of state {name!r} keep their old values"
                fail(self.program, f"{message} with {_shown(self.symbols)}")
        for port in self.entry.outputs:
            missing = int((self.flags(port.region) == 0).sum())
            if missing:
                message = f"{missing} bytes of output {port.name!r} are never written"
                fail(self.program, f"{message} with {_shown(self.symbols)}")

    def flags(self, name: str) -> NDArray[np.uint8]:
        if name not in self.shadow:
            region = self.regions[name]
            ready = region.kind in (RegionKind.input, RegionKind.weight, RegionKind.state)
            self.shadow[name] = np.full(evaluate(region.size, self.symbols), ready, np.uint8)
        return self.shadow[name]

    def elements(self, buffer: Buffer, argument: Argument) -> NDArray[np.unsignedinteger]:
        """The flags of the region's elements from the argument's place on: all bytes of one as a number."""
        flags = self.flags(argument.region)[argument.offset :]
        size = buffer.dtype.itemsize
        return flags[: len(flags) // size * size].view(f"u{size}")

    def replaces(self, step: Step, kernel: Kernel) -> None:
        """Refuses a step that reads a state which it writes, unless it replaces it element by element."""
        allowed = replaceable(kernel)
        for k, (y, written) in enumerate(zip(kernel.params, step.args, strict=True)):
            if y.role is Role.in_ or self.regions[written.region].kind is not RegionKind.state:
                continue
            for i, (x, read) in enumerate(zip(kernel.params, step.args, strict=True)):
                same = read.region == written.region and i != k
                if same and ((i, k) not in allowed or read.offset != written.offset):
                    message = f"{y.name} is written over {x.name}, which is not only replaced"
                    fail(self.program, message, print_step(step))

    def fits(self, step: Step, buffer: Buffer, argument: Argument) -> None:
        size = buffer.dtype.itemsize
        end = argument.offset + span(buffer, self.now) * size
        have = evaluate(self.regions[argument.region].size, self.symbols)
        if argument.offset < 0 or end > have:
            where = f"{buffer.name} takes bytes {argument.offset} to {end} of {argument.region!r}"
            message = f"{where}, which has {have} with {_shown(self.symbols)}"
            fail(self.program, message, print_step(step))
        if argument.offset % size:
            message = f"{buffer.name} begins at byte {argument.offset}, no multiple of {size}"
            fail(self.program, message, print_step(step))

    def read(self, step: Step, buffer: Buffer, argument: Argument) -> None:
        region = self.regions[argument.region]
        flags = self.flags(region.name)
        if region.kind is RegionKind.output and flags.size and not flags.any():
            fail(
                self.program,
                f"output {region.name!r} is read before it is written",
                print_step(step),
            )
        if region.name in self.replaced:
            fail(
                self.program,
                f"state {region.name!r} is read after it was written",
                print_step(step),
            )
        if region.kind in (RegionKind.input, RegionKind.weight, RegionKind.state):
            return
        elements = self.elements(buffer, argument)[: span(buffer, self.now)]
        if not (elements == _written(buffer)).all():  # most are whole: no need to look up each
            elements = elements[box(buffer, self.now)]
        missing = int((elements != _written(buffer)).sum())
        if missing:
            what = f"{missing} elements of {buffer.name} in {argument.region!r}"
            message = f"{what} are read before they are written with {_shown(self.symbols)}"
            fail(self.program, message, print_step(step))

    def write(self, step: Step, kernel: Kernel, buffer: Buffer, argument: Argument) -> None:
        region = self.regions[argument.region]
        if region.kind in (RegionKind.input, RegionKind.weight):
            fail(
                self.program, f"{buffer.name} writes to a region that is constant", print_step(step)
            )
        if region.kind is RegionKind.state:
            if region.name in self.replaced:
                fail(self.program, f"state {region.name!r} is written twice", print_step(step))
            self.replaced.add(region.name)
            self.flags(region.name)[:] = 0
        self.elements(buffer, argument)[self.footprints.writes(kernel, buffer, self.now)] = (
            _written(buffer)
        )


def _written(buffer: Buffer) -> int:
    """The flags of an element whose bytes were all written."""
    return int.from_bytes(b"\1" * buffer.dtype.itemsize, "little")
