"""Import rules of element types that convc carries in bytes: their conversions, and what moves them."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from convc.onnx.importers.call import Call, Packed, Rejected
from convc.onnx.narrow import NARROW, Narrow
from convc.ops.broadcasting import Add, And, Equal, Greater, Less, Or, Sub, Where
from convc.ops.elementwise import Abs, Cast, Clip, Round
from convc.ops.integer import BitAnd, BitOr, IsNan, ShiftLeft, ShiftRight
from convc.ops.ordering import BitCast
from convc.ops.shape import Gather
from convc.types import DType

U32 = DType.uint32
F32_DIGITS, F32_BIAS = 23, 127

MOVES = frozenset(
    (
        "Identity", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Gather", "Expand", "Tile",
        "DepthToSpace", "SpaceToDepth",
    )
)  # fmt: skip
"""Operators that only move the elements of their first input."""


def moved(rule: object, c: Call) -> object:
    """A rule that only moves elements, on what carries them."""
    packed = c.values[0]
    assert isinstance(packed, Packed)
    c.values[0] = packed.value
    made = rule(c)  # type: ignore[operator]
    return Packed(made, packed.kind) if isinstance(made, str) else made


def opened(c: Call, packed: Packed) -> str:
    """The numbers of a packed value: float32, or the integers that carry it."""
    kind, value = packed.kind, packed.value
    if not kind.is_float:
        return value
    codes = np.arange(1 << kind.bits, dtype=np.uint8)
    table = c.constant(kind.restored(codes).astype(np.float32))
    return c.add(Gather(0), table, c.cast(value, DType.int32))


def cast_to(c: Call, value: str | Packed, code: int) -> Packed:
    """A value as ONNX' narrow element type `code`."""
    numbers = opened(c, value) if isinstance(value, Packed) else value
    kind = NARROW[code]
    if kind.name == "float8e8m0":
        mode, saturate = str(c.attr("round_mode", "up")), bool(c.attr("saturate", 1))
        return Packed(powers_of_two(c, c.cast(numbers, DType.float32), mode, saturate), kind)
    if kind.is_float:
        saturate = bool(c.attr("saturate", 1))
        return Packed(rounded(c, c.cast(numbers, DType.float32), kind, saturate), kind)
    return Packed(cut_off(c, numbers, kind), kind)


def cut_off(c: Call, x: str, kind: Narrow) -> str:
    """Integers of which the lowest bits are kept, as casts between integers do; floats are truncated before."""
    wide = c.add(BitAnd(), c.cast(x, DType.int32), number(c, (1 << kind.bits) - 1, DType.int32))
    if kind.carrier is DType.int8:
        sign = number(c, 1 << (kind.bits - 1), DType.int32)
        wrapped = c.add(Sub(), wide, number(c, 1 << kind.bits, DType.int32))
        wide = c.add(Where(), c.add(Less(), wide, sign), wide, wrapped)
    return c.cast(wide, kind.carrier)


def number(c: Call, value: int, dtype: DType = U32) -> str:
    return c.constant(np.array(value), dtype)


def rounded(c: Call, x: str, kind: Narrow, saturate: bool) -> str:
    """float32 to the bits of a smaller float, ties to even: on the bits of the magnitude where the result is normal,
    by adding a number whose last place is the least subnormal where it isn't.
    """
    info = ml_dtypes.finfo(kind.numpy)  # type: ignore[no-untyped-call]
    digits, least = int(info.nmant), int(info.minexp)
    magnitude = c.add(Abs(), x)
    bits = c.add(BitCast(U32), magnitude)
    drop = F32_DIGITS - digits
    tie = c.add(BitAnd(), c.add(ShiftRight(), bits, number(c, drop)), number(c, 1))
    up = c.add(Add(), tie, number(c, (1 << (drop - 1)) - 1))
    normal = c.add(ShiftRight(), c.add(Add(), bits, up), number(c, drop))
    normal = c.add(Sub(), normal, number(c, (least - 1 + F32_BIAS) << digits))
    magic = np.float32(2.0 ** (least - digits + F32_DIGITS))
    shifted = c.add(BitCast(U32), c.add(Add(), magnitude, c.constant(magic)))
    subnormal = c.add(Sub(), shifted, number(c, int(magic.view(np.uint32))))
    small = c.add(Less(), magnitude, c.constant(np.float32(2.0**least)))
    code = c.add(Where(), small, subnormal, normal)
    return c.cast(signed(c, x, limited(c, code, kind, saturate), kind), DType.uint8)


def limited(c: Call, code: str, kind: Narrow, saturate: bool) -> str:
    """The code of a magnitude that is past the largest number: that number, or what the type has beyond it."""
    top = kind.bits_of(float(ml_dtypes.finfo(kind.numpy).max))  # type: ignore[no-untyped-call]
    beyond = top if saturate else kind.bits_of(np.inf)
    return c.add(Where(), c.add(Greater(), code, number(c, top)), number(c, beyond), code)


def signed(c: Call, x: str, code: str, kind: Narrow) -> str:
    """The sign bit beside a magnitude's code, and the type's NaN. Types without -0 have their NaN in its place."""
    nan, sign_bit = kind.bits_of(np.nan), 1 << (kind.bits - 1)
    negative = c.add(ShiftRight(), c.add(BitCast(U32), x), number(c, 31))
    sign = c.add(ShiftLeft(), negative, number(c, kind.bits - 1))
    if nan == sign_bit and kind.bits == 8:
        plain = c.add(Or(), is_code(c, code, 0), is_code(c, code, nan))
        sign = c.add(Where(), plain, number(c, 0), sign)
    whole = c.add(BitOr(), code, sign)
    return c.add(Where(), c.add(IsNan(), x), number(c, nan), whole)


def is_code(c: Call, code: str, value: int) -> str:
    return c.add(Equal(), code, number(c, value))


def powers_of_two(c: Call, x: str, mode: str, saturate: bool) -> str:
    """float32 to the exponent alone, rounded up, down or to the nearest; NaN and infinity are the code 255."""
    bits = c.add(BitCast(U32), x)
    exponent = c.add(BitAnd(), c.add(ShiftRight(), bits, number(c, F32_DIGITS)), number(c, 255))
    fraction = c.add(BitAnd(), bits, number(c, (1 << F32_DIGITS) - 1))
    half = 1 << (F32_DIGITS - 1)
    match mode:
        case "up":
            raised = c.add(Greater(), fraction, number(c, 0))
        case "nearest":  # ties to even, as an exponent's last bit is its parity with the hidden one
            tie = c.add(And(), is_code(c, fraction, half), c.add(Greater(), exponent, number(c, 0)))
            raised = c.add(Or(), c.add(Greater(), fraction, number(c, half)), tie)
        case "down":
            raised = c.add(Greater(), number(c, 0), fraction)
        case _:
            raise Rejected(f"round_mode expects up, down or nearest, got {mode!r}")
    if saturate:
        raised = c.add(And(), raised, c.add(Less(), exponent, number(c, 254)))
    up = c.add(Add(), exponent, c.cast(raised, U32))
    special = is_code(c, exponent, 255)
    return c.cast(c.add(Where(), special, number(c, 255), up), DType.uint8)


def quantized_narrow(c: Call, levels: str, zero: Packed | None, kind: Narrow) -> Packed:
    """x / scale in a narrow type: integers saturate, floats as their cast does."""
    if kind.is_float:
        return Packed(
            rounded(c, c.cast(levels, DType.float32), kind, bool(c.attr("saturate", 1))), kind
        )
    low, high = kind.limits
    point = c.add(Round(), levels)
    if zero is not None:
        point = c.add(Add(), point, c.add(Cast(c.dtype(point)), zero.value))
    return Packed(c.cast(c.add(Clip(float(low), float(high)), point), kind.carrier), kind)
