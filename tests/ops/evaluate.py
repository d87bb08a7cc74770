"""A small numpy evaluator of formulas: all output elements at once, reductions step by step.

It shares nothing with the loop interpreter, and is strict: operands must have one dtype, and a load whose
result is used must lie inside its tensor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from convc.graph.op import Op
from convc.loops.formula import Tensor
from convc.loops.ir import Binary, Call, Cast, Const, Expr, Load, Reduce, Select, Var
from convc.types import Dim, DType, TensorType, evaluate

BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "//": np.floor_divide,
    "%": np.mod,
    "min": np.minimum,
    "max": np.maximum,
    "&": np.bitwise_and,
    "|": np.bitwise_or,
    "^": np.bitwise_xor,
    "<<": np.left_shift,
    ">>": np.right_shift,
    "<": np.less,
    "<=": np.less_equal,
    "==": np.equal,
    "!=": np.not_equal,
}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "pow": np.power,
    "round": np.round,
    "erf": lambda x: np.vectorize(math.erf, otypes=[np.float64])(x).astype(x.dtype),
    "fma": lambda x, y, z: fused(x, y, z),
    **{
        name: getattr(np, name)
        for name in ("sqrt", "abs", "floor", "ceil", "trunc", "isnan", "isinf", "exp", "log", "log1p", "expm1",
                     "sin", "cos", "tan", "tanh", "sinh", "cosh")
    },
}  # fmt: skip
COMBINERS = {"sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum}


def fused(x: Any, y: Any, z: Any) -> Any:
    """x * y + z with more bits than the operands have."""
    wide = [np.asarray(v, np.longdouble) for v in (x, y, z)]
    return (wide[0] * wide[1] + wide[2]).astype(np.asarray(x).dtype)


def evaluate_formula(
    op: Op, types: tuple[TensorType, ...], arrays: tuple[Any, ...], symbols: Mapping[str, int]
) -> Any:
    """The output of an operator's formula for operands of these types."""
    assert op.formula is not None
    operands = [
        Tensor(t.dtype, t.shape, lambda *i, name=f"x{k}", d=t.dtype: Load(name, tuple(i), d))
        for k, t in enumerate(types)
    ]
    (result,) = op.infer(*types)
    names = [f"d{k}" for k in range(result.rank)]
    expr = op.formula(*operands)(*map(Var, names))
    assert expr.dtype is result.dtype, f"the formula gives {expr.dtype}, infer {result.dtype}"
    shape = tuple(evaluate(e, symbols) for e in result.shape)
    grids = np.meshgrid(*map(np.arange, shape), indexing="ij", sparse=True)
    env: dict[str, Any] = {name: np.int64(value) for name, value in symbols.items()}
    env |= dict(zip(names, grids, strict=True))
    memory = {f"x{k}": a for k, a in enumerate(arrays)}
    with np.errstate(all="ignore"):
        values = Evaluator(memory, symbols).of(expr, env, np.True_)
    return np.array(np.broadcast_to(values, shape), result.dtype.numpy)


class Evaluator:
    """Evaluates expressions over grids; `used` masks the elements that matter."""

    def __init__(self, memory: dict[str, Any], symbols: Mapping[str, int]) -> None:
        self.memory = memory
        self.symbols = symbols

    def of(self, expr: Expr, env: dict[str, Any], used: Any) -> Any:
        match expr:
            case Const():
                return np.asarray(expr.value).astype(expr.dtype.numpy)
            case Var():
                return env[expr.name]
            case Load():
                return self.load(expr, env, used)
            case Binary():
                assert expr.a.dtype is expr.b.dtype, f"{expr.a.dtype} {expr.op} {expr.b.dtype}"
                assert expr.op not in ("//", "%") or expr.a.dtype.is_integer
                assert expr.op != "/" or expr.a.dtype.is_float
                return BINARY[expr.op](self.of(expr.a, env, used), self.of(expr.b, env, used))
            case Select():
                return self.select(expr, env, used)
            case Cast():
                return cast(np.asarray(self.of(expr.value, env, used)), expr.dtype)
            case Call("bitcast"):
                return np.asarray(self.of(expr.args[0], env, used)).view(expr.dtype.numpy)
            case Call("isnan" | "isinf"):
                return FUNCTIONS[expr.function](self.of(expr.args[0], env, used))
            case Call():
                assert all(a.dtype is expr.dtype for a in expr.args), str(expr.args)
                args = (np.asarray(self.of(a, env, used)) for a in expr.args)
                return FUNCTIONS[expr.function](*args)
            case Reduce():
                return self.reduce(expr, env, used)

    def load(self, expr: Load, env: dict[str, Any], used: Any) -> Any:
        array, found = self.memory[expr.buffer], []
        assert len(expr.index) == array.ndim, f"{len(expr.index)} indices of rank {array.ndim}"
        for d, index in enumerate(expr.index):
            assert index.dtype is DType.int64
            at = np.asarray(self.of(index, env, used))
            outside = (at < 0) | (at >= array.shape[d])
            assert not np.any(outside & used), f"index {d} of {expr.buffer} leaves the tensor"
            found.append(np.clip(at, 0, array.shape[d] - 1))
        return array[tuple(np.broadcast_arrays(*found))] if found else array

    def select(self, expr: Select, env: dict[str, Any], used: Any) -> Any:
        assert expr.condition.dtype is DType.bool
        assert expr.then.dtype is expr.otherwise.dtype
        condition = self.of(expr.condition, env, used)
        then = self.of(expr.then, env, used & condition)
        otherwise = self.of(expr.otherwise, env, used & ~condition)
        return np.where(condition, then, otherwise)

    def reduce(self, expr: Reduce, env: dict[str, Any], used: Any) -> Any:
        extents = [evaluate(e, self.symbols) if isinstance(e, Dim) else e for _, e in expr.axes]
        total: Any = None
        for at in np.ndindex(*extents):
            inner = env | {name: np.int64(i) for (name, _), i in zip(expr.axes, at, strict=True)}
            value = self.of(expr.value, inner, used)
            total = value if total is None else COMBINERS[expr.combiner](total, value)
        return total


def cast(value: Any, dtype: DType) -> Any:
    """The IR's conversion: towards zero and saturating from float to integer, NaN as 0."""
    if not (dtype.is_integer and DType.of(value.dtype).is_float):
        return value.astype(dtype.numpy)
    limits = np.iinfo(dtype.numpy)

    def one(v: float) -> int:
        if math.isnan(v):
            return 0
        return int(min(max(v, limits.min), limits.max))

    return np.array([one(float(v)) for v in value.reshape(-1)], dtype.numpy).reshape(value.shape)
