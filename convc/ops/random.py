"""Random numbers that depend on a seed and an element's position only, never on threads or order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from convc.graph.ir import Builder
from convc.graph.op import Op, no_gradient, register
from convc.loops.formula import At, Tensor
from convc.loops.ir import Cast, Expr, binary, const, index
from convc.ops.base import ZERO, Array, Types, fail, numbers
from convc.ops.values import values
from convc.types import DType, Shape, TensorType, size_of

MULTIPLIER = 0xD256D193
KEY_STEP = 0x9E3779B9
ROUNDS = 10
"""Philox 2x32-10: Salmon, Moraes, Dror and Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3" (2011)."""

SEED = TensorType(DType.uint32, (2,))


def check(op: Op, seed: TensorType, shape: Shape) -> None:
    if seed != SEED:
        raise fail(op, f"seed expects {SEED}, got {seed}")
    count = size_of(shape)
    if isinstance(count, int) and count > 1 << 32:
        raise fail(op, f"shape expects 2**32 elements at most, got {count}")


def np_philox(counter: Array, stream: Array, key: Array) -> Array:
    """The first word of Philox 2x32-10 of uint32 counters (counter, stream) and a uint32 key."""
    low, high = counter.astype(np.uint64), np.broadcast_to(stream, counter.shape).astype(np.uint64)
    for n in range(ROUNDS):
        product = low * np.uint64(MULTIPLIER)
        word = np.uint64((int(key) + n * KEY_STEP) & 0xFFFFFFFF)
        low, high = (product >> np.uint64(32)) ^ word ^ high, product & np.uint64(0xFFFFFFFF)
    return low.astype(np.uint32)


def philox(counter: Expr, stream: Expr, key: Expr) -> Expr:
    """`np_philox` as an expression."""
    low, high = counter, stream
    for n in range(ROUNDS):
        product = Cast(low, DType.uint64) * const(MULTIPLIER, DType.uint64)
        upper = Cast(binary(">>", product, const(32, DType.uint64)), DType.uint32)
        word = key + const((n * KEY_STEP) & 0xFFFFFFFF, DType.uint32) if n else key
        mixed = binary("^", binary("^", upper, word), high)
        low, high = mixed, low * const(MULTIPLIER, DType.uint32)
    return low


@register
@dataclass(frozen=True)
class RandomBits(Op):
    """Uniform uint32 numbers of a shape from a seed uint32[2]: (the generator's key, the number of the draw).

    Element k in row-major order is the first word of Philox 2x32-10 of the counter (k, seed[1]) and the key seed[0].
    """

    shape: Shape = ()

    def infer(self, seed: TensorType) -> Types:
        check(self, seed, self.shape)
        return (TensorType(DType.uint32, self.shape),)

    def reference(self, seed: Array) -> Array:
        shape = numbers(self.shape)
        counter = np.arange(int(np.prod(shape)), dtype=np.uint64).astype(np.uint32)
        return np_philox(counter, seed[1], seed[0]).reshape(shape)

    gradient = no_gradient

    def formula(self, seed: Tensor) -> At:
        def at(*out: Expr) -> Expr:
            position: Expr = ZERO
            for i, extent in zip(out, self.shape, strict=True):
                position = position * index(extent) + i
            return philox(Cast(position, DType.uint32), seed(1), seed(0))

        return at


@register
@dataclass(frozen=True)
class DropoutMask(Op):
    """Bools of a shape, each false with probability `rate`, from a seed as RandomBits has it."""

    rate: float = 0.5
    shape: Shape = ()

    def infer(self, seed: TensorType) -> Types:
        check(self, seed, self.shape)
        if not 0 <= self.rate < 1:
            raise fail(self, f"rate expects a number from 0 to below 1, got {self.rate}")
        return (TensorType(DType.bool, self.shape),)

    @property
    def threshold(self) -> int:
        """The least random number that is kept."""
        return min(round(self.rate * 2**32), 2**32 - 1)

    def reference(self, seed: Array) -> Array:
        return RandomBits(self.shape).reference(seed) >= np.uint32(self.threshold)

    gradient = no_gradient

    def decompose(self, builder: Builder, seed: str) -> tuple[str]:
        (value,) = values(builder, (seed,))
        return ((value.apply("random_bits", shape=self.shape) >= self.threshold).name,)
