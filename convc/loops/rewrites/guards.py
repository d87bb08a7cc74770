"""Rewrites of conditions: a guard goes where it costs least, or away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from convc.loops.ir import (
    Alloc,
    Block,
    Buffer,
    Const,
    Expr,
    For,
    If,
    Kernel,
    Load,
    Role,
    Select,
    Stmt,
    Store,
    Var,
    children,
    rebuild,
    subexpressions,
)
from convc.loops.simplify import SYMBOL_RANGE, Range, bounds, loop_range, simplify_kernel
from convc.types import Dim


def speculate(kernel: Kernel) -> Kernel:
    """Drops guards around work on local buffers that is harmless to do anyway: all of its loads are inside.

    Before: kernel k(in x: float32[8], out y: float32[5]) { for i in 8 { alloc a: float32[] register
              if i < 5 { a[] = x[i] } if i < 5 { y[i] = a[] } } }
    After:  kernel k(in x: float32[8], out y: float32[5]) { for i in 8 { alloc a: float32[] register
              a[] = x[i] if i < 5 { y[i] = a[] } } }
    """
    ranges: dict[str, Range] = dict.fromkeys(kernel.symbols, SYMBOL_RANGE)
    body = _speculate(kernel.body, ranges, kernel.buffers())
    return simplify_kernel(replace(kernel, body=body))


def _speculate(block: Block, ranges: dict[str, Range], buffers: Mapping[str, Buffer]) -> Block:
    result: list[Stmt] = []
    for stmt in block:
        match stmt:
            case For():
                inner = {**ranges, stmt.var: loop_range(stmt.extent, ranges)}
                result.append(replace(stmt, body=_speculate(stmt.body, inner, buffers)))
            case If() if not stmt.otherwise and all(
                _harmless(s, ranges, buffers) for s in stmt.then
            ):
                result.extend(stmt.then)
            case If():
                then = _speculate(stmt.then, ranges, buffers)
                result.append(replace(stmt, then=then))
            case _:
                result.append(stmt)
    return tuple(result)


def _harmless(stmt: Stmt, ranges: dict[str, Range], buffers: Mapping[str, Buffer]) -> bool:
    match stmt:
        case Store():
            local = buffers[stmt.buffer].role is Role.local
            inside = _inside(buffers[stmt.buffer], stmt.index, ranges)
            return local and inside and _loads_inside(stmt.value, ranges, buffers)
        case For():
            inner = {**ranges, stmt.var: loop_range(stmt.extent, ranges)}
            return all(_harmless(s, inner, buffers) for s in stmt.body)
        case Alloc():
            return True
        case _:
            return False


def _loads_inside(expr: Expr, ranges: dict[str, Range], buffers: Mapping[str, Buffer]) -> bool:
    """True if every load is inside its buffer, whatever guard stands around it."""
    if isinstance(expr, Load) and not _inside(buffers[expr.buffer], expr.index, ranges):
        return False
    if isinstance(expr, Select):
        # The branches stay guarded by their own condition.
        return _loads_inside(expr.condition, ranges, buffers) and all(
            _loads_inside(e, ranges, buffers) or not _depends_on_lanes(e)
            for e in (expr.then, expr.otherwise)
        )
    return all(_loads_inside(e, ranges, buffers) for e in children(expr))


def _depends_on_lanes(expr: Expr) -> bool:
    return any(isinstance(e, Var) for e in subexpressions(expr))


def _inside(buffer: Buffer, at: tuple[Expr, ...], ranges: dict[str, Range]) -> bool:
    """True if an index lies inside the buffer and its border under the ranges."""
    for i, extent, (before, after) in zip(at, buffer.shape, buffer.layout.border, strict=True):
        low, high = bounds(i, ranges)
        if low < -before:
            return False
        if isinstance(extent, Dim):
            if not (isinstance(i, Var) and ranges.get(i.name) is not None):
                return False
            continue
        if high >= extent + after:
            return False
    return True


def use_border(kernel: Kernel, name: str) -> Kernel:
    """Lets reads of a bordered input go unguarded: its border holds the zeros that the guards would give.

    Before: kernel k(in x: float32[4] @(d0) border(1:1), out y: float32[4]) {
              for i in 4 { y[i] = select((0 <= (i - 1)) & ((i - 1) < 4), x[i - 1], 0.0) } }
    After:  kernel k(in x: float32[4] @(d0) border(1:1), out y: float32[4]) { for i in 4 { y[i] = x[i - 1] } }
    """
    buffer = kernel.buffers()[name]
    ranges: dict[str, Range] = dict.fromkeys(kernel.symbols, SYMBOL_RANGE)
    body = _unguard_block(kernel.body, ranges, buffer)
    return replace(kernel, body=body)


def _unguard_block(block: Block, ranges: dict[str, Range], buffer: Buffer) -> Block:
    result: list[Stmt] = []
    for stmt in block:
        match stmt:
            case For():
                inner = {**ranges, stmt.var: loop_range(stmt.extent, ranges)}
                result.append(replace(stmt, body=_unguard_block(stmt.body, inner, buffer)))
            case If():
                then = _unguard_block(stmt.then, ranges, buffer)
                otherwise = _unguard_block(stmt.otherwise, ranges, buffer)
                result.append(If(stmt.condition, then, otherwise))
            case Store():
                result.append(replace(stmt, value=_unguard(stmt.value, ranges, buffer)))
            case _:
                result.append(stmt)
    return tuple(result)


def _unguard(expr: Expr, ranges: dict[str, Range], buffer: Buffer) -> Expr:
    match expr:
        case Select(then=Load(buffer=buffer.name) as load, otherwise=Const(value=0)):
            if _inside(buffer, load.index, ranges):
                return load
        case _:
            pass
    operands = children(expr)
    if not operands or isinstance(expr, Load):
        return expr
    return rebuild(expr, tuple(_unguard(o, ranges, buffer) for o in operands))
