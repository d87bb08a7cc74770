"""Operators that data steer through memory: sorting, collecting, scattering. Their work is in line with their data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from convc.errors import UnsupportedError
from convc.graph.ir import Builder
from convc.graph.op import Op, no_gradient, register
from convc.loops.formula import Memory, Tensor
from convc.loops.ir import (
    INDEX,
    Block,
    Const,
    Expr,
    For,
    If,
    Let,
    Stmt,
    Var,
    binary,
    const,
    index,
    maximum,
    minimum,
)
from convc.ops.base import (
    Array,
    Gradients,
    Names,
    Types,
    axis_of,
    cast,
    computable,
    expect_number,
    fail,
)
from convc.ops.radix import Counter, Radix, key_dtype, sort_key
from convc.ops.values import Value, values
from convc.types import DType, Shape, TensorType


def each(names: Sequence[str], shape: Shape, body: Block) -> Block:
    """A block for every index of a shape; the loops' variables have the names."""
    for name, extent in reversed(list(zip(names, shape, strict=True))):
        body = (For(name, index(extent), body),)
    return body


RUN = 16
"""Elements of a run of the last dimension, which compute neighbours."""

CHUNK = 4 * RUN
"""Elements of which `Leading` looks at the first in order before it looks at each."""


def runs(shape: Shape, make: Callable[..., Stmt]) -> Block:
    """`make(i, j, …)` for every index of a shape, the last dimension in runs."""
    if not shape:
        return (make(),)
    *others, last = shape
    names = [f"r{d}" for d in range(len(others))]
    at, place = [Var(n) for n in names], Var("l")
    if not isinstance(last, int) or last <= RUN:
        return each([*names, "l"], shape, (make(*at, place),))
    whole, rest = divmod(last, RUN)
    run = For("l", index(RUN), (make(*at, Var("q") * RUN + place),))
    parts: Block = (For("q", index(whole), (run,)),)
    if rest:
        parts = (*parts, For("l", index(rest), (make(*at, place + whole * RUN),)))
    return each(names, tuple(others), parts)


@register
@dataclass(frozen=True)
class Order(Op):
    """The positions (int64) that put x in order along an axis; equal elements stay as they were, and so do NaNs.

    A NaN is above all numbers. A radix sort (Knuth, The Art of Computer Programming 3, 5.2.5).
    """

    axis: int = 0
    descending: bool = False

    def infer(self, x: TensorType) -> Types:
        axis = axis_of(self, self.axis, x.rank)
        if not isinstance(x.shape[axis], int) or x.shape[axis] >= 1 << 31:  # type: ignore[operator]
            raise fail(self, f"x expects less than 2**31 elements along axis {axis}, got {x}")
        return (TensorType(DType.int64, x.shape),)

    def reference(self, x: Array) -> Array:
        keys = np.moveaxis(x, self.axis, -1)
        keys = keys.astype(np.float64) if DType.of(x.dtype).is_float else keys
        if self.descending:
            backwards = np.argsort(keys[..., ::-1], axis=-1, kind="stable")[..., ::-1]
            order = keys.shape[-1] - 1 - backwards
        else:
            order = np.argsort(keys, axis=-1, kind="stable")
        return np.asarray(np.moveaxis(order, -1, self.axis), np.int64)

    gradient = no_gradient

    def radix(self, dtype: DType, shape: Shape) -> Radix:
        extent = shape[self.axis]
        assert isinstance(extent, int)
        return Radix.of(dtype, extent)

    def workspace(self, x: TensorType) -> tuple[TensorType, ...]:
        return self.radix(x.dtype, x.shape).workspace()

    def procedure(self, y: Memory, space: Sequence[Memory], x: Tensor) -> Block:
        axis = axis_of(self, self.axis, x.rank)
        radix, count = self.radix(x.dtype, x.shape), index(x.shape[axis])
        names = [f"r{d}" for d in range(x.rank)]
        at: list[Expr] = [Var(n) for n in names]
        at[axis] = Var("i")
        taken = radix.take(space, Var("i"), sort_key(x(*at), self.descending), Var("i"))
        ordered = radix.sorted_positions(space)
        row: Block = (
            radix.clear(space),
            For("i", count, taken),
            *radix.sort(space, count),
            For("i", count, (y.put(cast(ordered(Var("i")), INDEX), *at),)),
        )
        others = [d for d in range(x.rank) if d != axis]
        return each([names[d] for d in others], [x.shape[d] for d in others], row)  # type: ignore[arg-type]


@register
@dataclass(frozen=True)
class Leading(Op):
    """The first `count` positions (int64) of `Order`: those of the largest elements, or of the smallest.

    A few more keys than wanted are kept, of which those behind the last wanted one make room from time to time, by a
    sort. So most elements are compared once with that one's key: the time is in line with the axis, and little more.
    """

    axis: int = 0
    count: int = 1
    descending: bool = True

    def infer(self, x: TensorType) -> Types:
        (order,) = self.order.infer(x)
        axis = axis_of(self, self.axis, x.rank)
        if not 1 <= self.count <= order.shape[axis]:  # type: ignore[operator]
            raise fail(self, f"count expects 1 to {order.shape[axis]}, got {self.count}")
        return (TensorType(DType.int64, (*x.shape[:axis], self.count, *x.shape[axis + 1 :])),)

    @property
    def order(self) -> Order:
        return Order(self.axis, self.descending)

    def reference(self, x: Array) -> Array:
        return np.take(self.order.reference(x), np.arange(self.count), self.axis)

    gradient = no_gradient

    def radix(self, dtype: DType) -> Radix:
        return Radix(dtype, max(4 * self.count, 2 * self.count + 16 * CHUNK))

    def workspace(self, x: TensorType) -> tuple[TensorType, ...]:
        """What the sort needs, and the least keys of a chunk, of each place in a run."""
        return (*self.radix(x.dtype).workspace(), TensorType(key_dtype(x.dtype), (RUN,)))

    def procedure(self, y: Memory, space: Sequence[Memory], x: Tensor) -> Block:
        axis = axis_of(self, self.axis, x.rank)
        extent, radix, unsigned = x.shape[axis], self.radix(x.dtype), key_dtype(x.dtype)
        assert isinstance(extent, int)
        names = [f"r{d}" for d in range(x.rank)]
        others = [d for d in range(x.rank) if d != axis]

        def along(position: Expr) -> list[Expr]:
            return [position if d == axis else Var(n) for d, n in enumerate(names)]

        def key(position: Expr) -> Expr:
            return sort_key(x(*along(position)), self.descending)

        kept, worst, c = Counter("kept"), Counter("worst", unsigned), Var("c")
        chunks = -(-extent // CHUNK)
        left = minimum(index(CHUNK), index(extent) - c * CHUNK)
        look: Block = (For("j", left, self.taken(key, space, kept, worst)),)
        if extent >= CHUNK:
            look = self.filtered(key, extent, space[5], kept, worst, look)
        is_full = index(radix.most - CHUNK) < kept.now
        room = If(is_full | c.eq(index(chunks - 1)), self.make_room(radix, space, kept, worst))
        result = y.put(cast(space[2](Var("o")), INDEX), *along(Var("o")))
        row: Block = (
            *kept.begin(Const(0, INDEX)),
            *worst.begin(const((1 << 8 * unsigned.itemsize) - 1, unsigned)),
            For("c", index(chunks), (*look, room)),
            For("o", index(self.count), (result,)),
        )
        return each([names[d] for d in others], [x.shape[d] for d in others], row)  # type: ignore[arg-type]

    def taken(
        self, key: Callable[[Expr], Expr], space: Sequence[Memory], kept: Counter, worst: Counter
    ) -> Block:
        """Element j of a chunk is kept, if it is before the last that is wanted or there are too few yet."""
        e, mine = Var("e"), Var("mine", worst.dtype)
        keep: Block = (
            Let("at", kept.now),
            space[0].put(mine, Var("at")),
            space[2].put(cast(e, DType.int32), Var("at")),
            kept.put(Var("at") + 1),
        )
        wanted = (mine < worst.now) | (kept.now < index(self.count))
        return (Let("e", Var("c") * CHUNK + Var("j")), Let("mine", key(e)), If(wanted, keep))

    def filtered(
        self,
        key: Callable[[Expr], Expr],
        extent: int,
        low: Memory,
        kept: Counter,
        worst: Counter,
        look: Block,
    ) -> Block:
        """A chunk whose least key isn't wanted is left out. The last one is taken with what stands before it."""
        place = Var("l")
        parts = [key(Var("from") + (q * RUN + place)) for q in range(CHUNK // RUN)]
        least = reduce(minimum, parts)
        lows = reduce(minimum, [low(k) for k in range(RUN)])
        wanted = (Var("least", worst.dtype) < worst.now) | (kept.now < index(self.count))
        return (
            Let("from", minimum(Var("c") * CHUNK, index(extent - CHUNK))),
            For("l", index(RUN), (low.put(least, place),)),
            Let("least", lows),
            If(wanted, look),
        )

    def make_room(
        self, radix: Radix, space: Sequence[Memory], kept: Counter, worst: Counter
    ) -> Block:
        """Sorts the keys and leaves the first ones."""
        a, count = Var("a"), index(self.count)
        again: Block = radix.take(space, a, space[0](a), space[2](a))
        odd = radix.passes % 2
        back = (space[0].put(space[odd](a), a), space[2].put(space[2 + odd](a), a))
        return (
            radix.clear(space),
            For("a", kept.now, again),
            *radix.sort(space, kept.now),
            *([For("a", minimum(kept.now, count), back)] if odd else []),
            If(
                count <= kept.now,
                (kept.put(count), worst.put(space[0](count - 1))),
            ),
        )


@register
@dataclass(frozen=True)
class Positions(Op):
    """The first `count` positions (int64) at which x[n] is true, ascending; -1 where there are no more."""

    count: int = 0

    def infer(self, x: TensorType) -> Types:
        if x.dtype is not DType.bool or x.rank != 1:
            raise fail(self, f"x expects bools of rank 1, got {x}")
        if self.count < 0:
            raise fail(self, f"count expects a number from 0, got {self.count}")
        return (TensorType(DType.int64, (self.count,)),)

    def reference(self, x: Array) -> Array:
        found = np.flatnonzero(x)[: self.count]
        rest = np.full(self.count - len(found), -1)
        return np.concatenate([found, rest]).astype(np.int64)

    gradient = no_gradient

    def procedure(self, y: Memory, space: Sequence[Memory], x: Tensor) -> Block:
        i, found = Var("i"), Counter("found")
        hit: Block = (Let("at", found.now), y.put(i, Var("at")), found.put(Var("at") + 1))
        take = If(x(i) & (found.now < index(self.count)), hit)
        search: Block = (*found.begin(Const(0, INDEX)), For("i", index(x.shape[0]), (take,)))
        return (
            For("k", index(self.count), (y.put(-1, Var("k")),)),
            For("once", index(1), search),
        )


def positions(builder: Builder, updates: Value) -> Value:
    """Which update each element of updates[k, r] belongs to: k (int64)."""
    (count, _), shape = updates.shape, updates.shape
    if not isinstance(count, int):
        raise UnsupportedError(
            f"scatter: the gradient expects a known number of updates, got {updates.type}"
        )
    number = Value(builder, builder.weight("number", np.arange(count, dtype=np.int64)[:, None]))
    return number.broadcast(shape)


REDUCTIONS = ("none", "add", "mul", "max", "min")


@register
@dataclass(frozen=True)
class Scatter(Op):
    """x[p, r], in which updates[k, r] are put at p = indices[k, r or 0], one k after the other.

    `reduction`: none (the last one stays), or add, mul, max, min with what is there. An update whose index is outside
    of x is left out.
    """

    reduction: str = "none"

    def infer(self, x: TensorType, indices: TensorType, updates: TensorType) -> Types:
        if self.reduction not in REDUCTIONS:
            raise fail(
                self, f"reduction expects one of {', '.join(REDUCTIONS)}, got {self.reduction!r}"
            )
        if self.reduction != "none":
            expect_number(self, "x", x)
        fits = indices.rank == updates.rank == x.rank == 2 and updates.shape[0] == indices.shape[0]
        if not fits or updates.shape[1] != x.shape[1] or indices.shape[1] not in (1, x.shape[1]):
            raise fail(self, f"x {x}, indices {indices} and updates {updates} do not fit")
        if indices.dtype is not DType.int64 or updates.dtype is not x.dtype:
            raise fail(
                self,
                f"expects int64 indices and updates of {x.dtype.value}, got {indices}, {updates}",
            )
        return (x,)

    def reference(self, x: Array, indices: Array, updates: Array) -> Array:
        result = x.copy()
        rows = np.broadcast_to(indices, updates.shape)
        columns = np.broadcast_to(np.arange(x.shape[1]), updates.shape)
        inside = (rows >= 0) & (rows < x.shape[0])
        where = (rows[inside], columns[inside])
        if self.reduction == "none":
            result[where] = updates[inside]  # numpy keeps the last of several, too
            return result
        apply = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}
        apply[self.reduction].at(result, where, updates[inside])
        return result

    def gradient(
        self, builder: Builder, inputs: Names, outputs: Names, output_gradients: Names
    ) -> Gradients:
        """Of several updates in one place only what stays has a gradient: the last one, or the extreme ones."""
        x, indices, updates, y, dy = values(builder, (*inputs, *outputs, *output_gradients))
        rows = x.shape[0]
        if not isinstance(rows, int):
            raise fail(self, f"the gradient expects x of a known number of rows, got {x.type}")
        at = indices.broadcast(updates.shape)
        inside = (at < rows) & (at.constant(-1) < at)
        nearest = at.maximum(0).minimum(rows - 1)

        def taken(value: Value) -> Value:
            return inside.where(value.apply("gather_elements", nearest, axis=0), 0)

        match self.reduction:
            case "add":
                dx, dupdates = dy, taken(dy)
            case "mul":
                dx, dupdates = dy * y / x, taken(dy * y) / updates
            case "none":
                zeros = updates.constant(0).broadcast(updates.shape)
                number = positions(builder, updates)
                nowhere = number.constant(-1).broadcast(x.shape)
                last = taken(nowhere.apply("scatter", indices, number)).equal(number)
                dx = dy.apply("scatter", indices, zeros)
                dupdates = (last & inside).where(taken(dy), 0)
            case _:
                dx = x.equal(y).where(dy, 0)
                dupdates = (updates.equal(taken(y)) & inside).where(taken(dy), 0)
        return (dx.name, None, dupdates.name)

    def procedure(
        self, y: Memory, space: Sequence[Memory], x: Tensor, indices: Tensor, updates: Tensor
    ) -> Block:
        p, k, r, at = Var("p"), Var("k"), Var("r"), Var("at")
        width, shared = index(x.shape[1]), indices.shape[1] == 1
        put: Stmt = y.put(self.combined(y(at, r), updates(k, r)), at, r)
        inside = (index(0) <= at) & (at < index(x.shape[0]))
        where = Let("at", indices(k, index(0) if shared else r))
        if shared:

            def combine(r: Expr) -> Stmt:
                return y.put(self.combined(y(at, r), updates(k, r)), at, r)

            step: Block = (where, If(inside, runs(x.shape[1:], combine)))
        else:
            step = (For("r", width, (where, If(inside, (put,)))),)
        copied = runs(x.shape[1:], lambda r: y.put(x(p, r), p, r))
        copy = For("p", index(x.shape[0]), copied)
        return (copy, For("k", index(indices.shape[0]), step))

    def combined(self, old: Expr, update: Expr) -> Expr:
        if self.reduction == "none":
            return update
        a, b = computable(old), computable(update)
        combine = {"max": maximum, "min": minimum}.get(self.reduction)
        if combine is not None:
            return cast(combine(a, b), old.dtype)
        return cast(binary("+" if self.reduction == "add" else "*", a, b), old.dtype)
