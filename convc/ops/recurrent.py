"""Recurrent layers: one loop over the steps of a sequence, its gradient a loop the other way.

The products of all steps' inputs stand outside, one matrix product over the whole sequence: x[t, n, g] holds them, the
gates side by side. What is left goes from step to step: a product of a state with the recurrent weights, and the gates.
The result holds every state, the first one too: y[s, t, n, u], s the state (the output h first), t from 0 to T. A
`reverse` recurrence begins at the end: step t goes from y[:, t + 1] to y[:, t], otherwise from y[:, t] to y[:, t + 1].
With a mask[t, n] of booleans, the last operand where it is given, states stay as they were in steps where it is False.

Backpropagation through time (Werbos, 1990): the states are kept, the gates computed again from them in one product. The
gradient's loop gives the gates' gradients d[t, n, g] for all steps, from which one product each makes the gradients of
weights and inputs; behind them, d[T, n] holds the gradients that the first states get through step one: of h first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
    Let,
    Load,
    Space,
    Stmt,
    Store,
    Var,
    call,
    const,
    fma,
    index,
    maximum,
    select,
)
from convc.ops.activations import np_sigmoid
from convc.ops.base import Array, Gradients, Names, Types, expect_rank, expect_shape, fail
from convc.ops.elementwise import sigmoid
from convc.ops.placing import taken
from convc.ops.values import Value, values
from convc.types import DType, Shape, TensorType, size_of

T = TypeVar("T")

Part = Callable[[int], Any]
"""A gate or a state by its number: one element of it, or all."""


@dataclass(frozen=True)
class Activation:
    """A function of single elements, and its derivative as a function of its value."""

    function: Callable[[Expr], Expr]
    slope: Callable[[Any], Any]
    numpy: Callable[[Array], Array]
    numpy_slope: Callable[[Array], Array]


def one(y: Any) -> Any:
    """1 of an element's kind."""
    return y.constant(1) if isinstance(y, Value) else const(1, y.dtype)


def is_positive(y: Any) -> Any:
    """1 where y > 0, else 0."""
    if isinstance(y, Value):
        return (y > 0).cast(y.dtype)
    return select(y > 0, const(1, y.dtype), const(0, y.dtype))


ACTIVATIONS = {
    "linear": Activation(lambda x: x, one, lambda x: x, np.ones_like),
    "relu": Activation(
        lambda x: maximum(x, 0),
        is_positive,
        lambda x: np.maximum(x, 0),
        lambda y: (y > 0).astype(y.dtype),
    ),
    "sigmoid": Activation(
        sigmoid, lambda y: y * (1 - y), np_sigmoid, lambda y: np.asarray(y * (1 - y))
    ),
    "tanh": Activation(
        lambda x: call("tanh", x), lambda y: 1 - y * y, np.tanh, lambda y: np.asarray(1 - y**2)
    ),
}
"""What gates may apply, by its name in the operators' attributes; operators have the same names."""


class Elements:
    """What a step is written in, as statements of a kernel: elements of one unit and one row. `block` has them."""

    def __init__(self) -> None:
        self.block: list[Stmt] = []

    def let(self, name: str, value: Any) -> Any:
        """The value under a name: it is computed once."""
        self.block.append(Let(name, value))
        return Var(name, value.dtype)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        return fma(a, b, c)

    def activated(self, activation: str, x: Any) -> Any:
        return ACTIVATIONS[activation].function(x)

    def zero(self, like: Any) -> Any:
        return const(0, like.dtype)

    def where(self, condition: Any, then: Any, otherwise: Any) -> Any:
        """`then` in rows whose `condition` holds, else `otherwise`."""
        return select(condition, then, otherwise)


class Tensors(Elements):
    """The same as nodes of a graph: all units and rows at once."""

    def let(self, name: str, value: Any) -> Any:
        return value

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        return a * b + c

    def activated(self, activation: str, x: Any) -> Any:
        return x if activation == "linear" else x.apply(activation)

    def zero(self, like: Any) -> Any:
        return like.constant(0).broadcast(like.shape)

    def where(self, condition: Any, then: Any, otherwise: Any) -> Any:
        return condition.reshape((*condition.shape, 1)).where(then, otherwise)


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
    gates: ClassVar[int] = 1
    states: ClassVar[int] = 1
    functions: ClassVar[int] = 1
    biased: ClassVar[bool] = False
    """Whether a bias [g] of the recurrent product follows the weights."""

    def infer(self, x: TensorType, r: TensorType, *rest: TensorType) -> Types:
        units = self.units(x)
        expect_shape(self, "r", r, (units, self.gates * units))
        names = [*(["bias"] if self.biased else []), *("h", "c")[: self.states]]
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

    def parted(self, rest: Sequence[T]) -> tuple[T | None, Sequence[T], T | None]:
        """The bias, the first states and the mask, of what follows x and r."""
        own = 1 if self.biased else 0
        mask = rest[own + self.states :]
        bias = rest[0] if self.biased else None
        return bias, rest[own : own + self.states], mask[0] if mask else None

    def reference(self, x: Array, r: Array, *rest: Array) -> Array:
        bias, first, mask = self.parted(rest)
        steps = x.shape[0]
        y = np.zeros((self.states, steps + 1, *first[0].shape), x.dtype)
        y[:, steps if self.reverse else 0] = np.stack(first)
        for t in reversed(range(steps)) if self.reverse else range(steps):
            old, new = (t + 1, t) if self.reverse else (t, t + 1)
            product = y[0, old] @ r
            made = self.numpy_step(x[t], product if bias is None else product + bias, y[:, old])
            y[:, new] = made if mask is None else np.where(mask[t, :, None], made, y[:, old])
        return y

    def numpy_step(self, x: Array, product: Array, old: Array) -> list[Array]:
        """The new states from a step's inputs, the recurrent product and the old states."""
        raise NotImplementedError

    def numpy_gates(self, x: Array) -> list[Array]:
        return np.split(x, self.gates, -1)

    def workspace(self, x: TensorType, *rest: TensorType) -> tuple[TensorType, ...]:
        return (TensorType(x.dtype, x.shape[1:]),)

    def procedure(
        self, y: Memory, space: Sequence[Memory], x: Tensor, r: Tensor, *rest: Tensor
    ) -> Block:
        n, t, u0 = Var("n"), Var("t"), Var("u0")
        (product,) = space
        bias, first, mask = self.parted(rest)
        steps, batch, width = x.shape
        assert isinstance(steps, int)
        assert isinstance(width, int)
        units = width // self.gates
        times = Times.of(steps - 1 - t if self.reverse else index(0) + t, self.reverse)
        start = steps if self.reverse else 0
        begin = tuple(y.put(h(n, u0), s, start, n, u0) for s, h in enumerate(first))

        def added(g: Expr) -> Expr:
            return x(times.at, n, g) if bias is None else bias(g)

        total = sum_of_products(
            "g", width, units, added, lambda g, k: (y(0, times.old, n, k), r(k, g)),
            lambda g, value: product.put(value, n, g),
        )  # fmt: skip
        u, e = Var("u"), Elements()
        made = self.step(
            e,
            lambda k: x(times.at, n, u + k * units),
            lambda k: product(n, u + k * units),
            lambda s: y(s, times.old, n, u),
        )
        if mask is not None:
            inside = e.let("inside", mask(times.at, n))
            made = [e.where(inside, new, y(s, times.old, n, u)) for s, new in enumerate(made)]
        stores = [y.put(value, s, times.new, n, u) for s, value in enumerate(made)]
        row: Block = (
            For("u0", index(units), begin),
            For("t", index(steps), (total, For("u", index(units), (*e.block, *stores)))),
        )
        return (For("n", index(batch), row),)

    def step(self, e: Elements, x: Part, product: Part, old: Part) -> list[Any]:
        """The new states. `x(k)` and `product(k)` are gate k; where no bias is given, x is in the product."""
        raise NotImplementedError

    def decompose(self, builder: Builder, *operands: str) -> Names:
        x, r, *rest = values(builder, operands)
        bias, first, mask = self.parted(rest)
        states, e = list(first), Tensors()
        steps, batch, width = x.shape
        assert isinstance(steps, int)
        units = r.shape[0]
        assert isinstance(units, int)
        made = [[s] for s in states]
        for t in reversed(range(steps)) if self.reverse else range(steps):
            now = taken(x, 0, t, t + 1).reshape((batch, width))
            product = states[0].matmul(r) + (now if bias is None else bias)
            new = self.step(e, gate_of(now, units), gate_of(product, units), states.__getitem__)
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

    def loop_of(
        self, builder: Builder, inputs: Names, outputs: Names, output_gradients: Names
    ) -> tuple[Loop, Value | None]:
        """What the gradient is made of, and the bias."""
        x, r, *rest = values(builder, inputs)
        bias, _, mask = self.parted(rest)
        y, dy = values(builder, (*outputs, *output_gradients))
        return Loop(x, r, y, dy, mask, self.reverse), bias


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
    mask: Value | None
    reverse: bool

    @property
    def last_operands(self) -> tuple[Value, ...]:
        """What the gradient's loop takes from the loop itself, last."""
        return (self.turned(), self.y, self.dy, *([] if self.mask is None else [self.mask]))

    def gradients(self, *found: Value) -> Gradients:
        """The gradients of the operands, none of the mask."""
        return (*(value.name for value in found), *([] if self.mask is None else [None]))

    @property
    def steps(self) -> int:
        steps = self.x.shape[0]
        assert isinstance(steps, int)
        return steps

    def old(self, state: int) -> Value:
        """A state before each step [t, n, u]."""
        first = 1 if self.reverse else 0
        return states_between(self.y, state, first, first + self.steps)

    def rows(self, value: Value) -> Value:
        """[t, n, g] as [t * n, g]."""
        return value.reshape((size_of(value.shape[:2]), value.shape[2]))

    def product(self) -> Value:
        """The recurrent product of all steps [t, n, g]."""
        shape = (*self.x.shape[:2], self.r.shape[1])
        return self.rows(self.old(0)).matmul(self.r).reshape(shape)

    def weights_gradient(self, d: Value) -> Value:
        """The recurrent weights' gradient from that of the product [t, n, g]."""
        return self.rows(self.old(0)).matrix_transposed().matmul(self.rows(d))

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
