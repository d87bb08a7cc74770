"""Kernels that differ in their sizes only share their machine code: the sizes become scalar parameters of it.

A step of training has dozens of small kernels, one for each size of a layer's vectors, whose loops are the same. What
is generated for such a kernel is its `Family`: the kernel with symbols for its sizes, which follows from the kernel
alone, so that the kernels of one family need not know of each other (ADR 0028).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from convc.loops.ir import (
    INDEX,
    Alloc,
    Binary,
    Block,
    Buffer,
    Const,
    Expr,
    For,
    If,
    Intrinsic,
    Kernel,
    Load,
    LoopKind,
    Stmt,
    Store,
    Var,
    binary,
    walk,
)
from convc.loops.printer import print_kernel
from convc.loops.walking import expressions, subexpressions
from convc.types import Dim, Extent

MOST_ACCESSES = 32
"""Loads and stores of parameters in the text of a kernel, up to which it may belong to a family.

With more it keeps many values in registers: there, distances in memory that are known spare it the registers for them.
"""

_LANES = (64, 32, 16, 8, 4, 2)
"""What a loop over vectors may divide a size by."""

_PREFIX = "size"


@dataclass(frozen=True)
class Family:
    """A kernel for many sizes, and the sizes that make the original of it, by symbol.

    `text` is what the kernel prints; families of one text are one.
    """

    kernel: Kernel
    sizes: dict[str, int]
    text: str

    @property
    def name(self) -> str:
        return self.kernel.name

    def under(self, name: str) -> str:
        """The kernel's text, under a name."""
        return f"kernel {name}{self.text[self.text.index('(') :]}"

    @property
    def arguments(self) -> tuple[int | str, ...]:
        """What the code takes after its buffers: a number for each size, other symbols by name."""
        return tuple(self.sizes.get(s, s) for s in self.kernel.symbols)


def family_of(kernel: Kernel) -> Family:
    """The family of a scheduled kernel: of itself alone, under its own name, where its sizes must be numbers."""
    fixed = _fixed_sizes(kernel)
    if fixed is None:
        return Family(kernel, {}, print_kernel(kernel))
    symbols: dict[int, str] = {}
    prefix = _PREFIX
    while any(s.startswith(prefix) for s in kernel.symbols):
        prefix += "_"  # a model's own dimension has such a name
    params = tuple(_generalised(b, fixed, symbols, prefix) for b in kernel.params)
    if not symbols:
        return Family(kernel, {}, print_kernel(kernel))
    general = Kernel("", params, _with_extents(kernel.body, symbols), kernel.notes)
    text = print_kernel(general)
    name = f"family_{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    return Family(replace(general, name=name), {s: n for n, s in symbols.items()}, text)


def _fixed_sizes(kernel: Kernel) -> frozenset[int] | None:
    """The sizes between two lanes of a vector, whose distance in memory must be known: they stay numbers.

    None if all sizes do: for tiles in registers, packed or blocked operands, long texts, and divisions of indices,
    which cost more by a number that isn't known.
    """
    shapes = {b.name: b for b in kernel.params}
    if any(a.divide != 1 or a.modulus is not None for b in kernel.params for a in b.layout.axes):
        return None
    fixed: set[int] = set()
    lanes: set[str] = set()
    accesses = 0
    for stmt in walk(kernel.body):
        if isinstance(stmt, Intrinsic) or (isinstance(stmt, Alloc) and len(stmt.buffer.shape) > 1):
            return None
        if isinstance(stmt, For) and stmt.kind is LoopKind.vectorized:
            lanes.add(stmt.var)
        met: list[Load | Store] = [stmt] if isinstance(stmt, Store) else []
        for expr in _inside(stmt):
            if isinstance(expr, Load):
                met.append(expr)
            elif isinstance(expr, Binary) and expr.op in ("//", "%") and expr.dtype is INDEX:
                return None
        for access in met:
            if access.buffer in shapes:
                accesses += 1
                fixed |= _between_lanes(shapes[access.buffer], access.index, lanes)
        if accesses > MOST_ACCESSES:
            return None
    return frozenset(fixed)


def _inside(stmt: Stmt) -> Iterator[Expr]:
    for expr in expressions(stmt):
        yield from subexpressions(expr)


def _between_lanes(buffer: Buffer, index: tuple[Expr, ...], lanes: set[str]) -> set[int]:
    """The sizes inside of the axes that an access meets with its lanes."""
    sizes: list[int] = []
    known = 0  # of them, those inside of an axis with lanes
    for axis in reversed(buffer.layout.axes):
        if any(isinstance(e, Var) and e.name in lanes for e in subexpressions(index[axis.dim])):
            known = len(sizes)
        extent = buffer.shape[axis.dim]
        if isinstance(extent, int):
            sizes.append(extent)
    return set(sizes[:known])


def _generalised(
    buffer: Buffer, fixed: frozenset[int], symbols: dict[int, str], prefix: str
) -> Buffer:
    """A parameter with symbols for its sizes, equal ones for equal sizes."""

    def general(extent: Extent) -> Extent:
        if not isinstance(extent, int) or extent < 2 or extent in fixed:
            return extent
        return Dim.symbol(symbols.setdefault(extent, f"{prefix}{len(symbols)}"))

    return replace(buffer, shape=tuple(general(e) for e in buffer.shape))


def _with_extents(body: Block, symbols: dict[int, str]) -> Block:
    """The statements with symbols in the extents of their loops, as far as these are sizes or a part of one."""
    result = []
    for stmt in body:
        if isinstance(stmt, For):
            extent = stmt.extent
            if stmt.kind in (LoopKind.serial, LoopKind.parallel) and isinstance(extent, Const):
                extent = _part_of_size(int(extent.value), symbols)
            stmt = replace(stmt, extent=extent, body=_with_extents(stmt.body, symbols))
        elif isinstance(stmt, If):
            then, otherwise = (_with_extents(b, symbols) for b in (stmt.then, stmt.otherwise))
            stmt = replace(stmt, then=then, otherwise=otherwise)
        result.append(stmt)
    return tuple(result)


def _part_of_size(extent: int, symbols: dict[int, str]) -> Expr:
    if extent in symbols:
        return Var(symbols[extent])
    for lanes in _LANES:
        if extent * lanes in symbols:
            return binary("//", Var(symbols[extent * lanes]), lanes)
    return Const(extent, INDEX)
