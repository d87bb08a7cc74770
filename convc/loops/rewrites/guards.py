"""Rewrites of conditions: a guard goes where it costs least, or away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from convc.loops.ir import (
    INDEX,
    Alloc,
    Binary,
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
    Select,
    Stmt,
    Store,
    Var,
    index,
    walk,
)
from convc.loops.simplify import (
    SYMBOL_RANGE,
    Linear,
    Range,
    bounds,
    linear,
    loop_range,
    simplify_kernel,
)
from convc.loops.walking import children, map_block, rebuild, subexpressions, variables
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
    return frozenset(variables(expr))


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


def unswitch(kernel: Kernel) -> Kernel:
    """Leaves out sums of products whose factor a guard makes zero, where the guard is the same for a whole loop.

    Exact for finite factors: a sum that begins with zero is none the wiser.

    Before: kernel k(in x: float32[8], in w: float32[8, 3], out y: float32[4]) { for p in 4 {
              alloc a: float32[] register  a[] = 0.0
              for k in 8 { a[] = fma(select(p < 3, x[k], 0.0), w[k, min(p, 2)], a[]) }  y[p] = a[] } }
    After:  kernel k(in x: float32[8], in w: float32[8, 3], out y: float32[4]) { for p in 4 {
              alloc a: float32[] register  a[] = 0.0
              if p < 3 { for k in 8 { a[] = fma(x[k], w[k, min(p, 2)], a[]) } }  y[p] = a[] } }
    """
    return replace(kernel, body=_unswitch(kernel.body))


def _unswitch(block: Block) -> Block:
    result: list[Stmt] = []
    for stmt in block:
        match stmt:
            case For():
                condition = _common_guard(stmt)
                if condition is None:
                    result.append(replace(stmt, body=_unswitch(stmt.body)))
                else:
                    result.append(If(condition, map_block((stmt,), on_stmt=_without_guard)))
            case If():
                result.append(If(stmt.condition, _unswitch(stmt.then), _unswitch(stmt.otherwise)))
            case _:
                result.append(stmt)
    return tuple(result)


def _common_guard(loop: For) -> Expr | None:
    """The one condition on the factors of every product that a loop adds up, if it holds for all iterations or none."""
    conditions: set[Expr] = set()
    inside = {loop.var}
    for stmt in walk(loop.body):
        match stmt:
            case For():
                inside.add(stmt.var)
            case Store():
                factor = _guarded_factor(stmt)
                if factor is None:
                    return None
                conditions.add(factor.condition)
            case _:
                return None
    if len(conditions) != 1:
        return None
    (condition,) = conditions
    loads = any(isinstance(e, Load) for e in subexpressions(condition))
    return None if loads or inside & _variables(condition) else condition


def _guarded_factor(store: Store) -> Select | None:
    """The guarded first factor of a product that is added to what the store writes."""
    match store.value:
        case Call(
            function="fma",
            args=(
                Select(otherwise=Const(value=0)) as factor,
                _,
                Load(buffer=store.buffer, index=store.index),
            ),
        ):
            return factor
    return None


def _without_guard(stmt: Stmt) -> Block:
    if not isinstance(stmt, Store):
        return (stmt,)
    assert isinstance(stmt.value, Call)
    factor, *others = stmt.value.args
    assert isinstance(factor, Select)
    return (replace(stmt, value=replace(stmt.value, args=(factor.then, *others))),)


def use_border(kernel: Kernel, name: str) -> Kernel:
    """Lets reads of a bordered input go unguarded: its border holds the zeros that the guards would give.

    A guard that asks for more than the index being inside (a stride that divides, say) keeps that part.

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
            case Store() | Let():
                result.append(replace(stmt, value=_unguard(stmt.value, ranges, buffer)))
            case _:
                result.append(stmt)
    return tuple(result)


def _unguard(expr: Expr, ranges: dict[str, Range], buffer: Buffer) -> Expr:
    match expr:
        case Select(then=Load(buffer=buffer.name) as load, otherwise=Const(value=0)):
            if _inside(buffer, load.index, ranges):
                rest = _other_conditions(expr.condition, buffer, load)
                return load if rest is None else Select(rest, load, expr.otherwise)
        case _:
            pass
    operands = children(expr)
    if not operands or isinstance(expr, Load):
        return expr
    return rebuild(expr, tuple(_unguard(o, ranges, buffer) for o in operands))


def _other_conditions(condition: Expr, buffer: Buffer, load: Load) -> Expr | None:
    """What a guard asks beyond the load's index being inside its buffer; None if nothing."""
    match condition:
        case Binary(op="&"):
            a = _other_conditions(condition.a, buffer, load)
            b = _other_conditions(condition.b, buffer, load)
            return a & b if a is not None and b is not None else a if b is None else b
        case Binary(op="<" | "<=" as op) if condition.a.dtype is INDEX:
            slack = linear(condition.b - condition.a - (1 if op == "<" else 0))
            return None if slack in _distances(buffer, load) else condition
        case _:
            return condition


def _distances(buffer: Buffer, load: Load) -> list[Linear]:
    """How far the index is from each side of the buffer: not negative where it is inside."""
    found = []
    for i, extent in zip(load.index, buffer.shape, strict=True):
        limit = index(extent)
        found += [linear(i), linear(limit - i - 1)]
        if isinstance(i, Binary) and i.op == "//" and isinstance(i.b, Const) and i.b.value > 0:
            found += [linear(i.a), linear(limit * i.b - i.a - 1)]
    return found
