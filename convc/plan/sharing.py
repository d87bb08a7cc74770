"""How the steps of a program are shared among threads: along which loop each is cut, and which aren't shared at all.

A core reads what another has just written at a quarter to a half of the speed of its own caches (measured between two
cores with a cache of 1 MiB each: 42 GB/s against 110 to 260). So the steps of an entry are cut such that a thread finds
what it wrote itself: as a rule along the rows of images, all threads reading all weights, and along the channels where
the weights are more than the images. A thread's share is the same stretch of the loops from the cut on, for every
iteration of the parallel loops around it; the order of a kernel's loops doesn't change, and neither do its results.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import prod

from convc.loops.ir import Buffer, Role
from convc.plan.nest import MANY, Nest
from convc.program.ir import Argument, Cut, Entry, Program, Region, RegionKind, Share, Step
from convc.types import Dim, Extent, evaluate

LEAST_NANOSECONDS = 6_000
"""A step that takes less is over on the caller's thread before sharing it has paid."""

# What reading from another core's caches takes longer than from one's own.
_NANOSECONDS_PER_FOREIGN_BYTE = 0.02


def share_steps(program: Program) -> Program:
    """The program with a share for each step. IRError if a parallel loop's extent is no polynomial."""
    nests = {name: Nest(kernel) for name, kernel in program.kernels.items()}
    times = {name: nest.time() for name, nest in nests.items()}
    symbols = {s for k in program.kernels.values() for s in k.symbols} | set(program.symbols)
    single, many = (
        _Cuts(program, nests, dict.fromkeys(symbols, value))
        for value in (1, MANY if symbols else 1)
    )

    def shared(entry: Entry) -> Iterator[Step]:
        for step, a, b in zip(entry.steps, single.of(entry), many.of(entry), strict=True):
            nest = nests[step.kernel]
            yield replace(step, share=_share(step, nest.cut(a), nest.cut(b), times[step.kernel]))

    entries = tuple(replace(entry, steps=tuple(shared(entry))) for entry in program.entries)
    return replace(program, entries=entries)


def _share(step: Step, single: Cut, many: Cut, time: Extent) -> Share:
    """A step's share, given how it is cut where every symbol is one, and otherwise.

    In a loop over images it is cut as for one of them.
    """
    if step.each:
        single = many = Cut(_at_one(single.rows, step.each), _at_one(single.length, step.each))
        time = _at_one(time, step.each)
    least = least_product(time) if many != Cut(1, 1) else None
    return Share(many, None if single == many else single, time, least)


def least_product(time: Extent) -> int | None:
    """The product of symbols from which on a step that takes such a time is worth sharing; None if it never is."""
    if isinstance(time, int):
        return 1 if time >= LEAST_NANOSECONDS else None
    once = evaluate(time, dict.fromkeys(time.symbols, 0))
    each = evaluate(time, dict.fromkeys(time.symbols, 1)) - once
    return max(1, -(-(LEAST_NANOSECONDS - once) // each))


def _at_one(extent: Extent, symbol: str) -> Extent:
    """An extent where a symbol is one."""
    if not isinstance(extent, Dim):
        return extent
    total: Extent = 0
    for monomial, coefficient in extent.terms:
        term: Extent = coefficient
        for factor in monomial:
            term = term if factor == symbol else term * Dim.symbol(factor)
        total = total + term
    return total


class _Cuts:
    """Chooses the loop at which each step is cut, one step after the other.

    `spans` has for each region over how many bytes of it the cut loop of its last writer ran.
    """

    def __init__(
        self, program: Program, nests: Mapping[str, Nest], symbols: Mapping[str, int]
    ) -> None:
        self.nests, self.symbols = nests, symbols
        self.regions = {r.name: r for r in program.regions}
        self.spans: dict[str, float] = {}

    def of(self, entry: Entry) -> Iterator[int]:
        """For each step the position of its cut among the kernel's parallel loops."""
        for step in entry.steps:
            nest = self.nests[step.kernel]
            sizes = [self.size(*pair) for pair in zip(nest.kernel.params, step.args, strict=True)]
            costs = [self.cost(nest, step, sizes, at) for at in range(len(nest.loops))]
            chosen = min(range(len(costs)), key=costs.__getitem__, default=0)
            for buffer, argument in self.written(nest, step):
                moved = nest.span(buffer, chosen, self.symbols) if costs else 0.0
                self.spans[argument.region] = moved
            yield chosen

    def written(self, nest: Nest, step: Step) -> Iterator[tuple[Buffer, Argument]]:
        for buffer, argument in zip(nest.kernel.params, step.args, strict=True):
            if buffer.role is not Role.in_:
                yield buffer, argument

    def size(self, buffer: Buffer, argument: Argument) -> int:
        """Bytes of a parameter that are there."""
        return min(
            evaluate(buffer.size, self.symbols) * buffer.dtype.itemsize,
            evaluate(self.regions[argument.region].size, self.symbols),
        )

    def cost(self, nest: Nest, step: Step, sizes: list[int], at: int) -> float:
        """Nanoseconds that two threads lose when a step is cut at a loop: foreign bytes, weights twice, odd shares."""
        extents = [evaluate(e, self.symbols) for e in nest.extents]
        length = prod(extents[at:])
        if extents[at] == 1 or length < 2:
            return 1e12 - at
        total = (-(-length // 2) * 2 / length - 1) / 2 * nest.nanoseconds(self.symbols)
        for buffer, argument, size in zip(nest.kernel.params, step.args, sizes, strict=True):
            region = self.regions[argument.region]
            span = nest.span(buffer, at, self.symbols)
            total += self.foreign(buffer, region, size, span) * _NANOSECONDS_PER_FOREIGN_BYTE
        return total

    def foreign(self, buffer: Buffer, region: Region, size: int, span: float) -> float:
        """Bytes of a parameter that each of two threads reads from the other's caches, or in its place."""
        if buffer.role is not Role.in_:
            # Who reads it next cuts it in halves, most likely.
            return 0.0 if 2 * span > size else size / 4
        if region.kind is RegionKind.weight:
            return size / 2 if span == 0 else 0.0
        if span == 0:
            return size / 2
        before = self.spans.get(region.name, 0.0)
        return 0.0 if before and 0.6 < span / before < 1.7 else size / 4
