"""How much a kernel computes and moves, counted from its loops."""

from __future__ import annotations

from typing import assert_never

from convc.errors import IRError
from convc.loops.ir import (
    INDEX,
    Alloc,
    Barrier,
    Binary,
    Block,
    Buffer,
    Call,
    Const,
    Expr,
    For,
    If,
    Intrinsic,
    Kernel,
    Let,
    Store,
    Var,
    expressions,
    subexpressions,
)
from convc.types import Dim, Extent, size_of

_OPERATIONS = {"+": 1, "-": 1, "*": 1, "/": 1}
_CALLS = {"fma": 2, "dot_u8s8": 8, "dot_s8s8": 8, "dot_bf16": 4}


def flops(kernel: Kernel) -> Extent:
    """Additions, multiplications and divisions of values (not of indices), as a function of the symbols.

    Both sides of a condition count, as padding does in the usual count of a convolution. Count a kernel before it is
    scheduled: tiles that overlap compute some elements twice.
    """
    return _block_flops(kernel.body)


def bytes_touched(kernel: Kernel) -> Extent:
    """Bytes of all parameters, each counted once: what has to come from memory at least."""
    total: Extent = 0
    for buffer in kernel.params:
        total = total + bytes_of(buffer)
    return total


def bytes_of(buffer: Buffer) -> Extent:
    """Bytes of a buffer's logical box."""
    return size_of(buffer.shape) * buffer.dtype.itemsize


def _block_flops(block: Block) -> Extent:
    total: Extent = 0
    for stmt in block:
        match stmt:
            case For():
                total = total + extent_of(stmt.extent) * _block_flops(stmt.body)
            case If():
                total = total + _block_flops(stmt.then) + _block_flops(stmt.otherwise)
            case Store() | Let():
                for expr in expressions(stmt):
                    total = total + _expr_flops(expr)
            case Alloc() | Intrinsic() | Barrier():
                pass
            case _:
                assert_never(stmt)
    return total


def _expr_flops(expr: Expr) -> Extent:
    total: Extent = 0
    for e in subexpressions(expr):
        match e:
            case Binary() if e.dtype is not INDEX:
                total = total + _OPERATIONS.get(e.op, 0)
            case Call():
                total = total + _CALLS.get(e.function, 0)
            case _:
                pass
    return total


def extent_of(expr: Expr) -> Extent:
    """A loop's extent as a polynomial of the symbols; IRError where it depends on more than them."""
    match expr:
        case Const():
            return int(expr.value)
        case Var():
            return Dim.symbol(expr.name)
        case Binary(op="+"):
            return extent_of(expr.a) + extent_of(expr.b)
        case Binary(op="-"):
            return extent_of(expr.a) - extent_of(expr.b)
        case Binary(op="*"):
            return extent_of(expr.a) * extent_of(expr.b)
        case _:
            raise IRError(f"{expr} is no polynomial of symbols")
