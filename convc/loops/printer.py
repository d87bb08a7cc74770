"""Loop IR as text, in the grammar at the top of loops/ir.py. `parser.parse_kernel` reads it back."""

from __future__ import annotations

import json
import math
from typing import assert_never

from convc.loops.ir import (
    COMPARISONS,
    Alloc,
    Axis,
    Barrier,
    Binary,
    Block,
    Buffer,
    Call,
    Cast,
    Const,
    Expr,
    For,
    If,
    Intrinsic,
    Kernel,
    Layout,
    Let,
    Load,
    LoopKind,
    Reduce,
    Role,
    Select,
    Space,
    Stmt,
    Store,
    Var,
    Window,
)
from convc.types import DType

# A literal without a suffix is int64, float32 or bool.
SUFFIXES = {
    DType.float64: "f64",
    DType.bfloat16: "bf16",
    DType.float16: "f16",
    DType.int32: "i32",
    DType.int16: "i16",
    DType.int8: "i8",
    DType.uint64: "u64",
    DType.uint32: "u32",
    DType.uint16: "u16",
    DType.uint8: "u8",
}
PRECEDENCE = {
    **dict.fromkeys(COMPARISONS, 1),
    "|": 2,
    "^": 3,
    "&": 4,
    "<<": 5,
    ">>": 5,
    "+": 6,
    "-": 6,
    "*": 7,
    "/": 7,
    "//": 7,
    "%": 7,
}
BITWISE = ("&", "|", "^", "<<", ">>")
WIDTH = 100


def print_kernel(kernel: Kernel) -> str:
    """The kernel's text, ending with a newline."""
    params = [print_buffer(b, with_role=True) for b in kernel.params]
    head = f"kernel {kernel.name}({', '.join(params)}) {{"
    if len(head) > WIDTH:
        head = f"kernel {kernel.name}(\n" + "".join(f"  {p},\n" for p in params) + ") {"
    lines = [head]
    lines += [f"  note {json.dumps(key)} {json.dumps(value)}" for key, value in kernel.notes]
    _block(kernel.body, 1, lines)
    return "\n".join([*lines, "}", ""])


def print_stmt(stmt: Stmt) -> str:
    """One statement, with its blocks."""
    lines: list[str] = []
    _block((stmt,), 0, lines)
    return "\n".join(lines)


def print_head(stmt: Stmt) -> str:
    """One statement without what its blocks hold: for error messages."""
    match stmt:
        case For():
            kind = "" if stmt.kind is LoopKind.serial else f" {stmt.kind.value}"
            return f"for {stmt.var} in {print_expr(stmt.extent)}{kind}"
        case If():
            return f"if {print_expr(stmt.condition)}"
        case Let():
            return f"let {stmt.name}: {stmt.value.dtype.value} = {print_expr(stmt.value)}"
        case Alloc():
            return f"alloc {print_buffer(stmt.buffer, with_role=False)}"
        case Store():
            return f"{stmt.buffer}[{_list(stmt.index)}] = {print_expr(stmt.value)}"
        case Intrinsic():
            return f"do {stmt.name}({', '.join(_window(w) for w in stmt.args)})"
        case Barrier():
            return "barrier" if stmt.scope == "block" else f"barrier({stmt.scope})"
    assert_never(stmt)


def print_buffer(buffer: Buffer, *, with_role: bool) -> str:
    """A parameter (`in x: float32[N, 3]`) or what `alloc` declares (`t: float32[4, 16] register`)."""
    shape = ", ".join(map(str, buffer.shape))
    text = f"{buffer.name}: {buffer.dtype.value}[{shape}]{print_layout(buffer.layout, len(buffer.shape))}"
    if not with_role:
        return f"{text} {buffer.space.value}"
    role = "" if buffer.role is Role.local else f"{buffer.role.value} "
    return role + text + ("" if buffer.space is Space.global_ else f" {buffer.space.value}")


def print_expr(expr: Expr) -> str:
    """An expression with as few parentheses as its meaning allows."""
    match expr:
        case Const():
            return print_const(expr)
        case Var():
            return expr.name
        case Load():
            width = "" if expr.width == 1 else f"x{expr.width}"
            return f"{expr.buffer}[{_list(expr.index)}]{width}"
        case Binary():
            if expr.op in ("min", "max"):
                return f"{expr.op}({print_expr(expr.a)}, {print_expr(expr.b)})"
            return _infix(expr)
        case Select():
            return f"select({_list((expr.condition, expr.then, expr.otherwise))})"
        case Cast():
            return f"{expr.dtype.value}({print_expr(expr.value)})"
        case Call():
            target = f", {expr.dtype.value}" if expr.function == "bitcast" else ""
            return f"{expr.function}({_list(expr.args)}{target})"
        case Reduce():
            axes = ", ".join(f"{name}: {extent}" for name, extent in expr.axes)
            return f"{expr.combiner}[{axes}]({print_expr(expr.value)})"
    assert_never(expr)


def print_const(constant: Const) -> str:
    """A literal: `3` is int64, `0.5` float32, `true` bool; other dtypes have a suffix."""
    value, dtype = constant.value, constant.dtype
    suffix = SUFFIXES.get(dtype, "")
    if dtype is DType.bool:
        return "true" if value else "false"
    if dtype.is_integer:
        return f"{int(value)}{suffix}"
    number = float(value)
    if math.isfinite(number):
        return f"{number!r}{suffix}"
    sign = "-" if number < 0 else ""
    word = "nan" if math.isnan(number) else "inf"
    return f"{sign}{word}_{suffix}" if suffix else f"{sign}{word}"


def _infix(expr: Binary) -> str:
    level = PRECEDENCE.get(expr.op, 0)
    # Comparisons don't chain, and bit operations read better with everything in them bracketed.
    left = level + 1 if level == 1 else level
    a = _operand(expr.a, left, expr.op)
    b = _operand(expr.b, level + 1, expr.op)
    return f"{a} {expr.op} {b}"


def _operand(expr: Expr, level: int, parent: str) -> str:
    text = print_expr(expr)
    if not isinstance(expr, Binary) or expr.op in ("min", "max"):
        return text
    mixed = parent in BITWISE and expr.op != parent
    return f"({text})" if mixed or PRECEDENCE.get(expr.op, 0) < level else text


def _list(exprs: tuple[Expr, ...]) -> str:
    return ", ".join(map(print_expr, exprs))


def _window(window: Window) -> str:
    parts = [
        f"{print_expr(i)} +: {size}" for i, size in zip(window.index, window.sizes, strict=True)
    ]
    return f"{window.buffer}[{', '.join(parts)}]"


def print_layout(layout: Layout, rank: int) -> str:
    """The layout behind a buffer's type; nothing for a dense one."""
    text = ""
    if layout.axes != Layout.dense(rank).axes:
        text += f" @({', '.join(map(_axis, layout.axes))})"
    if any(b != (0, 0) for b in layout.border):
        text += f" border({', '.join(f'{before}:{after}' for before, after in layout.border)})"
    return text


def _axis(axis: Axis) -> str:
    text = f"d{axis.dim}"
    if axis.divide != 1:
        text += f"/{axis.divide}"
    if axis.modulus is not None:
        text += f"%{axis.modulus}"
    if axis.extent is not None:
        text += f":{axis.extent}"
    return text


def _block(block: Block, depth: int, lines: list[str]) -> None:
    indent = "  " * depth
    for stmt in block:
        head = indent + print_head(stmt)
        match stmt:
            case For():
                lines.append(head + " {")
                _block(stmt.body, depth + 1, lines)
                lines.append(indent + "}")
            case If():
                lines.append(head + " {")
                _block(stmt.then, depth + 1, lines)
                if stmt.otherwise:
                    lines.append(indent + "} else {")
                    _block(stmt.otherwise, depth + 1, lines)
                lines.append(indent + "}")
            case _:
                lines.append(head)
