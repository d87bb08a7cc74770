"""Values that are computed once more where they are needed late, instead of being kept for it.

A training step keeps what its forward pass computed for its backward pass. An activation behind a normalization is
quickly computed again from the map that was normalized, which the normalization's gradient reads anyway: a second call
of the same kernel before the first late reader then takes the memory of one map off the peak, and gives the same bits.
Each such call goes through memory once more, so all of them together may move no more than `_SHARE` of the bytes that
the entry's calls move.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from convc.loops.ir import Call, Expr, Kernel, Load, Role, Stmt, Store, index, walk
from convc.loops.walking import expressions, subexpressions
from convc.plan.reorder import Uses
from convc.program.ir import Argument, Entry, Program, Region, Step
from convc.program.turns import loops_of

# MobileNetV2 at 224 x 224 takes 1 % longer with this share, and 22 % less memory; 4 % longer and 37 % less with all.
_SHARE = 0.06

# The values whose memory is worth a call of its own: they take this part of the peak at the least.
_WORTH = 0.01


def recompute(program: Program) -> Program:
    """The program with second calls for large values that are alive at an entry's peak, and cheap to compute again."""
    entries = []
    regions = list(program.regions)
    for entry in program.entries:
        entry, added = _with_second_calls(program, entry)
        entries.append(entry)
        regions += added
    return replace(program, entries=tuple(entries), regions=tuple(regions))


@dataclass(frozen=True)
class Candidate:
    """A region that the calls `makers` make, again before the call `late`, the first that reads it after a pause."""

    region: str
    makers: tuple[int, ...]
    late: int
    moved: int
    """Bytes that the makers read and write."""


def _with_second_calls(program: Program, entry: Entry) -> tuple[Entry, list[Region]]:
    if loops_of(entry) or not entry.steps:
        return entry, []
    uses = Uses.of(program, entry)
    place = range(len(entry.steps))
    alive = uses.alive(place, place)
    peak = max(alive)
    at = alive.index(peak)
    left = int(_SHARE * sum(uses.moved(c) for c in place))
    cheap = functools.cache(lambda kernel: is_elementwise(program.kernels[kernel]))
    found = [
        c
        for name in uses.sizes
        if uses.sizes[name] >= peak * _WORTH
        and (c := _candidate(entry, uses, name, at, cheap)) is not None
    ]
    chosen: list[Candidate] = []
    for candidate in sorted(found, key=lambda c: (-uses.sizes[c.region], c.late)):
        if candidate.moved > left or any(_related(uses, candidate, c) for c in chosen):
            continue
        left -= candidate.moved
        chosen.append(candidate)
    return _emitted(program, entry, chosen)


def _candidate(
    entry: Entry, uses: Uses, name: str, at: int, cheap: Callable[[str], bool]
) -> Candidate | None:
    """How to make a region again behind the call `at`, if it lives there for later calls alone and that is possible."""
    makers, readers = uses.writers.get(name, []), uses.readers.get(name, [])
    late = [r for r in readers if r > at]
    if not makers or not late or makers[-1] >= at or at in readers:
        return None
    again = min(late)
    sources = frozenset[str]().union(*(uses.reads[m] for m in makers))
    alone = all(uses.writes[m] == {name} for m in makers)
    if not sources or not alone:
        return None
    for source in sources:
        if any(w > makers[0] and w < again for w in uses.writers.get(source, ())):
            return None
        if source in uses.sizes and max(uses.touchers(source)) < again:
            return None  # it would have to live longer
    if not all(cheap(entry.steps[m].kernel) for m in makers):
        return None
    return Candidate(name, tuple(makers), again, sum(uses.moved(m) for m in makers))


def _related(uses: Uses, one: Candidate, other: Candidate) -> bool:
    """True if the one is made of the other."""
    return any(a.region in uses.reads[m] for a, b in ((one, other), (other, one)) for m in b.makers)


def _emitted(
    program: Program, entry: Entry, chosen: Sequence[Candidate]
) -> tuple[Entry, list[Region]]:
    """The entry with the second calls, and their regions."""
    regions = {r.name: r for r in program.regions}
    before: dict[int, list[Candidate]] = {}
    for candidate in chosen:
        before.setdefault(candidate.late, []).append(candidate)
    names: dict[str, str] = {}
    steps: list[Step] = []
    for position, step in enumerate(entry.steps):
        for candidate in before.get(position, ()):
            names[candidate.region] = _free(f"{candidate.region}.again", regions)
            steps += (replace(_renamed(entry.steps[m], names), value="") for m in candidate.makers)
        steps.append(_renamed(step, names))
    added = [replace(regions[c.region], name=names[c.region]) for c in chosen]
    return replace(entry, steps=tuple(steps)), added


def _free(name: str, taken: Container[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _renamed(step: Step, names: Mapping[str, str]) -> Step:
    args = (Argument(names.get(a.region, a.region), a.offset) for a in step.args)
    return replace(step, args=tuple(args))


def is_elementwise(kernel: Kernel) -> bool:
    """True if a kernel only computes each element, in plain arithmetic, from those of its operands at the same index.

    Operands of fewer dimensions, or with extents of 1, are read at a part of the index. What only zeroes a border is
    one, too.
    """
    outputs = [b for b in kernel.params if b.role is not Role.in_]
    if len(outputs) != 1 or outputs[0].role is not Role.out:
        return False
    for stmt in walk(kernel.body):
        if isinstance(stmt, Store):
            if stmt.buffer != outputs[0].name:
                return False
            found = list(_parts(stmt))
            if any(isinstance(e, Load) and not _is_part(e.index, stmt.index) for e in found):
                return False
            if any(isinstance(e, Call) and e.function != "fma" for e in found):
                return False
        elif any(isinstance(e, Load) for e in _parts(stmt)):
            return False
    return True


def _is_part(found: Sequence[Expr], whole: Sequence[Expr]) -> bool:
    """True if an index has some of another's expressions in their order, and zeros."""
    rest = iter(whole)
    return all(e == index(0) or e in rest for e in found)


def _parts(stmt: Stmt) -> Iterator[Expr]:
    """All that stands directly in a statement."""
    return (e for expr in expressions(stmt) for e in subexpressions(expr))
