"""Loop IR expressions as CUDA C++ text. What the C++ operators would do differently is a helper or a cast."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import assert_never

import numpy as np

from convc.codegen.cuda_prelude import C_TYPES
from convc.errors import IRError
from convc.loops.ir import (
    COMPARISONS,
    INDEX,
    Binary,
    Buffer,
    Call,
    Cast,
    Const,
    Expr,
    Load,
    Reduce,
    Select,
    Var,
    binary,
    index,
)
from convc.loops.simplify import Range, bounds, simplify
from convc.loops.walking import children
from convc.types import DType

# C++ precedences, higher binds tighter.
_PRIMARY, _UNARY, _TERNARY = 16, 14, 1
_PRECEDENCE = {
    "*": 13, "/": 13, "%": 13, "+": 12, "-": 12, "<<": 11, ">>": 11, "<": 9, "<=": 9,
    "==": 8, "!=": 8, "&": 7, "^": 6, "|": 5, "&&": 4, "||": 3,
}  # fmt: skip
_ROUNDINGS = {"sqrt": "sqrt", "floor": "floor", "ceil": "ceil", "round": "rint", "trunc": "trunc"}
_HALVES = (DType.float16, DType.bfloat16)
_TO_FLOAT = {DType.float16: "__half2float", DType.bfloat16: "__bfloat162float"}
_FROM_FLOAT = {DType.float16: "__float2half_rn", DType.bfloat16: "__float2bfloat16_rn"}
_FROM_DOUBLE = {DType.float16: "__double2half", DType.bfloat16: "__double2bfloat16"}

Text = tuple[str, int]
"""C++ source and the precedence of its outermost operator."""


def flat_index(buffer: Buffer, at: tuple[Expr, ...], ranges: Mapping[str, Range]) -> Expr:
    """The position in memory, in elements, of a logical index."""
    if len(at) != len(buffer.shape):
        raise IRError(f"{buffer.name} has {len(buffer.shape)} dimensions, indexed by {len(at)}")
    total: Expr = Const(0, INDEX)
    strides = buffer.layout.strides(buffer.shape)
    for axis, stride in zip(buffer.layout.axes, strides, strict=True):
        before, _ = buffer.layout.border[axis.dim]
        position = binary("+", at[axis.dim], before)
        position = binary("//", position, axis.divide)
        if axis.modulus is not None:
            position = binary("%", position, axis.modulus)
        total = binary("+", total, binary("*", position, index(stride)))
    return simplify(total, ranges)


@dataclass
class ExpressionWriter:
    """Writes expressions of one kernel. `helpers` collects the functions of the prelude that they call.

    `name` gives the C++ name of a variable or buffer, `scalars` the buffers that are plain C++ variables.
    """

    buffers: Mapping[str, Buffer]
    name: Callable[[str], str]
    scalars: set[str] = field(default_factory=set)
    helpers: set[str] = field(default_factory=set)
    ranges: dict[str, Range] = field(default_factory=dict)
    shared: dict[int, str] = field(default_factory=dict)

    def text(self, expr: Expr) -> str:
        return self.write(expr)[0]

    def element(self, buffer: str, at: tuple[Expr, ...]) -> str:
        """One element of a buffer as an lvalue."""
        if buffer in self.scalars:
            return self.name(buffer)
        flat = flat_index(self.buffers[buffer], at, self.ranges)
        return f"{self.name(buffer)}[{self.text(flat)}]"

    def write(self, expr: Expr) -> Text:
        if id(expr) in self.shared:
            return self.shared[id(expr)], _PRIMARY
        match expr:
            case Const():
                return self._constant(expr)
            case Var():
                return self.name(expr.name), _PRIMARY
            case Load():
                return self._load(expr), _PRIMARY
            case Binary():
                return self._binary(expr)
            case Select():
                parts = (self._inside(e, _TERNARY + 1) for e in children(expr))
                return "{} ? {} : {}".format(*parts), _TERNARY
            case Cast():
                return self._cast(expr), _PRIMARY
            case Call():
                return self._call(expr)
            case Reduce():
                raise IRError("a reduction is no loop yet: lower it before code generation")
            case _:
                assert_never(expr)

    def _inside(self, expr: Expr, precedence: int) -> str:
        """An operand, in parentheses where it binds less tightly than the given precedence."""
        text, own = self.write(expr)
        return text if own >= precedence else f"({text})"

    def _use(self, helper: str) -> str:
        self.helpers.add(helper)
        return helper

    def _constant(self, expr: Const) -> Text:
        if expr.dtype.is_float:
            return self._float_constant(float(expr.value), expr.dtype)
        if expr.dtype is DType.bool:
            return ("true" if expr.value else "false"), _PRIMARY
        value = int(expr.value)
        suffix = "u" if not expr.dtype.is_signed and expr.dtype.itemsize >= 4 else ""
        if expr.dtype.itemsize == 8 and not -(2**31) < value < 2**31:
            suffix += "ll"
        if value in (-(2**63), -(2**31)):
            return f"({value + 1}{suffix} - 1)", _PRIMARY
        return f"{value}{suffix}", _PRIMARY if value >= 0 else _UNARY

    def _float_constant(self, value: float, dtype: DType) -> Text:
        if dtype in _HALVES:
            return (
                f"{_FROM_FLOAT[dtype]}({self._float_constant(value, DType.float32)[0]})",
                _PRIMARY,
            )
        if not np.isfinite(value):
            return self._bits(value, dtype), _PRIMARY
        text = str(np.float32(value)) if dtype is DType.float32 else repr(value)
        if "." not in text and "e" not in text:
            text += ".0"
        negative = text.startswith("-")
        return text + ("f" if dtype is DType.float32 else ""), _UNARY if negative else _PRIMARY

    def _bits(self, value: float, dtype: DType) -> str:
        """A float constant by its bits."""
        bits = int(np.array(value, dtype.numpy).view(f"u{dtype.itemsize}"))
        suffix = "u" if dtype is DType.float32 else "ull"
        return f"{self._use('convc_bitcast')}<{C_TYPES[dtype]}>({bits:#x}{suffix})"

    def _load(self, expr: Load) -> str:
        element = self.element(expr.buffer, expr.index)
        if expr.width == 1:
            return element
        self._use("convc_pack")
        return f"convc_load<{expr.width}>(&{element})"

    def _binary(self, expr: Binary) -> Text:
        dtype = expr.a.dtype
        if dtype in _HALVES:
            return self._half_binary(expr, dtype)
        match expr.op:
            case "min" | "max":
                c_type = C_TYPES[dtype]
                function = self._use(f"convc_{expr.op}")
                return f"{function}<{c_type}>({self.text(expr.a)}, {self.text(expr.b)})", _PRIMARY
            case "//" | "%":
                return self._division(expr)
            case "+" | "-" | "*" | "<<" if dtype is not INDEX and dtype.is_integer:
                return self._wrapping(expr)
            case "&" | "|" if dtype is DType.bool:
                return self._operator(expr, expr.op * 2)
            case "^" if dtype is DType.bool:
                return self._operator(expr, "!=")
            case "-" if dtype is INDEX and expr.a == Const(0, INDEX):
                return f"-{self._inside(expr.b, _UNARY + 1)}", _UNARY
            # What compilers warn about: comparisons that can't fail, a division by zero in plain sight.
            case "<" if not dtype.is_signed and expr.b == Const(0, dtype):
                return "false", _PRIMARY
            case "<=" if not dtype.is_signed and expr.a == Const(0, dtype):
                return "true", _PRIMARY
            case "/" if isinstance(expr.b, Const) and expr.b.value == 0:
                zero = self._bits(float(expr.b.value), dtype)
                return f"{self._inside(expr.a, _PRECEDENCE['/'])} / {zero}", _PRECEDENCE["/"]
            case "+" if dtype is INDEX and isinstance(expr.b, Const) and expr.b.value < 0:
                return self._operator(Binary("-", expr.a, Const(-expr.b.value, INDEX)), "-")
            case _:
                return self._operator(expr, expr.op)

    def _operator(self, expr: Binary, op: str) -> Text:
        precedence = _PRECEDENCE[op]
        # Bit operators and mixed logical ones get the parentheses without which compilers warn.
        match op:
            case "*" | "/" | "%" | "+" | "-":
                left, right = precedence, precedence + 1
            case "&&":
                left = right = precedence
            case "||":
                left = right = _PRECEDENCE["|"]
            case "<" | "<=" | "==" | "!=":
                left = right = _PRECEDENCE["+"]
            case _:
                left = right = _UNARY
        a, b = self._inside(expr.a, left), self._inside(expr.b, right)
        return f"{a} {op} {b}", precedence

    def _wrapping(self, expr: Binary) -> Text:
        """Integer arithmetic that wraps at the dtype's size: in unsigned C++ types, then cast back."""
        c_type = C_TYPES[expr.dtype]
        wide = DType.uint64 if expr.dtype.itemsize == 8 else DType.uint32
        text, precedence = self._unsigned(expr, wide)
        return (text, precedence) if c_type == C_TYPES[wide] else (f"{c_type}({text})", _PRIMARY)

    def _unsigned(self, expr: Expr, wide: DType) -> Text:
        """The expression modulo the size of an unsigned type."""
        match expr:
            case Const() if expr.value >= 0:
                return self._constant(Const(expr.value, wide))
            case Binary(op="+" | "-" | "*" | "<<" as op):
                precedence = _PRECEDENCE[op]
                left, left_precedence = self._unsigned(expr.a, wide)
                right, right_precedence = self._unsigned(expr.b, wide)
                if left_precedence < (_UNARY if op == "<<" else precedence):
                    left = f"({left})"
                if right_precedence <= (_UNARY if op == "<<" else precedence):
                    right = f"({right})"
                return f"{left} {op} {right}", precedence
            case _ if expr.dtype is wide:
                return self.write(expr)
            case _:
                return f"{C_TYPES[wide]}({self.text(expr)})", _PRIMARY

    def _division(self, expr: Binary) -> Text:
        """Rounds towards minus infinity: C++'s own operator where both sides are known not to be negative."""
        op = "/" if expr.op == "//" else "%"
        if not expr.dtype.is_signed or self._not_negative(expr.a) and self._not_negative(expr.b):
            return self._operator(expr, op)
        function = self._use("convc_floor_div" if op == "/" else "convc_floor_mod")
        return (
            f"{function}<{C_TYPES[expr.dtype]}>({self.text(expr.a)}, {self.text(expr.b)})",
            _PRIMARY,
        )

    def _not_negative(self, expr: Expr) -> bool:
        return bounds(expr, self.ranges)[0] >= 0

    def _half_binary(self, expr: Binary, dtype: DType) -> Text:
        """In float32, which rounds sums, products and quotients of halves innocuously, then rounded."""
        wide = Binary(expr.op, Cast(expr.a, DType.float32), Cast(expr.b, DType.float32))
        text, precedence = self._binary(wide)
        if expr.op in COMPARISONS:
            return text, precedence
        return f"{_FROM_FLOAT[dtype]}({text})", _PRIMARY

    def _cast(self, expr: Cast) -> str:
        source, target = expr.value.dtype, expr.dtype
        text = self.text(expr.value)
        if source is target:
            return f"({text})"
        if source in _HALVES:
            wide = f"{_TO_FLOAT[source]}({text})"
            return wide if target is DType.float32 else self._convert(wide, DType.float32, target)
        return self._convert(text, source, target)

    def _convert(self, text: str, source: DType, target: DType) -> str:
        """A conversion whose source is no half."""
        if target in _HALVES:
            from_float = source is DType.float32
            return f"{(_FROM_FLOAT if from_float else _FROM_DOUBLE)[target]}({text})"
        if target is DType.bool:
            return f"(({text}) != 0)"
        if source.is_float and target.is_integer:
            return f"{self._use('convc_saturate')}<{C_TYPES[target]}>({text})"
        return f"{C_TYPES[target]}({text})"

    def _call(self, expr: Call) -> Text:
        args = expr.args
        dtype = args[0].dtype
        texts = [self.text(a) for a in args]
        match expr.function:
            case "bitcast":
                function = self._use("convc_bitcast")
                return f"{function}<{C_TYPES[expr.dtype]}>({self._typed(args[0])})", _PRIMARY
            case "dot_u8s8" | "dot_s8s8" | "dot_bf16" as name:
                self._use("convc_pack")
                function = self._use("convc_dot_bf16" if name == "dot_bf16" else "convc_dot")
                return f"{function}({', '.join(texts)})", _PRIMARY
            case "isnan":
                a = self._inside(self._as_float(args[0]), _PRECEDENCE["!="] + 1)
                return f"{a} != {a}", _PRECEDENCE["!="]
            case "isinf":
                wide = self._as_float(args[0])
                infinity = self._float_constant(np.inf, wide.dtype)[0]
                return (
                    f"{self._math('fabs', wide.dtype)}({self.text(wide)}) == {infinity}",
                    _PRECEDENCE["=="],
                )
            case "fma" if dtype in _HALVES:
                return f"__hfma({', '.join(texts)})", _PRIMARY
            case "abs" if dtype.is_integer and not dtype.is_signed:
                return self.write(args[0])
            case "abs" if dtype.is_integer:
                zero = Const(0, dtype)
                return self.write(
                    Select(Binary("<", args[0], zero), binary("-", zero, args[0]), args[0])
                )
            case "fma" | "abs" | "sqrt" | "floor" | "ceil" | "round" | "trunc" as name:
                return self._math_call(name, expr), _PRIMARY
            case name:
                raise IRError(
                    f"function {name}: expected one expanded into arithmetic before code generation"
                )

    def _math_call(self, name: str, expr: Call) -> str:
        c_name = {"fma": "fma", "abs": "fabs", **_ROUNDINGS}[name]
        wide = [self._as_float(a) for a in expr.args]
        text = f"{self._math(c_name, wide[0].dtype)}({', '.join(map(self.text, wide))})"
        return f"{_FROM_FLOAT[expr.dtype]}({text})" if expr.dtype in _HALVES else text

    def _math(self, name: str, dtype: DType) -> str:
        return name if dtype is DType.float64 else name + "f"

    def _as_float(self, expr: Expr) -> Expr:
        return Cast(expr, DType.float32) if expr.dtype in _HALVES else expr

    def _typed(self, expr: Expr) -> str:
        """The expression with exactly its dtype as C++ type, which C++'s promotions may have widened."""
        text, c_type = self.text(expr), C_TYPES[expr.dtype]
        exact = isinstance(expr, (Var, Load)) or expr.dtype.is_float or expr.dtype.itemsize >= 4
        return text if exact else f"{c_type}({text})"
