"""Index arithmetic: linear forms, ranges, and the simplifier that removes guards and divisions by them."""

from __future__ import annotations

import math
from collections.abc import Mapping

from convc.loops.ir import (
    INDEX,
    Alloc,
    Barrier,
    Binary,
    Block,
    Buffer,
    Const,
    Expr,
    For,
    If,
    Intrinsic,
    Kernel,
    Let,
    Select,
    Stmt,
    Store,
    Var,
    Window,
    binary,
    index,
)
from convc.loops.walking import children, rebuild, same, variables
from convc.types import DType

Range = tuple[float, float]
Ranges = Mapping[str, Range]
"""Inclusive bounds of variables; infinite where unknown."""

Linear = tuple[dict[Expr, int], int]
"""`sum(coefficient * atom) + constant`; an atom is a variable or a term that isn't linear."""

SYMBOL_RANGE: Range = (1, math.inf)
UNKNOWN: Range = (-math.inf, math.inf)


def linear(expr: Expr) -> Linear:
    """An integer expression as a linear form over its atoms."""
    terms: dict[Expr, int] = {}
    constant = _collect(expr, 1, terms)
    return _rejoined(terms, constant)


def _rejoined(terms: dict[Expr, int], constant: int) -> Linear:
    """What was collected, without quotients and remainders that belong together and without what cancels out."""
    for atom in terms:
        if isinstance(atom, Binary) and atom.op == "%":
            constant += _rejoin(terms)
            break
    if 0 in terms.values():
        terms = {atom: c for atom, c in terms.items() if c}
    return terms, constant


def _rejoin(terms: dict[Expr, int]) -> int:
    """Replaces (x // d)*(c*d) + (x % d)*c by x*c; returns the constant part of that."""
    constant = 0
    for atom, c in list(terms.items()):
        if not (isinstance(atom, Binary) and atom.op == "%" and isinstance(atom.b, Const)):
            continue
        quotient = Binary("//", atom.a, atom.b)
        if c and terms.get(quotient) == c * int(atom.b.value):
            del terms[quotient], terms[atom]
            constant += _collect(atom.a, c, terms)
    return constant


def _collect(expr: Expr, factor: int, terms: dict[Expr, int]) -> int:
    if isinstance(expr, Const):
        return factor * int(expr.value)
    if isinstance(expr, Binary):
        a, b = expr.a, expr.b
        match expr.op:
            case "+":
                return _collect(a, factor, terms) + _collect(b, factor, terms)
            case "-":
                return _collect(a, factor, terms) + _collect(b, -factor, terms)
            case "*" if isinstance(b, Const):
                return _collect(a, factor * int(b.value), terms)
            case "*" if isinstance(a, Const):
                return _collect(b, factor * int(a.value), terms)
    terms[expr] = terms.get(expr, 0) + factor
    return 0


def from_linear(form: Linear) -> Expr:
    """The expression of a linear form; equal forms give equal expressions."""
    terms, constant = _in_order(form)
    total: Expr | None = None
    for atom, coefficient in terms.items():
        term = atom if coefficient == 1 else Binary("*", atom, Const(coefficient, INDEX))
        total = term if total is None else Binary("+", total, term)
    if total is None:
        return Const(constant, INDEX)
    return Binary("+", total, Const(constant, INDEX)) if constant else total


def _in_order(form: Linear) -> Linear:
    """The same form, its terms in an order that doesn't depend on how it came about."""
    terms, constant = form
    if len(terms) < 2:
        return form
    return dict(sorted(terms.items(), key=_order)), constant


def _order(term: tuple[Expr, int]) -> str:
    atom, _ = term
    return atom.name if isinstance(atom, Var) else f"~{atom!r}"


def bounds(expr: Expr, ranges: Ranges) -> Range:
    """Inclusive bounds of an integer expression."""
    match expr:
        case Const():
            return (expr.value, expr.value)
        case Var():
            return ranges.get(expr.name, UNKNOWN)
        case Binary(op="+" | "-"):
            return linear_bounds(linear(expr), ranges)
        case Binary(op="*"):
            corners = [
                _product(x, y) for x in bounds(expr.a, ranges) for y in bounds(expr.b, ranges)
            ]
            return (min(corners), max(corners))
        case Binary(op="//", b=Const() as divisor) if divisor.value > 0:
            low, high = bounds(expr.a, ranges)
            return (_floor_div(low, divisor.value), _floor_div(high, divisor.value))
        case Binary(op="%", b=Const() as divisor) if divisor.value > 0:
            low, high = bounds(expr.a, ranges)
            if low >= 0 and high < divisor.value:
                return (low, high)
            return (0, divisor.value - 1)
        case Binary(op="min" | "max" as op):
            pick = min if op == "min" else max
            (a, b), (c, d) = bounds(expr.a, ranges), bounds(expr.b, ranges)
            return (pick(a, c), pick(b, d))
        case Select():
            (a, b), (c, d) = bounds(expr.then, ranges), bounds(expr.otherwise, ranges)
            return (min(a, c), max(b, d))
        case _:
            return UNKNOWN


def _product(x: float, y: float) -> float:
    return 0 if x == 0 or y == 0 else x * y


def _floor_div(x: float, d: float) -> float:
    return x if math.isinf(x) else x // d


def linear_bounds(form: Linear, ranges: Ranges) -> Range:
    """Inclusive bounds of a linear form."""
    terms, constant = form
    low: float = constant
    high: float = constant
    for atom, coefficient in terms.items():
        a, b = bounds(atom, ranges)
        if coefficient < 0:
            a, b = b, a
        low += _product(coefficient, a)
        high += _product(coefficient, b)
    return (low, high)


def offset_of(buffer: Buffer, at: tuple[Expr, ...], ranges: Ranges) -> Linear:
    """Where a logical index lies in a buffer's memory, in elements: a simplified linear form, its terms in order."""
    return simplify_form(plain_offset(buffer, at), ranges)


def plain_offset(buffer: Buffer, at: tuple[Expr, ...]) -> Linear:
    """The same, not simplified."""
    terms: dict[Expr, int] = {}
    constant = 0
    layout = buffer.layout
    for axis, stride in zip(layout.axes, buffer.strides, strict=True):
        before, _ = layout.border[axis.dim]
        position = at[axis.dim]
        if axis.divide == 1 and axis.modulus is None and isinstance(stride, int):
            constant += _collect(position, stride, terms) + before * stride
            continue
        position = binary("//", binary("+", position, before), axis.divide)
        if axis.modulus is not None:
            position = binary("%", position, axis.modulus)
        constant += _collect(binary("*", position, index(stride)), 1, terms)
    return _rejoined(terms, constant)


def simplify_form(form: Linear, ranges: Ranges) -> Linear:
    """An equal linear form with what the ranges decide decided, its terms in order."""
    return _rejoined(*_in_order(_simplify_form(form, ranges)))


def simplify(expr: Expr, ranges: Ranges) -> Expr:
    """An equal expression, with what the ranges decide decided; the same one if that is nothing."""
    if isinstance(expr, (Const, Var)):
        return expr
    if isinstance(expr, Binary):
        if expr.a.dtype is INDEX:
            return _simplify_index(expr, ranges)
        a, b = simplify(expr.a, ranges), simplify(expr.b, ranges)
        return expr if a is expr.a and b is expr.b else binary(expr.op, a, b)
    if isinstance(expr, Select):
        condition = simplify(expr.condition, ranges)
        if isinstance(condition, Const):
            return simplify(expr.then if condition.value else expr.otherwise, ranges)
    operands = children(expr)
    new = tuple([simplify(o, ranges) for o in operands])
    return expr if same(new, operands) else rebuild(expr, new)


def _simplify_index(expr: Binary, ranges: Ranges) -> Expr:
    """Arithmetic and comparisons of indices. What came of one is kept: rewrites leave most of a kernel as it was."""
    known = [ranges.get(name) for name in variables(expr)]
    try:
        before, result = expr._simplified
        if before == known:
            return result
    except AttributeError:
        pass
    if expr.op in ("+", "-", "*"):
        result = from_linear(_simplify_form(linear(expr), ranges))
    else:
        a, b = simplify(expr.a, ranges), simplify(expr.b, ranges)
        same_operands = a is expr.a and b is expr.b
        result = _simplify_node(expr if same_operands else binary(expr.op, a, b), ranges)
    if result == expr:
        result = expr
    expr._simplified = known, result
    return result


def _simplify_form(form: Linear, ranges: Ranges) -> Linear:
    """A linear form whose atoms are simplified, then collected."""
    terms, constant = form
    if all(isinstance(atom, Var) for atom in terms):
        return form
    total: dict[Expr, int] = {}
    for atom, coefficient in terms.items():
        constant += _collect(_simplify_atom(atom, ranges), coefficient, total)
    kept = {atom: c for atom, c in total.items() if c}
    if any(isinstance(atom, Binary) and atom.op == "%" for atom in kept):
        constant += _rejoin(kept)
    return {atom: c for atom, c in kept.items() if c}, constant


def _simplify_atom(atom: Expr, ranges: Ranges) -> Expr:
    """A product of two atoms is not linear, but its factors may be simpler."""
    if isinstance(atom, Binary) and atom.op == "*":
        return binary("*", simplify(atom.a, ranges), simplify(atom.b, ranges))
    return simplify(atom, ranges)


def _simplify_node(expr: Expr, ranges: Ranges) -> Expr:
    if not isinstance(expr, Binary):
        return expr
    match expr.op:
        case "//" | "%" if expr.dtype is INDEX and isinstance(expr.b, Const) and expr.b.value > 0:
            return _simplify_division(expr, int(expr.b.value), ranges)
        case "min" | "max" if expr.dtype is INDEX:
            return _simplify_minmax(expr, ranges)
        case "<" | "<=" | "==" | "!=" if expr.a.dtype is INDEX:
            return _simplify_comparison(expr, ranges)
    return expr


def _simplify_division(expr: Binary, divisor: int, ranges: Ranges) -> Expr:
    """Splits off the part that the divisor divides: (16*a + v) // 16 is a where 0 <= v < 16."""
    terms, constant = linear(expr.a)
    whole = {atom: c for atom, c in terms.items() if c % divisor == 0}
    rest = {atom: c for atom, c in terms.items() if c % divisor}
    remainder = (rest, constant % divisor)
    if not rest:
        quotient: Expr = Const(0, INDEX)
        left: Expr = Const(constant % divisor, INDEX)
    else:
        low, high = linear_bounds(remainder, ranges)
        if math.isfinite(low) and math.isfinite(high) and low // divisor == high // divisor:
            shift = int(low // divisor)
            quotient = Const(shift, INDEX)
            left = from_linear((rest, constant % divisor - shift * divisor))
        else:
            inner = from_linear(remainder)
            quotient = binary("//", inner, expr.b)
            left = binary("%", inner, expr.b)
    if expr.op == "%":
        return left
    scaled = {atom: c // divisor for atom, c in whole.items()}
    base = from_linear((scaled, constant // divisor))
    return from_linear(linear(binary("+", base, quotient)))


def _simplify_minmax(expr: Binary, ranges: Ranges) -> Expr:
    low, high = linear_bounds(linear(binary("-", expr.a, expr.b)), ranges)
    if low >= 0:
        return expr.b if expr.op == "min" else expr.a
    if high <= 0:
        return expr.a if expr.op == "min" else expr.b
    return expr


def _simplify_comparison(expr: Binary, ranges: Ranges) -> Expr:
    low, high = linear_bounds(linear(binary("-", expr.a, expr.b)), ranges)
    decided: bool | None = None
    match expr.op:
        case "<":
            decided = True if high < 0 else False if low >= 0 else None
        case "<=":
            decided = True if high <= 0 else False if low > 0 else None
        case "==":
            decided = True if low == high == 0 else False if low > 0 or high < 0 else None
        case "!=":
            decided = False if low == high == 0 else True if low > 0 or high < 0 else None
    return expr if decided is None else Const(decided, DType.bool)


def loop_range(extent: Expr, ranges: Ranges) -> Range:
    """The bounds of a loop's variable."""
    return (0, bounds(extent, ranges)[1] - 1)


def simplify_kernel(kernel: Kernel) -> Kernel:
    """Simplifies every expression under the ranges of the loops around it, and drops what can't run.

    Before: for i in 4 { if i < 4 { y[i] = x[(i*16 + 3) // 16] } }
    After:  for i in 4 { y[i] = x[i] }
    """
    ranges = dict.fromkeys(kernel.symbols, SYMBOL_RANGE)
    return Kernel(kernel.name, kernel.params, _simplify_block(kernel.body, ranges), kernel.notes)


def _simplify_block(block: Block, ranges: dict[str, Range]) -> Block:
    result: list[Stmt] = []
    for stmt in block:
        match stmt:
            case For():
                extent = simplify(stmt.extent, ranges)
                if isinstance(extent, Const) and extent.value <= 0:
                    continue
                inner = {**ranges, stmt.var: loop_range(extent, ranges)}
                body = _simplify_block(stmt.body, inner)
                if body:
                    result.append(For(stmt.var, extent, body, stmt.kind))
            case If():
                result.extend(_simplify_if(stmt, ranges))
            case Let():
                value = simplify(stmt.value, ranges)
                if value.dtype is INDEX:
                    ranges = {**ranges, stmt.name: bounds(value, ranges)}
                result.append(Let(stmt.name, value))
            case Store():
                at = tuple(simplify(i, ranges) for i in stmt.index)
                result.append(Store(stmt.buffer, at, simplify(stmt.value, ranges)))
            case Intrinsic():
                windows = tuple(
                    Window(w.buffer, tuple(simplify(i, ranges) for i in w.index), w.sizes)
                    for w in stmt.args
                )
                result.append(Intrinsic(stmt.name, windows))
            case Alloc() | Barrier():
                result.append(stmt)
    return tuple(result)


def _simplify_if(stmt: If, ranges: dict[str, Range]) -> Block:
    condition = simplify(stmt.condition, ranges)
    if isinstance(condition, Const):
        return _simplify_block(stmt.then if condition.value else stmt.otherwise, ranges)
    then = _simplify_block(stmt.then, refine(ranges, condition))
    otherwise = _simplify_block(stmt.otherwise, ranges)
    return (If(condition, then, otherwise),) if then or otherwise else ()


def refine(ranges: dict[str, Range], condition: Expr) -> dict[str, Range]:
    """The ranges where a condition holds: bounds on single variables only."""
    match condition:
        case Binary(op="&"):
            return refine(refine(ranges, condition.a), condition.b)
        case Binary(op="<" | "<=" as op) if condition.a.dtype is INDEX:
            terms, constant = linear(binary("-", condition.b, condition.a))
            slack = constant - (1 if op == "<" else 0)  # sum(terms) + slack >= 0
            if len(terms) != 1:
                return ranges
            ((atom, coefficient),) = terms.items()
            if not isinstance(atom, Var):
                return ranges
            low, high = ranges.get(atom.name, UNKNOWN)
            if coefficient > 0:
                low = max(low, math.ceil(-slack / coefficient))
            else:
                high = min(high, slack // -coefficient)
            return {**ranges, atom.name: (low, high)}
        case _:
            return ranges
