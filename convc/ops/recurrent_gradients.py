"""The loops backwards through a sequence that make the gates' gradients: see recurrent.py for what they are given.

All take the turned recurrent weights w[g, u], the states y[s, t, n, u] and their gradients dy of the same shape, and
give d[t, n, …], with the first states' gradients in d[T, n]. Where the loop's mask[t, n], if given, is False, d is 0
and the states' gradients stay as they are. A `dropping` one takes kept[n, u] before the mask, as its loop does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from convc.graph.ir import Builder
from convc.graph.op import Op, register, unsupported_gradient
from convc.loops.formula import Memory, Tensor
from convc.loops.ir import Block, Expr, For, Stmt, Var, const, index, select
from convc.ops.base import Array, Names, Types, expect_rank, expect_shape, fail
from convc.ops.gates import ACTIVATIONS, Elements, Part, Tensors
from convc.ops.placing import taken
from convc.ops.recurrent import (
    T,
    Times,
    expect_mask,
    gate_of,
    joined,
    row_of,
    stacked,
    states_between,
    sum_of_products,
)
from convc.ops.values import Value, values
from convc.types import DType, TensorType


@dataclass(frozen=True)
class RecurrenceGradient(Op):
    """Base of the loops backwards. Inputs: what a step's gates came from, then w, y and dy, perhaps a mask."""

    activations: tuple[str, ...] = ()
    reverse: bool = False
    dropping: bool = False
    gates: ClassVar[int] = 1
    """Of the inputs and of the weights."""
    last: ClassVar[int] = 1
    """Of the product that ends a step."""
    width: ClassVar[int] = 1
    """Of the result, in units."""
    states: ClassVar[int] = 1
    given: ClassVar[int] = 1
    """Inputs [t, n, g] before the weights."""

    def infer(self, *types: TensorType) -> Types:
        count = self.given + 3 + self.dropping
        if not count <= len(types) <= count + 1:
            raise fail(self, f"expects {count} inputs, perhaps a mask more, got {len(types)}")
        inputs, w, y, dy = types[: self.given], *types[self.given : self.given + 3]
        expect_rank(self, "w", w, 2)
        expect_rank(self, "y", y, 4)
        units, dtype = w.shape[1], w.dtype
        steps, batch = y.shape[1] - 1, y.shape[2]
        if dtype not in (DType.float32, DType.float64) or not isinstance(units, int):
            raise fail(self, f"w expects float32 or float64 of a known shape, got {w}")
        if not isinstance(steps, int) or {t.dtype for t in types[:count]} != {dtype}:
            raise fail(self, f"expects known steps and one dtype, got {', '.join(map(str, types))}")
        for k, x in enumerate(inputs):
            expect_shape(self, f"x{k}", x, (steps, batch, self.gates * units))
        expect_shape(self, "w", w, (self.gates * units, units))
        if self.dropping:
            expect_shape(self, "kept", types[count - 1], (batch, units))
        expect_mask(self, types[count:], (steps, batch))
        for name, type in (("y", y), ("dy", dy)):
            expect_shape(self, name, type, (self.states, steps + 1, batch, units))
        if set(self.activations) - set(ACTIVATIONS):
            raise fail(self, f"activations expects of {', '.join(ACTIVATIONS)}")
        return (TensorType(dtype, (steps + 1, batch, self.width * units)),)

    def parted(self, operands: Sequence[T]) -> tuple[Sequence[T], T, T, T, T | None, T | None]:
        """The inputs, w, y, dy, what is kept and the mask."""
        w, y, dy, *last = operands[self.given :]
        held = int(self.dropping)
        mask = last[held] if len(last) > held else None
        return operands[: self.given], w, y, dy, last[0] if held else None, mask

    def reference(self, *arrays: Array) -> Array:
        inputs, w, y, dy, kept, mask = self.parted(arrays)
        steps, batch, units = y.shape[1] - 1, y.shape[2], w.shape[1]
        d = np.zeros((steps + 1, batch, self.width * units), w.dtype)
        carried = [np.zeros((batch, units), w.dtype) for _ in range(self.states)]
        for t in range(steps) if self.reverse else reversed(range(steps)):
            old, new = (t + 1, t) if self.reverse else (t, t + 1)
            whole = [carry + dy[s, new] for s, carry in enumerate(carried)]
            held = y[:, old].copy()
            if kept is not None:
                held[0] *= kept
            parts, carried = self.numpy_step([x[t] for x in inputs], held, y[:, new], whole, w)
            carried[0] = (
                carried[0] + np.concatenate(parts[: self.last], -1) @ w[: self.last * units]
            )
            if kept is not None:
                carried[0] = carried[0] * kept
            if mask is not None:
                inside = mask[t, :, None]
                parts = [np.where(inside, part, 0) for part in parts]
                carried = [np.where(inside, k, all) for k, all in zip(carried, whole, strict=True)]
            d[t] = np.concatenate(parts, -1)
        for s, carry in enumerate(carried):
            d[steps, :, s * units : (s + 1) * units] = carry
        return d

    gradient = unsupported_gradient

    def numpy_step(
        self, inputs: list[Array], old: Array, new: Array, whole: list[Array], w: Array
    ) -> tuple[list[Array], list[Array]]:
        """The parts of d, and what goes on to the states before, without the last product's part."""
        raise NotImplementedError

    def procedure(self, d: Memory, space: Sequence[Memory], *operands: Tensor) -> Block:
        inputs, w, y, dy, kept, mask = self.parted(operands)
        n, t, u0 = Var("n"), Var("t"), Var("u0")
        steps, batch, units = dy.shape[1] - 1, dy.shape[2], w.shape[1]
        assert isinstance(steps, int)
        assert isinstance(units, int)
        times = Times.of(index(0) + t if self.reverse else steps - 1 - t, self.reverse)
        row = Row(n, times, steps, units, d, inputs, w, y, dy, kept, mask)
        zero = const(0, w.dtype)
        zeros = tuple(d.put(zero, *row.carried(0, u0 + k * units)) for k in range(self.width))
        nests = self.nests(row, space)
        body: Block = (For("u0", index(units), zeros), For("t", index(steps), nests))
        return (For("n", index(batch), body),)

    def nests(self, row: Row, space: Sequence[Memory]) -> Block:
        """A step of a row: what the gates get, then the product of that with the weights."""
        u, e = Var("u"), Elements()
        whole = [e.let(f"d{s}", row.whole(s, u)) for s in range(self.states)]
        given = [row.gate(k, u) for k in range(self.given)]
        parts, passing = self.step(e, given, row.old(u), row.new(u), whole)
        if row.mask is not None:
            parts, passing = passed(e, e.let("inside", row.inside(row.mask)), parts, passing, whole)
        stores = [row.put_part(k, u, part) for k, part in enumerate(parts)]
        stores += [row.d.put(value, *row.carried(s, u)) for s, value in enumerate(passing)]
        return For("u", index(row.units), (*e.block, *stores)), row.back(self.last)

    def decompose(self, builder: Builder, *operands: str) -> Names:
        inputs, w, y, dy, kept, mask = self.parted(values(builder, operands))
        e = Tensors()
        steps, units = dy.shape[1] - 1, w.shape[1]
        assert isinstance(steps, int)
        assert isinstance(units, int)

        def states(x: Value, t: int) -> Part:
            return lambda s: states_between(x, s, t, t + 1).reshape(x.shape[2:])

        def held(t: int) -> Part:
            return lambda s: states(y, t)(s) if s or kept is None else states(y, t)(0) * kept

        zero = e.zero(states(dy, 0)(0))
        carried = [zero] * self.states
        made: dict[int, Value] = {}
        for t in range(steps) if self.reverse else reversed(range(steps)):
            old, new = (t + 1, t) if self.reverse else (t, t + 1)
            whole = [carry + states(dy, new)(s) for s, carry in enumerate(carried)]
            given = [gate_of(row_of(x, t), units) for x in inputs]
            parts, carried = self.tensor_step(e, given, held(old), states(y, new), whole, w)
            back = joined(parts[: self.last], 1).matmul(taken(w, 0, 0, self.last * units))
            carried[0] = carried[0] + back
            if kept is not None:
                carried[0] = carried[0] * kept
            if mask is not None:
                parts, carried = passed(e, row_of(mask, t), parts, carried, whole)
            made[t] = joined(parts, 1)
        last = joined([*carried, *[zero] * (self.width - self.states)], 1)
        return (stacked([*(made[t] for t in range(steps)), last], 0).name,)

    def tensor_step(
        self, e: Tensors, given: list[Part], old: Part, new: Part, whole: list[Any], w: Value
    ) -> tuple[list[Any], list[Any]]:
        """`step`, with the turned weights."""
        return self.step(e, given, old, new, whole)

    def step(
        self, e: Elements, given: list[Part], old: Part, new: Part, whole: list[Any]
    ) -> tuple[list[Any], list[Any]]:
        """The same: `given[k](g)` is gate g of input k, `old(s)` and `new(s)` are states."""
        raise NotImplementedError


@dataclass(frozen=True)
class Row:
    """What a step of row n reads and writes, element by element: the operands and the result as memory."""

    n: Expr
    times: Times
    steps: int
    units: int
    d: Memory
    inputs: Sequence[Tensor]
    w: Tensor
    y: Tensor
    dy: Tensor
    kept: Tensor | None
    mask: Tensor | None

    def carried(self, s: int, j: Expr) -> tuple[Expr, ...]:
        """The place of the gradient of state s that comes from later steps."""
        return (index(self.steps), self.n, j + s * self.units)

    def whole(self, s: int, u: Expr) -> Expr:
        return self.d(*self.carried(s, u)) + self.dy(s, self.times.new, self.n, u)

    def inside(self, mask: Tensor) -> Expr:
        return mask(self.times.at, self.n)

    def gate(self, k: int, u: Expr) -> Part:
        return lambda g: self.inputs[k](self.times.at, self.n, u + g * self.units)

    def old(self, u: Expr) -> Part:
        """The states that the step takes: of the output, what is kept."""

        def part(s: int) -> Expr:
            state = self.y(s, self.times.old, self.n, u)
            return state if s or self.kept is None else state * self.kept(self.n, u)

        return part

    def new(self, u: Expr) -> Part:
        return lambda s: self.y(s, self.times.new, self.n, u)

    def part(self, k: int, u: Expr) -> tuple[Expr, ...]:
        """The place of part k of the step's result."""
        return (self.times.at, self.n, u + k * self.units)

    def put_part(self, k: int, u: Expr, value: Expr) -> Stmt:
        return self.d.put(value, *self.part(k, u))

    def back(self, gates: int) -> Stmt:
        """The nest that adds what the first `gates` parts give the output before by the weights."""

        def put(j: Expr, total: Expr) -> Stmt:
            if self.kept is not None:
                lost = total * self.kept(self.n, j)
                total = lost if self.mask is None else select(self.inside(self.mask), lost, total)
            return self.d.put(total, *self.carried(0, j))

        return sum_of_products(
            "b", self.units, gates * self.units, lambda j: self.d(*self.carried(0, j)),
            lambda j, k: (self.d(self.times.at, self.n, k), self.w(k, j)), put,
        )  # fmt: skip


def passed(
    e: Elements, inside: Any, parts: list[Any], kept: list[Any], whole: list[Any]
) -> tuple[list[Any], list[Any]]:
    """A step's parts and what goes on, where the step is inside; else no parts, and all goes on."""
    return (
        [e.where(inside, part, e.zero(part)) for part in parts],
        [e.where(inside, k, w) for k, w in zip(kept, whole, strict=True)],
    )


@register
@dataclass(frozen=True)
class RnnLoopGradient(RecurrenceGradient):
    """Of RnnLoop, from the states alone."""

    activations: tuple[str, ...] = ("tanh",)
    given = 0

    def numpy_step(
        self, inputs: list[Array], old: Array, new: Array, whole: list[Array], w: Array
    ) -> tuple[list[Array], list[Array]]:
        slope = ACTIVATIONS[self.activations[0]].numpy_slope(new[0])
        return [whole[0] * slope], [np.zeros_like(whole[0])]

    def step(
        self, e: Elements, given: list[Part], old: Part, new: Part, whole: list[Any]
    ) -> tuple[list[Any], list[Any]]:
        slope = ACTIVATIONS[self.activations[0]].slope
        return [e.let("dx", whole[0] * slope(new(0)))], [e.zero(whole[0])]


@register
@dataclass(frozen=True)
class LstmLoopGradient(RecurrenceGradient):
    """Of LstmLoop; the input is what its gates are functions of."""

    activations: tuple[str, ...] = ("sigmoid", "tanh", "tanh")
    gates = last = width = 4
    states = 2

    def numpy_step(
        self, inputs: list[Array], old: Array, new: Array, whole: list[Array], w: Array
    ) -> tuple[list[Array], list[Array]]:
        gate, inner, outer = (ACTIVATIONS[name] for name in self.activations)
        i, f, g, o = np.split(inputs[0], 4, -1)
        i, f, g, o = gate.numpy(i), gate.numpy(f), inner.numpy(g), gate.numpy(o)
        k = outer.numpy(new[1])
        dc = whole[1] + whole[0] * o * outer.numpy_slope(k)
        parts = [
            dc * g * gate.numpy_slope(i),
            dc * old[1] * gate.numpy_slope(f),
            dc * i * inner.numpy_slope(g),
            whole[0] * k * gate.numpy_slope(o),
        ]
        return parts, [np.zeros_like(dc), dc * f]

    def step(
        self, e: Elements, given: list[Part], old: Part, new: Part, whole: list[Any]
    ) -> tuple[list[Any], list[Any]]:
        names = self.activations
        gate, inner, outer = (ACTIVATIONS[name].slope for name in names)
        functions = (names[0], names[0], names[1], names[0])
        i, f, g, o = (
            e.let(letter, e.activated(name, given[0](k)))
            for k, (letter, name) in enumerate(zip("ifgo", functions, strict=True))
        )
        k = e.let("k", e.activated(names[2], new(1)))
        dc = e.let("dc", e.fma(whole[0] * o, outer(k), whole[1]))
        parts = [
            e.let("di", dc * g * gate(i)),
            e.let("df", dc * old(1) * gate(f)),
            e.let("dg", dc * i * inner(g)),
            e.let("do", whole[0] * k * gate(o)),
        ]
        return parts, [e.zero(dc), e.let("kept", dc * f)]


@register
@dataclass(frozen=True)
class GruLoopGradient(RecurrenceGradient):
    """Of GruLoop; the inputs are x and the recurrent product with its bias.

    The parts are the gradients of the product's gates z, r, h, and of x's gate h.
    """

    activations: tuple[str, ...] = ("sigmoid", "tanh")
    gates = last = 3
    width = 4
    given = 2

    def numpy_step(
        self, inputs: list[Array], old: Array, new: Array, whole: list[Array], w: Array
    ) -> tuple[list[Array], list[Array]]:
        gate, inner = (ACTIVATIONS[name] for name in self.activations)
        (xz, xr, xh), (mz, mr, mh) = (np.split(x, 3, -1) for x in inputs)
        z, r = gate.numpy(xz + mz), gate.numpy(xr + mr)
        fresh = inner.numpy(xh + r * mh)
        dfresh = whole[0] * (1 - z) * inner.numpy_slope(fresh)
        dz = whole[0] * (old[0] - fresh) * gate.numpy_slope(z)
        dr = dfresh * mh * gate.numpy_slope(r)
        return [dz, dr, dfresh * r, dfresh], [whole[0] * z]

    def step(
        self, e: Elements, given: list[Part], old: Part, new: Part, whole: list[Any]
    ) -> tuple[list[Any], list[Any]]:
        names = self.activations
        gate, inner = (ACTIVATIONS[name].slope for name in names)
        x, product = given
        z, r = (
            e.let(letter, e.activated(names[0], x(k) + product(k))) for k, letter in enumerate("zr")
        )
        fresh = e.let("fresh", e.activated(names[1], e.fma(r, product(2), x(2))))
        dfresh = e.let("dfresh", whole[0] * (1 - z) * inner(fresh))
        parts = [
            e.let("dz", whole[0] * (old(0) - fresh) * gate(z)),
            e.let("dr", dfresh * product(2) * gate(r)),
            e.let("dm", dfresh * r),
            dfresh,
        ]
        return parts, [e.let("kept", whole[0] * z)]
