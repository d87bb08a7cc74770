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

    A guard lets some iterations through, so an index that doesn't depend on it is inside with or without it.

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
            case If() if not stmt.otherwise:
                guarded = _variables(stmt.condition)
                if all(_harmless(s, guarded, ranges, buffers) for s in stmt.then):
                    result.extend(stmt.then)
                else:
                    result.append(replace(stmt, then=_speculate(stmt.then, ranges, buffers)))
            case _:
                result.append(stmt)
    return tuple(result)


def _variables(expr: Expr) -> frozenset[str]:
    return frozenset(e.name for e in subexpressions(expr) if isinstance(e, Var))


def _harmless(
    stmt: Stmt, guarded: frozenset[str], ranges: dict[str, Range], buffers: Mapping[str, Buffer]
) -> bool:
    """True if a statement may run where a guard on the `guarded` variables would skip it."""
    match stmt:
        case Store():
            target = buffers[stmt.buffer]
            return (
                target.role is Role.local
                and _inside(target, stmt.index, ranges, guarded)
                and _loads_inside(stmt.value, guarded, ranges, buffers)
            )
        case For():
            inner = {**ranges, stmt.var: loop_range(stmt.extent, ranges)}
            return all(_harmless(s, guarded, inner, buffers) for s in stmt.body)
        case If():
            return not stmt.otherwise and all(
                _harmless(s, guarded, ranges, buffers) for s in stmt.then
            )
        case Alloc():
            return True
        case _:
            return False


def _loads_inside(
    expr: Expr, guarded: frozenset[str], ranges: dict[str, Range], buffers: Mapping[str, Buffer]
) -> bool:
    """True if every load that depends on the guarded variables is inside its buffer without them."""
    if isinstance(expr, Load):
        return _inside(buffers[expr.buffer], expr.index, ranges, guarded)
    return all(_loads_inside(e, guarded, ranges, buffers) for e in children(expr))


def _inside(
    buffer: Buffer,
    at: tuple[Expr, ...],
    ranges: dict[str, Range],
    guarded: frozenset[str] | None = None,
) -> bool:
    """True if an index lies inside the buffer and its border under the ranges.

    With `guarded`, only the dimensions that depend on those variables are in question.
    """
    for i, extent, (before, after) in zip(at, buffer.shape, buffer.layout.border, strict=True):
        if guarded is not None and not guarded & _variables(i):
            continue
        low, high = bounds(i, ranges)
        if low < -before:
            return False
        if isinstance(extent, Dim):
            if guarded is not None or not isinstance(i, Var):
                return False
        elif high >= extent + after:
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
