"""Going through expressions and statements, and rebuilding them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import is_

from convc.loops.ir import (
    Alloc,
    Barrier,
    Binary,
    Block,
    Call,
    Cast,
    Const,
    Expr,
    For,
    If,
    Intrinsic,
    Let,
    Load,
    Reduce,
    Select,
    Stmt,
    Store,
    Var,
    Window,
    binary,
    select,
)


def children(expr: Expr) -> tuple[Expr, ...]:
    """The direct operands of an expression."""
    if isinstance(expr, Binary):  # by far the most, and this is what a compilation asks most often
        return (expr.a, expr.b)
    match expr:
        case Const() | Var():
            return ()
        case Load():
            return expr.index
        case Select():
            return (expr.condition, expr.then, expr.otherwise)
        case Cast() | Reduce():
            return (expr.value,)
        case Call():
            return expr.args


def rebuild(expr: Expr, operands: tuple[Expr, ...]) -> Expr:
    """The same expression over other operands, simplified where that is free."""
    match expr:
        case Const() | Var():
            return expr
        case Load():
            return Load(expr.buffer, operands, expr.dtype, expr.width)
        case Binary():
            return binary(expr.op, *operands)
        case Select():
            return select(*operands)
        case Cast():
            return Cast(operands[0], expr.dtype)
        case Call():
            return Call(expr.function, operands, expr.dtype)
        case Reduce():
            return Reduce(expr.combiner, expr.axes, operands[0])


def map_expr(f: Callable[[Expr], Expr], expr: Expr) -> Expr:
    """Rebuilds an expression bottom-up, applying f to every node."""
    operands = children(expr)
    if not operands:
        return f(expr)
    mapped = tuple([map_expr(f, o) for o in operands])
    return f(expr if same(mapped, operands) else rebuild(expr, mapped))


def same(a: tuple[Expr, ...], b: tuple[Expr, ...]) -> bool:
    """True if two tuples of equal length hold the same objects."""
    return all(map(is_, a, b))


def subexpressions(expr: Expr) -> Iterator[Expr]:
    """The expression and everything in it, operands first."""
    return iter(_inside(expr, []))


def _inside(expr: Expr, found: list[Expr]) -> list[Expr]:
    if isinstance(expr, Binary):
        _inside(expr.a, found)
        _inside(expr.b, found)
    elif not isinstance(expr, (Const, Var)):
        for operand in children(expr):
            _inside(operand, found)
    found.append(expr)
    return found


def variables(expr: Expr) -> tuple[str, ...]:
    """The names of an expression's variables, in the order in which they first appear."""
    if isinstance(expr, Var):
        return (expr.name,)
    if isinstance(expr, Const):
        return ()
    try:
        return expr._variables
    except AttributeError:
        found: tuple[str, ...] = ()
        for operand in children(expr):
            names = variables(operand)
            found = (*found, *[n for n in names if n not in found]) if found else names
        expr._variables = found
        return found


def substitute(expr: Expr, values: dict[str, Expr]) -> Expr:
    """Replaces variables by expressions."""
    if isinstance(expr, Var):
        return values.get(expr.name, expr)
    if values.keys().isdisjoint(variables(expr)):
        return expr
    if isinstance(expr, Binary):
        a, b = substitute(expr.a, values), substitute(expr.b, values)
        return expr if a is expr.a and b is expr.b else binary(expr.op, a, b)
    operands = children(expr)
    mapped = tuple([substitute(o, values) for o in operands])
    return expr if same(mapped, operands) else rebuild(expr, mapped)


def expressions(stmt: Stmt) -> tuple[Expr, ...]:
    """The expressions that stand directly in a statement (not those of its blocks)."""
    match stmt:
        case For():
            return (stmt.extent,)
        case If():
            return (stmt.condition,)
        case Let():
            return (stmt.value,)
        case Store():
            return (*stmt.index, stmt.value)
        case Intrinsic():
            return tuple(e for w in stmt.args for e in w.index)
        case Alloc() | Barrier():
            return ()


def map_block(
    block: Block,
    on_expr: Callable[[Expr], Expr] = lambda e: e,
    on_stmt: Callable[[Stmt], Block] = lambda s: (s,),
) -> Block:
    """Rebuilds a block: `on_expr` on each whole expression, then `on_stmt` on each statement, innermost first."""
    result: list[Stmt] = []
    for stmt in block:
        match stmt:
            case For():
                body = map_block(stmt.body, on_expr, on_stmt)
                new: Stmt = For(stmt.var, on_expr(stmt.extent), body, stmt.kind)
            case If():
                new = If(
                    on_expr(stmt.condition),
                    map_block(stmt.then, on_expr, on_stmt),
                    map_block(stmt.otherwise, on_expr, on_stmt),
                )
            case Let():
                new = Let(stmt.name, on_expr(stmt.value))
            case Store():
                new = Store(stmt.buffer, tuple(map(on_expr, stmt.index)), on_expr(stmt.value))
            case Intrinsic():
                windows = (
                    Window(w.buffer, tuple(map(on_expr, w.index)), w.sizes) for w in stmt.args
                )
                new = Intrinsic(stmt.name, tuple(windows))
            case Alloc() | Barrier():
                new = stmt
        result.extend(on_stmt(new))
    return tuple(result)


def substitute_block(block: Block, values: dict[str, Expr]) -> Block:
    """Replaces variables by expressions everywhere in a block."""
    return map_block(block, on_expr=lambda e: substitute(e, values))
