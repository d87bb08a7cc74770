"""The scalar functions that loop IR may call: operands, results and exact meaning.

A meaning takes numpy arrays or numpy scalars of the operands' dtypes and returns the result's.
Functions of one dtype are evaluated in float64 and rounded once to the dtype, which is exact for
sqrt, abs and the roundings, and within 0.51 ulp for the transcendental ones in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from convc.errors import IRError
from convc.types import DType

Meaning = Callable[..., Any]
Operand = tuple[DType, int]  # an operand's dtype and width (1, or the pack's)


@dataclass(frozen=True)
class Function:
    """A row of the table.

    `kind` names the rule for dtypes, `operands` the packs of a dot function; `wide` is the function in
    float64 of those whose meaning is that, rounded once.
    """

    name: str
    arity: int
    kind: str  # "float", "number", "test", "bitcast" or "dot"
    meaning: Meaning
    operands: tuple[Operand, ...] = ()
    wide: Meaning | None = None


# ---------------------------------------------------------------- rounding


def round_to(values: Any, dtype: DType) -> Any:
    """float64 values rounded once, to nearest even, to a float dtype."""
    wide = np.asarray(values, np.float64)
    with np.errstate(all="ignore"):
        if dtype is not DType.bfloat16:
            return wide.astype(dtype.numpy)[()]
        # ml_dtypes goes through float32; rounding that step to odd keeps the second rounding right.
        narrow = wide.astype(np.float32)
    bits = np.atleast_1d(narrow.view(np.uint32)).copy()
    back = np.atleast_1d(narrow.astype(np.float64))
    flat = np.atleast_1d(wide)
    inexact = (back != flat) & np.isfinite(flat)
    bits[inexact & (np.abs(back) > np.abs(flat))] -= np.uint32(1)
    bits[inexact] |= np.uint32(1)
    return bits.view(np.float32).reshape(wide.shape).astype(dtype.numpy)[()]


def fma_float64(a: float, b: float, c: float) -> float:
    """`fma` for float64 scalars, exactly, through rational numbers."""
    if not (math.isfinite(a) and math.isfinite(b) and math.isfinite(c)):
        return a * b + c
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    if exact == 0:
        return a * b + c  # keeps the sign of a zero
    try:
        return exact.numerator / exact.denominator  # int / int rounds correctly
    except OverflowError:
        return math.copysign(math.inf, exact)


def _fma_wide(a: Any, b: Any, c: Any) -> Any:
    result = np.frompyfunc(lambda x, y, z: fma_float64(float(x), float(y), float(z)), 3, 1)(a, b, c)
    return np.asarray(result, np.float64)[()]


def fma(a: Any, b: Any, c: Any) -> Any:
    """a * b + c with one rounding, for arrays or scalars of one float dtype."""
    dtype = DType.of(np.asarray(a).dtype)
    if dtype is DType.float64:
        return _fma_wide(a, b, c)
    x, y, z = (np.asarray(v, np.float64) for v in (a, b, c))
    with np.errstate(all="ignore"):
        product = x * y  # exact: at most 48 bits
        total = np.asarray(product + z)
        part = total - product
        error = (product - (total - part)) + (z - part)
    bits = np.atleast_1d(total).view(np.int64).copy()
    error = np.broadcast_to(error, bits.shape)
    inexact = np.isfinite(np.atleast_1d(total)) & (error != 0)
    # Round to odd, so that the rounding to the narrow dtype is the only one that counts.
    outward = inexact & (np.signbit(error) != np.signbit(np.atleast_1d(total)))
    bits[outward] -= 1
    bits[inexact] |= 1
    return round_to(bits.view(np.float64).reshape(total.shape), dtype)


def fma_float32(a: np.float32, b: np.float32, c: np.float32) -> np.float32:
    """`fma` for float32 scalars, quickly: only a sum half way between two float32 needs care."""
    product = float(a) * float(b)
    total = product + float(c)
    near = np.float32(total)
    gap = total - float(near)
    mirror = total + gap
    if gap == 0 or float(np.float32(mirror)) != mirror:
        return near
    part = total - product
    error = (product - (total - part)) + (float(c) - part)
    if error == 0 or error != error:
        return near
    return np.float32(math.nextafter(total, math.copysign(math.inf, error)))


# ---------------------------------------------------------------- meanings


def _wide(f: Callable[..., Any]) -> Meaning:
    """The function in float64, rounded once to the operands' dtype."""

    def meaning(*operands: Any) -> Any:
        dtype = DType.of(np.asarray(operands[0]).dtype)
        with np.errstate(all="ignore"):
            wide = f(*(np.asarray(o, np.float64) for o in operands))
        return round_to(wide, dtype)

    return meaning


def _erf(x: Any) -> Any:
    return np.asarray(np.frompyfunc(math.erf, 1, 1)(x), np.float64)


def _scale(x: Any, n: Any) -> Any:
    """x · 2^n for whole n."""
    whole = np.nan_to_num(np.clip(n, -5000.0, 5000.0)).astype(np.int64)
    return np.where(np.isnan(n), np.nan, np.ldexp(x, whole))


def _bitcast(x: Any, dtype: DType) -> Any:
    return np.asarray(x).view(dtype.numpy)[()]


def _dot_integer(acc: Any, a: Any, b: Any) -> Any:
    """acc int32[...], a and b [..., 4]: the sum of products, wrapping at 32 bits."""
    products = np.asarray(a, np.int64) * np.asarray(b, np.int64)
    return (np.asarray(acc, np.int64) + products.sum(axis=-1)).astype(np.int32)[()]


def _dot_bf16(acc: Any, a: Any, b: Any) -> Any:
    """acc float32[...], a and b [..., 2]: two fused multiply-adds, the odd element first, as vdpbf16ps."""
    x, y = (np.asarray(v).astype(np.float32) for v in (a, b))
    odd = fma(x[..., 1], y[..., 1], np.asarray(acc, np.float32))
    return fma(x[..., 0], y[..., 0], odd)


def _rows() -> list[Function]:
    unary: dict[str, Callable[..., Any]] = {
        "sqrt": np.sqrt, "rsqrt": lambda x: 1.0 / np.sqrt(x), "floor": np.floor, "ceil": np.ceil,
        "round": np.rint, "trunc": np.trunc, "exp": np.exp, "expm1": np.expm1, "log": np.log,
        "log1p": np.log1p, "sin": np.sin, "cos": np.cos, "tan": np.tan, "tanh": np.tanh,
        "erf": _erf, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "sinh": np.sinh,
        "cosh": np.cosh, "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh,
    }  # fmt: skip
    i32, f32 = (DType.int32, 1), (DType.float32, 1)
    u8, s8, bf16 = (DType.uint8, 4), (DType.int8, 4), (DType.bfloat16, 2)
    return [
        *(Function(name, 1, "float", _wide(f), wide=f) for name, f in unary.items()),
        Function("fma", 3, "float", fma),
        Function("pow", 2, "float", _wide(np.power), wide=np.power),
        Function("scale", 2, "float", _wide(_scale), wide=_scale),
        Function("abs", 1, "number", np.abs),
        Function("isnan", 1, "test", np.isnan),
        Function("isinf", 1, "test", np.isinf),
        Function("bitcast", 1, "bitcast", _bitcast),
        Function("dot_u8s8", 3, "dot", _dot_integer, (i32, u8, s8)),
        Function("dot_s8s8", 3, "dot", _dot_integer, (i32, s8, s8)),
        Function("dot_bf16", 3, "dot", _dot_bf16, (f32, bf16, bf16)),
    ]


FUNCTIONS: dict[str, Function] = {row.name: row for row in _rows()}


# ---------------------------------------------------------------- types


def result_dtype(name: str, operands: Sequence[Operand], asked: DType | None = None) -> DType:
    """The dtype of a call; `asked` is the target of a bitcast. IRError where the operands don't fit."""
    function = FUNCTIONS.get(name)
    if function is None:
        raise IRError(f"unknown function {name!r}: expected one of {', '.join(sorted(FUNCTIONS))}")
    if len(operands) != function.arity:
        raise IRError(f"{name}: expected {function.arity} operands, got {len(operands)}")
    if function.kind == "dot":
        _check_dot(function, operands)
        return function.operands[0][0]
    shown = ", ".join(_show(o) for o in operands)
    dtype = operands[0][0]
    if any(o != (dtype, 1) for o in operands):
        raise IRError(f"{name}: expected operands of one dtype, got {shown}")
    if function.kind in ("float", "test") and not dtype.is_float:
        raise IRError(f"{name}: expected a float, got {shown}")
    if function.kind == "number" and dtype is DType.bool:
        raise IRError(f"{name}: expected a number, got {shown}")
    if function.kind == "test":
        return DType.bool
    if function.kind != "bitcast":
        return dtype
    if asked is None or asked.itemsize != dtype.itemsize or DType.bool in (asked, dtype):
        target = asked.value if asked else "no dtype"
        raise IRError(
            f"bitcast: expected a dtype of {dtype.itemsize} bytes like {shown}, got {target}"
        )
    return asked


def _check_dot(function: Function, operands: Sequence[Operand]) -> None:
    if tuple(operands) == function.operands:
        return
    wanted = ", ".join(_show(o) for o in function.operands)
    got = ", ".join(_show(o) for o in operands)
    raise IRError(f"{function.name}: expected ({wanted}), got ({got})")


def _show(operand: Operand) -> str:
    dtype, width = operand
    return dtype.value if width == 1 else f"{dtype.value}x{width}"
