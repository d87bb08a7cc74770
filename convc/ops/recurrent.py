"""Recurrent layers: one loop over the steps of a sequence, its gradient a loop the other way.

The products of all steps' inputs stand outside, one matrix product over the whole sequence: x[t, n, g] holds them, the
gates side by side. What is left goes from step to step: a product of a state with the recurrent weights, and the gates.
The result holds every state, the first one too: y[s, t, n, u], s the state (the output h first), t from 0 to T. A
`reverse` recurrence begins at the end: step t goes from y[:, t + 1] to y[:, t], otherwise from y[:, t] to y[:, t + 1].
With a mask[t, n] of booleans, the last operand where it is given, states stay as they were in steps where it is False.
A `dropping` recurrence has an operand more, behind the states: kept[n, u], by which each step multiplies the output
that it takes (Gal & Ghahramani, 2016). It is drawn, and gets no gradient.

Backpropagation through time (Werbos, 1990): the states are kept, the gates computed again from them in one product. The
gradient's loop gives the gates' gradients d[t, n, g] for all steps, from which one product each makes the gradients of
weights and inputs; behind them, d[T, n] holds the gradients that the first states get through step one: of h first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, TypeVar

import numpy as np

from convc.graph.ir import Builder
from convc.graph.op import Op, register, unsupported_gradient
from convc.loops.formula import At, Memory, Tensor
from convc.loops.ir import (
    Alloc,
    Block,
    Buffer,
    Expr,
    For,
    Load,
    Space,
    Stmt,
    Store,
    Var,
    fma,
    index,
)
from convc.ops.base import Array, Gradients, Names, Types, expect_rank, expect_shape, fail
from convc.ops.gates import ACTIVATIONS, Elements, Part, Tensors
from convc.ops.placing import taken
from convc.ops.values import Value, values
from convc.types import DType, Shape, TensorType, size_of

T = TypeVar("T")


@dataclass(frozen=True)
class Times:
    """The indices of a step: `at` of its inputs, `old` of the states that it takes, `new` of those that it makes."""

    at: Expr
    old: Expr
    new: Expr

    @staticmethod
    def of(at: Expr, reverse: bool) -> Times:
        return Times(at, at + 1, at) if reverse else Times(at, at, at + 1)


@dataclass(frozen=True)
class Recurrence(Op):
    """Base of the loops over x[t, n, g], with recurrent weights r[u, g], first states [n, u] and perhaps mask[t, n]."""

    activations: tuple[str, ...] = ()
    reverse: bool = False
    dropping: bool = False
    gates: ClassVar[int] = 1
    states: ClassVar[int] = 1
    functions: ClassVar[int] = 1
    biased: ClassVar[bool] = False
    """Whether a bias [g] of the recurrent product follows the weights."""

    def infer(self, x: TensorType, r: TensorType, *rest: TensorType) -> Types:
        units = self.units(x)
        expect_shape(self, "r", r, (units, self.gates * units))
        names = ["bias"] * self.biased + ["h", "c"][: self.states] + ["kept"] * self.dropping
        count = len(names)
        if not count <= len(rest) <= count + 1:
            raise fail(
                self, f"expects {2 + count} inputs, perhaps a mask more, got {2 + len(rest)}"
            )
        for name, type in zip(names, rest, strict=False):
            shape = (self.gates * units,) if name == "bias" else (x.shape[1], units)
            expect_shape(self, name, type, shape)
        expect_mask(self, rest[count:], x.shape[:2])
        for type in (r, *rest[:count]):
            if type.dtype is not x.dtype:
                raise fail(self, f"expects one dtype, got {x.dtype.value} and {type.dtype.value}")
        unknown = set(self.activations) - set(ACTIVATIONS)
        if unknown or len(self.activations) != self.functions:
            known = ", ".join(ACTIVATIONS)
            raise fail(
                self, f"activations expects {self.functions} of {known}, got {self.activations}"
            )
        return (TensorType(x.dtype, (self.states, steps_of(x) + 1, x.shape[1], units)),)

    def units(self, x: TensorType) -> int:
        """The width of a state; an OpError for an x that no such loop takes."""
        expect_rank(self, "x", x, 3)
        steps, _, width = x.shape
        if x.dtype not in (DType.float32, DType.float64):
            raise fail(self, f"x expects float32 or float64, got {x.dtype.value}")
        if not isinstance(steps, int) or not isinstance(width, int) or width % self.gates:
            raise fail(self, f"x expects known steps and {self.gates} gates side by side, got {x}")
        return width // self.gates

    def parted(self, rest: Sequence[T]) -> tuple[T | None, Sequence[T], T | None, T | None]:
        """The bias, the first states, what is kept and the mask, of what follows x and r."""
        own, held = int(self.biased), int(self.dropping)
        first, last = rest[own : own + self.states], rest[own + self.states :]
        kept = last[0] if held else None
        return rest[0] if own else None, first, kept, last[held] if len(last) > held else None

    def reference(self, x: Array, r: Array, *rest: Array) -> Array:
        bias, first, kept, mask = self.parted(rest)
        steps = x.shape[0]
        y = np.zeros((self.states, steps + 1, *first[0].shape), x.dtype)
        y[:, steps if self.reverse else 0] = np.stack(first)
        for t in reversed(range(steps)) if self.reverse else range(steps):
            old, new = (t + 1, t) if self.reverse else (t, t + 1)
            held = y[:, old].copy()
            if kept is not None:
                held[0] *= kept
            product = self.numpy_product(x[t], held[0], r)
            made = self.numpy_step(x[t], product if bias is None else product + bias, held)
            y[:, new] = made if mask is None else np.where(mask[t, :, None], made, y[:, old])
        return y

    def numpy_product(self, x: Array, h: Array, r: Array) -> Array:
        """The recurrent product of all gates of a step."""
        return np.asarray(h @ r)

    def numpy_step(self, x: Array, product: Array, old: Array) -> list[Array]:
        """The new states from a step's inputs, the recurrent product and the old states."""
        raise NotImplementedError

    def numpy_gates(self, x: Array) -> list[Array]:
        return np.split(x, self.gates, -1)

    def workspace(self, x: TensorType, *rest: TensorType) -> tuple[TensorType, ...]:
        state = TensorType(x.dtype, (x.shape[1], self.units(x)))
        return TensorType(x.dtype, x.shape[1:]), *[state] * self.dropping

    def procedure(
        self, y: Memory, space: Sequence[Memory], x: Tensor, r: Tensor, *rest: Tensor
    ) -> Block:
        n, t, u = Var("n"), Var("t"), Var("u")
        bias, first, kept, mask = self.parted(rest)
        steps, batch, width = x.shape
        assert isinstance(steps, int)
        assert isinstance(width, int)
        units = width // self.gates
        times = Times.of(steps - 1 - t if self.reverse else index(0) + t, self.reverse)
        start = steps if self.reverse else 0
        begin = tuple(y.put(h(n, Var("u0")), s, start, n, Var("u0")) for s, h in enumerate(first))
        product, *held = space

        def before(k: Expr) -> Expr:
            return y(0, times.old, n, k) if kept is None else held[0](n, k)

        def added(g: Expr) -> Expr:
            return x(times.at, n, g) if bias is None else bias(g)

        nests = self.products(space, n, units, before, added, r)
        if kept is not None:
            of = Var("k0")
            value = y(0, times.old, n, of) * kept(n, of)
            nests = (For("k0", index(units), (held[0].put(value, n, of),)), *nests)
        e = Elements()
        made = self.step(
            e,
            lambda k: x(times.at, n, u + k * units),
            lambda k: product(n, u + k * units),
            lambda s: before(u) if s == 0 else y(s, times.old, n, u),
        )
        if mask is not None:
            inside = e.let("inside", mask(times.at, n))
            made = [e.where(inside, new, y(s, times.old, n, u)) for s, new in enumerate(made)]
        stores = [y.put(value, s, times.new, n, u) for s, value in enumerate(made)]
        row: Block = (
            For("u0", index(units), begin),
            For("t", index(steps), (*nests, For("u", index(units), (*e.block, *stores)))),
        )
        return (For("n", index(batch), row),)

    def products(
        self,
        space: Sequence[Memory],
        n: Expr,
        units: int,
        h: Callable[[Expr], Expr],
        added: Callable[[Expr], Expr],
        r: Tensor,
    ) -> Block:
        """The nests of a step that put h(k) @ r + added(g) into the workspace [n, g]."""
        width = self.gates * units
        put = partial(put_at, space[0], n)
        return (sum_of_products("g", width, units, added, lambda g, k: (h(k), r(k, g)), put),)

    def step(self, e: Elements, x: Part, product: Part, old: Part) -> list[Any]:
        """The new states. `x(k)` and `product(k)` are gate k; where no bias is given, x is in the product."""
        raise NotImplementedError

    def decompose(self, builder: Builder, *operands: str) -> Names:
        x, r, *rest = values(builder, operands)
        bias, first, kept, mask = self.parted(rest)
        states, e = list(first), Tensors()
        steps, batch, width = x.shape
        assert isinstance(steps, int)
        units = r.shape[0]
        assert isinstance(units, int)
        made = [[s] for s in states]
        for t in reversed(range(steps)) if self.reverse else range(steps):
            now = taken(x, 0, t, t + 1).reshape((batch, width))
            held = states if kept is None else [states[0] * kept, *states[1:]]
            product = self.product(now, held[0], r)
            added = product + (now if bias is None else bias)
            new = self.step(e, gate_of(now, units), gate_of(added, units), held.__getitem__)
            if mask is not None:
                inside = row_of(mask, t)
                new = [e.where(inside, n, old) for n, old in zip(new, states, strict=True)]
            states = new
            for all, state in zip(made, states, strict=True):
                all.append(state)
        if self.reverse:
            made = [all[::-1] for all in made]
        whole = [stacked([stacked(all, 0)], 0) for all in made]
        return (joined(whole, 0).name,)

    def product(self, x: Value, h: Value, r: Value) -> Value:
        """The recurrent product of all gates, of one step or of several: h [..., u]."""
        return h.matmul(r)

    def loop_of(
        self, builder: Builder, inputs: Names, outputs: Names, output_gradients: Names
    ) -> tuple[Loop, Value | None]:
        """What the gradient is made of, and the bias."""
        x, r, *rest = values(builder, inputs)
        bias, _, kept, mask = self.parted(rest)
        y, dy = values(builder, (*outputs, *output_gradients))
        return Loop(x, r, y, dy, kept, mask, self.reverse), bias


def states_between(y: Value, state: int, first: int, end: int) -> Value:
    """One state of y[s, t, n, u] at the times from `first` to `end`: [t, n, u]."""
    starts, ends = (state, first, None, None), (state + 1, end, None, None)
    part = y.apply("slice", starts=starts, ends=ends, steps=(1, 1, 1, 1))
    return part.reshape((end - first, *y.shape[2:]))


def expect_mask(op: Op, given: Sequence[TensorType], shape: Shape) -> None:
    """That what was given, if it was, is a mask of that shape [t, n]; an OpError otherwise."""
    for type in given:
        expect_shape(op, "mask", type, shape)
        if type.dtype is not DType.bool:
            raise fail(op, f"mask expects bool, got {type.dtype.value}")


def row_of(x: Value, t: int) -> Value:
    """x[t] of a tensor [t, …]."""
    return taken(x, 0, t, t + 1).reshape(x.shape[1:])


def gate_of(x: Value, units: int) -> Part:
    """Gate k of a tensor that has them side by side."""
    return lambda k: taken(x, x.rank - 1, k * units, (k + 1) * units)


def joined(parts: Sequence[Value], axis: int) -> Value:
    return parts[0].apply("concat", *parts[1:], axis=axis) if len(parts) > 1 else parts[0]


def put_at(memory: Memory, n: Expr, g: Expr, value: Expr) -> Stmt:
    """A store of an element of row n."""
    return memory.put(value, n, g)


def stacked(parts: Sequence[Value], axis: int) -> Value:
    """Values of one shape along a new axis."""
    shape = (*parts[0].shape[:axis], 1, *parts[0].shape[axis:])
    return joined([part.reshape(shape) for part in parts], axis)


def steps_of(x: TensorType) -> int:
    steps = x.shape[0]
    assert isinstance(steps, int)
    return steps


def sum_of_products(
    tag: str,
    width: int,
    depth: int,
    first: Callable[[Expr], Expr],
    factors: Callable[[Expr, Expr], tuple[Expr, Expr]],
    put: Callable[[Expr, Expr], Stmt],
) -> Stmt:
    """For each column j: what `put` does with first(j) plus the sum over k of the two factors(j, k)."""
    j, k = Var(f"{tag}j"), Var(f"{tag}k")
    start = first(j)
    register = Buffer(f"{tag}sum", start.dtype, (), space=Space.register)
    total = Load(register.name, (), start.dtype)
    a, b = factors(j, k)
    return For(
        j.name,
        index(width),
        (
            Alloc(register),
            Store(register.name, (), start),
            For(k.name, index(depth), (Store(register.name, (), fma(a, b, total)),)),
            put(j, total),
        ),
    )


# ---------------------------------------------------------------- what the gradients share


@dataclass(frozen=True)
class Loop:
    """The operands and the result of a loop in its gradient, as values of the graph."""

    x: Value
    r: Value
    y: Value
    dy: Value
    kept: Value | None
    mask: Value | None
    reverse: bool

    @property
    def others(self) -> list[Value]:
        """The operands that get no gradient."""
        return [value for value in (self.kept, self.mask) if value is not None]

    @property
    def last_operands(self) -> tuple[Value, ...]:
        """What the gradient's loop takes from the loop itself, last."""
        return (self.turned(), self.y, self.dy, *self.others)

    def gradients(self, *found: Value) -> Gradients:
        """The gradients of the operands, none of what is kept and of the mask."""
        return (*(value.name for value in found), *[None] * len(self.others))

    @property
    def steps(self) -> int:
        steps = self.x.shape[0]
        assert isinstance(steps, int)
        return steps

    def held(self) -> Value:
        """The output that each step takes [t, n, u]: the one before, as far as it is kept."""
        first = 1 if self.reverse else 0
        old = states_between(self.y, 0, first, first + self.steps)
        return old if self.kept is None else old * self.kept

    def rows(self, value: Value) -> Value:
        """[t, n, g] as [t * n, g]."""
        return value.reshape((size_of(value.shape[:2]), value.shape[2]))

    def product(self) -> Value:
        """The recurrent product of all steps [t, n, g]."""
        shape = (*self.x.shape[:2], self.r.shape[1])
        return self.rows(self.held()).matmul(self.r).reshape(shape)

    def weights_gradient(self, d: Value) -> Value:
        """The recurrent weights' gradient from that of the product [t, n, g]."""
        return self.rows(self.held()).matrix_transposed().matmul(self.rows(d))

    def turned(self) -> Value:
        """The recurrent weights [g, u], as the loop reads them."""
        return self.r.apply("transposed_copy")

    def first_gradient(self, d: Value, state: int) -> Value:
        """The gradient of a first state, of which the loop left its part behind the steps."""
        units = self.y.shape[3]
        assert isinstance(units, int)
        carried = taken(
            taken(d, 0, self.steps, self.steps + 1), 2, state * units, (state + 1) * units
        )
        start = self.steps if self.reverse else 0
        given = states_between(self.dy, state, start, start + 1)
        shape = self.y.shape[2:]
        return carried.reshape(shape) + given.reshape(shape)


# ---------------------------------------------------------------- the loops


@register
@dataclass(frozen=True)
class RnnLoop(Recurrence):
    """h' = f(x + h @ r) (Elman, 1990)."""

    activations: tuple[str, ...] = ("tanh",)

    def numpy_step(self, x: Array, product: Array, old: Array) -> list[Array]:
        return [ACTIVATIONS[self.activations[0]].numpy(x + product)]

    def gradient(
        self, builder: Builder, inputs: Names, outputs: Names, output_gradients: Names
    ) -> Gradients:
        loop, _ = self.loop_of(builder, inputs, outputs, output_gradients)
        turned, *others = loop.last_operands
        d = turned.apply("rnn_loop_gradient", *others, **self.attributes)
        dx = taken(d, 0, 0, loop.steps)
        return loop.gradients(dx, loop.weights_gradient(dx), loop.first_gradient(d, 0))

    def step(self, e: Elements, x: Part, product: Part, old: Part) -> list[Any]:
        return [e.let("h", e.activated(self.activations[0], product(0)))]


@register
@dataclass(frozen=True)
class LstmLoop(Recurrence):
    """Gates i, f, c, o side by side (Hochreiter & Schmidhuber, 1997; forget gates: Gers et al., 2000).

    c' = s(f) * c + s(i) * g(c~), h' = s(o) * k(c') with the activations s, g, k.
    """

    activations: tuple[str, ...] = ("sigmoid", "tanh", "tanh")
    gates = 4
    states = 2
    functions = 3

    def numpy_step(self, x: Array, product: Array, old: Array) -> list[Array]:
        i, f, g, o = self.numpy_gates(x + product)
        gate, inner, outer = (ACTIVATIONS[name].numpy for name in self.activations)
        c = gate(f) * old[1] + gate(i) * inner(g)
        return [gate(o) * outer(c), c]

    def gradient(
        self, builder: Builder, inputs: Names, outputs: Names, output_gradients: Names
    ) -> Gradients:
        loop, _ = self.loop_of(builder, inputs, outputs, output_gradients)
        gates = loop.x + loop.product()
        d = gates.apply("lstm_loop_gradient", *loop.last_operands, **self.attributes)
        dx = taken(d, 0, 0, loop.steps)
        firsts = [loop.first_gradient(d, s) for s in range(2)]
        return loop.gradients(dx, loop.weights_gradient(dx), *firsts)

    def step(self, e: Elements, x: Part, product: Part, old: Part) -> list[Any]:
        gate, inner, outer = self.activations
        kept = e.let("kept", e.activated(gate, product(1)) * old(1))
        c = e.let("c", e.fma(e.activated(gate, product(0)), e.activated(inner, product(2)), kept))
        return [e.let("h", e.activated(gate, product(3)) * e.activated(outer, c)), c]


@register
@dataclass(frozen=True)
class GruLoop(Recurrence):
    """Gates z, r, h side by side, the reset gate r after the product (Cho et al., 2014; as in cuDNN).

    With m = h @ weights + bias: h' = s(x_z + m_z) * h + (1 - s(x_z + m_z)) * g(x_h + s(x_r + m_r) * m_h).
    """

    activations: tuple[str, ...] = ("sigmoid", "tanh")
    gates = 3
    functions = 2
    biased = True

    def numpy_step(self, x: Array, product: Array, old: Array) -> list[Array]:
        gate, inner = (ACTIVATIONS[name].numpy for name in self.activations)
        (xz, xr, xh), (mz, mr, mh) = self.numpy_gates(x), self.numpy_gates(product)
        z = gate(xz + mz)
        return [z * old[0] + (1 - z) * inner(xh + gate(xr + mr) * mh)]

    def gradient(
        self, builder: Builder, inputs: Names, outputs: Names, output_gradients: Names
    ) -> Gradients:
        loop, bias = self.loop_of(builder, inputs, outputs, output_gradients)
        units = loop.r.shape[0]
        assert isinstance(units, int)
        assert bias is not None
        operands = (loop.product() + bias, *loop.last_operands)
        d = loop.x.apply("gru_loop_gradient", *operands, **self.attributes)
        gates = taken(d, 0, 0, loop.steps)
        dm = taken(gates, 2, 0, 3 * units)
        dx = taken(gates, 2, 0, 2 * units).apply(
            "concat", taken(gates, 2, 3 * units, 4 * units), axis=2
        )
        weights, first = loop.weights_gradient(dm), loop.first_gradient(d, 0)
        return loop.gradients(dx, weights, dm.sum((0, 1)), first)

    def step(self, e: Elements, x: Part, product: Part, old: Part) -> list[Any]:
        gate, inner = self.activations
        z = e.let("z", e.activated(gate, x(0) + product(0)))
        r = e.let("r", e.activated(gate, x(1) + product(1)))
        fresh = e.let("fresh", e.activated(inner, e.fma(r, product(2), x(2))))
        return [e.let("h", e.fma(z, old(0) - fresh, fresh))]


@register
@dataclass(frozen=True)
class TransposedCopy(Op):
    """x[j, i] in memory of its own, for a loop that reads it many times."""

    def infer(self, x: TensorType) -> Types:
        expect_rank(self, "x", x, 2)
        return (TensorType(x.dtype, x.shape[::-1]),)

    def reference(self, x: Array) -> Array:
        return np.ascontiguousarray(x.T)

    gradient = unsupported_gradient

    def formula(self, x: Tensor) -> At:
        return lambda i, j: x(j, i)

    def decompose(self, builder: Builder, x: str) -> Names:
        return (values(builder, (x,))[0].matrix_transposed().name,)
