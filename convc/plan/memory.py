"""The memory plan: an offset for every region of the arena, the weights and the state, fixed before the first run.

Regions of the arena share bytes when their lifetimes don't meet. Sizes are polynomials in the symbols; regions whose
sizes are counted in the same unit (all that grow with N, all that don't) are packed among themselves by how many units
they take, so one plan holds for every value of the symbols. The placement is greedy by size, as in "Efficient Memory
Management for Deep Neural Net Inference" (Pisarchyk and Lee, 2020), section 5.1.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from convc.errors import IRError
from convc.frozen import frozen
from convc.program.ir import Entry, Program, Region, RegionKind
from convc.program.turns import loops_of, own_regions
from convc.program.weights import ALIGNMENT, weight_offsets
from convc.types import Dim, Extent, evaluate, symbols_of

Monomial = tuple[str, ...]


@frozen
class Lifetime:
    """The first and the last step that touch a region."""

    first: int
    last: int

    def meets(self, other: Lifetime) -> bool:
        return self.first <= other.last and other.first <= self.last


def plan_memory(program: Program) -> Program:
    """The program with offsets for its arena, weight and state regions, and the arena's size."""
    offsets: dict[str, Extent] = {}
    arena: Extent = 0
    for entry in program.entries:
        lifetimes = lifetimes_of(program, entry)
        mine = [r for r in program.regions if r.kind is RegionKind.arena and r.name in lifetimes]
        shared = next((r.name for r in mine if r.name in offsets), None)
        if shared is not None:
            raise IRError(f"the arena region {shared!r} belongs to two entries: expected one")
        own = own_regions(program, entry)
        base: Extent = 0
        around = _Around()
        for unit in dict.fromkeys(_unit(r) for r in sorted(mine, key=lambda r: str(_unit(r)))):
            group = [r for r in mine if _unit(r) == unit and r.name not in own]
            sizes = {r.name: _count(r) for r in group}
            lasting = {n for n in sizes if any(lifetimes[n].meets(lifetimes[o]) for o in own)}
            placed, total = place(sizes, lifetimes, lasting)
            for name, offset in placed.items():
                offsets[name] = base + offset * unit
            taken = max((placed[n] + sizes[n] for n in lasting), default=0)
            around.add(base, unit, taken, total)
            base = base + total * unit
        placed, total = place({r.name: _count(r) for r in mine if r.name in own}, lifetimes)
        offsets.update({n: around.start + offset for n, offset in placed.items()})
        arena = _larger(arena, base + max(0, total - around.free))
    for kind in (RegionKind.weight, RegionKind.state):
        offsets.update(_fixed_offsets(program.regions, kind))
    regions = tuple(replace(r, offset=offsets.get(r.name)) for r in program.regions)
    return replace(program, regions=regions, arena=arena)


def lifetimes_of(program: Program, entry: Entry) -> dict[str, Lifetime]:
    """The lifetime of every region that an entry's steps touch.

    In a loop over images, what isn't the loop's own lives from its first step to its last: in every turn.
    """
    found: dict[str, Lifetime] = {}
    loops, own = loops_of(entry), own_regions(program, entry)
    for position, step in enumerate(entry.steps):
        loop = next((x for x in loops if x.first <= position < x.stop), None)
        for name in {a.region: None for a in step.args}:
            start, end = position, position
            if loop is not None and name not in own:
                start, end = loop.first, loop.stop - 1
            first = min(start, found[name].first) if name in found else start
            found[name] = Lifetime(first, end)
    return found


@dataclass
class _Around:
    """Where the regions of loops over images go: behind those of the last unit that live at the same time.

    `free` are the bytes from there on to the end of that unit's regions where every symbol is one. The others grow with
    the symbols, so that a total of the loops' regions beyond `free` is all that the arena needs more, for any values.
    """

    start: Extent = 0
    free: int = 0

    def add(self, base: Extent, unit: Extent, taken: int, total: int) -> None:
        """The next unit's regions, of which the first `taken` of `total` units live while loops run."""
        self.start, self.free = base + taken * unit, total - taken


def place(
    sizes: Mapping[str, int], lifetimes: Mapping[str, Lifetime], first: Collection[str] = ()
) -> tuple[dict[str, int], int]:
    """Offsets for regions of known sizes, each as low as it fits; and the total.

    The largest are placed first, but for those that are named to be.
    """
    placed: dict[str, int] = {}
    for name in sorted(sizes, key=lambda n: (n not in first, -sizes[n], n)):
        taken = sorted(
            (placed[other], placed[other] + sizes[other])
            for other in placed
            if lifetimes[other].meets(lifetimes[name])
        )
        offset = 0
        for start, end in taken:
            if offset + sizes[name] <= start:
                break
            offset = max(offset, end)
        placed[name] = offset
    return placed, max((placed[n] + sizes[n] for n in placed), default=0)


def lower_bound(program: Program) -> Extent:
    """The largest sum of arena regions that live at the same time, where every symbol is one: no plan needs less."""
    best: Extent = 0
    for entry in program.entries:
        lifetimes = lifetimes_of(program, entry)
        arena = [r for r in program.regions if r.kind is RegionKind.arena and r.name in lifetimes]
        changes: list[Extent] = [0] * (len(entry.steps) + 1)
        for region in arena:
            life = lifetimes[region.name]
            changes[life.first] = changes[life.first] + region.size
            changes[life.last + 1] = changes[life.last + 1] - region.size
        live: Extent = 0
        for change in changes:
            live = live + change
            if _at_one(live) > _at_one(best):
                best = live
    return best


def _at_one(extent: Extent) -> int:
    return evaluate(extent, dict.fromkeys(symbols_of((extent,)), 1))


def _fixed_offsets(regions: Iterable[Region], kind: RegionKind) -> dict[str, int]:
    """Offsets for all regions of a kind, side by side."""
    sizes: dict[str, int] = {}
    for region in regions:
        if region.kind is kind:
            if not isinstance(region.size, int):
                raise IRError(f"the {kind.value} {region.name} has a symbolic size {region.size}")
            sizes[region.name] = region.size
    return weight_offsets(sizes)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _unit(region: Region) -> Extent:
    """What a region's size is counted in: 1, its largest monomial, or itself where no monomial bounds it (N + M)."""
    if isinstance(region.size, int):
        return 1
    largest = region.size.terms[0][0]
    if all(_divides(monomial, largest) for monomial, _ in region.size.terms):
        return Dim(((largest, 1),))
    return region.size // _content(region.size)


def _count(region: Region) -> int:
    """Bytes per unit, aligned. A sum is bounded by its largest monomial, since symbols are at least 1."""
    if isinstance(region.size, int):
        return _aligned(region.size)
    if _unit(region) == region.size // _content(region.size):
        return _aligned(_content(region.size))
    return _aligned(sum(max(c, 0) for _, c in region.size.terms))


def _divides(a: Monomial, b: Monomial) -> bool:
    return not Counter(a) - Counter(b)


def _content(size: Dim) -> int:
    """The largest number that divides every coefficient."""
    return math.gcd(*(c for _, c in size.terms))


def _extent(coefficient: int, monomial: Monomial) -> Extent:
    return coefficient * Dim(((monomial, 1),)) if monomial else coefficient


def _larger(a: Extent, b: Extent) -> Extent:
    """The larger of two sizes, term by term: both fit in it."""
    if isinstance(a, int) and isinstance(b, int):
        return max(a, b)
    terms: dict[Monomial, int] = {}
    for extent in (a, b):
        parts = extent.terms if isinstance(extent, Dim) else (((), extent),)
        for monomial, coefficient in parts:
            terms[monomial] = max(terms.get(monomial, 0), coefficient)
    total: Extent = 0
    for monomial, coefficient in terms.items():
        total = total + _extent(coefficient, monomial)
    return total
