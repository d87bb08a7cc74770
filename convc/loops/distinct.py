"""Whether different iterations give different indices, of one access or of two."""

from __future__ import annotations

from collections.abc import Collection
from math import gcd, inf

from convc.loops.ir import INDEX, Binary, Const, Expr, Var
from convc.loops.simplify import Linear, Range, Ranges, bounds, linear, linear_bounds
from convc.loops.walking import subexpressions, variables


def are_distinct(
    index: tuple[Expr, ...], variables: Collection[str], ranges: Ranges, fixed: Collection[str]
) -> bool:
    """True if an index determines the variables: no two iterations over them have the same one.

    A position that is a number in a mixed radix (`i * 8 + j` with j below 8) determines its digits, and a quotient and
    a remainder by the same number what was divided. `fixed` are variables of one value. False where this doesn't show.
    """
    forms = [linear(i) for i in index]
    known: set[Expr] = set()
    while True:
        found = {atom for form in forms for atom in _digits(form, known, ranges, fixed)}
        joined = [linear(e) for e in _divided(found | known)]
        if found <= known and all(form in forms for form in joined):
            return all(Var(v) in known for v in variables)
        known |= found
        forms += [form for form in joined if form not in forms]


def are_apart(
    a: tuple[Expr, ...],
    b: tuple[Expr, ...],
    a_ranges: Ranges,
    b_ranges: Ranges,
    fixed: Collection[str],
) -> bool:
    """True if no iteration of one access has an index that one of the other has. False where this doesn't show.

    It shows where a position's values differ, or their remainders by a number (`i * 8 + j` and `i * 8 + 6 + k` with j
    below 6 and k below 2). The two don't share iterations: an `i` of one is any `i` of the other.
    """
    return any(
        _differ(linear(i), linear(j), a_ranges, b_ranges, fixed) for i, j in zip(a, b, strict=True)
    )


def _differ(
    a: Linear, b: Linear, a_ranges: Ranges, b_ranges: Ranges, fixed: Collection[str]
) -> bool:
    """True if no value of one form is one of the other.

    The terms from some coefficient on are multiples of a number; the others are less than that apart, and don't meet.
    """
    same = {t for t, c in a[0].items() if c == b[0].get(t) and _is_fixed(t, fixed)}
    a, b = _without(a, same), _without(b, same)
    sizes = {abs(c) for c in (*a[0].values(), *b[0].values())}
    for least in (*sizes, inf):
        large = [c for c in (*a[0].values(), *b[0].values()) if abs(c) >= least]
        step = gcd(*large) if large else inf
        (a_low, a_high), (b_low, b_high) = _below(a, least, a_ranges), _below(b, least, b_ranges)
        if (
            0 < a_low - b_high <= a_high - b_low < step
            or 0 < b_low - a_high <= b_high - a_low < step
        ):
            return True
    return False


def _without(form: Linear, atoms: Collection[Expr]) -> Linear:
    return {atom: c for atom, c in form[0].items() if atom not in atoms}, form[1]


def _below(form: Linear, least: float, ranges: Ranges) -> Range:
    """The bounds of a form's terms with smaller coefficients, and of its constant."""
    return linear_bounds(
        ({atom: c for atom, c in form[0].items() if abs(c) < least}, form[1]), ranges
    )


def _digits(form: Linear, known: set[Expr], ranges: Ranges, fixed: Collection[str]) -> list[Expr]:
    """The atoms of a form that its value determines: all that aren't known, or none."""
    unknown = [
        (abs(coefficient), atom)
        for atom, coefficient in form[0].items()
        if atom not in known and not _is_fixed(atom, fixed)
    ]
    below: float = 0  # the most that the smaller digits make
    for coefficient, atom in sorted(unknown, key=lambda digit: digit[0]):
        if coefficient <= below:
            return []
        low, high = bounds(atom, ranges)
        below += coefficient * (high - low)
    return [atom for _, atom in unknown]


def _is_fixed(atom: Expr, fixed: Collection[str]) -> bool:
    if isinstance(atom, Var):
        return atom.name in fixed
    return all(name in fixed for name in variables(atom)) and all(
        isinstance(e, (Var, Const, Binary)) for e in subexpressions(atom)
    )


def _divided(known: set[Expr]) -> list[Expr]:
    """What known quotients and remainders by the same number are of."""
    return [
        e.a
        for e in known
        if isinstance(e, Binary)
        and e.op == "%"
        and isinstance(e.b, Const)
        and not known.isdisjoint(_quotients(e.a, int(e.b.value)))
    ]


def _quotients(a: Expr, divisor: int) -> list[Expr]:
    """The forms of a // divisor."""
    forms: list[Expr] = [Binary("//", a, Const(divisor, INDEX))]
    if isinstance(a, Binary) and a.op == "//" and isinstance(a.b, Const):
        forms.append(Binary("//", a.a, Const(int(a.b.value) * divisor, INDEX)))
    return forms
