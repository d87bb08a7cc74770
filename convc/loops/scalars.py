"""The interpreter's scalar arithmetic: how each dtype's values are kept, and what its operations do.

Integers and booleans are Python's, wrapped to their width; float64 is Python's float; the narrower
floats are numpy scalars, whose arithmetic rounds each result to their dtype.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from convc.loops.functions import FUNCTIONS, fma, fma_float32, fma_float64, round_to
from convc.types import DType

Scalar = Callable[..., Any]


def value_of(number: Any, dtype: DType) -> Any:
    """A number as the interpreter keeps values of the dtype (rounded or wrapped to it)."""
    if dtype is DType.float64:
        return float(number)
    if dtype.is_float:
        return round_to(float(number), dtype)
    return bool(number) if dtype is DType.bool else wrap(int(number), dtype)


def to_list(array: Any, dtype: DType) -> list[Any]:
    """A flat array as the interpreter's values."""
    numpy_scalars = dtype.is_float and dtype is not DType.float64
    return list(array) if numpy_scalars else list(array.tolist())


def wrap(value: int, dtype: DType) -> int:
    """An integer modulo the range of a dtype."""
    bits = 8 * dtype.itemsize
    value &= (1 << bits) - 1
    return value - (1 << bits) if dtype.is_signed and value >> (bits - 1) else value


def limits(dtype: DType) -> tuple[int, int]:
    """The least and the greatest value of an integer dtype."""
    bits = 8 * dtype.itemsize
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if dtype.is_signed else (0, (1 << bits) - 1)


def divide(a: float, b: float) -> float:
    """a / b in float64 as IEEE 754 has it, where Python would raise."""
    return a / b if b else float(np.float64(a) / np.float64(b))


def minimum(a: Any, b: Any) -> Any:
    """The lesser float; NaN if either is."""
    return b if b < a or b != b else a


def maximum(a: Any, b: Any) -> Any:
    """The greater float; NaN if either is."""
    return b if b > a or b != b else a


def cast(source: DType, target: DType) -> Scalar:
    """The value conversion between two dtypes."""
    if target is DType.bool:
        return lambda v: bool(v != 0)
    if target.is_integer:
        return _saturate(target) if source.is_float else lambda v: wrap(int(v), target)
    if target is DType.float64:
        return float
    if source.is_integer and source.itemsize == 8 and target is DType.float32:
        kind = source.numpy.type
        return lambda v: np.float32(kind(v))  # directly: through float64 it would round twice
    if target is DType.bfloat16 and source not in (DType.float32, DType.float16):
        return lambda v: round_to(float(v), target)
    kind = target.numpy.type
    return lambda v: kind(float(v))


def _saturate(target: DType) -> Scalar:
    least, greatest = limits(target)

    def convert(value: Any) -> int:
        number = float(value)
        if number != number:
            return 0
        return least if number <= least else greatest if number >= greatest else int(number)

    return convert


def bitcast(source: DType, target: DType) -> Scalar:
    """The reinterpretation of a value's bits."""
    codes = {DType.float64: "d", DType.int64: "q", DType.uint64: "Q"}
    if source in codes and target in codes:
        pack, unpack = struct.Struct(codes[source]).pack, struct.Struct(codes[target]).unpack
        return lambda v: unpack(pack(v))[0]
    old, new = source.numpy, target.numpy
    if target.is_float:
        return lambda v: np.asarray(v, old).view(new)[()]
    return lambda v: np.asarray(v, old).view(new).item()


def function(name: str, dtype: DType, operands: Sequence[DType]) -> Scalar:
    """A function of the table on the interpreter's values."""
    row = FUNCTIONS[name]
    match row.kind:
        case "bitcast":
            return bitcast(operands[0], dtype)
        case "dot":
            return _dot_bf16 if name == "dot_bf16" else _dot_integer
        case "test":
            test = np.isnan if name == "isnan" else np.isinf
            return lambda v: bool(test(v))
    if name == "abs":
        return abs if dtype.is_float else lambda v: wrap(abs(v), dtype)
    if name == "fma":
        quick: dict[DType, Scalar] = {DType.float32: fma_float32, DType.float64: fma_float64}
        return quick.get(dtype, fma)
    wide = row.wide or row.meaning
    return lambda *vs: value_of(wide(*map(float, vs)), dtype)


def _dot_integer(acc: int, a: Sequence[int], b: Sequence[int]) -> int:
    return wrap(acc + sum(x * y for x, y in zip(a, b, strict=True)), DType.int32)


def _dot_bf16(acc: Any, a: Sequence[Any], b: Sequence[Any]) -> Any:
    odd = fma_float32(np.float32(a[1]), np.float32(b[1]), acc)
    return fma_float32(np.float32(a[0]), np.float32(b[0]), odd)
