"""The rewrite `expand_math`: transcendental functions become loop-IR arithmetic.

The formulas are in loops/math_formulas.py, with the error bounds that tests/loops/test_math.py holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

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
    Kernel,
    Let,
    Load,
    Select,
    Stmt,
    Store,
    Var,
    Window,
    const,
    select,
    walk,
)
from convc.loops.math_emit import Emit
from convc.loops.math_formulas import FORMULAS, NARROW_FORMULAS, ROUNDINGS, TESTS
from convc.loops.printer import print_expr
from convc.loops.walking import children, expressions, rebuild, subexpressions
from convc.types import DType

EXPANDED = frozenset([*FORMULAS, *NARROW_FORMULAS, *TESTS])

# The branches of selects around an expression: their conditions and which way they went.
Path = tuple[tuple[Expr, bool], ...]


def expand_math(
    kernel: Kernel, *, fma: bool = True, rounding: bool = True, scaling: bool = False
) -> Kernel:
    """The kernel with arithmetic in place of exp, log, tanh, erf, sin, pow, isnan and their kin.

    before:  y[i] = exp(x[i])
    after:   let exp0_x: float32 = x[i]
             …
             y[i] = exp0_s * exp0_t

    The new `let`s stand right before the statement. They are free of branches; a load that a select
    guards stays under the select. Without `fma` the arithmetic has no fused multiply-adds, without
    `rounding` floor, ceil, round and trunc are arithmetic too: for machines that lack them. With `scaling` the machine
    multiplies by powers of two in one instruction.
    """
    names = EXPANDED if rounding else EXPANDED | set(ROUNDINGS)
    if not any(isinstance(e, Call) and e.function in names for e in _inside(kernel.body)):
        return kernel
    first = 1 + max(_numbers(kernel), default=-1)
    expander = _Expander(names, Emit(first, fma, rounding, scaling))
    return replace(kernel, body=expander.block(kernel.body))


def _inside(block: Block) -> Iterator[Expr]:
    for stmt in walk(block):
        for expr in expressions(stmt):
            if not isinstance(expr, (Const, Var)):
                yield from subexpressions(expr)


def _numbers(kernel: Kernel) -> Iterable[int]:
    """The numbers in names like `exp3_x` that the kernel has already."""
    for stmt in walk(kernel.body):
        if isinstance(stmt, Let):
            match = re.fullmatch(r"[a-z0-9]*?(\d+)_\w+", stmt.name)
            if match:
                yield int(match[1])


@dataclass
class _Expander:
    names: frozenset[str]
    emit: Emit

    def block(self, block: Block) -> Block:
        result: list[Stmt] = []
        for stmt in block:
            self.known: dict[tuple[str, str], Expr] = {}
            new = self.statement(stmt)
            result.extend(new)
        return tuple(result)

    def statement(self, stmt: Stmt) -> Block:
        """The statement after the `let`s that it needs."""
        new: Stmt
        match stmt:
            case For():
                new = replace(stmt, extent=self.expr(stmt.extent))
                return (*self.emit.take(), replace(new, body=self.block(stmt.body)))
            case If():
                condition = self.expr(stmt.condition)
                lets = self.emit.take()
                then, otherwise = self.block(stmt.then), self.block(stmt.otherwise)
                return (*lets, If(condition, then, otherwise))
            case Let():
                new = Let(stmt.name, self.expr(stmt.value))
            case Store():
                index = tuple(map(self.expr, stmt.index))
                new = Store(stmt.buffer, index, self.expr(stmt.value))
            case Intrinsic():
                windows = (
                    Window(w.buffer, tuple(map(self.expr, w.index)), w.sizes) for w in stmt.args
                )
                new = Intrinsic(stmt.name, tuple(windows))
            case Alloc() | Barrier():
                new = stmt
        return (*self.emit.take(), new)

    def expr(self, expr: Expr, path: Path = ()) -> Expr:
        match expr:
            case Const() | Var():
                return expr
            case Select():
                condition = self.expr(expr.condition, path)
                then = self.expr(expr.then, (*path, (condition, True)))
                otherwise = self.expr(expr.otherwise, (*path, (condition, False)))
                return select(condition, then, otherwise)
            case Call() if expr.function in self.names:
                return self.call(expr, path)
        operands = children(expr)
        new = tuple(self.expr(o, path) for o in operands)
        same = all(a is b for a, b in zip(new, operands, strict=True))
        return expr if same else rebuild(expr, new)

    def call(self, call: Call, path: Path) -> Expr:
        args = [guarded(self.expr(a, path), path) for a in call.args]
        key = (call.function, ", ".join(f"{a.dtype.value} {print_expr(a)}" for a in args))
        if key not in self.known:
            self.emit.begin(call.function)
            inputs = [self.emit.let(n, a) for n, a in zip("xy", args, strict=False)]
            self.known[key] = self.emit.let("y", self.formula(call, inputs))
        return self.known[key]

    def formula(self, call: Call, inputs: list[Expr]) -> Expr:
        name, dtype = call.function, inputs[0].dtype
        if name in TESTS:
            return TESTS[name](self.emit, *inputs)
        if dtype in (DType.float16, DType.bfloat16):
            wide = [self.emit.let("w", Cast(x, DType.float32)) for x in inputs]
            return Cast(self.formula(call, wide), dtype)
        if dtype is DType.float32 and name in NARROW_FORMULAS:
            return NARROW_FORMULAS[name](self.emit, *inputs)
        formula = ROUNDINGS[name] if name in ROUNDINGS else FORMULAS[name]
        return formula(self.emit, *inputs)


def guarded(expr: Expr, path: Path) -> Expr:
    """An expression that may be computed outside the selects around it: 1 where they wouldn't reach it."""
    if not any(map(_may_fail, subexpressions(expr))):
        return expr
    for condition, holds in reversed(path):
        harmless = const(1, expr.dtype)
        expr = select(condition, expr, harmless) if holds else select(condition, harmless, expr)
    return expr


def _may_fail(expr: Expr) -> bool:
    """Loads may leave their buffer, integer divisions may divide by zero."""
    return isinstance(expr, Load) or (isinstance(expr, Binary) and expr.op in ("//", "%"))
