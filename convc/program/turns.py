"""Loops over images in an entry (`each` in program/ir.py): in which order steps run, and on which bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby

from convc.program.ir import Argument, Entry, Program, RegionKind, Step
from convc.types import Dim, Extent, evaluate


@dataclass(frozen=True)
class Loop:
    """The steps of an entry from `first` up to `stop`, which run once for each value of a symbol."""

    symbol: str
    first: int
    stop: int


@dataclass(frozen=True)
class Turn:
    """One call of a step, at a position of its entry: in a loop its symbol is 1 and its places are that turn's."""

    position: int
    step: Step
    symbols: Mapping[str, int]


def loops_of(entry: Entry) -> list[Loop]:
    """The loops of an entry, in order."""
    found = []
    for symbol, group in groupby(enumerate(entry.steps), key=lambda item: item[1].each):
        positions = [position for position, _ in group]
        if symbol:
            found.append(Loop(symbol, positions[0], positions[-1] + 1))
    return found


def turns(program: Program, entry: Entry, symbols: Mapping[str, int]) -> Iterator[Turn]:
    """Every call of an entry for values of the symbols, in order."""
    sizes = {r.name: r.size for r in program.regions}
    done = 0
    for loop in loops_of(entry):
        for position in range(done, loop.first):
            yield Turn(position, entry.steps[position], symbols)
        done = loop.stop
        inside = {**symbols, loop.symbol: 1}
        for turn in range(symbols[loop.symbol]):
            for k in range(loop.first, loop.stop):
                args = tuple(
                    moved(a, sizes[a.region], loop.symbol, turn, symbols)
                    for a in entry.steps[k].args
                )
                yield Turn(k, replace(entry.steps[k], args=args), inside)
    for position in range(done, len(entry.steps)):
        yield Turn(position, entry.steps[position], symbols)


def moved(
    argument: Argument, size: Extent, symbol: str, turn: int, symbols: Mapping[str, int]
) -> Argument:
    """An argument's place in a turn, in a region of this size."""
    step = evaluate(step_of(size, symbol), symbols)
    return replace(argument, offset=argument.offset + turn * step)


def step_of(size: Extent, symbol: str) -> Extent:
    """The bytes from one turn to the next in a region: its size for one image, 0 if the symbol is not in its size."""
    if not isinstance(size, Dim) or symbol not in size.symbols:
        return 0
    return size // Dim.symbol(symbol)


def own_regions(program: Program, entry: Entry) -> dict[str, str]:
    """The arena's regions that are the same memory in every turn of a loop, and in nothing else; with its symbol."""
    inside: dict[str, str] = {}
    touched: dict[str, set[Loop | None]] = {}
    loops = loops_of(entry)
    for position, step in enumerate(entry.steps):
        loop = next((x for x in loops if x.first <= position < x.stop), None)
        for argument in step.args:
            touched.setdefault(argument.region, set()).add(loop)
    for region in program.regions:
        places = touched.get(region.name, set())
        if region.kind is RegionKind.arena and len(places) == 1 and None not in places:
            (loop,) = places
            if loop is not None and step_of(region.size, loop.symbol) == 0:
                inside[region.name] = loop.symbol
    return inside
