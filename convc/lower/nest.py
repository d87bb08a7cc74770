"""From a formula to the plainest kernel that computes it: a loop per output dimension, a register per reduction."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from convc.loops.formula import At, Nest
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
    Kernel,
    Layout,
    Let,
    Load,
    Reduce,
    Select,
    Space,
    Stmt,
    Store,
    Var,
    binary,
    const,
    fma,
    index,
)
from convc.loops.simplify import simplify_kernel
from convc.loops.walking import children, expressions, rebuild, subexpressions
from convc.types import DType

_LOOP_NAMES = {1: "i", 2: "n o", 3: "n o i", 4: "n o i j"}


def loop_names(rank: int) -> tuple[str, ...]:
    """The variables of the output loops, outermost first."""
    return (
        tuple(_LOOP_NAMES[rank].split())
        if rank in _LOOP_NAMES
        else tuple(f"i{d}" for d in range(rank))
    )


def naive_kernel_of(
    name: str, inputs: Iterable[Buffer], outputs: Sequence[tuple[Buffer, At]]
) -> Kernel:
    """The kernel that computes several outputs of one shape element by element: all values, then all stores."""
    (first, _), *_ = outputs
    variables = tuple(Var(v) for v in loop_names(len(first.shape)))
    lets, values = share_all([at(*variables) for _, at in outputs])
    stored: list[Stmt] = []
    for n, ((buffer, _), value) in enumerate(zip(outputs, values, strict=True)):
        lets.append(Let(f"next{n}", value))
        stored.append(Store(buffer.name, variables, Var(f"next{n}", value.dtype)))
    body: Block = (*lets, *stored)
    for var, extent in reversed(list(zip(variables, first.shape, strict=True))):
        body = (For(var.name, index(extent), body),)
    return simplify_kernel(Kernel(name, (*inputs, *(b for b, _ in outputs)), body))


def naive_kernel(name: str, inputs: Iterable[Buffer], output: Buffer, at: At) -> Kernel:
    """The kernel that computes `output[index] = at(*index)` for every index, in order."""
    variables = tuple(Var(v) for v in loop_names(len(output.shape)))
    lowering = _Reductions()
    value = lowering.lower(at(*variables))
    lets, value = share(value)
    body: Block = (*lowering.statements, *lets, Store(output.name, variables, value))
    for var, extent in reversed(list(zip(variables, output.shape, strict=True))):
        body = (For(var.name, index(extent), body),)
    return simplify_kernel(Kernel(name, (*inputs, output), body))


def nest_kernel(name: str, inputs: Iterable[Buffer], output: Buffer, nest: Nest) -> Kernel:
    """The kernel of a nest that an operator wrote itself."""
    body = nest.body
    for var, extent in reversed(nest.loops):
        body = (For(var, index(extent), body),)
    kernel = simplify_kernel(Kernel(name, (*inputs, output), body))
    return replace(kernel, body=_needed(kernel.body, set()))


def _needed(block: Block, used: set[str]) -> Block:
    """The block without values that nobody reads: what was computed for a store that can't happen.

    `used` has the names that are read behind the block, and gets those that the block reads.
    """
    kept: list[Stmt] = []
    for stmt in reversed(block):
        match stmt:
            case Let() if stmt.name not in used:
                continue
            case For():
                stmt = replace(stmt, body=_needed(stmt.body, used))
            case If():
                otherwise = _needed(stmt.otherwise, used)
                stmt = replace(stmt, then=_needed(stmt.then, used), otherwise=otherwise)
        for expr in expressions(stmt):
            used.update(e.name for e in subexpressions(expr) if isinstance(e, Var))
        kept.append(stmt)
    return tuple(reversed(kept))


class _Reductions:
    """Takes the reductions out of an expression, one accumulator and one nest each."""

    def __init__(self, names: list[str] | None = None) -> None:
        self.statements: list[Stmt] = []
        self.names = names if names is not None else []
        self.done: dict[int, tuple[Expr, Expr]] = {}

    def lower(self, expr: Expr) -> Expr:
        """The expression without reductions. An operand that stands in several places stays one object."""
        if id(expr) not in self.done:
            self.done[id(expr)] = (expr, self._lower(expr))
        return self.done[id(expr)][1]

    def _lower(self, expr: Expr) -> Expr:
        if isinstance(expr, Reduce):
            return self.accumulate(expr)
        operands = children(expr)
        if not operands:
            return expr
        lowered = tuple(self.lower(o) for o in operands)
        if all(a is b for a, b in zip(lowered, operands, strict=True)):
            return expr
        return rebuild(expr, lowered)

    def accumulate(self, expr: Reduce) -> Expr:
        name = f"acc{len(self.names) or ''}"
        self.names.append(name)
        scalar = Buffer(name, expr.dtype, (), Layout.dense(0), Space.register)
        inner = _Reductions(self.names)
        value = inner.lower(expr.value)
        total = Load(name, (), expr.dtype)
        body: Block = (*inner.statements, Store(name, (), combined(expr.combiner, total, value)))
        for var, extent in reversed(expr.axes):
            body = (For(var, index(extent), body),)
        self.statements += [
            Alloc(scalar),
            Store(name, (), neutral(expr.combiner, expr.dtype)),
            *body,
        ]
        return total


def share(expr: Expr) -> tuple[list[Let], Expr]:
    """Names for what an expression computes more than once: silu(x) = x / (1 + exp(-x)) with a long x.

    What a `Select` guards stays where it is, so that no load leaves its guard.
    """
    lets, (shared,) = share_all([expr])
    return lets, shared


def share_all(exprs: Sequence[Expr]) -> tuple[list[Let], list[Expr]]:
    """The same for expressions that have parts in common."""
    uses: dict[int, int] = {}
    for expr in exprs:
        _count_uses(expr, uses)
    if all(count < 2 for count in uses.values()):
        return [], list(exprs)
    lets: list[Let] = []
    done: dict[int, Expr] = {}

    def visit(e: Expr) -> Expr:
        if id(e) in done:
            return done[id(e)]
        new = e
        if not isinstance(e, (Load, Select)) and children(e):
            new = rebuild(e, tuple(visit(o) for o in children(e)))
        elif isinstance(e, Select):
            new = rebuild(e, (visit(e.condition), e.then, e.otherwise))
        if (
            uses.get(id(e), 0) > 1
            and children(e)
            and e.dtype is not INDEX
            and not isinstance(e, Load)
        ):
            name = f"t{len(lets)}"
            lets.append(Let(name, new))
            new = Var(name, e.dtype)
        done[id(e)] = new
        return new

    return lets, [visit(expr) for expr in exprs]


def _count_uses(expr: Expr, uses: dict[int, int]) -> None:
    if isinstance(expr, (Const, Var)):
        return
    uses[id(expr)] = uses.get(id(expr), 0) + 1
    if uses[id(expr)] > 1 or isinstance(expr, Load):
        return
    for operand in (expr.condition,) if isinstance(expr, Select) else children(expr):
        _count_uses(operand, uses)


def combined(combiner: str, total: Expr, value: Expr) -> Expr:
    """The accumulator with one more value; a product is added with one rounding."""
    match combiner:
        case "sum":
            if isinstance(value, Binary) and value.op == "*" and value.dtype.is_float:
                return fma(value.a, value.b, total)
            return binary("+", total, value)
        case "prod":
            return binary("*", total, value)
        case _:
            return binary(combiner, total, value)


def neutral(combiner: str, dtype: DType) -> Const:
    """What a reduction starts from."""
    match combiner:
        case "sum":
            return const(0, dtype)
        case "prod":
            return const(1, dtype)
    if dtype.is_float:
        return const(-math.inf if combiner == "max" else math.inf, dtype)
    bits = dtype.itemsize * 8 - (1 if dtype.is_signed else 0)
    low = -(1 << bits) if dtype.is_signed else 0
    return const(low if combiner == "max" else (1 << bits) - 1, dtype)
