"""Stable radix sorts as statements: keys of unsigned integers, least significant digit first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from convc.loops.formula import Memory
from convc.loops.ir import (
    INDEX,
    Alloc,
    Block,
    Buffer,
    Call,
    Cast,
    Const,
    Expr,
    For,
    Let,
    Load,
    Space,
    Stmt,
    Store,
    Var,
    binary,
    const,
    index,
    select,
)
from convc.ops.base import cast
from convc.types import DType, Shape, TensorType

MANY = 1 << 12
"""Elements from which on digits have 11 bits, not 8: fewer passes, and more counts to clear."""


def key_dtype(dtype: DType) -> DType:
    """The unsigned integers that order like a dtype's values."""
    return DType.uint64 if dtype.itemsize == 8 else DType.uint32


def key_bits(dtype: DType) -> int:
    """How many low bits of a dtype's keys may differ."""
    if dtype.is_float:
        return 64 if dtype is DType.float64 else 32
    return 1 if dtype is DType.bool else 8 * dtype.itemsize


def sort_key(value: Expr, descending: bool) -> Expr:
    """The key of a value: in the order of the values, a NaN above all numbers, both zeros alike."""
    dtype, unsigned, bits = value.dtype, key_dtype(value.dtype), key_bits(value.dtype)
    ones = const((1 << bits) - 1, unsigned)
    sign = const(1 << (bits - 1), unsigned)
    if dtype.is_float:
        number = cast(value, DType.float64 if bits == 64 else DType.float32)
        raw = Call("bitcast", (number,), unsigned)
        negative = binary("&", raw, sign).ne(0)
        key = select(negative, binary("^", raw, ones), binary("|", raw, sign))
        key = select(number.eq(0), sign, key)
        key = select(number.ne(number), ones, key)
    elif dtype.is_signed and dtype is not DType.bool:
        key = binary("&", binary("^", wrapped(value, unsigned), sign), ones)
    else:
        key = cast(value, unsigned)
    return binary("^", key, ones) if descending else key


def wrapped(value: Expr, unsigned: DType) -> Expr:
    """A signed integer's two's complement."""
    signed = DType.int64 if unsigned is DType.uint64 else DType.int32
    return Call("bitcast", (cast(value, signed),), unsigned)


@dataclass(frozen=True)
class Counter:
    """A number that statements change: a register of one element."""

    name: str
    dtype: DType = INDEX

    def begin(self, value: Expr) -> tuple[Stmt, Stmt]:
        scalar = Buffer(self.name, self.dtype, (), space=Space.register)
        return Alloc(scalar), self.put(value)

    def put(self, value: Expr) -> Stmt:
        return Store(self.name, (), value)

    @property
    def now(self) -> Expr:
        return Load(self.name, (), self.dtype)


@dataclass(frozen=True)
class Radix:
    """A sort of up to `most` keys of a dtype's values; `positions` go with the keys."""

    dtype: DType
    most: int
    digit: int = 8

    @staticmethod
    def of(dtype: DType, count: int) -> Radix:
        """The sort of exactly `count` keys."""
        return Radix(dtype, count, 11 if count >= MANY and key_bits(dtype) > 16 else 8)

    @property
    def passes(self) -> int:
        return -(-key_bits(self.dtype) // self.digit)

    def workspace(self) -> tuple[TensorType, ...]:
        """Keys and positions, twice each, and how often each digit occurs."""
        shape: Shape = (self.most,)
        keys = TensorType(key_dtype(self.dtype), shape)
        positions = TensorType(DType.int32, shape)
        counts = TensorType(INDEX, (self.passes, 1 << self.digit))
        return keys, keys, positions, positions, counts

    def clear(self, space: Sequence[Memory]) -> Stmt:
        """No digit has been counted."""
        p, d = Var("p"), Var("d")
        zeros = For("d", index(1 << self.digit), (space[4].put(0, p, d),))
        return For("p", index(self.passes), (zeros,))

    def take(self, space: Sequence[Memory], at: Expr, key: Expr, position: Expr) -> Block:
        """The key number `at`, counted."""
        statements: list[Stmt] = [Let("key", key)]
        mine = Var("key", key.dtype)
        statements.append(space[0].put(mine, at))
        statements.append(space[2].put(cast(position, DType.int32), at))
        for p in range(self.passes):
            statements.append(Let(f"digit{p}", self.part(mine, p)))
            d = Var(f"digit{p}")
            statements.append(space[4].put(space[4](p, d) + 1, p, d))
        return tuple(statements)

    def part(self, key: Expr, p: int) -> Expr:
        """Digit p of a key."""
        shifted = binary(">>", key, const(p * self.digit, key.dtype)) if p else key
        return Cast(binary("&", shifted, const((1 << self.digit) - 1, key.dtype)), INDEX)

    def sort(self, space: Sequence[Memory], count: Expr) -> Block:
        """The keys in order; `sorted_positions` then has their positions."""
        return tuple(s for p in range(self.passes) for s in self.sort_by(space, p, count))

    def sort_by(self, space: Sequence[Memory], p: int, count: Expr) -> Block:
        before, after = p % 2, 1 - p % 2
        i, d = Var("i"), Var("d")
        total = Counter(f"total{p}")
        starts: Block = (
            *total.begin(Const(0, INDEX)),
            For(
                "d",
                index(1 << self.digit),
                (
                    Let("many", space[4](p, d)),
                    space[4].put(total.now, p, d),
                    total.put(total.now + Var("many")),
                ),
            ),
        )
        # Names of their own for each pass: a loop of one iteration leaves its body behind.
        key, digit, place = Var(f"key{p}", space[0].buffer.dtype), Var(f"d{p}"), Var(f"place{p}")
        moved: Block = (
            Let(key.name, space[before](i)),
            Let(digit.name, self.part(key, p)),
            Let(place.name, space[4](p, digit)),
            space[4].put(place + 1, p, digit),
            space[after].put(key, place),
            space[2 + after].put(space[2 + before](i), place),
        )
        return (For("once", index(1), starts), For("i", count, moved))

    def sorted_positions(self, space: Sequence[Memory]) -> Memory:
        """Where `sort` left the positions."""
        return space[2 + self.passes % 2]
