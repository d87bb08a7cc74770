"""Operators that data steer through memory: sorting, collecting, scattering. Their work is in line with their data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
from convc.ops.radix import Counter, Radix, sort_key
from convc.ops.values import Value, values
from convc.types import DType, Shape, TensorType


def each(names: Sequence[str], shape: Shape, body: Block) -> Block:
    """A block for every index of a shape; the loops' variables have the names."""
    for name, extent in reversed(list(zip(names, shape, strict=True))):
        body = (For(name, index(extent), body),)
    return body


RUN = 16
"""Elements of a run of the last dimension, which become lanes."""


def runs(shape: Shape, make: Callable[..., Stmt]) -> Block:
    """`make(i, j, …)` for every index of a shape, the last dimension in runs."""
    if not shape:
        return (make(),)
    *others, last = shape
    names = [f"r{d}" for d in range(len(others))]
    at, lane = [Var(n) for n in names], Var("l")
    if not isinstance(last, int) or last <= RUN:
        return each([*names, "l"], shape, (make(*at, lane),))
    whole, rest = divmod(last, RUN)
    run = For("l", index(RUN), (make(*at, Var("q") * RUN + lane),))
    parts: Block = (For("q", index(whole), (run,)),)
    if rest:
        parts = (*parts, For("l", index(rest), (make(*at, lane + whole * RUN),)))
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
