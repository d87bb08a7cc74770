"""Runs of steps whose maps outgrow a core's cache go through the images one by one instead of all at each step.

A step that goes through a batch writes more than the caches hold before the next step reads it. Where the maps of an
image are large and the weights small, it is better to take an image through several steps while its maps are in the
caches; where the weights are large, it is better to read them once for all images. Regions that only such a loop
touches need room for one image.

Measured (one core of AMD Zen 5, 1 MiB of second-level and 32 MiB of last-level cache, batch 16): see ADR 0023.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import inf

from convc.loops.ir import (
    Alloc,
    Block,
    Buffer,
    Expr,
    For,
    If,
    Kernel,
    Let,
    Load,
    Role,
    Stmt,
    Store,
    Var,
)
from convc.loops.walking import expressions, subexpressions
from convc.program.ir import Entry, Program, Region, RegionKind, Step
from convc.program.turns import own_regions, step_of
from convc.target import Target
from convc.types import Dim, evaluate, symbols_of

# What a byte of weights costs of what a byte of maps gains: they come from the last-level cache, in whole streams.
_PER_WEIGHT_BYTE = 0.5

# What a byte counts that a step's maps are smaller than the cache.
_SMALL = 0.25

# Bytes of an image's maps beyond the caches, over all steps of a loop, from which it is worth the loop.
_LEAST_GAIN = 2 << 20


def one_by_one(program: Program, plain: Mapping[str, Kernel], target: Target) -> Program:
    """The program with such runs of steps as loops over images, and room for one image in what is theirs alone.

    `plain` are the kernels before they were scheduled, which say what belongs to which image.
    """
    entries = tuple(_with_loops(program, entry, plain, target) for entry in program.entries)
    program = replace(program, entries=entries)
    sizes = {r.name: r.size for r in program.regions}
    for entry in entries:
        symbols = {a.region: s.each for s in entry.steps if s.each for a in s.args}
        single = replace(
            program, regions=tuple(_for_one(r, symbols.get(r.name, "")) for r in program.regions)
        )
        own = own_regions(single, entry)
        sizes |= {r.name: r.size for r in single.regions if r.name in own}
    return replace(program, regions=tuple(replace(r, size=sizes[r.name]) for r in program.regions))


def _for_one(region: Region, symbol: str) -> Region:
    """The region with room for one image, if it is the arena's."""
    step = step_of(region.size, symbol) if symbol else 0
    return replace(region, size=step) if step and region.kind is RegionKind.arena else region


def _with_loops(
    program: Program, entry: Entry, plain: Mapping[str, Kernel], target: Target
) -> Entry:
    if len(entry.symbols) != 1:
        return entry
    (symbol,) = entry.symbols
    regions = {r.name: r for r in program.regions}
    apart = {name: takes_images_apart(kernel, symbol) for name, kernel in plain.items()}
    scores = [
        _score(program, regions, step, symbol, target) if apart[step.kernel] else -inf
        for step in entry.steps
    ]
    steps = list(entry.steps)
    for first, stop in runs(scores, _LEAST_GAIN):
        steps[first:stop] = [replace(step, each=symbol) for step in steps[first:stop]]
    return replace(entry, steps=tuple(steps))


def _score(
    program: Program, regions: dict[str, Region], step: Step, symbol: str, target: Target
) -> float:
    """Bytes of an image's maps that a step finds in no cache, if it went through all images, less its weights' cost.

    A step on small maps gains nothing, and is shared by threads less well: it counts a little. Minus infinity for one
    whose images don't lie one after the other.
    """
    kernel = program.kernels[step.kernel]
    maps = weights = 0
    for buffer, argument in zip(kernel.params, step.args, strict=True):
        region = regions[argument.region]
        if region.kind is RegionKind.weight:
            weights += int(region.size) if isinstance(region.size, int) else 0
        elif region.kind is RegionKind.state or not _runs_by_image(buffer, region, symbol):
            return -inf
        else:
            maps += evaluate(buffer.size, {symbol: 1}) * buffer.dtype.itemsize
    if len(kernel.params) == 1:  # it clears a border
        return 0.0
    gain = maps - target.l2
    return (gain if gain > 0 else gain * _SMALL) - _PER_WEIGHT_BYTE * weights


def runs(scores: Sequence[float], least: float) -> Iterator[tuple[int, int]]:
    """The ranges of positions whose sums of scores are largest, at least so large; what costs nothing begins them."""
    first, done = 0, 0
    while first < len(scores):
        total = best = 0.0
        stop = first
        for position in range(first, len(scores)):
            total += scores[position]
            if total > best:
                best, stop = total, position + 1
            if total < 0:
                break
        if best >= least:
            while first > done and scores[first - 1] == 0:
                first -= 1
            yield first, stop
            done = stop
        first = max(stop, first + 1)


def _runs_by_image(buffer: Buffer, region: Region, symbol: str) -> bool:
    """True if a buffer has one image after the other, as far apart as those of its region."""
    if not isinstance(region.size, Dim):
        return not symbols_of(buffer.shape)
    dim = image_dimension(buffer, symbol)
    if dim is None or any(m.count(symbol) != 1 for m, _ in region.size.terms):
        return False
    strides = zip(buffer.layout.axes, buffer.strides, strict=True)
    steps = [s for axis, s in strides if axis.dim == dim]
    return len(steps) == 1 and steps[0] * buffer.dtype.itemsize == step_of(region.size, symbol)


def image_dimension(buffer: Buffer, symbol: str) -> int | None:
    """The dimension whose extent is the symbol, if it is the only one that knows it and lies plainly in memory."""
    dims = [d for d, extent in enumerate(buffer.shape) if symbols_of((extent,))]
    if len(dims) != 1 or buffer.shape[dims[0]] != Dim.symbol(symbol):
        return None
    axes = [a for a in buffer.layout.axes if a.dim == dims[0]]
    plain = len(axes) == 1 and axes[0].divide == 1 and axes[0].modulus is None
    return dims[0] if plain and buffer.layout.border[dims[0]] == (0, 0) else None


def takes_images_apart(kernel: Kernel, symbol: str) -> bool:
    """True if everything a plain kernel does, it does inside a loop over the images, on the loop's image alone.

    The number of the image may only say which image is read and stored: inside of a loop it is always 0.
    """
    dims = {}
    for buffer in kernel.params:
        dim = image_dimension(buffer, symbol)
        if dim is not None:
            dims[buffer.name] = dim
        elif symbols_of(buffer.shape) or buffer.role is not Role.in_:
            return False
    return kernel.symbols == (symbol,) and _apart(kernel.body, symbol, dims, None)


def _apart(block: Block, symbol: str, dims: dict[str, int], image: Expr | None) -> bool:
    """The same of a block inside the loop over `image`, or outside of one."""
    if image is None and any(isinstance(s, Alloc) for s in block):
        return False  # it may carry something from one image to the next
    for stmt in block:
        match stmt:
            case For() if stmt.extent == Var(symbol):
                if image is not None or not _apart(stmt.body, symbol, dims, Var(stmt.var)):
                    return False
                continue
            case For():
                inner = stmt.body
            case If():
                inner = (*stmt.then, *stmt.otherwise)
            case Let():
                inner = ()
            case Alloc():
                inner = ()
            case Store():
                if image is None:
                    return False
                inner = ()
            case _:
                return False
        if not _on_its_image(stmt, symbol, dims, image):
            return False
        if not _apart(inner, symbol, dims, image):
            return False
    return True


def _on_its_image(stmt: Stmt, symbol: str, dims: dict[str, int], image: Expr | None) -> bool:
    """True if what stands directly in a statement knows neither how many images there are nor which one this is.

    Only buffers of `dims` are accessed at `image`, all of them, and only in their image dimension.
    """
    found = [e for x in expressions(stmt) for e in subexpressions(x)]
    places = [e.index[dims[e.buffer]] for e in found if isinstance(e, Load) and e.buffer in dims]
    if isinstance(stmt, Store) and stmt.buffer in dims:
        places.append(stmt.index[dims[stmt.buffer]])
    if Var(symbol) in found or any(place != image for place in places):
        return False
    return image is None or found.count(image) == len(places)  # it stands nowhere else
