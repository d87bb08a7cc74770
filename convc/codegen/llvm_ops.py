"""Arithmetic of the loop IR in LLVM's text format: one value or one vector per lane."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

import ml_dtypes
import numpy as np

from convc.codegen.llvm_function import Function
from convc.errors import IRError
from convc.loops.ir import Binary, Call, Cast, Const, Expr
from convc.target import Target
from convc.types import DType

_NAMES = {
    DType.float64: "double",
    DType.float32: "float",
    DType.bfloat16: "i16",  # its bits: LLVM turns bfloat values into library calls on most CPUs
    DType.float16: "half",
    DType.bool: "i1",
}


@dataclass(frozen=True)
class Value:
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
        return replace(self, text=text)


def scalar_type(dtype: DType) -> str:
    return _NAMES.get(dtype) or f"i{dtype.itemsize * 8}"


def type_of(dtype: DType, lanes: int = 1) -> str:
    """The LLVM type of a value."""
    return scalar_type(dtype) if lanes == 1 else f"<{lanes} x {scalar_type(dtype)}>"


def memory_type(dtype: DType, lanes: int = 1) -> str:
    """The LLVM type of an element in memory: bool takes a byte."""
    return type_of(DType.int8 if dtype is DType.bool else dtype, lanes)


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
    if dtype is DType.float16:
        return f"0xH{np.float16(value).view(np.uint16):04X}"
    if dtype is DType.bfloat16:
        return str(int(np.asarray(value, ml_dtypes.bfloat16).view(np.int16)))
    rounded = float(np.float32(value)) if dtype is DType.float32 else float(value)
    return f"0x{struct.unpack('<Q', struct.pack('<d', rounded))[0]:016X}"


def splat(f: Function, value: Value, lanes: int) -> Value:
    """A scalar in all lanes; a vector stays as it is."""
    if value.lanes == lanes:
        return value
    if value.width > 1:
        return _splat_pack(f, value, lanes)
    vector = f"<{lanes} x {scalar_type(value.dtype)}>"
    if not value.text.startswith("%"):
        elements = ", ".join([f"{scalar_type(value.dtype)} {value.text}"] * lanes)
        return Value(f"<{elements}>", value.dtype, lanes)
    one = f.once(
        f"insertelement {vector} poison, {scalar_type(value.dtype)} {value.text}, i64 0"
    )
    text = f.once(
        f"shufflevector {vector} {one}, {vector} poison, <{lanes} x i32> zeroinitializer"
    )
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


def floor_division(
    f: Function, op: str, a: str, b: str, level: int, type: str = "i64"
) -> str:
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
    """NaN if either operand is NaN. Beside a constant one comparison does: NaN fails it and is kept."""
    if not a.dtype.is_float:
        sign = "s" if a.dtype.is_signed else "u"
        name = f"llvm.{sign}{expr.op}.{suffix(a.type)}"
        return f.emit(f"call {a.type} @{name}({a.type} {a.text}, {b.type} {b.text})")
    for fixed, other, source in ((a, b, expr.a), (b, a, expr.b)):
        if isinstance(source, Const) and source.value == source.value:
            test = "ogt" if expr.op == "max" else "olt"
            wins = f.emit(f"fcmp {test} {a.type} {fixed.text}, {other.text}")
            flags = "i1" if a.lanes == 1 else f"<{a.lanes} x i1>"
            return f.emit(
                f"select {flags} {wins}, {a.type} {fixed.text}, {a.type} {other.text}"
            )
    name = f"llvm.{expr.op}imum.{suffix(a.type)}"
    return f.emit(f"call {a.type} @{name}({a.type} {a.text}, {b.type} {b.text})")


def _is_narrow(dtype: DType) -> bool:
    """Formats that are computed with in float32: exact, since it has more than twice their digits."""
    return dtype in (DType.float16, DType.bfloat16)


def _widened(expr: Expr) -> Expr:
    return Const(expr.value, DType.float32) if isinstance(expr, Const) else Cast(expr, DType.float32)


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
    result = Value("", dtype, value.lanes)
    operand = f"{value.type} {value.text}"
    if dtype is DType.bool:
        zero = splat(f, Value(constant_text(0, source), source, 1), value.lanes).text
        test = "fcmp une" if source.is_float else "icmp ne"
        return result.renamed(f.emit(f"{test} {operand}, {zero}"))
    if _is_narrow(source) and not dtype.is_float:
        return cast(f, cast(f, value, DType.float32), dtype)
    if dtype is DType.bfloat16:
        return _to_bfloat16(f, value)
    if source is DType.bfloat16:
        return cast(f, _from_bfloat16(f, value), dtype)
    if source.is_float and dtype.is_float:
        if source.itemsize == dtype.itemsize:  # between the two 16-bit formats
            return cast(f, cast(f, value, DType.float32), dtype)
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
        return value.renamed(value.text) if not value.text else replace(value, dtype=dtype)
    elif source.itemsize > dtype.itemsize:
        word = "trunc"
    else:
        word = "sext" if source.is_signed else "zext"
    return result.renamed(f.emit(f"{word} {operand} to {result.type}"))


def _to_bfloat16(f: Function, value: Value) -> Value:
    """To nearest even, in integer arithmetic: LLVM would call a library, and the instruction drops denormals."""
    if value.dtype is not DType.float32:
        value = cast(f, value, DType.float32)
    lanes = value.lanes
    word, half = type_of(DType.int32, lanes), type_of(DType.int16, lanes)

    def number(n: int) -> str:
        return splat(f, Value(str(n), DType.int32, 1), lanes).text

    bits = f.emit(f"bitcast {value.type} {value.text} to {word}")
    high = f.emit(f"lshr {word} {bits}, {number(16)}")
    odd = f.emit(f"and {word} {high}, {number(1)}")
    bias = f.emit(f"add {word} {odd}, {number(0x7FFF)}")
    rounded = f.emit(f"lshr {word} " + f.emit(f"add {word} {bits}, {bias}") + f", {number(16)}")
    quiet = f.emit(f"or {word} {high}, {number(0x40)}")
    nan = f.emit(f"fcmp uno {value.type} {value.text}, {value.text}")
    chosen = f.emit(f"select {type_of(DType.bool, lanes)} {nan}, {word} {quiet}, {word} {rounded}")
    return Value(f.emit(f"trunc {word} {chosen} to {half}"), DType.bfloat16, lanes)


def _from_bfloat16(f: Function, value: Value) -> Value:
    """A bfloat16 is the upper half of a float32."""
    word = type_of(DType.int32, value.lanes)
    sixteen = splat(f, Value("16", DType.int32, 1), value.lanes).text
    wide = f.emit(f"zext {value.type} {value.text} to {word}")
    bits = f.emit(f"shl {word} {wide}, {sixteen}")
    result = Value("", DType.float32, value.lanes)
    return result.renamed(f.emit(f"bitcast {word} {bits} to {result.type}"))


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


_X86_DOTS = {
    ("dot_u8s8", 16): "llvm.x86.avx512.vpdpbusd.512",
    ("dot_bf16", 16): "llvm.x86.avx512bf16.dpbf16ps.512",
}


def _dot(f: Function, target: Target, name: str, acc: Value, a: Value, b: Value) -> str:
    """acc + sum of the products of two packs: one instruction where the target has it."""
    instruction = _X86_DOTS.get((name, acc.lanes)) if name in target.dot else None
    if instruction is not None:
        x, y = (_as_pack_operand(f, v) for v in (a, b))
        return f.emit(f"call {acc.type} @{instruction}({acc.type} {acc.text}, {x}, {y})")
    total = acc.text
    for i in range(a.width):
        x, y = (_wide_element(f, v, i, acc) for v in (a, b))
        if acc.dtype.is_float:
            total = f.emit(
                f"call {acc.type} @llvm.fma.{suffix(acc.type)}({acc.type} {x}, {acc.type} {y}, "
                f"{acc.type} {total})"
            )
            continue
        product = f.emit(f"mul {acc.type} {x}, {y}")
        total = f.emit(f"add {acc.type} {total}, {product}")
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
