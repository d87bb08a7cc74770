"""A row: an operator and its inputs' types. `Case.arrays()` makes the same inputs on every run."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from convc.graph.ir import Builder, Graph
from convc.graph.op import Op
from convc.types import Dim, DType, Extent, TensorType

N = Dim.symbol("N")

SYMBOLS = {"N": 3}

Range = tuple[float, float]


@dataclass(frozen=True)
class Case:
    """An operator on inputs of given types. `ranges` limits each input's values (default -3 … 3)."""

    name: str
    op: Op
    types: tuple[TensorType, ...]
    ranges: tuple[Range, ...] = ()
    symbols: Mapping[str, int] = field(default_factory=lambda: SYMBOLS, hash=False)
    drawn: tuple[int, ...] = ()
    """Inputs that get no gradient though they are floats."""

    def arrays(self, types: tuple[TensorType, ...] | None = None) -> tuple[Any, ...]:
        """Inputs of the case's types, or of others with the same shapes; the same ones on every call."""
        found = []
        for k, (own, type) in enumerate(zip(self.types, types or self.types, strict=True)):
            low, high = self.ranges[k] if self.ranges else (-3.0, 3.0)
            found.append(values(f"{self.name}/{k}", own.evaluate(self.symbols), low, high))
            found[-1] = found[-1].astype(type.dtype.numpy)
        return tuple(found)

    def in_dtype(self, dtype: DType) -> tuple[TensorType, ...]:
        """The types with another float dtype."""
        return tuple(
            TensorType(dtype if t.dtype.is_float else t.dtype, t.shape) for t in self.types
        )

    def graph(self) -> Graph:
        """The operator alone, on graph inputs x0, x1, …"""
        builder = Builder(self.name)
        names = [builder.input(f"x{k}", t) for k, t in enumerate(self.types)]
        return builder.finish(builder.add_all(self.op, *names, name="y"))


def values(seed: str, type: TensorType, low: float, high: float) -> Any:
    """Random elements: floats on a grid of 1/1024 (exact in every float dtype's neighbourhood), integers, bools."""
    rng = np.random.default_rng(zlib.crc32(seed.encode()))
    shape = type.shape
    if type.dtype is DType.bool:
        return rng.integers(0, 2, shape).astype(np.bool_)  # type: ignore[arg-type]
    if type.dtype.is_integer:
        low = 0 if not type.dtype.is_signed and low < 0 else low
        return rng.integers(int(low), int(high), shape, endpoint=True).astype(type.dtype.numpy)  # type: ignore[arg-type]
    whole = np.round(rng.uniform(low, high, shape) * 1024) / 1024  # type: ignore[arg-type]
    return np.clip(whole, low, high).astype(type.dtype.numpy)


def f32(*shape: Extent) -> TensorType:
    return TensorType(DType.float32, shape)


def f64(*shape: Extent) -> TensorType:
    return TensorType(DType.float64, shape)


def f16(*shape: Extent) -> TensorType:
    return TensorType(DType.float16, shape)


def bf16(*shape: Extent) -> TensorType:
    return TensorType(DType.bfloat16, shape)


def i64(*shape: Extent) -> TensorType:
    return TensorType(DType.int64, shape)


def i32(*shape: Extent) -> TensorType:
    return TensorType(DType.int32, shape)


def i8(*shape: Extent) -> TensorType:
    return TensorType(DType.int8, shape)


def u8(*shape: Extent) -> TensorType:
    return TensorType(DType.uint8, shape)


def u32(*shape: Extent) -> TensorType:
    return TensorType(DType.uint32, shape)


def boolean(*shape: Extent) -> TensorType:
    return TensorType(DType.bool, shape)


def unary(op: Op, low: float = -3, high: float = 3, *, name: str = "") -> Case:
    """A float32 row of an elementwise operator on an odd shape with the symbolic batch."""
    return Case(f"{name or op.mnemonic}", op, (f32(N, 3, 5, 7),), ((low, high),))


def binary(op: Op, second: Range = (-3, 3), first: Range = (-3, 3)) -> list[Case]:
    """Rows of an n-ary operator: equal shapes, channel vectors, both sides stretched, a scalar."""
    shapes = {
        "same": (f32(N, 3, 5), f32(N, 3, 5)),
        "channel": (f32(N, 3, 5, 7), f32(3, 1, 1)),
        "both": (f32(4, 1, 3), f32(5, 1)),
        "scalar": (f32(2, 3), f32()),
    }
    return [Case(f"{op.mnemonic}-{k}", op, t, (first, second)) for k, t in shapes.items()]


def conv(name: str, op: Op, x: tuple[Extent, ...], w: tuple[Extent, ...]) -> Case:
    return Case(name, op, (f32(*x), f32(*w)), ((-2, 2), (-1, 1)))
