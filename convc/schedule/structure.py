"""What a schedule looks at: a plain kernel's loops, its reduction, and how each access moves with each loop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from convc.frozen import frozen
from convc.loops.ir import (
    Alloc,
    Block,
    Buffer,
    Call,
    Const,
    Expr,
    For,
    If,
    Kernel,
    Let,
    Load,
    Role,
    Space,
    Stmt,
    Store,
    Var,
    walk,
)
from convc.loops.simplify import SYMBOL_RANGE, Linear, Range, loop_range, offset_of
from convc.loops.walking import expressions, subexpressions, variables


@frozen
class Loop:
    """A loop of a plain kernel; `extent` is None if it is symbolic.

    A `grouped` loop is the inner part of a channel loop: nothing may reach over its end.
    """

    var: str
    extent: int | None
    grouped: bool = False

    def lanes(self, most: int) -> int:
        """Lanes for the loop: all that a vector has, or the largest power of two that divides a group."""
        if not self.grouped or self.extent is None:
            return most
        return min(most, self.extent & -self.extent)


@dataclass(frozen=True)
class Places:
    """Where accesses to a kernel's buffers lie in memory, under the ranges of its variables."""

    buffers: dict[str, Buffer]
    ranges: dict[str, Range]
    _forms: dict[tuple[str, tuple[Expr, ...]], Linear] = field(default_factory=dict, repr=False)

    def step(self, buffer: str, at: tuple[Expr, ...], var: str) -> int | None:
        """Elements that an access moves when a loop's variable grows by one; None if it isn't linear in it."""
        if self.buffers[buffer].space is Space.register:
            return 0
        key = (buffer, at)
        if key not in self._forms:
            self._forms[key] = offset_of(self.buffers[buffer], at, self.ranges)
        return _coefficient(self._forms[key], var)


@dataclass(frozen=True)
class Structure:
    """A plain kernel taken apart: output loops around reductions around one store."""

    kernel: Kernel
    outputs: tuple[Loop, ...]
    reductions: tuple[Loop, ...]
    store: Store
    updates: tuple[Store, ...]  # of the accumulators, inside the reductions
    places: Places

    @property
    def buffers(self) -> dict[str, Buffer]:
        return self.places.buffers

    def extent(self, var: str) -> int | None:
        return next(x.extent for x in (*self.outputs, *self.reductions) if x.var == var)

    def step(self, buffer: str, at: tuple[Expr, ...], var: str) -> int | None:
        """Elements that an access moves when a loop's variable grows by one; None if it isn't linear in it."""
        return self.places.step(buffer, at, var)

    def output_step(self, var: str) -> int | None:
        return self.step(self.store.buffer, self.store.index, var)

    def loads(self) -> tuple[Load, ...]:
        """Every read of a parameter."""
        return self._loads

    @cached_property
    def _loads(self) -> tuple[Load, ...]:
        local = Role.local
        return tuple(
            x for x in loads_in(self.kernel.body) if self.buffers[x.buffer].role is not local
        )

    def accesses(self) -> Iterator[tuple[str, tuple[Expr, ...]]]:
        """Every read and every store of a parameter: the buffer and the index."""
        for load in self._loads:
            yield load.buffer, load.index
        for stmt in walk(self.kernel.body):
            if isinstance(stmt, Store) and self.buffers[stmt.buffer].role is not Role.local:
                yield stmt.buffer, stmt.index

    def contraction(self) -> tuple[Expr, Expr] | None:
        """The two factors of the reduction, if it is a sum of products of what is read."""
        if len(self.updates) != 1:
            return None
        value = self.updates[0].value
        if not (isinstance(value, Call) and value.function == "fma"):
            return None
        a, b = value.args[:2]
        return (a, b) if loads_of(a) and loads_of(b) else None  # a factor may be all padding


def loads_of(expr: Expr) -> list[Load]:
    """Every load in an expression."""
    if isinstance(expr, (Const, Var)):
        return []
    return [e for e in subexpressions(expr) if isinstance(e, Load)]


def loads_in(block: Block) -> Iterator[Load]:
    """Every load in a block."""
    for stmt in walk(block):
        for expr in expressions(stmt):
            yield from loads_of(expr)


def moves_with(expr: Expr, var: str) -> bool:
    """True if a load of the expression is at an index that depends on a variable."""
    return any(depends_on(i, var) for load in loads_of(expr) for i in load.index)


def places_of(kernel: Kernel) -> Places:
    """The places of a kernel of any form. Loops of one name count as one over the range of both."""
    ranges: dict[str, Range] = dict.fromkeys(kernel.symbols, SYMBOL_RANGE)
    for stmt in walk(kernel.body):
        if isinstance(stmt, For):
            low, high = loop_range(stmt.extent, ranges)
            known = ranges.get(stmt.var, (low, high))
            ranges[stmt.var] = (min(low, known[0]), max(high, known[1]))
    return Places(kernel.buffers(), ranges)


def analyse(kernel: Kernel) -> Structure | None:
    """The structure of a plain kernel, or None if it isn't one perfect nest around one store."""
    outputs: list[Loop] = []
    ranges: dict[str, Range] = dict.fromkeys(kernel.symbols, SYMBOL_RANGE)
    block: Block = kernel.body
    while len(block) == 1 and isinstance(block[0], For):
        outputs.append(_loop(block[0], ranges))
        block = block[0].body
    store = _last_store(block)
    if store is None:
        return None
    reductions: list[Loop] = []
    updates: list[Store] = []
    for stmt in block[:-1]:
        if isinstance(stmt, For):
            for inner in walk((stmt,)):
                if isinstance(inner, For):
                    reductions.append(_loop(inner, ranges))
                elif isinstance(inner, Store):
                    updates.append(inner)
        elif not isinstance(stmt, (Alloc, Let, Store)) and not _is_guarded_store(stmt):
            return None
    return Structure(
        kernel,
        tuple(outputs),
        tuple(reductions),
        store,
        tuple(updates),
        Places(kernel.buffers(), ranges),
    )


def analysed(kernel: Kernel) -> Structure:
    """The structure of a kernel that was rewritten from one that has it."""
    structure = analyse(kernel)
    assert structure is not None
    return structure


def _last_store(block: Block) -> Store | None:
    """The store that ends a nest's body, behind its guard if it has one."""
    if not block:
        return None
    last = block[-1]
    if isinstance(last, If) and _is_guarded_store(last):
        last = last.then[0]
    return last if isinstance(last, Store) else None


def _is_guarded_store(stmt: Stmt) -> bool:
    return (
        isinstance(stmt, If)
        and not stmt.otherwise
        and len(stmt.then) == 1
        and isinstance(stmt.then[0], Store)
    )


def _loop(loop: For, ranges: dict[str, Range]) -> Loop:
    ranges[loop.var] = loop_range(loop.extent, ranges)
    return Loop(loop.var, int(loop.extent.value) if isinstance(loop.extent, Const) else None)


def _coefficient(form: Linear, var: str) -> int | None:
    """What a linear form moves by per step of a variable; None if it isn't linear in it."""
    moved = 0
    for atom, coefficient in form[0].items():
        if not isinstance(atom, Var):
            if depends_on(atom, var):
                return None
        elif atom.name == var:
            moved = coefficient
    return moved


def depends_on(expr: Expr, var: str) -> bool:
    return var in variables(expr)
