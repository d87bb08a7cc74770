"""What operator classes share: type aliases, the checks of `infer`, accumulator types and reductions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from numpy.typing import NDArray

from convc.graph.op import Op, OpError
from convc.loops.formula import At, Tensor
from convc.loops.ir import Cast, Const, Expr, Reduce, Var, const, index
from convc.types import DType, Extent, Shape, TensorType

__all__ = ["At", "Tensor"]

Array = NDArray[Any]
Types = tuple[TensorType, ...]
Names = tuple[str, ...]
"""Of values in a graph."""
Gradients = tuple[str | None, ...]
"""What the facet `gradient` returns: a value's name per input, or None."""
Pair = tuple[int, int]
Padding = tuple[Pair, Pair]
"""((top, bottom), (left, right))."""

ZERO: Const = Const(0, DType.int64)


# ---------------------------------------------------------------- checks


def fail(op: Op, message: str) -> OpError:
    """The error to raise for an operator."""
    return OpError(f"{op.mnemonic}: {message}")


def expect_rank(op: Op, name: str, type: TensorType, rank: int) -> None:
    if type.rank != rank:
        raise fail(op, f"{name} expects rank {rank}, got {type}")


def expect_float(op: Op, name: str, type: TensorType) -> None:
    if not type.dtype.is_float:
        raise fail(op, f"{name} expects a float dtype, got {type.dtype.value}")


def expect_number(op: Op, name: str, type: TensorType) -> None:
    if type.dtype is DType.bool:
        raise fail(op, f"{name} expects a number dtype, got bool")


def expect_bool(op: Op, name: str, type: TensorType) -> None:
    if type.dtype is not DType.bool:
        raise fail(op, f"{name} expects dtype bool, got {type.dtype.value}")


def expect_dtype(op: Op, name: str, type: TensorType, dtype: DType) -> None:
    if type.dtype is not dtype:
        raise fail(
            op, f"{name} expects dtype {dtype.value} as the first input, got {type.dtype.value}"
        )


def expect_shape(op: Op, name: str, type: TensorType, shape: Shape) -> None:
    if type.shape != shape:
        raise fail(op, f"{name} expects shape {text(shape)}, got {text(type.shape)}")


def expect_at_least(op: Op, name: str, values: Iterable[int], least: int) -> None:
    values = tuple(values)
    if any(v < least for v in values):
        raise fail(op, f"{name} expects numbers ≥ {least}, got {values}")


def text(shape: Shape) -> str:
    """A shape for a message."""
    return f"[{', '.join(map(str, shape))}]"


def axis_of(op: Op, axis: int, rank: int) -> int:
    """The axis counted from the front; an OpError if a tensor of that rank has none such."""
    if not -rank <= axis < rank:
        raise fail(op, f"axis expects a number from {-rank} to {rank - 1}, got {axis}")
    return axis % rank


def axes_of(op: Op, axes: Sequence[int], rank: int) -> tuple[int, ...]:
    """Axes counted from the front, in the order given; an OpError for one outside or twice."""
    found = tuple(axis_of(op, a, rank) for a in axes)
    if len(set(found)) != len(found):
        raise fail(op, f"axes expects each axis once, got {tuple(axes)}")
    return found


def broadcast_shapes(op: Op, *shapes: Shape) -> Shape:
    """The shape that numpy broadcasts these to; an OpError if they don't fit."""
    first, *others = shapes
    if all(other == first or not other for other in others):  # nearly always
        return first
    rank = max(map(len, shapes))
    result: list[Extent] = []
    for d in range(-rank, 0):
        extents = [s[d] for s in shapes if len(s) >= -d]
        wide = [e for e in extents if e != 1]
        if any(e != wide[0] for e in wide):
            shown = " and ".join(map(text, shapes))
            raise fail(op, f"shapes {shown} do not broadcast: dimension {d + rank} is "
                           f"{' and '.join(map(str, extents))}")  # fmt: skip
        result.append(wide[0] if wide else 1)
    return tuple(result)


def numbers(shape: Shape) -> tuple[int, ...]:
    """A shape that `infer` found free of symbols."""
    assert all(isinstance(e, int) for e in shape), f"unexpected symbols in {text(shape)}"
    return shape  # type: ignore[return-value]


# ---------------------------------------------------------------- formulas


def broadcast_at(x: Tensor, at: Sequence[Expr]) -> Expr:
    """The element of an operand that numpy broadcasting pairs with an output index."""
    tail = at[len(at) - x.rank :]
    return x(*(ZERO if e == 1 else i for i, e in zip(tail, x.shape, strict=True)))


def cast(value: Expr, dtype: DType) -> Expr:
    return value if value.dtype is dtype else Cast(value, dtype)


def accumulator(dtype: DType) -> DType:
    """The dtype that sums of such elements are kept in."""
    match dtype:
        case DType.float16 | DType.bfloat16:
            return DType.float32
        case DType.int8 | DType.uint8 | DType.int16 | DType.uint16:
            return DType.int32
        case _:
            return dtype


def sum_dtype(dtype: DType) -> DType:
    """The dtype of a sum's result: floats keep theirs, narrow integers give their accumulator."""
    return dtype if dtype.is_float else accumulator(dtype)


def widened(value: Expr) -> Expr:
    """A term of a sum, in the accumulator's dtype."""
    return cast(value, accumulator(value.dtype))


def computable(value: Expr) -> Expr:
    """An operand of scalar arithmetic: 16-bit floats are computed in float32."""
    half = value.dtype in (DType.float16, DType.bfloat16)
    return cast(value, DType.float32) if half else value


def total(combiner: str, names: str, extents: Sequence[Extent], value: Callable[..., Expr]) -> Expr:
    """A reduction over the variables in `names`; those of extent 1 are the index 0 and get no loop."""
    axes = tuple(zip(names.split(), extents, strict=True))
    term = value(*(ZERO if e == 1 else Var(n) for n, e in axes))
    kept = tuple((n, e) for n, e in axes if e != 1)
    return Reduce(combiner, kept, term) if kept else term


def reciprocal(count: Extent, dtype: DType) -> Expr:
    """1 / count, as a constant where the count is a number."""
    if isinstance(count, int):
        return const(1 / count if count else float("nan"), dtype)
    return const(1, dtype) / Cast(index(count), dtype)
