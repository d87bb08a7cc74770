"""Arithmetic of the loop IR in LLVM's text format: one value or one vector per lane."""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from convc.codegen.llvm_function import Function
from convc.errors import IRError
from convc.loops.functions import round_to
from convc.loops.ir import Binary, Call, Cast, Const, Expr
from convc.target import Target
from convc.types import DType

_NAMES = {
    DType.float64: "double",
    DType.float32: "float",
    # The bits of 16-bit floats: LLVM turns such values into library calls on CPUs without the formats.
    DType.bfloat16: "i16",
    DType.float16: "i16",
    DType.bool: "i1",
}


class Value(NamedTuple):
    """An LLVM value: its text, and what it is in the loop IR. A pack has `width` neighbours per lane."""

    text: str
    dtype: DType
    lanes: int
    width: int = 1

    @property
    def type(self) -> str:
        return type_of(self.dtype, self.lanes * self.width)

    @property
    def memory(self) -> str:
        return memory_type(self.dtype, self.lanes * self.width)

    def renamed(self, text: str) -> Value:
        return Value(text, self.dtype, self.lanes, self.width)


def scalar_type(dtype: DType) -> str:
    return _NAMES.get(dtype) or f"i{dtype.itemsize * 8}"


@functools.cache
def type_of(dtype: DType, lanes: int = 1) -> str:
    """The LLVM type of a value."""
    return scalar_type(dtype) if lanes == 1 else f"<{lanes} x {scalar_type(dtype)}>"


@functools.cache
def memory_type(dtype: DType, lanes: int = 1) -> str:
    """The LLVM type of an element in memory: bool takes a byte."""
    return type_of(DType.int8 if dtype is DType.bool else dtype, lanes)


@functools.cache
def suffix(type: str) -> str:
    """A type as it stands in the name of an LLVM intrinsic: <16 x float> is v16f32."""
    if type.startswith("<"):
        lanes, element = type[1:-1].split(" x ")
        return f"v{lanes}{suffix(element)}"
    return {"float": "f32", "double": "f64", "half": "f16", "bfloat": "bf16"}.get(type, type)


def constant_text(value: float, dtype: DType) -> str:
    """A number as an LLVM constant, exact to the last bit."""
    if dtype is DType.bool:
        return "true" if value else "false"
    if not dtype.is_float:
        return str(int(value))
    if _is_narrow(dtype):
        return str(int(np.asarray(round_to(value, dtype), dtype.numpy).view(np.int16)))
    rounded = float(np.float32(value)) if dtype is DType.float32 else float(value)
    return f"0x{struct.unpack('<Q', struct.pack('<d', rounded))[0]:016X}"


def splat(f: Function, value: Value, lanes: int) -> Value:
    """A scalar in all lanes; a vector stays as it is."""
    if value.lanes == lanes:
        return value
    if value.width > 1:
        return _splat_pack(f, value, lanes)
    if not value.text.startswith("%"):
        return Value(f"splat ({value.type} {value.text})", value.dtype, lanes)
    vector = type_of(value.dtype, lanes)
    one = f.once(f"insertelement {vector} poison, {value.type} {value.text}, i64 0")
    text = f.once(f"shufflevector {vector} {one}, {vector} poison, <{lanes} x i32> zeroinitializer")
    return Value(text, value.dtype, lanes)


def _splat_pack(f: Function, value: Value, lanes: int) -> Value:
    bits = value.dtype.itemsize * 8 * value.width
    whole = f.once(f"bitcast {value.type} {value.text} to i{bits}")
    one = f.once(f"insertelement <{lanes} x i{bits}> poison, i{bits} {whole}, i64 0")
    same = f.once(
        f"shufflevector <{lanes} x i{bits}> {one}, <{lanes} x i{bits}> poison, "
        f"<{lanes} x i32> zeroinitializer"
    )
    result = Value("", value.dtype, lanes, value.width)
    return result.renamed(f.once(f"bitcast <{lanes} x i{bits}> {same} to {result.type}"))


def from_memory(f: Function, value: Value) -> Value:
    """A loaded value as it is computed with."""
    if value.dtype is not DType.bool:
        return value
    zero = "0" if value.lanes == 1 else "zeroinitializer"
    return value.renamed(f.emit(f"icmp ne {value.memory} {value.text}, {zero}"))


def to_memory(f: Function, value: Value) -> Value:
    """A value as it is stored."""
    if value.dtype is not DType.bool:
        return value
    return value.renamed(f.emit(f"zext {value.type} {value.text} to {value.memory}"))


_INTEGER_OPS = {"+": "add", "-": "sub", "*": "mul", "&": "and", "|": "or", "^": "xor", "<<": "shl"}
_FLOAT_OPS = {"+": "fadd", "-": "fsub", "*": "fmul", "/": "fdiv"}
_FLOAT_TESTS = {"<": "olt", "<=": "ole", "==": "oeq", "!=": "une"}
_INTEGER_TESTS = {"==": "eq", "!=": "ne"}


def binary(f: Function, expr: Binary, a: Value, b: Value) -> Value:
    """`a op b`, both of the same width."""
    dtype, op = a.dtype, expr.op
    if _is_narrow(dtype):
        wide = Binary(op, _widened(expr.a), _widened(expr.b))
        value = binary(f, wide, cast(f, a, DType.float32), cast(f, b, DType.float32))
        return value if value.dtype is DType.bool else cast(f, value, dtype)
    result = Value("", expr.dtype, a.lanes)
    operands = f"{a.type} {a.text}, {b.text}"
    if op in ("min", "max"):
        return result.renamed(_minmax(f, expr, a, b))
    if op in _FLOAT_TESTS:
        if dtype.is_float:
            return result.renamed(f.emit(f"fcmp {_FLOAT_TESTS[op]} {operands}"))
        sign = "s" if dtype.is_signed else "u"
        test = _INTEGER_TESTS.get(op) or sign + {"<": "lt", "<=": "le"}[op]
        return result.renamed(f.emit(f"icmp {test} {operands}"))
    if dtype.is_float and op in _FLOAT_OPS:
        return result.renamed(f.emit(f"{_FLOAT_OPS[op]} {operands}"))
    if op in _INTEGER_OPS and not dtype.is_float:
        return result.renamed(f.emit(f"{_INTEGER_OPS[op]} {operands}"))
    if op == ">>":
        return result.renamed(f.emit(f"{'ashr' if dtype.is_signed else 'lshr'} {operands}"))
    if op in ("//", "%") and not dtype.is_float:
        return result.renamed(_integer_division(f, op, a, b))
    raise IRError(f"the operation {op!r} does not exist for {dtype.value}")


def _integer_division(f: Function, op: str, a: Value, b: Value) -> str:
    """Division of data, which never traps: x // 0 and x % 0 are 0 as in numpy, and x // -1 wraps."""
    zero = splat(f, Value("0", a.dtype, 1), a.lanes).text
    one = splat(f, Value("1", a.dtype, 1), a.lanes).text
    flags = type_of(DType.bool, a.lanes)
    by_zero = f.emit(f"icmp eq {b.type} {b.text}, {zero}")
    if not a.dtype.is_signed:
        safe = f.emit(f"select {flags} {by_zero}, {b.type} {one}, {b.type} {b.text}")
        word = "udiv" if op == "//" else "urem"
        result = f.emit(f"{word} {a.type} {a.text}, {safe}")
        return f.emit(f"select {flags} {by_zero}, {a.type} {zero}, {a.type} {result}")
    minus_one = splat(f, Value("-1", a.dtype, 1), a.lanes).text
    negated = f.emit(f"icmp eq {b.type} {b.text}, {minus_one}")
    trapping = f.emit(f"or {flags} {by_zero}, {negated}")
    safe = f.emit(f"select {flags} {trapping}, {b.type} {one}, {b.type} {b.text}")
    result = floor_division(f, op, a.text, safe, f.depth, a.type)
    if op == "%":
        return f.emit(f"select {flags} {trapping}, {a.type} {zero}, {a.type} {result}")
    minus = f.emit(f"sub {a.type} {zero}, {a.text}")
    result = f.emit(f"select {flags} {negated}, {a.type} {minus}, {a.type} {result}")
    return f.emit(f"select {flags} {by_zero}, {a.type} {zero}, {a.type} {result}")


def floor_division(f: Function, op: str, a: str, b: str, level: int, type: str = "i64") -> str:
    """`//` or `%` that round towards minus infinity, from LLVM's that round towards zero."""
    lanes = int(type[1:].split(" ")[0]) if type.startswith("<") else 1
    zero = "0" if lanes == 1 else "zeroinitializer"
    flags = "i1" if lanes == 1 else f"<{lanes} x i1>"
    quotient = f.once(f"sdiv {type} {a}, {b}", level)
    remainder = f.once(f"srem {type} {a}, {b}", level)
    nonzero = f.once(f"icmp ne {type} {remainder}, {zero}", level)
    signs = f.once(f"xor {type} {remainder}, {b}", level)
    differs = f.once(f"icmp slt {type} {signs}, {zero}", level)
    adjust = f.once(f"and {flags} {nonzero}, {differs}", level)
    if op == "//":
        return f.once(
            f"add {type} {quotient}, " + f.once(f"sext {flags} {adjust} to {type}", level), level
        )
    moved = f.once(f"add {type} {remainder}, {b}", level)
    return f.once(f"select {flags} {adjust}, {type} {moved}, {type} {remainder}", level)


def _minmax(f: Function, expr: Binary, a: Value, b: Value) -> str:
    """NaN if either operand is NaN, and the first of two equals: zeros differ in their sign.

    Beside a constant one comparison does: NaN fails it and is kept.
    """
    if not a.dtype.is_float:
        sign = "s" if a.dtype.is_signed else "u"
        name = f"llvm.{sign}{expr.op}.{suffix(a.type)}"
        return f.emit(f"call {a.type} @{name}({a.type} {a.text}, {b.type} {b.text})")
    flags = type_of(DType.bool, a.lanes)
    test = "gt" if expr.op == "max" else "lt"

    def better(order: str, x: Value, y: Value) -> str:
        wins = f.emit(f"fcmp {order}{test} {x.type} {x.text}, {y.text}")
        return f.emit(f"select {flags} {wins}, {x.type} {x.text}, {y.type} {y.text}")

    if _is_number(expr.b):
        return better("o", b, a)
    if _is_number(expr.a):
        return better("u", b, a) if expr.a == Const(0.0, expr.a.dtype) else better("o", a, b)
    best = better("o", b, a)
    missing = f.emit(f"fcmp uno {b.type} {b.text}, {b.text}")
    return f.emit(f"select {flags} {missing}, {b.type} {b.text}, {a.type} {best}")


def _is_number(expr: Expr) -> bool:
    """True for a constant other than NaN."""
    return isinstance(expr, Const) and expr.value == expr.value


def _is_narrow(dtype: DType) -> bool:
    """Formats that are computed with in float32: exact, since it has more than twice their digits."""
    return dtype in (DType.float16, DType.bfloat16)


def _widened(expr: Expr) -> Expr:
    return (
        Const(expr.value, DType.float32) if isinstance(expr, Const) else Cast(expr, DType.float32)
    )


def select(f: Function, condition: Value, then: Value, otherwise: Value) -> Value:
    text = f.emit(
        f"select {condition.type} {condition.text}, {then.type} {then.text}, "
        f"{otherwise.type} {otherwise.text}"
    )
    return then.renamed(text)


def cast(f: Function, value: Value, dtype: DType) -> Value:
    """A conversion: to nearest even between floats, towards zero and saturating to integers."""
    source = value.dtype
    if source is dtype:
        return value
    if _is_narrow(source):
        wide = _from_bfloat16(f, value) if source is DType.bfloat16 else _from_float16(f, value)
        return cast(f, wide, dtype)
    if _is_narrow(dtype):
        narrow = _to_bfloat16 if dtype is DType.bfloat16 else _to_float16
        return narrow(f, _float32_to_odd(f, value))
    result = Value("", dtype, value.lanes)
    operand = f"{value.type} {value.text}"
    if dtype is DType.bool:
        zero = splat(f, Value(constant_text(0, source), source, 1), value.lanes).text
        test = "fcmp une" if source.is_float else "icmp ne"
        return result.renamed(f.emit(f"{test} {operand}, {zero}"))
    if source.is_float and dtype.is_float:
        word = "fpext" if dtype.itemsize > source.itemsize else "fptrunc"
    elif source.is_float:
        sign = "s" if dtype.is_signed else "u"
        name = f"llvm.fpto{sign}i.sat.{suffix(result.type)}.{suffix(value.type)}"
        return result.renamed(f.emit(f"call {result.type} @{name}({operand})"))
    elif dtype.is_float:
        word = "sitofp" if source.is_signed else "uitofp"
    elif source is DType.bool:
        word = "zext"
    elif source.itemsize == dtype.itemsize:
        return value._replace(dtype=dtype)
    elif source.itemsize > dtype.itemsize:
        word = "trunc"
    else:
        word = "sext" if source.is_signed else "zext"
    return result.renamed(f.emit(f"{word} {operand} to {result.type}"))


class _Bits:
    """Arithmetic on the bits of float32 values, all lanes at once."""

    def __init__(self, f: Function, lanes: int) -> None:
        self.f = f
        self.lanes = lanes
        self.word = type_of(DType.int32, lanes)
        self.float = type_of(DType.float32, lanes)
        self.flag = type_of(DType.bool, lanes)

    def number(self, n: int) -> str:
        return splat(self.f, Value(str(n), DType.int32, 1), self.lanes).text

    def real(self, x: float) -> str:
        text = constant_text(x, DType.float32)
        return splat(self.f, Value(text, DType.float32, 1), self.lanes).text

    def op(self, name: str, a: str, b: str | int) -> str:
        return self.f.emit(f"{name} {self.word} {a}, {self.number(b) if isinstance(b, int) else b}")

    def bits(self, value: str) -> str:
        return self.f.emit(f"bitcast {self.float} {value} to {self.word}")

    def value(self, bits: str) -> str:
        return self.f.emit(f"bitcast {self.word} {bits} to {self.float}")

    def choose(self, condition: str, a: str, b: str) -> str:
        return self.f.emit(f"select {self.flag} {condition}, {self.word} {a}, {self.word} {b}")

    def widened(self, value: str) -> str:
        """The bits of a 16-bit value as words."""
        return self.f.emit(f"zext {type_of(DType.int16, self.lanes)} {value} to {self.word}")

    def narrow(self, bits: str, dtype: DType) -> Value:
        text = self.f.emit(f"trunc {self.word} {bits} to {type_of(dtype, self.lanes)}")
        return Value(text, dtype, self.lanes)


def _float32_to_odd(f: Function, value: Value) -> Value:
    """The float32 of a value, inexact ones with their last bit set: rounding on to 16 bits then rounds but once."""
    if value.dtype is DType.float32:
        return value
    if not value.dtype.is_float and value.dtype.itemsize <= 2:
        return cast(f, value, DType.float32)
    wide = cast(f, value, DType.float64)
    near = cast(f, wide, DType.float32)
    back = cast(f, near, DType.float64)
    b = _Bits(f, value.lanes)
    sizes = [
        f.emit(f"call {wide.type} @llvm.fabs.{suffix(wide.type)}({wide.type} {v.text})")
        for v in (back, wide)
    ]
    inexact = f.emit(f"fcmp one {wide.type} {back.text}, {wide.text}")
    above = f.emit(f"fcmp ogt {wide.type} {sizes[0]}, {sizes[1]}")
    bits = b.bits(near.text)
    inside = b.choose(above, b.op("sub", bits, 1), bits)
    return near.renamed(b.value(b.choose(inexact, b.op("or", inside, 1), bits)))


def _to_bfloat16(f: Function, value: Value) -> Value:
    """To nearest even, in integer arithmetic: LLVM would call a library, and the instruction drops denormals."""
    b = _Bits(f, value.lanes)
    bits = b.bits(value.text)
    high = b.op("lshr", bits, 16)
    bias = b.op("add", b.op("and", high, 1), 0x7FFF)
    rounded = b.op("lshr", b.op("add", bits, bias), 16)
    nan = f.emit(f"fcmp uno {value.type} {value.text}, {value.text}")
    return b.narrow(b.choose(nan, b.op("or", high, 0x40), rounded), DType.bfloat16)


def _from_bfloat16(f: Function, value: Value) -> Value:
    """A bfloat16 is the upper half of a float32."""
    b = _Bits(f, value.lanes)
    bits = b.op("shl", b.widened(value.text), 16)
    return Value(b.value(bits), DType.float32, value.lanes)


def _half_type(lanes: int) -> str:
    return "half" if lanes == 1 else f"<{lanes} x half>"


# Powers of two as float32 bits: 2^16, the end of float16, and 2^-14, below which it is denormal; and the number whose
# unit in the last place is float16's smallest denormal.
_HALF_END, _HALF_NORMAL, _HALF_ROUNDER = 143 << 23, 113 << 23, 126 << 23


def _to_float16(f: Function, value: Value) -> Value:
    """To nearest even; in integer arithmetic where the machine lacks the conversion (after F. Giesen)."""
    lanes = value.lanes
    b = _Bits(f, lanes)
    if f.has_half:
        half = f.emit(f"fptrunc {value.type} {value.text} to {_half_type(lanes)}")
        type = type_of(DType.float16, lanes)
        return Value(f.emit(f"bitcast {_half_type(lanes)} {half} to {type}"), DType.float16, lanes)
    bits = b.bits(value.text)
    size = b.op("and", bits, 0x7FFFFFFF)
    odd = b.op("and", b.op("lshr", size, 13), 1)
    shifted = b.op("add", b.op("add", size, 0xFFF - (112 << 23)), odd)
    normal = b.op("lshr", shifted, 13)
    magic = b.value(b.number(_HALF_ROUNDER))
    sum = f.emit(f"fadd {value.type} {b.value(size)}, {magic}")
    denormal = b.op("sub", b.bits(sum), _HALF_ROUNDER)
    small = f.emit(f"icmp ult {b.word} {size}, {b.number(_HALF_NORMAL)}")
    large = f.emit(f"icmp uge {b.word} {size}, {b.number(_HALF_END)}")
    nan = f.emit(f"icmp ugt {b.word} {size}, {b.number(255 << 23)}")
    special = b.choose(nan, b.number(0x7E00), b.number(0x7C00))
    result = b.choose(large, special, b.choose(small, denormal, normal))
    sign = b.op("and", b.op("lshr", bits, 16), 0x8000)
    return b.narrow(b.op("or", result, sign), DType.float16)


def _from_float16(f: Function, value: Value) -> Value:
    """Exact; in integer arithmetic and a product by 2^112 where the machine lacks the conversion."""
    lanes = value.lanes
    result = Value("", DType.float32, lanes)
    if f.has_half:
        half = f.emit(f"bitcast {value.type} {value.text} to {_half_type(lanes)}")
        return result.renamed(f.emit(f"fpext {_half_type(lanes)} {half} to {result.type}"))
    b = _Bits(f, lanes)
    wide = b.widened(value.text)
    size = b.op("and", wide, 0x7FFF)
    scaled = f.emit(f"fmul {b.float} {b.value(b.op('shl', size, 13))}, {b.real(2.0**112)}")
    special = f.emit(f"icmp uge {b.word} {size}, {b.number(0x7C00)}")
    finite = b.bits(scaled)
    bits = b.choose(special, b.op("or", finite, 0x7F800000), finite)
    sign = b.op("shl", b.op("and", wide, 0x8000), 16)
    return result.renamed(b.value(b.op("or", bits, sign)))


# Functions that are one LLVM intrinsic of the same type, and never a library call on our targets.
_INTRINSICS = {
    "sqrt": "sqrt",
    "abs": "fabs",
    "floor": "floor",
    "ceil": "ceil",
    "trunc": "trunc",
    "round": "roundeven",
}


def call(f: Function, target: Target, expr: Call, args: tuple[Value, ...]) -> Value:
    """A function of the loop IR that is arithmetic for this machine; others were expanded before."""
    a, name = args[0], expr.function
    if _is_narrow(a.dtype) and a.width == 1 and name != "bitcast":
        wide = tuple(cast(f, v, DType.float32) for v in args)
        value = call(f, target, replace(expr, dtype=DType.float32), wide)
        return value if value.dtype is DType.bool else cast(f, value, expr.dtype)
    result = Value("", expr.dtype, a.lanes)
    if name == "fma":
        b, c = args[1], args[2]
        text = f"call {a.type} @llvm.fma.{suffix(a.type)}({a.type} {a.text}, {b.type} {b.text}, {c.type} {c.text})"
        return result.renamed(f.emit(text))
    if name == "scale":
        return result.renamed(_scale(f, a, args[1]))
    if name == "abs" and a.dtype.is_integer:
        return result.renamed(
            f.emit(f"call {a.type} @llvm.abs.{suffix(a.type)}({a.type} {a.text}, i1 false)")
        )
    if name in _INTRINSICS:
        text = f"call {a.type} @llvm.{_INTRINSICS[name]}.{suffix(a.type)}({a.type} {a.text})"
        return result.renamed(f.emit(text))
    if name == "bitcast":
        return result.renamed(f.emit(f"bitcast {a.type} {a.text} to {result.type}"))
    if name == "isnan":
        return Value(f.emit(f"fcmp uno {a.type} {a.text}, {a.text}"), DType.bool, a.lanes)
    if name == "isinf":
        size = call(f, target, Call("abs", expr.args, a.dtype), args)
        infinity = splat(f, Value(constant_text(float("inf"), a.dtype), a.dtype, 1), a.lanes)
        return Value(f.emit(f"fcmp oeq {a.type} {size.text}, {infinity.text}"), DType.bool, a.lanes)
    if name in ("dot_u8s8", "dot_s8s8", "dot_bf16"):
        return result.renamed(_dot(f, target, name, *args))
    raise IRError(f"the function {name!r} reached the CPU generator unexpanded")


_X86_SCALES = {
    DType.float32: (16, "llvm.x86.avx512.mask.scalef.ps.512", "i16"),
    DType.float64: (8, "llvm.x86.avx512.mask.scalef.pd.512", "i8"),
}


def _scale(f: Function, x: Value, n: Value) -> str:
    """x · 2^n in whole registers of 64 bytes: narrower vectors are widened, wider ones cut."""
    full, instruction, mask = _X86_SCALES[x.dtype]
    wide = Value("", x.dtype, full)
    parts = []
    for start in range(0, x.lanes, full):
        a, b = (_part(f, v, start, full) for v in (x, n))
        parts.append(
            f.emit(
                f"call {wide.type} @{instruction}({wide.type} {a}, {wide.type} {b}, "
                f"{wide.type} poison, {mask} -1, i32 4)"
            )
        )
    if x.lanes == full:
        return parts[0]
    if x.lanes == 1:
        return f.emit(f"extractelement {wide.type} {parts[0]}, i64 0")
    if x.lanes < full:
        return f.emit(shuffled(wide.type, parts[0], "poison", range(x.lanes)))
    while len(parts) > 1:
        lanes = full * (x.lanes // full // len(parts))
        type = Value("", x.dtype, lanes).type
        pairs = zip(parts[::2], parts[1::2], strict=True)
        parts = [f.emit(shuffled(type, a, b, range(2 * lanes))) for a, b in pairs]
    return parts[0]


def _part(f: Function, v: Value, start: int, lanes: int) -> str:
    """The lanes of a value from `start`, in a vector of so many."""
    if v.lanes == lanes:
        return v.text
    if v.lanes == 1:
        type = Value("", v.dtype, lanes).type
        return f.emit(f"insertelement {type} poison, {v.type} {v.text}, i64 0")
    return f.emit(
        shuffled(v.type, v.text, "poison", (min(start + i, v.lanes - 1) for i in range(lanes)))
    )


def shuffled(type: str, a: str, b: str, picks: Iterable[int]) -> str:
    """The instruction that picks lanes of two vectors."""
    chosen = [f"i32 {i}" for i in picks]
    return f"shufflevector {type} {a}, {type} {b}, <{len(chosen)} x i32> <{', '.join(chosen)}>"


_X86_DOTS = {
    ("dot_u8s8", 16): "llvm.x86.avx512.vpdpbusd.512",
    ("dot_bf16", 16): "llvm.x86.avx512bf16.dpbf16ps.512",
}


def _dot(f: Function, target: Target, name: str, acc: Value, a: Value, b: Value) -> str:
    """acc + sum of the products of two packs: one instruction where the target has it.

    Elsewhere bfloat16 adds its odd element first, as the function's meaning says; the product of two bfloat16 is exact
    in float32, so that a machine without a fused multiply-add gets the same bits from two instructions.
    """
    instruction = _X86_DOTS.get((name, acc.lanes)) if name in target.dot else None
    if instruction is not None:
        x, y = (_as_pack_operand(f, v) for v in (a, b))
        return f.emit(f"call {acc.type} @{instruction}({acc.type} {acc.text}, {x}, {y})")
    total = acc.text
    order = range(a.width)
    for i in reversed(order) if acc.dtype.is_float else order:
        x, y = (_wide_element(f, v, i, acc) for v in (a, b))
        if acc.dtype.is_float and target.fma:
            operands = ", ".join(f"{acc.type} {v}" for v in (x, y, total))
            total = f.emit(f"call {acc.type} @llvm.fma.{suffix(acc.type)}({operands})")
            continue
        multiply, add = ("fmul", "fadd") if acc.dtype.is_float else ("mul", "add")
        product = f.emit(f"{multiply} {acc.type} {x}, {y}")
        total = f.emit(f"{add} {acc.type} {product}, {total}")
    return total


def _as_pack_operand(f: Function, pack: Value) -> str:
    """A pack with its type, as the instruction wants it."""
    if pack.dtype is not DType.bfloat16:
        return f"{pack.type} {pack.text}"
    type = f"<{pack.lanes * pack.width} x bfloat>"
    return f"{type} " + f.emit(f"bitcast {pack.type} {pack.text} to {type}")


def _wide_element(f: Function, pack: Value, i: int, like: Value) -> str:
    """Element i of every lane's pack, in the accumulator's type."""
    if pack.lanes == 1:
        element = f.emit(f"extractelement {pack.type} {pack.text}, i64 {i}")
    else:
        picks = ", ".join(f"i32 {lane * pack.width + i}" for lane in range(pack.lanes))
        element = f.emit(
            f"shufflevector {pack.type} {pack.text}, {pack.type} poison, "
            f"<{pack.lanes} x i32> <{picks}>"
        )
    return cast(f, Value(element, pack.dtype, pack.lanes), like.dtype).text
