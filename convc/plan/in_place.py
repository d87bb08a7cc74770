"""Results that take the place of an operand: one region less in the arena, and one stream less through the caches.

State too: the next value of a state is computed somewhere else and copied at the end, as the program is lowered. Where
it can be computed in the state's own region, the copy goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from convc.loops.ir import Kernel, Load, Role, Store, walk
from convc.program.ir import Argument, Entry, Program, Region, RegionKind, Step
from convc.program.replacing import replaceable


class Pairs(dict[str, tuple[tuple[int, int], ...]]):
    """By kernel: the inputs and outputs that may share their memory, found when somebody asks."""

    def __init__(self, kernels: Mapping[str, Kernel]) -> None:
        super().__init__()
        self.kernels = kernels

    def __missing__(self, name: str) -> tuple[tuple[int, int], ...]:
        self[name] = found = replaceable(self.kernels[name])
        return found


def states_in_place(program: Program) -> Program:
    """Lets steps that compute the next values of states do it in the states' own regions, where nothing forbids it."""
    pairs = Pairs(program.kernels)
    entries = tuple(_with_states_in_place(program, entry, pairs) for entry in program.entries)
    return _without_unused(replace(program, entries=entries))


def reuse_in_place(program: Program) -> Program:
    """Lets a step write over an operand that it is the last to read, where each element is read only to be replaced.

    That is the residual of a convolution's epilogue, or the operand of a pointwise kernel: same shape, same layout, and
    every read at an index that the same iteration stores to.
    """
    pairs = Pairs(program.kernels)
    entries = (_renamed(e, _replacements(program, e, pairs)) for e in program.entries)
    return _without_unused(replace(program, entries=tuple(entries)))


def _without_unused(program: Program) -> Program:
    """The program without regions that no step touches any more, and kernels that none calls."""
    used = {a.region for e in program.entries for s in e.steps for a in s.args}
    ports = {p.region for e in program.entries for p in (*e.inputs, *e.outputs)}
    keep = used | ports | {r.name for r in program.states}
    regions = tuple(r for r in program.regions if r.name in keep)
    called = {s.kernel for e in program.entries for s in e.steps}
    kernels = {name: kernel for name, kernel in program.kernels.items() if name in called}
    return replace(program, regions=regions, kernels=kernels)


# ---------------------------------------------------------------- state


def copies_to_state(program: Program) -> frozenset[str]:
    """The kernels that nobody may need in the end: all their steps copy into state."""
    states = {r.name for r in program.regions if r.kind is RegionKind.state}
    steps = [s for e in program.entries for s in e.steps]
    others = {s.kernel for s in steps if len(s.args) != 2 or s.args[1].region not in states}
    return frozenset(program.kernels.keys() - others)


@dataclass(frozen=True)
class _Uses:
    """The positions of an entry's steps that read and write each region."""

    readers: Mapping[str, list[int]]
    writers: Mapping[str, list[int]]

    @staticmethod
    def of(program: Program, entry: Entry) -> _Uses:
        readers: dict[str, list[int]] = {}
        writers: dict[str, list[int]] = {}
        for position, step in enumerate(entry.steps):
            for buffer, argument in zip(
                program.kernels[step.kernel].params, step.args, strict=True
            ):
                if buffer.role in (Role.in_, Role.inout):
                    readers.setdefault(argument.region, []).append(position)
                if buffer.role in (Role.out, Role.inout):
                    writers.setdefault(argument.region, []).append(position)
        return _Uses(readers, writers)


def _with_states_in_place(program: Program, entry: Entry, pairs: Pairs) -> Entry:
    """The entry without the copies into state that aren't needed."""
    regions = {r.name: r for r in program.regions}
    uses = _Uses.of(program, entry)
    names: dict[str, str] = {}
    dropped: set[int] = set()
    for position, step in enumerate(entry.steps):
        if len(step.args) != 2 or regions[step.args[1].region].kind is not RegionKind.state:
            continue
        source, state = step.args
        if _is_copy(program.kernels[step.kernel]) and _can_move(
            program, entry, uses, position, pairs, regions[source.region], regions[state.region]
        ):
            names[source.region] = state.region
            dropped.add(position)
    kept = tuple(s for i, s in enumerate(entry.steps) if i not in dropped)
    return _renamed(replace(entry, steps=kept), names)


def _is_copy(kernel: Kernel) -> bool:
    """True for y = x of one type and layout."""
    x, y = kernel.params
    stores = [s for s in walk(kernel.body) if isinstance(s, Store)]
    same = (x.dtype, x.shape, x.layout) == (y.dtype, y.shape, y.layout)
    return same and all(
        isinstance(s.value, Load) and s.value.buffer == x.name and s.value.index == s.index
        for s in stores
    )


def _can_move(
    program: Program,
    entry: Entry,
    uses: _Uses,
    copy: int,
    pairs: Pairs,
    source: Region,
    state: Region,
) -> bool:
    """Whether a value that the step `copy` copies into state can be computed there."""
    writers = uses.writers.get(source.name, [])
    if source.kind is not RegionKind.arena or source.size != state.size or len(writers) != 1:
        return False
    (writer,) = writers
    if uses.readers[source.name] != [copy] or uses.writers[state.name] != [copy]:
        return False
    step = entry.steps[writer]
    if any(a.offset for a in step.args if a.region == source.name):
        return False
    readers = uses.readers.get(state.name, [])
    if any(r > writer for r in readers):
        return False
    operands = [i for i, a in enumerate(step.args) if a.region == state.name]
    places = [i for i, a in enumerate(step.args) if a.region == source.name]
    allowed = pairs[step.kernel]
    return all((i, k) in allowed for i in operands for k in places)


# ---------------------------------------------------------------- the arena


def _replacements(program: Program, entry: Entry, pairs: Pairs) -> dict[str, str]:
    """For each region that is written in place: the region that it becomes."""
    regions = {r.name: r for r in program.regions}
    uses = _Uses.of(program, entry)
    last: dict[str, int] = {}
    for position, step in enumerate(entry.steps):
        for argument in step.args:
            last[argument.region] = position
    names: dict[str, str] = {}
    for position, step in enumerate(entry.steps):
        taken: set[str] = set()
        for operand, place in pairs[step.kernel]:
            x, y = step.args[operand], step.args[place]
            region = regions[y.region]
            buffer = program.kernels[step.kernel].params[place]
            if y.region in names or region.kind is not RegionKind.arena:
                continue
            if region.size != buffer.size * buffer.dtype.itemsize:
                continue
            writers = [entry.steps[w] for w in uses.writers[y.region] if w != position]
            if not all(_clears(program, w) for w in writers):
                continue
            source = names.get(x.region, x.region)
            dies = last[x.region] == position and last[source] <= position
            alone = sum(a.region == x.region for a in step.args) == 1 and source not in taken
            if (
                dies
                and alone
                and x.offset == y.offset == 0
                and regions[source].kind is RegionKind.arena
                and regions[source].size == region.size
            ):
                names[y.region] = source
                taken.add(source)
                last[source] = last[y.region]
    return names


def _clears(program: Program, step: Step) -> bool:
    """True for a step that only zeroes the border of its region."""
    return len(program.kernels[step.kernel].params) == 1


def _renamed(entry: Entry, names: Mapping[str, str]) -> Entry:
    def renamed(step: Step) -> Step:
        if not any(a.region in names for a in step.args):
            return step
        args = (Argument(names.get(a.region, a.region), a.offset) for a in step.args)
        return replace(step, args=tuple(args))

    return replace(entry, steps=tuple(map(renamed, entry.steps)))
