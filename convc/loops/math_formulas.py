"""exp, log, tanh, erf, sin … as arithmetic without branches.

Each formula takes an `Emit` and the operands (all of one dtype) and gives the result. FORMULAS work in
float32 where they say so, and in float64; NARROW_FORMULAS are for float32 and compute in float64.
Polynomials are our own minimax fits (tests/loops/fit_math.py). The reductions follow Cody and Waite,
"Software Manual for the Elementary Functions" (1980), and Payne and Hanek (1983) for large angles.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from convc.loops import math_tables as tables
from convc.loops.ir import Binary, Cast, Expr, as_expr, call
from convc.loops.math_emit import (
    INF,
    NAN,
    Emit,
    at_least,
    at_most,
    bits,
    choose,
    copy_sign,
    format_of,
    from_bits,
    power_of_two,
    to_float,
)
from convc.types import DType

Formula = Callable[..., Expr]
Reduction = Callable[[Emit, Expr], tuple[Expr, Expr, Expr]]
F32, F64 = DType.float32, DType.float64

LOG2E = 1 / math.log(2)
# ln 2 in two parts, the first short enough that its products with exponents are exact.
LN2 = {
    F32: (float.fromhex("0x1.62ep-1"), float.fromhex("0x1.0bfbe8e7bcd5ep-15")),
    F64: (float.fromhex("0x1.62e42fefa2p-1"), float.fromhex("0x1.9ef35793c7673p-41")),
}
EXP = {F32: tables.EXP_FLOAT32, F64: tables.EXP_FLOAT64}
LOG = {F32: tables.LOG_FLOAT32, F64: tables.LOG_FLOAT64}
ERF_SMALL = {F32: tables.ERF_SMALL_FLOAT32, F64: tables.ERF_SMALL_FLOAT64}
ERF_LARGE = {F32: tables.ERF_LARGE_FLOAT32, F64: tables.ERF_LARGE_FLOAT64}
# Beyond these exp is 0 or infinite, expm1 is -1, and tanh and erf are 1.
EXP_RANGE = {F32: (-104.0, 89.0), F64: (-746.0, 710.0)}
EXPM1_LEAST = {F32: -18.0, F64: -40.0}
TANH_MOST = {F32: 10.0, F64: 20.0}
ERF_MOST = {F32: 4.0, F64: 6.0}
LEAST_NORMAL = {F32: 2.0**-126, F64: 2.0**-1022}
SQRT_HALF_BITS = {F32: 0x3F3504F3, F64: 0x3FE6A09E667F3BCD}


# ---------------------------------------------------------------- exponentials


def _exp_parts(m: Emit, x: Expr) -> tuple[Expr, Expr, Expr]:
    """k as an integer and as a float, and e^r - 1, with x = k · ln 2 + r, for x within the exponents' range."""
    form = format_of(x)
    high, low = LN2[x.dtype]
    shifted = m.let("t", m.mul_add(x, LOG2E, form.magic))
    n = m.let("n", shifted - form.magic)
    near = m.let("r", m.mul_add(n, -high, x))
    r = m.let("r", m.mul_add(n, -low, near))
    q = m.horner("q", EXP[x.dtype], r)
    return bits(shifted) - form.magic_bits, n, m.let("q", m.mul_add(m.let("q", r * r), q, r))


def _clamp(m: Emit, x: Expr, low: float, high: float) -> Expr:
    return m.let("x", at_most(m.let("x", at_least(x, low)), high))


def exp(m: Emit, x: Expr) -> Expr:
    """e^x: without an instruction for it 2^k in two factors, so that small results round once all the same."""
    form = format_of(x)
    whole, n, q = _exp_parts(m, _clamp(m, x, *EXP_RANGE[x.dtype]))
    if m.scaling:
        return call("scale", m.let("q", q + 1.0), n)
    k = m.let("k", whole)
    half = m.let("k", Binary(">>", k, as_expr(1, k.dtype)))
    scaled = m.let("s", (q + 1.0) * power_of_two(half, form))
    return scaled * power_of_two(k - half, form)


def expm1(m: Emit, x: Expr) -> Expr:
    """e^x - 1 = 2 · (2^(k-1) · (e^r - 1) + (2^(k-1) - 1/2)), which can't overflow too early."""
    inside = _clamp(m, x, EXPM1_LEAST[x.dtype], EXP_RANGE[x.dtype][1])
    y = m.let("s", _expm1_inside(m, inside))
    return choose(x.eq(0.0), x, y)  # keeps the sign of a zero


def _expm1_inside(m: Emit, x: Expr) -> Expr:
    whole, _, q = _exp_parts(m, x)
    k = m.let("k", whole)
    scale = m.let("s", power_of_two(k - 1, format_of(x)))
    return m.mul_add(scale, q, scale - 0.5) * 2.0


def tanh(m: Emit, x: Expr) -> Expr:
    """t / (t + 2) with t = e^(2 |x|) - 1."""
    a = m.let("a", at_most(m.let("a", call("abs", x)), TANH_MOST[x.dtype]))
    t = m.let("t", _expm1_inside(m, m.let("a", a + a)))
    return copy_sign(m.let("q", t / (t + 2.0)), x)


def sinh(m: Emit, x: Expr) -> Expr:
    """float64: (t + t / (t + 1)) / 2 with t = e^|x| - 1."""
    a = m.let("a", call("abs", x))
    t = m.let("t", expm1(m, a))
    y = m.let("h", (t + t / (t + 1.0)) * 0.5)
    return copy_sign(choose(a < 700.0, y, _half_exp(m, a)), x)


def cosh(m: Emit, x: Expr) -> Expr:
    """float64: (e^|x| + e^-|x|) / 2."""
    a = m.let("a", call("abs", x))
    e = m.let("e", exp(m, a))
    y = m.let("h", e * 0.5 + as_expr(0.5, x.dtype) / e)
    return choose(a < 700.0, y, _half_exp(m, a))


def _half_exp(m: Emit, a: Expr) -> Expr:
    """e^a / 2 where e^a overflows before its half does."""
    root = m.let("e", exp(m, m.let("a", a * 0.5)))
    return m.let("e", (root * 0.5) * root)


# ---------------------------------------------------------------- logarithms


def _split(m: Emit, x: Expr) -> tuple[Expr, Expr]:
    """k and the f in [sqrt 1/2 - 1, sqrt 2 - 1] with x = 2^k · (1 + f), for normal positive x."""
    form = format_of(x)
    mantissa = as_expr(form.mantissa, form.integer)
    i = m.let("i", bits(x))
    k = m.let("k", Binary(">>", i - SQRT_HALF_BITS[x.dtype], mantissa))
    return k, m.let("f", from_bits(i - Binary("<<", k, mantissa), form) - 1.0)


def _log_of(m: Emit, k: Expr, f: Expr) -> Expr:
    """k · ln 2 + log(1 + f), by log(1 + f) = 2 atanh(s), s = f / (2 + f)."""
    n = m.let("n", to_float(k, format_of(f)))
    high, low = LN2[f.dtype]
    half_square = m.let("h", f * f * 0.5)
    s = m.let("s", f / (f + 2.0))
    z = m.let("z", s * s)
    r = m.let("r", z * m.horner("r", LOG[f.dtype], z))
    tail = m.let("r", m.mul_add(s, half_square + r, n * low))
    return n * high - ((half_square - tail) - f)


def log(m: Emit, x: Expr) -> Expr:
    """The natural logarithm; -inf at 0, NaN below."""
    form = format_of(x)
    small = m.let("c", x < LEAST_NORMAL[x.dtype])
    scaled = m.let("x", choose(small, x * 2.0 ** (form.mantissa + 2), x))
    k, f = _split(m, scaled)
    offset = choose(small, as_expr(-form.mantissa - 2, form.integer), 0)
    y = m.let("l", _log_of(m, m.let("k", k + offset), f))
    special = choose(x.eq(0.0), -INF, as_expr(NAN, x.dtype))
    return choose(x > 0.0, choose(x < INF, y, x), special)


def log1p(m: Emit, x: Expr) -> Expr:
    """log(1 + x): the rounding error of 1 + x joins the reduced argument."""
    form = format_of(x)
    u = m.let("u", x + 1.0)
    back = m.let("u", u - 1.0)
    error = m.let("e", (1.0 - (u - back)) + (x - back))
    k, f = _split(m, u)
    # Half the error and twice 2^-k: k may be as much as bias + 1.
    f = m.let("f", m.mul_add(error * 0.5, power_of_two(1 - k, form), f))
    y = m.let("l", _log_of(m, k, f))
    y = m.let("l", choose(x.eq(0.0), x, choose(x < INF, y, x)))
    return choose(x > -1.0, y, choose(x.eq(-1.0), -INF, as_expr(NAN, x.dtype)))


def asinh(m: Emit, x: Expr) -> Expr:
    """float64: log1p(a + a² / (1 + sqrt(a² + 1)))."""
    a = m.let("a", call("abs", x))
    square = m.let("q", a * a)
    t = m.let("t", a + square / (call("sqrt", square + 1.0) + 1.0))
    return copy_sign(_log1p_or_double(m, a, t), x)


def acosh(m: Emit, x: Expr) -> Expr:
    """float64: log1p(t + sqrt(t · (t + 2))) with t = x - 1; NaN below 1."""
    t = m.let("t", x - 1.0)
    y = _log1p_or_double(m, t, m.let("t", t + call("sqrt", t * (t + 2.0))))
    return choose(x < 1.0, as_expr(NAN, x.dtype), y)


def _log1p_or_double(m: Emit, a: Expr, t: Expr) -> Expr:
    """log1p(t), or log(2 a) where a is so large that its square may overflow."""
    large = m.let("c", a > 1e17)
    y = m.let("l", log1p(m, m.let("t", choose(large, a, t))))
    return m.let("l", choose(large, y + math.log(2), y))


def atanh(m: Emit, x: Expr) -> Expr:
    """float64: log1p(2 a / (1 - a)) / 2; infinite at ±1, NaN beyond."""
    a = m.let("a", call("abs", x))
    y = m.let("l", log1p(m, m.let("t", (a + a) / (1.0 - a))))
    return copy_sign(m.let("l", y * 0.5), x)


# ---------------------------------------------------------------- powers


def rsqrt(m: Emit, x: Expr) -> Expr:
    return 1.0 / call("sqrt", x)


def _integer_tests(m: Emit, y: Expr) -> tuple[Expr, Expr]:
    """Whether a float64 is an integer, and whether it is an odd one."""
    rounded = m.round("n", y)
    half = m.let("h", y * 0.5)
    whole = m.let("c", rounded.eq(y))
    return whole, m.let("c", whole & m.round("n", half).ne(half))


def _power(m: Emit, x: Expr, y: Expr, result: Expr) -> Expr:
    """The special cases of x^y around `result`, |x|^y (float64), as IEEE 754 pow has them."""
    a = m.let("a", call("abs", x))
    whole, odd = _integer_tests(m, y)
    negative = m.let("c", bits(x) < 0)
    signed = m.let("p", result * choose(negative & odd, as_expr(-1.0, x.dtype), 1.0))
    outside = m.let("c", (x < 0.0) & (a < INF) & whole.eq(False))
    y_infinite = call("abs", y).eq(INF)
    is_one = m.let("c", y.eq(0.0) | x.eq(1.0) | (a.eq(1.0) & y_infinite))
    return choose(is_one, 1.0, choose(outside, NAN, signed))


def power(m: Emit, x: Expr, y: Expr) -> Expr:
    """x^y in float64: e^(y · log|x|) with the logarithm and its product in two parts."""
    a = m.let("a", call("abs", x))
    high, low = _log_in_two(m, a)
    p, error = m.product(y, high)
    error = m.let("e", error + y * low)
    e = m.let("e", exp(m, p))
    inner = (e > 0.0) & (e < INF)
    return _power(m, x, y, m.let("e", choose(inner, e + e * error, e)))


def _log_in_two(m: Emit, a: Expr) -> tuple[Expr, Expr]:
    """log(a) as a sum of two float64, for a ≥ 0."""
    high, low = LN2[F64]
    form = format_of(a)
    small = m.let("c", a < LEAST_NORMAL[F64])
    k, f = _split(m, m.let("x", choose(small, a * 2.0**54, a)))
    offset = choose(small, as_expr(-54, form.integer), 0)
    n = m.let("n", to_float(m.let("k", k + offset), form))
    d = m.let("d", f + 2.0)
    s = m.let("s", f / d)
    p, error = m.product(s, d)
    rest = m.let("s", (((f - p) - error) - s * (f - (d - 2.0))) / d)
    z = m.let("z", s * s)
    series = m.let("z", s * z * m.horner("z", LOG[F64], z))
    twice, base = m.let("s", s + s), m.let("n", n * high)
    total = m.let("l", base + twice)
    part = m.let("l", total - base)
    lost = m.let("l", (base - (total - part)) + (twice - part))
    tail = m.let("l", lost + ((rest + rest) + series + n * low))
    first = m.let("l", total + tail)
    second = m.let("l", tail - (first - total))
    special = choose(a.eq(0.0), -INF, a)
    usual = m.let("c", (a > 0.0) & (a < INF))
    return m.let("l", choose(usual, first, special)), m.let("l", choose(usual, second, 0.0))


def narrow_power(m: Emit, x: Expr, y: Expr) -> Expr:
    """x^y in float32, through float64."""
    x, y = m.let("x", Cast(x, F64)), m.let("y", Cast(y, F64))
    logarithm = m.let("l", log(m, m.let("a", call("abs", x))))
    result = m.let("e", exp(m, m.let("p", y * logarithm)))
    return Cast(m.let("p", _power(m, x, y, result)), F32)


# ---------------------------------------------------------------- erf


def erf(m: Emit, x: Expr) -> Expr:
    """x + x · P(x²) up to 1, then 1 - e^(-t²) · W(t)."""
    a = m.let("a", call("abs", x))
    z = m.let("z", x * x)
    small = m.let("s", m.mul_add(x, m.horner("s", ERF_SMALL[x.dtype], z), x))
    most = ERF_MOST[x.dtype]
    t = m.let("t", at_most(a, most))
    w = m.horner("w", ERF_LARGE[x.dtype], m.let("u", t - (1.0 + most) / 2))
    whole, _, q = _exp_parts(m, m.let("e", 0.0 - t * t))
    k = m.let("k", whole)
    e = m.let("e", (q + 1.0) * power_of_two(k, format_of(x)))
    large = m.let("w", 1.0 - e * w)
    return choose(a < 1.0, small, copy_sign(large, x))


# ---------------------------------------------------------------- angles

# pi / 2 in three parts of 30, 30 and 53 bits, and 2 / pi in digits of 29 bits.
HALF_PI = tuple(map(float.fromhex, ("0x1.921fb54p+0", "0x1.10b46118p-30", "0x1.313198a2e037p-61")))
TWO_OVER_PI = (
    0.636619770899415,
    1.4681663246252086e-09,
    2.2760100671971816e-18,
    5.8812147387730434e-27,
    1.0346868700836215e-35,
    3.783256351091319e-45,
    3.720474878517739e-53,
)
# In float64, larger angles would need hundreds of digits of 2 / pi: their sine is NaN here.
LARGEST_ANGLE = 1e7


def _reduce(m: Emit, x: Expr) -> tuple[Expr, Expr, Expr]:
    """The quadrant (int64, its last two bits count) and x - n · pi/2 in two parts; NaN past the limit."""
    form = format_of(x)
    inside = m.let("x", choose(call("abs", x) <= LARGEST_ANGLE, x, NAN))
    shifted = m.let("t", m.mul_add(inside, 2 / math.pi, form.magic))
    n = m.let("n", shifted - form.magic)
    first = m.let("r", inside - n * HALF_PI[0])
    product = m.let("r", n * HALF_PI[1])
    second = m.let("r", first - product)
    low = m.let("r", ((first - second) - product) - n * HALF_PI[2])
    high = m.let("r", second + low)
    return m.let("k", bits(shifted)), high, m.let("r", (second - high) + low)


def _reduce_narrow(m: Emit, x: Expr) -> tuple[Expr, Expr, Expr]:
    """The same for a float64 that holds a float32 of any size, infinity giving NaN.

    x times a digit of 2 / pi is exact (24 + 29 bits); multiples of 4 in it are whole turns. What remains
    of x · 2/pi is summed digit by digit, its whole quarters taken out each time.
    """
    form = format_of(x)
    total: Expr = as_expr(0.0, F64)
    quarters: Expr = as_expr(0.0, F64)
    for digit in TWO_OVER_PI:
        p = m.let("p", x * digit)
        turns = m.round("n", m.let("p", p * 0.25))
        total = m.let("s", total + (p - turns * 4.0))
        whole = m.round("n", total)
        total = m.let("s", total - whole)
        quarters = m.let("q", quarters + whole)
    k = m.let("k", bits(quarters + form.magic))
    return k, m.let("r", total * (math.pi / 2)), as_expr(0.0, F64)


def _sine_and_cosine(m: Emit, r: Expr, low: Expr) -> tuple[Expr, Expr]:
    """sin(r + low) and cos(r + low) for |r| ≤ pi / 4."""
    z = m.let("z", r * r)
    half = m.let("h", z * 0.5)
    s = m.horner("s", tables.SIN_FLOAT64, z)
    c = m.horner("c", tables.COS_FLOAT64, z)
    sine = m.let("s", r + (r * z * s + low * (1.0 - half)))
    w = m.let("c", 1.0 - half)
    cosine = m.let("c", w + (((1.0 - w) - half) + (z * z * c - r * low)))
    return sine, cosine


def _bit(k: Expr, bit: int) -> Expr:
    return (k & bit).ne(0)


def _sin(m: Emit, x: Expr, reduction: Reduction) -> Expr:
    k, r, low = reduction(m, x)
    s, c = _sine_and_cosine(m, r, low)
    y = m.let("y", choose(_bit(k, 1), c, s))
    return choose(x.eq(0.0), x, choose(_bit(k, 2), 0.0 - y, y))


def _cos(m: Emit, x: Expr, reduction: Reduction) -> Expr:
    k, r, low = reduction(m, x)
    s, c = _sine_and_cosine(m, r, low)
    y = m.let("y", choose(_bit(k, 1), s, c))
    return choose(_bit(k + 1, 2), 0.0 - y, y)


def _tan(m: Emit, x: Expr, reduction: Reduction) -> Expr:
    k, r, low = reduction(m, x)
    s, c = _sine_and_cosine(m, r, low)
    odd = m.let("o", _bit(k, 1))
    return choose(x.eq(0.0), x, choose(odd, 0.0 - c, s) / choose(odd, s, c))


def sin(m: Emit, x: Expr) -> Expr:
    return _sin(m, x, _reduce)


def cos(m: Emit, x: Expr) -> Expr:
    return _cos(m, x, _reduce)


def tan(m: Emit, x: Expr) -> Expr:
    return _tan(m, x, _reduce)


def atan(m: Emit, x: Expr) -> Expr:
    """float64: reduced by atan(a) = pi/4 + atan((a-1)/(a+1)) or pi/2 - atan(1/a)."""
    a = m.let("a", call("abs", x))
    near, middle = m.let("c", a < 0.41421356), m.let("c", a < 2.41421356)
    numerator = choose(near, a, choose(middle, a - 1.0, -1.0))
    denominator = choose(near, 1.0, choose(middle, a + 1.0, a))
    base = m.let("b", choose(near, 0.0, choose(middle, as_expr(math.pi / 4, F64), math.pi / 2)))
    rest = 6.123233995736766e-17  # pi / 2 - float64(pi / 2)
    low = m.let("b", choose(near, 0.0, choose(middle, as_expr(rest / 2, F64), rest)))
    t = m.let("t", numerator / denominator)
    z = m.let("z", t * t)
    tail = m.let("t", t * z * m.horner("p", tables.ATAN_FLOAT64, z) + low)
    return copy_sign(m.let("t", base + (t + tail)), x)


def asin(m: Emit, x: Expr) -> Expr:
    """float64: atan(x / sqrt(1 - x²)); NaN beyond ±1."""
    return atan(m, m.let("t", x / call("sqrt", (1.0 - x) * (x + 1.0))))


def acos(m: Emit, x: Expr) -> Expr:
    """float64: 2 atan(sqrt((1 - x) / (1 + x))); NaN beyond ±1."""
    t = m.let("t", call("sqrt", (1.0 - x) / (x + 1.0)))
    return m.let("t", atan(m, t)) * 2.0


# ---------------------------------------------------------------- roundings and tests


def floor(m: Emit, x: Expr) -> Expr:
    n = m.round("n", x)
    return copy_or(x, m.let("f", choose(x < n, n - 1.0, n)))


def ceil(m: Emit, x: Expr) -> Expr:
    n = m.round("n", x)
    return copy_or(x, m.let("f", choose(n < x, n + 1.0, n)))


def trunc(m: Emit, x: Expr) -> Expr:
    a = m.let("a", call("abs", x))
    n = m.round("n", a)
    return copy_sign(m.let("f", choose(a < n, n - 1.0, n)), x)


def nearest(m: Emit, x: Expr) -> Expr:
    return m.round("n", x)


def copy_or(x: Expr, y: Expr) -> Expr:
    """y, with the sign of x where y is a zero."""
    return choose(y.eq(0.0), copy_sign(as_expr(0.0, x.dtype), x), y)


def is_nan(m: Emit, x: Expr) -> Expr:
    return x.ne(x)


def is_inf(m: Emit, x: Expr) -> Expr:
    return call("abs", x).eq(INF)


def _through_float64(formula: Formula) -> Formula:
    """A float64 formula for a float32 operand."""

    def narrow(m: Emit, x: Expr) -> Expr:
        return Cast(m.let("d", formula(m, m.let("d", Cast(x, F64)))), F32)

    return narrow


FORMULAS: dict[str, Formula] = {
    "exp": exp, "expm1": expm1, "log": log, "log1p": log1p, "tanh": tanh, "erf": erf,
    "rsqrt": rsqrt, "pow": power, "sin": sin, "cos": cos, "tan": tan, "sinh": sinh, "cosh": cosh,
    "asinh": asinh, "acosh": acosh, "atanh": atanh, "asin": asin, "acos": acos, "atan": atan,
}  # fmt: skip
NARROW_FORMULAS: dict[str, Formula] = {
    "pow": narrow_power,
    "sin": _through_float64(lambda m, x: _sin(m, x, _reduce_narrow)),
    "cos": _through_float64(lambda m, x: _cos(m, x, _reduce_narrow)),
    "tan": _through_float64(lambda m, x: _tan(m, x, _reduce_narrow)),
    **{
        name: _through_float64(FORMULAS[name])
        for name in ("sinh", "cosh", "asinh", "acosh", "atanh", "asin", "acos", "atan")
    },
}
ROUNDINGS: dict[str, Formula] = {"floor": floor, "ceil": ceil, "trunc": trunc, "round": nearest}
TESTS: dict[str, Formula] = {"isnan": is_nan, "isinf": is_inf}
