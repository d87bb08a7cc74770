"""Finds what an expression repeats, so that the source computes it once and stays linear in the expression's size."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from convc.loops.ir import INDEX, Binary, Const, Expr, Load, Reduce, Select, Var
from convc.loops.walking import children


@dataclass
class _Value:
    expr: Expr
    operands: tuple[int, ...]
    ids: list[int]
    speculable: bool  # may be computed where it isn't asked for
    uses: int = 0
    asked: bool = False


@dataclass
class Repeated:
    """A value used several times: the expression, and the identities of all nodes that mean it."""

    expr: Expr
    ids: tuple[int, ...]


@dataclass
class _Numbering:
    values: list[_Value] = field(default_factory=list)
    by_id: dict[int, int] = field(default_factory=dict)
    by_key: dict[object, int] = field(default_factory=dict)

    def number(self, expr: Expr) -> int:
        known = self.by_id.get(id(expr))
        if known is not None:
            return known
        operands = tuple(self.number(o) for o in children(expr))
        key = (*_own_fields(expr), operands)
        number = self.by_key.get(key)
        if number is None:
            number = self.by_key[key] = len(self.values)
            risky = isinstance(expr, Load) or isinstance(expr, Binary) and expr.op in ("//", "%")
            speculable = not risky and all(self.values[o].speculable for o in operands)
            self.values.append(_Value(expr, operands, [], speculable))
            for operand in operands:
                self.values[operand].uses += 1
        self.values[number].ids.append(id(expr))
        self.by_id[id(expr)] = number
        return number

    def ask(self, number: int) -> None:
        """Marks what is evaluated whenever the value is: everything but the branches of a selection."""
        value = self.values[number]
        if value.asked:
            return
        value.asked = True
        certain = value.operands[:1] if isinstance(value.expr, Select) else value.operands
        for operand in certain:
            self.ask(operand)


def _own_fields(expr: Expr) -> tuple[object, ...]:
    """What tells two nodes with the same operands apart."""
    if isinstance(expr, Const):
        return Const, repr(expr.value), expr.dtype
    fields = ("name", "buffer", "width", "op", "function", "dtype")
    return type(expr), *(getattr(expr, f, None) for f in fields)


def repeated(roots: Iterable[Expr]) -> list[Repeated]:
    """The values that stand several times in the expressions and may be computed before them, operands first.

    Variables, constants and index arithmetic are left where they are. A value that only the branch of a selection
    asks for stays there if it loads or divides: the selection may guard it.
    """
    numbering = _Numbering()
    for root in roots:
        number = numbering.number(root)
        numbering.values[number].uses += 1
        numbering.ask(number)
    return [
        Repeated(v.expr, tuple(v.ids))
        for v in numbering.values
        if v.uses > 1
        and (v.asked or v.speculable)
        and v.expr.dtype is not INDEX
        and not isinstance(v.expr, (Const, Var, Reduce))
    ]
