"""The order of a training step's calls: one that keeps less memory alive.

Calls run in the order of the graph's nodes at first, which says little about memory. A convolution's two gradients are
an example: each makes large intermediate values of its own and may run first, and their calls may stand among one
another. Only the order changes, never what a call computes: results have the same bits.

Sizes are compared for a batch of `_BATCH`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from convc.loops.ir import Role
from convc.program.ir import Entry, Program, RegionKind, Step
from convc.program.turns import loops_of
from convc.types import evaluate, symbols_of

_BATCH = 32

# Regions of fewer bytes don't count: of what a step reads, hundreds of small vectors.
_LEAST = 1 << 14

# An order is taken if its peak is no more than this part of the given one's: that has values read soon after they are
# computed. (64 and 32 filters with pools between take 2 % longer in an order with 8 % less.)
_ENOUGH = 0.9

# Two blocks change places if that saves this part of the entry's peak: others stay next to what they read.
_WORTH = 0.01


def shorten_lifetimes(program: Program) -> Program:
    """The program with the steps of each entry in an order with a much lower peak of live bytes, where one is found."""
    return replace(program, entries=tuple(_shortened(program, e) for e in program.entries))


def _shortened(program: Program, entry: Entry) -> Entry:
    if loops_of(entry) or not entry.steps:
        return entry
    uses = Uses.of(program, entry)
    given = range(len(entry.steps))
    before = uses.peak(given, given)
    order = _hoisted(uses, _sunk(uses, given))
    order = _swapped(uses, order, int(before * _WORTH))
    if uses.peak(order, _places(order)) > before * _ENOUGH:
        return entry
    return replace(entry, steps=tuple(entry.steps[i] for i in order))


@dataclass(frozen=True)
class Uses:
    """What the calls of an entry touch. Calls go by their place in the entry as it was given."""

    reads: Sequence[frozenset[str]]
    writes: Sequence[frozenset[str]]
    readers: dict[str, list[int]]
    writers: dict[str, list[int]]
    arena: frozenset[str]
    """The regions of the arena."""
    sizes: dict[str, int]
    """Bytes of those that count."""

    @staticmethod
    def of(program: Program, entry: Entry) -> Uses:
        reads, writes = zip(*(_touched(program, step) for step in entry.steps), strict=True)
        readers: dict[str, list[int]] = {}
        writers: dict[str, list[int]] = {}
        for found, sets in ((readers, reads), (writers, writes)):
            for call, names in enumerate(sets):
                for name in names:
                    found.setdefault(name, []).append(call)
        arena = [r for r in program.regions if r.kind is RegionKind.arena]
        sizes = {
            r.name: evaluate(r.size, dict.fromkeys(symbols_of((r.size,)), _BATCH)) for r in arena
        }
        sizes = {n: s for n, s in sizes.items() if s >= _LEAST and (n in readers or n in writers)}
        return Uses(reads, writes, readers, writers, frozenset(r.name for r in arena), sizes)

    def touchers(self, name: str) -> Iterable[int]:
        yield from self.writers.get(name, ())
        yield from self.readers.get(name, ())

    def counted(self, calls: Iterable[int]) -> set[str]:
        """The regions that count and that some calls touch."""
        return {n for c in calls for n in (*self.reads[c], *self.writes[c]) if n in self.sizes}

    def tied(self, call: int) -> Iterable[int]:
        """The calls that have to stay before or behind a call, as they are."""
        for name in self.writes[call]:
            yield from self.touchers(name)
        for name in self.reads[call]:
            yield from self.writers.get(name, ())

    def tied_sets(self, first: Sequence[int], second: Sequence[int]) -> bool:
        """True if some call of the one has to stay before or behind one of the other."""
        a, b = (
            [
                frozenset[str]().union(*(sets[c] for c in calls))
                for sets in (self.reads, self.writes)
            ]
            for calls in (first, second)
        )
        return not (a[1].isdisjoint(b[0] | b[1]) and b[1].isdisjoint(a[0]))

    def growth(self, call: int, place: Sequence[int]) -> int:
        """Bytes that live longer than before by a call, or fewer; `place` are the calls' places in an order."""
        total = 0
        for name in self.counted((call,)):
            places = [place[c] for c in self.touchers(name)]
            total += self.sizes[name] * (
                (min(places) == place[call]) - (max(places) == place[call])
            )
        return total

    def moved(self, call: int) -> int:
        """Bytes that count of what a call reads and writes."""
        return sum(self.sizes.get(n, 0) for n in (*self.reads[call], *self.writes[call]))

    def peak(self, calls: Sequence[int], place: Sequence[int], begins: int = 0) -> int:
        """The most bytes alive while calls run in this order, but for those that are alive before and afterwards.

        Together they are the calls at the places from `begins` on.
        """
        return max(self.alive(calls, place, begins), default=0)

    def alive(self, calls: Sequence[int], place: Sequence[int], begins: int = 0) -> list[int]:
        """The same bytes while each of the calls runs."""
        inside = {call: p for p, call in enumerate(calls)}
        changes = [0] * (len(calls) + 1)
        for name in self.counted(calls):
            first, last = len(calls), 0
            for call in self.touchers(name):
                at = inside.get(call)
                if at is None:
                    at = 0 if place[call] < begins else len(calls)
                first, last = min(first, at), max(last, at)
            changes[first] += self.sizes[name]
            changes[min(last + 1, len(calls))] -= self.sizes[name]
        return list(itertools.accumulate(changes[:-1]))


def _touched(program: Program, step: Step) -> tuple[frozenset[str], frozenset[str]]:
    """The regions that a call reads, and those that it writes."""
    params = program.kernels[step.kernel].params
    pairs = list(zip(params, step.args, strict=True))
    return (
        frozenset(a.region for b, a in pairs if b.role is not Role.out),
        frozenset(a.region for b, a in pairs if b.role is not Role.in_),
    )


def _places(order: Sequence[int]) -> list[int]:
    found = [0] * len(order)
    for place, call in enumerate(order):
        found[call] = place
    return found


def _sunk(uses: Uses, given: Sequence[int]) -> list[int]:
    """The order with calls that take memory right before the first that needs them."""
    order = list(given)
    place = _places(order)
    for call in reversed(given):
        at = place[call]
        if uses.growth(call, place) <= 0:
            continue
        to = min((place[c] for c in uses.tied(call) if place[c] > at), default=at + 1) - 1
        _move(order, place, at, to)
    return order


def _hoisted(uses: Uses, given: Sequence[int]) -> list[int]:
    """The order with calls that give memory back right behind the last that they need."""
    order = list(given)
    place = _places(order)
    for call in given:
        at = place[call]
        if uses.growth(call, place) >= 0:
            continue
        to = max((place[c] for c in uses.tied(call) if place[c] < at), default=at - 1) + 1
        _move(order, place, at, to)
    return order


def _move(order: list[int], place: list[int], at: int, to: int) -> None:
    order.insert(to, order.pop(at))
    for p in range(min(at, to), max(at, to) + 1):
        place[order[p]] = p


def _swapped(uses: Uses, order: Sequence[int], worth: int) -> list[int]:
    """The order with blocks moved before their neighbours where that saves more than so many bytes of peak."""
    place = _places(order)
    blocks = _blocks(uses, order, place)
    for k in range(1, len(blocks)):
        at = k
        while at and _saved(uses, blocks[at - 1], blocks[at], place) > worth:
            first, second = blocks[at - 1 : at + 1]
            blocks[at - 1 : at + 1] = second, first
            for p, call in enumerate((*second, *first), place[first[0]]):
                place[call] = p
            at -= 1
    return [call for block in blocks for call in block]


def _blocks(uses: Uses, order: Sequence[int], place: Sequence[int]) -> list[list[int]]:
    """The order in blocks: calls that stand together, of which only the last leaves something behind.

    What replaces state is a block of its own: it waits for all who read the old value.
    """
    blocks: list[list[int]] = []
    for call in order:
        block = [call]
        while blocks and uses.writes[call] <= uses.arena and _feeds(uses, blocks[-1], call, place):
            block = blocks.pop() + block
        blocks.append(block)
    return blocks


def _feeds(uses: Uses, block: Sequence[int], call: int, place: Sequence[int]) -> bool:
    """True if a block writes something that counts, all of it read by a call and not afterwards."""
    names = frozenset[str]().union(*(uses.writes[c] for c in block))
    last = max((place[c] for n in names for c in uses.touchers(n)), default=-1)
    return not names.isdisjoint(uses.sizes) and last == place[call]


def _saved(uses: Uses, first: list[int], second: list[int], place: Sequence[int]) -> int:
    """Bytes of peak that two neighbours save if they change places; none where they can't."""
    if uses.tied_sets(first, second):
        return 0
    begins = place[first[0]]
    return uses.peak(first + second, place, begins) - uses.peak(second + first, place, begins)
