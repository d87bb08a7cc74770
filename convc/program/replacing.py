"""Which operands a kernel may write its results over: those that it reads element by element, only to replace them."""

from __future__ import annotations

from dataclasses import dataclass, field

from convc.loops.distinct import are_apart, are_distinct
from convc.loops.ir import (
    INDEX,
    Block,
    Buffer,
    Const,
    Expr,
    For,
    If,
    Intrinsic,
    Kernel,
    Load,
    Role,
    Space,
    Stmt,
    Store,
)
from convc.loops.simplify import SYMBOL_RANGE, Range, loop_range
from convc.loops.walking import expressions, subexpressions, variables

Place = tuple[tuple[Expr, ...], tuple[int, ...]]
"""An index, and the loops around that its variables belong to: the same place in another loop is another one."""
Access = tuple[str, Place, tuple[For, ...]]
"""A buffer, where it is read or stored, and all the loops around."""
Accessed = list[Access]


def replaceable(kernel: Kernel) -> tuple[tuple[int, int], ...]:
    """Pairs of positions (input, output) in the parameters where the output may be the input's memory.

    Both have one dtype and layout, each output element is computed once, and every read of the input is at an index
    that the same iteration stores to afterwards, and no statement before it.
    """
    pairs = [
        (position, place)
        for position, x in enumerate(kernel.params)
        if x.role is Role.in_ and x.space is Space.global_
        for place, y in enumerate(kernel.params)
        if _fits(x, y)
    ]
    if not pairs:
        return ()
    named = {(kernel.params[x].name, kernel.params[y].name) for x, y in pairs}
    accesses = _Accesses(frozenset(kernel.symbols), frozenset(named))
    accesses.block(kernel.body, ())

    def takes_its_place(position: int, place: int) -> bool:
        x, y = kernel.params[position].name, kernel.params[place].name
        read, stored = accesses.read.get(x, set()), accesses.stored.get(y, set())
        late = (x, y) in accesses.late
        return bool(read) and read <= stored and not late and accesses.are_once(y)

    return tuple(pair for pair in pairs if takes_its_place(*pair))


def _fits(x: Buffer, y: Buffer) -> bool:
    """True if the same index is the same place in both; one may be longer (a part that is joined in place)."""
    if y.role is not Role.out or (x.dtype, x.layout) != (y.dtype, y.layout):
        return False
    return x.strides == y.strides


@dataclass
class _Accesses:
    """What a kernel reads and stores, by buffer."""

    symbols: frozenset[str]
    pairs: frozenset[tuple[str, str]]  # (x, y) that are asked about
    read: dict[str, set[Place]] = field(default_factory=dict)
    stored: dict[str, set[Place]] = field(default_factory=dict)
    indices: dict[str, list[tuple[tuple[Expr, ...], tuple[For, ...]]]] = field(default_factory=dict)
    windows: set[str] = field(default_factory=set)  # buffers that special instructions are given
    # (x, y): x is read where y may have been stored
    late: set[tuple[str, str]] = field(default_factory=set)

    def block(self, block: Block, loops: tuple[For, ...]) -> tuple[Accessed, Accessed]:
        """Notes the accesses of a block inside some loops, and returns its reads and its stores."""
        reads: Accessed = []
        stores: Accessed = []
        for stmt in block:
            read, stored = self.statement(stmt, loops)
            for x, y in self.pairs - self.late:
                late = [access for access in read if access[0] == x]
                before = [access for access in stores if access[0] == y]
                if any(self.may_meet(a, b, loops) for a in late for b in before):
                    self.late.add((x, y))
            reads += read
            stores += stored
        return reads, stores

    def statement(self, stmt: Stmt, loops: tuple[For, ...]) -> tuple[Accessed, Accessed]:
        reads = [
            (e.buffer, _place(e.index, loops), loops)
            for expr in expressions(stmt)
            for e in subexpressions(expr)
            if isinstance(e, Load)
        ]
        stores: Accessed = []
        match stmt:
            case Store():
                stores.append((stmt.buffer, _place(stmt.index, loops), loops))
                self.indices.setdefault(stmt.buffer, []).append((stmt.index, loops))
            case For():
                inner, stores = self.block(stmt.body, (*loops, stmt))
                reads += inner
            case If():
                for part in (stmt.then, stmt.otherwise):
                    inner, stored = self.block(part, loops)
                    reads, stores = reads + inner, stores + stored
            case Intrinsic(name="prefetch"):
                pass
            case Intrinsic():
                # What it does with its windows isn't known: as if at a place of its own.
                reads += [(w.buffer, (w.index, (id(stmt),)), loops) for w in stmt.args]
                self.windows |= {w.buffer for w in stmt.args}
        for name, place, _ in reads:
            self.read.setdefault(name, set()).add(place)
        for name, place, _ in stores:
            self.stored.setdefault(name, set()).add(place)
        return reads, stores

    def may_meet(self, read: Access, stored: Access, loops: tuple[For, ...]) -> bool:
        """True unless what one statement reads is not what one before it, inside the same loops, has stored."""
        (_, place, inside), (_, before, within) = read, stored
        if place == before:
            return True
        fixed = self.symbols | {loop.var for loop in loops}
        ranges = self.ranges(inside), self.ranges(within)
        return not are_apart(place[0], before[0], *ranges, fixed)

    def ranges(self, loops: tuple[For, ...]) -> dict[str, Range]:
        ranges: dict[str, Range] = dict.fromkeys(self.symbols, SYMBOL_RANGE)
        for loop in loops:
            ranges[loop.var] = loop_range(loop.extent, ranges)
        return ranges

    def are_once(self, buffer: str) -> bool:
        """True if each iteration stores to an element of its own, as far as this shows."""
        if buffer in self.windows:
            return False
        return all(self._is_once(*store) for store in self.indices.get(buffer, ()))

    def _is_once(self, index: tuple[Expr, ...], loops: tuple[For, ...]) -> bool:
        moving = {loop.var for loop in loops if loop.extent != Const(1, INDEX)}
        return are_distinct(index, moving, self.ranges(loops), self.symbols)


def _place(index: tuple[Expr, ...], loops: tuple[For, ...]) -> Place:
    names = {name for i in index for name in variables(i)}
    return index, tuple(id(loop) for loop in loops if loop.var in names)
