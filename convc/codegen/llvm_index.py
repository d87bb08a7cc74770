"""Index expressions as LLVM values: linear forms, each computed at the outermost level that has its variables."""

from __future__ import annotations

from abc import ABC, abstractmethod

from convc.codegen import llvm_ops
from convc.codegen.llvm_ops import Value
from convc.codegen.llvm_scope import Scope
from convc.loops.ir import INDEX, Binary, Call, Cast, Const, Expr, Load, Select, Var, index
from convc.loops.simplify import bounds, from_linear, linear, simplify
from convc.loops.walking import children, subexpressions, substitute, variables


class IndexWriter(Scope, ABC):
    """Arithmetic on loop variables and symbols, as scalars or along the lanes."""

    @abstractmethod
    def value(self, expr: Expr) -> Value:
        """The value of any expression: what an index reads may be more than index arithmetic."""

    def is_index(self, expr: Expr) -> bool:
        """True for arithmetic on loop variables and symbols, which can move to outer levels."""
        match expr:
            case Const():
                return True
            case Var():
                return expr.name not in self.data
            case Binary(op="+" | "-" | "*" | "//" | "%" | "min" | "max"):
                return self.is_index(expr.a) and self.is_index(expr.b)
            case _:
                return False

    def specialised(self, expr: Expr) -> Expr:
        """An index expression with the unrolled variables replaced by their numbers."""
        if isinstance(expr, Const):
            return expr
        if isinstance(expr, Var):
            known = self.constants.get(expr.name)
            return expr if known is None else index(known)
        return simplify(substitute(expr, self.numbers_in(expr)), self.ranges)

    def numbers_in(self, expr: Expr) -> dict[str, Expr]:
        """The numbers of the unrolled variables in an expression."""
        return {n: index(self.constants[n]) for n in variables(expr) if n in self.constants}

    def level_of(self, expr: Expr) -> int:
        """The outermost level at which an index expression can be computed."""
        if isinstance(expr, Var):
            return self.names[expr.name][1] if expr.name in self.names else 0
        levels = [self.names[n][1] for n in variables(expr) if n in self.names]
        if any(isinstance(e, Load) for e in subexpressions(expr)):
            return self.f.depth
        return max(levels, default=0)

    def index_value(self, expr: Expr) -> Value:
        """An index expression as a value, computed at the outermost level that has its variables."""
        expr = self.specialised(expr)
        if self.lane is not None and self.lane.var in variables(expr):
            return self.lane_value(expr)
        return Value(self.scalar(expr), INDEX, 1)

    def lane_value(self, expr: Expr) -> Value:
        """An index expression that depends on the lane: a vector of i64."""
        assert self.lane is not None
        lane, count = Var(self.lane.var), self.lane.count
        terms, constant = linear(expr)
        if any(a != lane and self.lane.var in variables(a) for a in terms):
            assert isinstance(expr, Binary)
            operands = (llvm_ops.splat(self.f, self.value(o), count) for o in children(expr))
            return llvm_ops.binary(self.f, expr, *operands)
        step = terms.pop(lane, 0)
        base = llvm_ops.splat(
            self.f, Value(self.scalar(from_linear((terms, constant))), INDEX, 1), count
        )
        steps = "<" + ", ".join(f"i64 {step * i}" for i in range(count)) + ">"
        return base.renamed(self.f.once(f"add {base.type} {base.text}, {steps}"))

    def scalar(self, expr: Expr) -> str:
        """An index expression without lanes as an i64."""
        if isinstance(expr, Const):
            return str(int(expr.value))
        return self.linear_value(linear(expr), self.level_of(expr), 1)

    def linear_value(self, form: tuple[dict[Expr, int], int], level: int, scale: int) -> str:
        """`scale` times a linear form, at a level."""
        terms, constant = form
        total = ""
        for atom, coefficient in terms.items():
            term = self.atom(atom, level)
            factor = coefficient * scale
            if factor != 1:
                term = self.f.once(f"mul nsw i64 {term}, {factor}", level)
            total = self.f.once(f"add nsw i64 {total}, {term}", level) if total else term
        if not total:
            return str(constant * scale)
        if constant:
            total = self.f.once(f"add nsw i64 {total}, {constant * scale}", level)
        return total

    def atom(self, atom: Expr, level: int) -> str:
        match atom:
            case Var():
                if atom.name in self.constants:
                    return str(self.constants[atom.name])
                return self.names[atom.name][0].text
            case Binary(op="//" | "%" as op):
                a, b = self.scalar(atom.a), self.scalar(atom.b)
                signed = bounds(atom.a, self.ranges)[0] < 0
                if not signed:
                    name = "udiv" if op == "//" else "urem"
                    return self.f.once(f"{name} i64 {a}, {b}", level)
                return llvm_ops.floor_division(self.f, op, a, b, level)
            case Binary(op="min" | "max" as op):
                a, b = self.scalar(atom.a), self.scalar(atom.b)
                return self.f.once(f"call i64 @llvm.s{op}.i64(i64 {a}, i64 {b})", level)
            case Binary(op="*"):
                a, b = self.scalar(atom.a), self.scalar(atom.b)
                return self.f.once(f"mul nsw i64 {a}, {b}", level)
            case Load() | Select() | Cast() | Call():
                return self.value(atom).text
            case _:
                raise self.error(
                    f"an index expression that the CPU generator does not know: {atom}"
                )
