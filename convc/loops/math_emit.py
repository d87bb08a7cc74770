"""What the formulas of loops/math_formulas.py are written with: `let`s and the bits of floats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from convc.loops.ir import (
    Arithmetic,
    Binary,
    Call,
    Cast,
    Const,
    Expr,
    Let,
    Operand,
    Select,
    Var,
    as_expr,
    call,
)
from convc.types import DType

INF = math.inf
NAN = math.nan  # this very object: NaN equals nothing else


@dataclass(frozen=True)
class Format:
    """The bits of a float dtype. `magic` is 1.5 · 2^mantissa: adding it rounds to an integer."""

    dtype: DType
    integer: DType
    mantissa: int
    bias: int

    @property
    def magic(self) -> float:
        return 1.5 * 2.0**self.mantissa

    @property
    def magic_bits(self) -> int:
        return ((self.bias + self.mantissa) << self.mantissa) + (1 << (self.mantissa - 1))

    @property
    def sign(self) -> int:
        """The sign bit as a signed integer."""
        return -(1 << (8 * self.dtype.itemsize - 1))


FORMATS = {
    DType.float32: Format(DType.float32, DType.int32, 23, 127),
    DType.float64: Format(DType.float64, DType.int64, 52, 1023),
}


def format_of(x: Expr) -> Format:
    return FORMATS[x.dtype]


@dataclass
class Emit:
    """Collects `let`s. `fma`, `rounding` and `scaling` say whether the machine has such instructions."""

    number: int
    fma: bool
    rounding: bool
    scaling: bool = False
    lets: list[Let] = field(default_factory=list)
    prefix: str = ""
    used: dict[str, int] = field(default_factory=dict)

    def begin(self, function: str) -> None:
        """Names of the next `let`s begin with the function and a number of their own."""
        self.prefix = f"{function}{self.number}_"
        self.number += 1
        self.used = {}

    def take(self) -> tuple[Let, ...]:
        """The `let`s since the last time."""
        lets, self.lets = tuple(self.lets), []
        return lets

    def let(self, name: str, value: Expr) -> Expr:
        """Binds a value to a new name; names and constants are good as they are."""
        if isinstance(value, (Var, Const)):
            return value
        count = self.used[name] = self.used.get(name, 0) + 1
        full = self.prefix + name + ("" if count == 1 else str(count))
        self.lets.append(Let(full, value))
        return Var(full, value.dtype)

    def mul_add(self, a: Operand, b: Operand, c: Operand) -> Expr:
        """a · b + c, fused if the machine can."""
        dtype = next(o.dtype for o in (a, b, c) if isinstance(o, Arithmetic))  # type: ignore[attr-defined]
        x, y, z = (as_expr(o, dtype) for o in (a, b, c))
        return call("fma", x, y, z) if self.fma else x * y + z

    def horner(self, name: str, coefficients: Sequence[float], x: Expr) -> Expr:
        """The polynomial with these coefficients, constant first."""
        total: Expr = as_expr(coefficients[-1], x.dtype)
        for c in reversed(coefficients[:-1]):
            total = self.let(name, self.mul_add(total, x, c))
        return total

    def product(self, a: Expr, b: Expr) -> tuple[Expr, Expr]:
        """a · b as an unevaluated sum of two float64: the rounded product and its error (Dekker 1971)."""
        p = self.let("p", a * b)
        if self.fma:
            return p, self.let("e", call("fma", a, b, 0.0 - p))
        (ah, al), (bh, bl) = self._halves(a), self._halves(b)
        return p, self.let("e", ((ah * bh - p) + ah * bl + al * bh) + al * bl)

    def _halves(self, a: Expr) -> tuple[Expr, Expr]:
        scaled = self.let("s", a * 134217729.0)
        high = self.let("h", scaled - (scaled - a))
        return high, self.let("l", a - high)

    def round(self, name: str, x: Expr) -> Expr:
        """The nearest integer, ties to even, as a float of any size."""
        if self.rounding:
            return self.let(name, call("round", x))
        limit = 2.0 ** format_of(x).mantissa
        a = self.let("a", call("abs", x))
        rounded = self.let("r", (a + limit) - limit)
        return self.let(name, copy_sign(choose(a < limit, rounded, a), x))


def choose(condition: Expr, then: Operand, otherwise: Operand) -> Expr:
    """A select of two harmless values; a number takes the dtype of the other one."""
    typed = then if isinstance(then, Arithmetic) else otherwise
    dtype = typed.dtype  # type: ignore[union-attr]
    return Select(condition, as_expr(then, dtype), as_expr(otherwise, dtype))


def at_most(x: Expr, limit: float) -> Expr:
    """The lesser of both; NaN stays NaN (the very meaning of x86's minps)."""
    bound = as_expr(limit, x.dtype)
    return choose(bound < x, bound, x)


def at_least(x: Expr, limit: float) -> Expr:
    """The greater of both; NaN stays NaN."""
    bound = as_expr(limit, x.dtype)
    return choose(x < bound, bound, x)


def bits(x: Expr) -> Expr:
    """The bits of a float as a signed integer."""
    return Call("bitcast", (x,), format_of(x).integer)


def from_bits(x: Expr, form: Format) -> Expr:
    return Call("bitcast", (x,), form.dtype)


def power_of_two(k: Expr, form: Format) -> Expr:
    """2^k for an integer k within the range of normal numbers (0 for the exponent below it)."""
    return from_bits(Binary("<<", k + form.bias, as_expr(form.mantissa, k.dtype)), form)


def copy_sign(magnitude: Expr, sign: Expr) -> Expr:
    """A value that isn't negative, with the sign of another."""
    form = format_of(sign)
    return from_bits(bits(magnitude) | (bits(sign) & form.sign), form)


def to_float(k: Expr, form: Format) -> Expr:
    """A small integer as a float; in float64 by bits, as few machines convert int64 vectors."""
    if form.dtype is DType.float32:
        return Cast(k, form.dtype)
    return from_bits(k + form.magic_bits, form) - form.magic
