"""Evaluates straight-line loop IR on whole arrays: one loop over 1-D buffers, all iterations at once."""

from __future__ import annotations

from typing import Any, assert_never

import numpy as np
from numpy.typing import NDArray

from convc.loops.functions import FUNCTIONS, round_to
from convc.loops.ir import (
    Alloc,
    Barrier,
    Binary,
    Call,
    Cast,
    Const,
    Expr,
    For,
    If,
    Intrinsic,
    Kernel,
    Let,
    Load,
    Reduce,
    Select,
    Store,
    Var,
)
from convc.types import DType

Array = NDArray[Any]


def run_elementwise(kernel: Kernel, inputs: dict[str, Array]) -> Array:
    """What `kernel` stores, for a body of one loop `for i in N` over 1-D buffers indexed by i."""
    (loop,) = kernel.body
    assert isinstance(loop, For)
    names: dict[str, Array] = {}
    result: Array | None = None
    with np.errstate(all="ignore"):
        for stmt in loop.body:
            match stmt:
                case Let():
                    names[stmt.name] = evaluate(stmt.value, names, inputs)
                case Store():
                    result = evaluate(stmt.value, names, inputs)
                case For() | If() | Alloc() | Intrinsic() | Barrier():
                    raise TypeError(f"not straight-line: {stmt}")
    assert result is not None
    return result


def evaluate(expr: Expr, names: dict[str, Array], inputs: dict[str, Array]) -> Array:
    match expr:
        case Const():
            return np.asarray(expr.value).astype(expr.dtype.numpy)
        case Var():
            return names[expr.name]
        case Load():
            return inputs[expr.buffer]
        case Binary():
            a, b = evaluate(expr.a, names, inputs), evaluate(expr.b, names, inputs)
            return np.asarray(OPERATIONS[expr.op](a, b))
        case Select():
            parts = (expr.condition, expr.then, expr.otherwise)
            return np.where(*(evaluate(e, names, inputs) for e in parts))
        case Cast():
            value = evaluate(expr.value, names, inputs)
            if expr.dtype.is_float:
                return np.asarray(round_to(value, expr.dtype))
            return value.astype(expr.dtype.numpy)
        case Call():
            args = [evaluate(a, names, inputs) for a in expr.args]
            if expr.function == "bitcast":
                return np.asarray(args[0]).view(expr.dtype.numpy)
            if expr.function == "fma" and expr.dtype is DType.float64:
                return fma_float64(*args)
            return np.asarray(FUNCTIONS[expr.function].meaning(*args))
        case Reduce():
            raise TypeError("a reduction in a kernel")
    assert_never(expr)


def fma_float64(a: Array, b: Array, c: Array) -> Array:
    """Dekker's product and Knuth's sum: an fma but for rare last bits and for overflow inside."""
    p = a * b
    error = ((_high(a) * _high(b) - p) + _high(a) * _low(b) + _low(a) * _high(b)) + _low(a) * _low(
        b
    )
    total = p + c
    part = total - p
    rest = (p - (total - part)) + (c - part)
    exact = total + (rest + error)
    return np.where(np.isfinite(exact), exact, total)


def _high(a: Array) -> Array:
    scaled = a * 134217729.0
    return np.asarray(scaled - (scaled - a))


def _low(a: Array) -> Array:
    return np.asarray(a - _high(a))


OPERATIONS = {
    "+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide, "//": np.floor_divide,
    "%": np.mod, "min": np.minimum, "max": np.maximum, "&": np.bitwise_and, "|": np.bitwise_or,
    "^": np.bitwise_xor, "<<": np.left_shift, ">>": np.right_shift,
    "<": np.less, "<=": np.less_equal, "==": np.equal, "!=": np.not_equal,
}  # fmt: skip
