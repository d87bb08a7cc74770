"""The memory plan: an offset for every region of the arena, the weights and the state, fixed before the first run.

Regions of the arena share bytes when their lifetimes don't meet. Sizes are polynomials in the symbols; regions whose
sizes are counted in the same unit (all that grow with N, all that don't) are packed among themselves by how many units
they take, so one plan holds for every value of the symbols. The placement is greedy by size, as in "Efficient Memory
Management for Deep Neural Net Inference" (Pisarchyk and Lee, 2020), section 5.1.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from convc.errors import IRError
from convc.program.ir import Entry, Program, Region, RegionKind
from convc.program.weights import ALIGNMENT, weight_offsets
from convc.types import Dim, Extent

Monomial = tuple[str, ...]


@dataclass(frozen=True)
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
        lifetimes = lifetimes_of(entry)
        mine = [r for r in program.regions if r.kind is RegionKind.arena and r.name in lifetimes]
        shared = next((r.name for r in mine if r.name in offsets), None)
        if shared is not None:
            raise IRError(f"the arena region {shared!r} belongs to two entries: expected one")
        base: Extent = 0
        for unit in dict.fromkeys(_unit(r) for r in sorted(mine, key=lambda r: str(_unit(r)))):
            group = [r for r in mine if _unit(r) == unit]
            placed, total = place({r.name: _count(r) for r in group}, lifetimes)
            for name, offset in placed.items():
                offsets[name] = base + offset * unit
            base = base + total * unit
        arena = _larger(arena, base)
    for kind in (RegionKind.weight, RegionKind.state):
        offsets.update(_fixed_offsets(program.regions, kind))
    regions = tuple(replace(r, offset=offsets.get(r.name)) for r in program.regions)
    return replace(program, regions=regions, arena=arena)


def lifetimes_of(entry: Entry) -> dict[str, Lifetime]:
    """The lifetime of every region that an entry's steps touch."""
    found: dict[str, Lifetime] = {}
    for position, step in enumerate(entry.steps):
        for argument in step.args:
            first = found[argument.region].first if argument.region in found else position
            found[argument.region] = Lifetime(first, position)
    return found


def place(
    sizes: Mapping[str, int], lifetimes: Mapping[str, Lifetime]
) -> tuple[dict[str, int], int]:
    """Offsets for regions of known sizes, the largest first, each as low as it fits; and the total."""
    placed: dict[str, int] = {}
    for name in sorted(sizes, key=lambda n: (-sizes[n], n)):
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
    """The largest sum of arena regions that live at the same time: no plan needs less."""
    best: Extent = 0
    for entry in program.entries:
        lifetimes = lifetimes_of(entry)
        arena = [r for r in program.regions if r.kind is RegionKind.arena and r.name in lifetimes]
        for position in range(len(entry.steps)):
            now = Lifetime(position, position)
            live: Extent = 0
            for region in arena:
                if lifetimes[region.name].meets(now):
                    live = live + region.size
            best = _larger(best, live)
    return best


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
