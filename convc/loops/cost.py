"""How much a kernel computes and moves, counted from its loops."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isfinite
from typing import assert_never

from convc.errors import IRError
from convc.loops.ir import (
    INDEX,
    Alloc,
    Barrier,
    Binary,
    Block,
    Buffer,
    Call,
    Const,
    Expr,
    For,
    If,
    Intrinsic,
    Kernel,
    Let,
    Load,
    Role,
    Store,
    Var,
)
from convc.loops.simplify import SYMBOL_RANGE, Range, Ranges, bounds, loop_range
from convc.loops.walking import expressions, subexpressions
from convc.types import Dim, Extent, evaluate, size_of, symbols_of

Loops = Mapping[str, Extent]
_OPERATIONS = {"+": 1, "-": 1, "*": 1, "/": 1}
_CALLS = {"fma": 2, "dot_u8s8": 8, "dot_s8s8": 8, "dot_bf16": 4}


def flops(kernel: Kernel) -> Extent:
    """Additions, multiplications and divisions of values (not of indices), as a function of the symbols.

    What a formula recomputes counts once per value that it has: the activation of a convolution's input once per
    input element, not once for each product it goes into. Both sides of a condition count, as padding does in the
    usual count of a convolution. A loop whose extent data decide counts as one iteration. Count a kernel before it is
    scheduled: tiles that overlap compute some elements twice.
    """
    return _Count(kernel).block(kernel.body, {}, dict.fromkeys(kernel.symbols, SYMBOL_RANGE))


def bytes_touched(kernel: Kernel) -> Extent:
    """Bytes of all parameters, each counted once: what has to come from memory at least."""
    total: Extent = 0
    for buffer in kernel.params:
        total = total + bytes_of(buffer)
    return total


def bytes_of(buffer: Buffer) -> Extent:
    """Bytes of a buffer's logical box."""
    return size_of(buffer.shape) * buffer.dtype.itemsize


class _Count:
    """The operations of a kernel; `loops` are the extents of the loops around, by variable."""

    def __init__(self, kernel: Kernel) -> None:
        self.buffers = kernel.buffers()
        self.symbols = frozenset(kernel.symbols)
        self.latest: tuple[Loops, Extent] = {}, 1  # what `iterations` was asked last

    def block(self, block: Block, loops: Loops, ranges: dict[str, Range]) -> Extent:
        total: Extent = 0
        for stmt in block:
            match stmt:
                case For():
                    inside = {**ranges, stmt.var: loop_range(stmt.extent, ranges)}
                    around = {**loops, stmt.var: self.extent(stmt.extent)}
                    total = total + self.block(stmt.body, around, inside)
                case If():
                    total = total + self.block(stmt.then, loops, ranges)
                    total = total + self.block(stmt.otherwise, loops, ranges)
                case Store() | Let():
                    for expr in expressions(stmt):
                        total = total + self.expr(expr, loops, ranges)
                case Alloc() | Intrinsic() | Barrier():
                    pass
                case _:
                    assert_never(stmt)
        return total

    def extent(self, expr: Expr) -> Extent:
        """How often a loop runs; once, as far as anybody can say, where data decide it."""
        inside = list(subexpressions(expr))
        names = {e.name for e in inside if isinstance(e, Var)}
        known = names <= self.symbols and not any(isinstance(e, Load) for e in inside)
        return extent_of(expr) if known else 1

    def expr(self, expr: Expr, loops: Loops, ranges: Ranges) -> Extent:
        counts: dict[Extent, int] = {}
        for e in subexpressions(expr):
            operations = 0
            if isinstance(e, Binary) and e.dtype is not INDEX:
                operations = _OPERATIONS.get(e.op, 0)
            elif isinstance(e, Call):
                operations = _CALLS.get(e.function, 0)
            if operations:
                values = self.values(e, loops, ranges)
                counts[values] = counts.get(values, 0) + operations
        total: Extent = 0
        for values, operations in counts.items():
            total = total + values * operations
        return total

    def iterations(self, loops: Loops) -> Extent:
        """How often a statement inside some loops runs."""
        known, product = self.latest
        if known is not loops:
            self.latest = loops, product = loops, _product(loops.values())
        return product

    def values(self, expr: Expr, loops: Loops, ranges: Ranges) -> Extent:
        """How many values an expression has: one per iteration, or per tuple of distinct indices if those are fewer."""
        everything = self.iterations(loops)
        inside = list(subexpressions(expr))
        loads = [e for e in inside if isinstance(e, Load)]
        indices = [i for load in loads for i in load.index]
        names = {e.name for e in inside if isinstance(e, Var)}
        local = any(self.buffers[x.buffer].role is Role.local for x in loads)
        if local or names - set(loops) - set(ranges) or any(map(_is_data, indices)):
            return everything
        used = _product(extent for name, extent in loops.items() if name in names)
        spans: dict[Expr, Extent] = {}
        for load in loads:
            for i, extent in zip(load.index, self.buffers[load.buffer].shape, strict=True):
                if not isinstance(i, Const):
                    spans[i] = _smaller(spans.get(i, extent), _span(i, extent, loops, ranges))
        return _smaller(used, _product(spans.values())) if spans else used


def _is_data(index: Expr) -> bool:
    return any(isinstance(e, Load) for e in subexpressions(index))


def _span(index: Expr, extent: Extent, loops: Loops, ranges: Ranges) -> Extent:
    """How many values an index takes at most, inside a dimension of an extent."""
    if isinstance(index, Var):
        return loops.get(index.name, extent)
    low, high = bounds(index, ranges)
    return _smaller(extent, int(high - low) + 1) if isfinite(high - low) else extent


def _product(extents: Iterable[Extent]) -> Extent:
    total: Extent = 1
    for extent in extents:
        total = total * extent
    return total


def _smaller(a: Extent, b: Extent) -> Extent:
    """The smaller of two extents where their symbols are one."""
    at_one = dict.fromkeys(symbols_of((a, b)), 1)
    return a if evaluate(a, at_one) <= evaluate(b, at_one) else b


def extent_of(expr: Expr) -> Extent:
    """A loop's extent as a polynomial of the symbols; IRError where it depends on more than them."""
    match expr:
        case Const():
            return int(expr.value)
        case Var():
            return Dim.symbol(expr.name)
        case Binary(op="+"):
            return extent_of(expr.a) + extent_of(expr.b)
        case Binary(op="-"):
            return extent_of(expr.a) - extent_of(expr.b)
        case Binary(op="*"):
            return extent_of(expr.a) * extent_of(expr.b)
        case _:
            raise IRError(f"{expr} is no polynomial of symbols")
