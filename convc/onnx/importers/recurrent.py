"""Import rules of recurrent layers over a sequence of known length.

One operator loops over the steps (ops/recurrent.py), with a mask for sequences of different lengths. What it hasn't is
unrolled: clips, peepholes, coupled gates and other activations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from convc.graph.op import Op
from convc.onnx.importers.call import Call, Rejected, Rule
from convc.ops.activations import (
    Elu,
    HardSigmoid,
    LeakyRelu,
    Relu,
    Sigmoid,
    Softplus,
    Softsign,
    ThresholdedRelu,
)
from convc.ops.broadcasting import Add, Less, Mul, Sub, Where
from convc.ops.elementwise import Clip, Tanh
from convc.ops.gates import ACTIVATIONS
from convc.ops.matmul import MatMul
from convc.ops.recurrent import GruLoop, LstmLoop, Recurrence, RnnLoop
from convc.ops.recurrent_reset import GruResetLoop
from convc.ops.shape import Broadcast, Concat
from convc.types import DType, Shape

LONGEST = 1024

Loop = type[Recurrence]

Step = Callable[["Direction", str, Sequence[str]], list[str]]
"""`step(direction, x @ W' + biases, states)`: the new states, of which the first is the output."""


class Direction:
    """One direction of a recurrent layer: its weights, its activations, its pace through the sequence."""

    def __init__(self, c: Call, k: int, gates: int, functions: Sequence[str]) -> None:
        self.c = c
        self.k = k
        self.size = int(c.numbers(1, "weight")[1]) // gates
        self.w = c.transpose(c.take(c[1], 0, k), (1, 0))
        self.r = c.transpose(c.take(c[2], 0, k), (1, 0))
        self.wb, self.rb = self.biases(gates)
        given = [str(n) for n in c.attr("activations") or []]
        count = len(functions)
        own = given[k * count : (k + 1) * count] if given else list(functions)
        alphas, betas = (
            list(c.attr("activation_alpha") or []),
            list(c.attr("activation_beta") or []),
        )
        before = given[: k * count]
        self.functions = []
        skip_a, skip_b = (sum(uses(n)[i] for n in before) for i in range(2))
        alphas, betas = alphas[skip_a:], betas[skip_b:]
        for name in own:
            takes = uses(name)
            alpha = alphas.pop(0) if takes[0] and alphas else None
            beta = betas.pop(0) if takes[1] and betas else None
            self.functions.append((name, alpha, beta))

    @property
    def backwards(self) -> bool:
        return self.k == 1 or self.c.attr("direction", "forward") == "reverse"

    def biases(self, gates: int) -> tuple[str, str]:
        c, count = self.c, gates * self.size
        if not c.has(3):
            zero = c.constant(np.zeros(count), c.dtype(0))
            return zero, zero
        both = c.take(c[3], 0, self.k)
        return c.slice(both, 0, 0, count), c.slice(both, 0, count, 2 * count)

    def activate(self, which: int, x: str) -> str:
        """Activation function `which` of the layer, after the clip."""
        c = self.c
        limit = c.attr("clip")
        if limit is not None:
            x = c.add(Clip(-float(limit), float(limit)), x)
        name, alpha, beta = self.functions[which]
        match name.lower():
            case "scaledtanh":
                inner = c.add(Mul(), x, c.scalar(1.0 if beta is None else beta, x))
                return c.add(
                    Mul(), c.add(Tanh(), inner), c.scalar(1.0 if alpha is None else alpha, x)
                )
            case "affine":
                scaled = c.add(Mul(), x, c.scalar(1.0 if alpha is None else alpha, x))
                return c.add(Add(), scaled, c.scalar(beta or 0.0, x))
        return c.add(plain_activation(name, alpha, beta), x)

    def gate(self, x: str, k: int, axis: int = -1) -> str:
        """Part k of the gates side by side."""
        axis = axis % self.c.rank(x)
        return self.c.slice(x, axis, k * self.size, (k + 1) * self.size)

    def product(self, h: str, weights: str) -> str:
        return self.c.add(MatMul(), h, weights)

    def run(self, inputs: list[str], states: list[str], step: Step) -> tuple[list[str], list[str]]:
        """The outputs in the order of the sequence, and the last states."""
        c = self.c
        order = list(range(len(inputs)))
        outputs = [""] * len(inputs)
        for t in reversed(order) if self.backwards else order:
            new = step(self, c.add(Add(), c.add(MatMul(), inputs[t], self.w), self.wb), states)
            if c.has(4):
                inside = self.inside(t)
                zero = c.scalar(0, new[0])
                outputs[t] = c.add(Where(), inside, new[0], zero)
                states = [
                    c.add(Where(), inside, n, old) for n, old in zip(new, states, strict=True)
                ]
            else:
                outputs[t], states = new[0], new
        return outputs, states

    def looped(
        self, x: str, states: list[str], loop: Loop, order: Sequence[int]
    ) -> tuple[str, list[str]] | None:
        """The same in one operator, from all inputs [t, n, i] to all outputs [t, n, u]; None where there is none.

        `order` has the operator's gates by their places in ONNX.
        """
        c, names = self.c, tuple(name.lower() for name, _, _ in self.functions)
        plain = c.attr("clip") is None and not c.attr("input_forget")
        if c.kind == "GRU" and not c.attr("linear_before_reset", 0):
            loop = GruResetLoop
        float_ = c.dtype(x) in (DType.float32, DType.float64)
        if c.has(7) or not (plain and float_ and set(names) <= {*ACTIVATIONS}):
            return None

        def ordered(values: str) -> str:
            """Gates side by side in the operator's order."""
            if list(order) == sorted(order):
                return values
            axis = c.rank(values) - 1
            return c.add(Concat(axis), *(self.gate(values, k) for k in order))

        w, r, wb, rb = map(ordered, (self.w, self.r, self.wb, self.rb))
        bias = wb if loop.biased else c.add(Add(), wb, rb)
        prepared = c.add(Add(), c.add(MatMul(), x, w), bias)
        operands = (r, rb) if loop.biased else (r,)
        steps, batch = c.shape(x)[:2]
        assert isinstance(steps, int)
        mask = [self.all_inside(steps)] if c.has(4) else []
        made = c.add(loop(names, self.backwards), prepared, *operands, *states, *mask)
        end = 0 if self.backwards else steps
        lasts = [c.take(c.take(made, 0, k), 0, end) for k in range(len(states))]
        first = 0 if self.backwards else 1
        y = c.slice(c.take(made, 0, 0), 0, first, first + steps)
        for inside in mask:
            y = c.add(Where(), c.reshape(inside, (steps, batch, 1)), y, c.scalar(0, y))
        return y, lasts

    def all_inside(self, steps: int) -> str:
        """Which sequences of the batch have each step [t, n]."""
        c = self.c
        lengths = c.reshape(c.cast(c[4], DType.int64), (1, *c.shape(4)))
        return c.add(Less(), c.constant(np.arange(steps)[:, None], DType.int64), lengths)

    def inside(self, t: int) -> str:
        """Which sequences of the batch have a step t."""
        c = self.c
        lengths = c.cast(c[4], DType.int64)
        return c.reshape(c.add(Less(), c.scalar(t, lengths), lengths), (*c.shape(4), 1))


def uses(name: str) -> tuple[bool, bool]:
    """Whether an activation takes an alpha and a beta."""
    name = name.lower()
    alpha = name in ("affine", "leakyrelu", "thresholdedrelu", "scaledtanh", "hardsigmoid", "elu")
    return alpha, name in ("affine", "scaledtanh", "hardsigmoid")


def plain_activation(name: str, alpha: float | None, beta: float | None) -> Op:
    match name.lower():
        case "relu":
            return Relu()
        case "tanh":
            return Tanh()
        case "sigmoid":
            return Sigmoid()
        case "softsign":
            return Softsign()
        case "softplus":
            return Softplus()
        case "leakyrelu":
            return LeakyRelu(0.01 if alpha is None else alpha)
        case "thresholdedrelu":
            return ThresholdedRelu(1.0 if alpha is None else alpha)
        case "elu":
            return Elu(1.0 if alpha is None else alpha)
        case "hardsigmoid":
            return HardSigmoid(0.2 if alpha is None else alpha, 0.5 if beta is None else beta)
    raise Rejected(f"activation {name!r} is not supported")


def recurrent(
    gates: int,
    functions: Sequence[str],
    states: int,
    step: Step,
    loop: Loop,
    order: Sequence[int],
) -> Rule:
    """A recurrent layer of so many gates; Y, Y_h and (with two states) Y_c."""

    def rule(c: Call) -> tuple[str, ...]:
        batch_first = bool(c.attr("layout", 0))
        x = c.transpose(c[0], (1, 0, 2)) if batch_first else c[0]
        length, batch = c.shape(x)[:2]
        if not isinstance(length, int):
            raise Rejected(f"needs a sequence of a known length, got {length}: give --shape")
        count = 2 if c.attr("direction", "forward") == "bidirectional" else 1
        outputs, lasts = [], []
        for k in range(count):
            direction = Direction(c, k, gates, functions)
            first = [initial(c, n, k, (batch, direction.size), batch_first) for n in range(states)]
            made = direction.looped(x, first, loop, order)
            y, last = made or unrolled(c, direction, x, first, step)
            outputs.append(c.reshape(y, (length, 1, batch, direction.size)))
            lasts.append(last)
        y = c.add(Concat(1), *outputs) if count > 1 else outputs[0]
        finals = [stacked(c, [last[n] for last in lasts]) for n in range(states)]
        if batch_first:
            y = c.transpose(y, (2, 0, 1, 3))
            finals = [c.transpose(f, (1, 0, 2)) for f in finals]
        return y, *finals

    return rule


def unrolled(
    c: Call, direction: Direction, x: str, states: list[str], step: Step
) -> tuple[str, list[str]]:
    """All outputs and the last states, the steps one after the other."""
    length = c.shape(x)[0]
    if not isinstance(length, int) or length > LONGEST:
        raise Rejected(f"needs a sequence of a length up to {LONGEST}, got {length}")
    outputs, lasts = direction.run([c.take(x, 0, t) for t in range(length)], states, step)
    return stacked(c, outputs), lasts


def initial(c: Call, state: int, k: int, shape: Shape, batch_first: bool) -> str:
    """The first state of a direction, zeros where none is given."""
    if not c.has(5 + state):
        zero = c.constant(np.zeros(()), c.dtype(0))
        return c.add(Broadcast(shape), zero)
    given = c.transpose(c[5 + state], (1, 0, 2)) if batch_first else c[5 + state]
    return c.take(given, 0, k)


def stacked(c: Call, values: list[str]) -> str:
    """Values of one shape along a new first axis."""
    rows = [c.reshape(v, (1, *c.shape(v))) for v in values]
    return c.add(Concat(0), *rows) if len(rows) > 1 else rows[0]


def rnn_step(d: Direction, x: str, states: Sequence[str]) -> list[str]:
    c = d.c
    total = c.add(Add(), x, c.add(Add(), d.product(states[0], d.r), d.rb))
    return [d.activate(0, total)]


def gru_step(d: Direction, x: str, states: Sequence[str]) -> list[str]:
    """Gates z, r, h; the reset gate works before the product, or after it with linear_before_reset."""
    c, (h,) = d.c, states
    recurrent_part = c.add(Add(), d.product(h, d.r), d.rb)

    def both(k: int) -> str:
        return d.activate(0, c.add(Add(), d.gate(x, k), d.gate(recurrent_part, k)))

    update, reset = both(0), both(1)
    if c.attr("linear_before_reset", 0):
        inner = c.add(Mul(), reset, d.gate(recurrent_part, 2))
    else:
        product = d.product(c.add(Mul(), reset, h), d.gate(d.r, 2))
        inner = c.add(Add(), product, d.gate(d.rb, 2))
    hidden = d.activate(1, c.add(Add(), d.gate(x, 2), inner))
    keep = c.add(Sub(), c.scalar(1, update), update)
    return [c.add(Add(), c.add(Mul(), keep, hidden), c.add(Mul(), update, h))]


def lstm_step(d: Direction, x: str, states: Sequence[str]) -> list[str]:
    """Gates i, o, f, c, with peepholes P = (i, o, f) if there are."""
    c, (h, cell) = d.c, states
    total = c.add(Add(), x, c.add(Add(), d.product(h, d.r), d.rb))
    peepholes = c.take(c[7], 0, d.k) if c.has(7) else None

    def gate(k: int, state: str) -> str:
        value = d.gate(total, k)
        if peepholes is not None:
            value = c.add(Add(), value, c.add(Mul(), d.gate(peepholes, k), state))
        return d.activate(0, value)

    i = gate(0, cell)
    f = c.add(Sub(), c.scalar(1, i), i) if c.attr("input_forget", 0) else gate(2, cell)
    candidate = d.activate(1, d.gate(total, 3))
    new = c.add(Add(), c.add(Mul(), f, cell), c.add(Mul(), i, candidate))
    o = gate(1, new)
    return [c.add(Mul(), o, d.activate(2, new)), new]


RULES: dict[str, Rule] = {
    "RNN": recurrent(1, ("Tanh",), 1, rnn_step, RnnLoop, (0,)),
    "GRU": recurrent(3, ("Sigmoid", "Tanh"), 1, gru_step, GruLoop, (0, 1, 2)),
    "LSTM": recurrent(4, ("Sigmoid", "Tanh", "Tanh"), 2, lstm_step, LstmLoop, (0, 2, 3, 1)),
}
