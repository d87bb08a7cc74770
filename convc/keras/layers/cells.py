"""The steps of recurrent layers: what one makes of its inputs and states, and the weights for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from convc.graph.op import Op
from convc.keras import activations, constraints, initializers, regularizers
from convc.keras.engine.arguments import fraction, positive
from convc.keras.engine.layer import Layer
from convc.keras.engine.tensor import (
    KerasTensor,
    Variable,
    apply,
    as_tensor,
    floating,
    reshape,
)
from convc.keras.layers.weights import add_weight
from convc.ops import broadcasting, elementwise, matmul
from convc.ops import shape as shapes
from convc.ops.gates import ACTIVATIONS
from convc.ops.recurrent import GruLoop, LstmLoop, Recurrence, RnnLoop
from convc.ops.recurrent_reset import GruResetLoop
from convc.types import DType

States = list[KerasTensor]


def activation_name(function: Any) -> str | None:
    """The name of an activation among those of the operators over all steps."""
    return next(
        (name for name in ACTIVATIONS if getattr(activations, name, None) is function), None
    )


def add(a: Any, b: Any) -> KerasTensor:
    return apply(broadcasting.Add(), a, b)


def mul(a: Any, b: Any) -> KerasTensor:
    return apply(broadcasting.Mul(), a, b)


def product(x: Any, weights: Any) -> KerasTensor:
    return apply(matmul.MatMul(), x, weights)


def part(x: KerasTensor, axis: int, start: int, stop: int) -> KerasTensor:
    starts = tuple(start if d == axis else None for d in range(x.type.rank))
    stops = tuple(stop if d == axis else None for d in range(x.type.rank))
    return apply(shapes.Slice(starts, stops, (1,) * x.type.rank), x)


def flipped(x: KerasTensor) -> KerasTensor:
    """The steps of (batch, steps, …) from the last one to the first."""
    whole = (None,) * x.type.rank
    strides = tuple(-1 if d == 1 else 1 for d in range(x.type.rank))
    return apply(shapes.Slice(whole, whole, strides), x)


def where(condition: KerasTensor, then: KerasTensor, otherwise: KerasTensor) -> KerasTensor:
    return apply(broadcasting.Where(), condition, then, otherwise)


def state_at(y: KerasTensor, state: int, first: int, end: int) -> KerasTensor:
    """One of all states y[s, t, n, u] at the times from `first` to `end`."""
    part = shapes.Slice((state, first, None, None), (state + 1, end, None, None), (1, 1, 1, 1))
    return apply(part, y)


def zeros(shape: Any, dtype: DType) -> KerasTensor:
    zero = as_tensor(0.0, dtype)
    return apply(shapes.Broadcast(tuple(shape)), zero)


def set_weights_and_dropouts(layer: Any, arguments: Mapping[str, Any]) -> None:
    """Checks and keeps what cells and the layers that run them are given alike: units, how weights begin, dropouts."""
    layer.units = positive(layer, "units", arguments["units"])
    layer.use_bias = bool(arguments["use_bias"])
    for kind in ("kernel", "recurrent", "bias"):
        for name, get in (
            ("initializer", initializers.get),
            ("regularizer", regularizers.get),
            ("constraint", constraints.get),
        ):
            setattr(layer, f"{kind}_{name}", get(arguments[f"{kind}_{name}"]))
    layer.dropout = fraction(layer, "dropout", arguments["dropout"])
    layer.recurrent_dropout = fraction(layer, "recurrent_dropout", arguments["recurrent_dropout"])


class Cell(Layer):
    """One step of a recurrent layer, and its weights: `kernel`, `recurrent_kernel` and `bias`, gates side by side.

    Called with (batch, features) and its states it gives its output and the new states.
    """

    gates: ClassVar[int] = 1
    states: ClassVar[int] = 1

    units: int
    use_bias: bool
    dropout: float
    recurrent_dropout: float
    activation: Any
    recurrent_activation: Any

    def _set(self, arguments: dict[str, Any]) -> None:
        set_weights_and_dropouts(self, arguments)
        for name in ("activation", "recurrent_activation"):
            if name in arguments:
                setattr(self, name, activations.get(arguments[name]))
        self.seed = arguments["seed"]

    @property
    def state_size(self) -> Any:
        """The size of the state, or a list of those of several."""
        return self.units if self.states == 1 else [self.units] * self.states

    @property
    def output_size(self) -> int:
        return self.units

    def get_initial_state(self, batch_size: Any = None) -> States:
        """Zeros for each state."""
        return [zeros((batch_size, self.units), self.dtype) for _ in range(self.states)]

    def call(self, inputs: Any, states: Any, training: Any = None) -> Any:
        x = floating(inputs)
        held = [floating(s) for s in (states if isinstance(states, (list, tuple)) else [states])]
        if self.dropout:
            x = apply(elementwise.Dropout(self.dropout), x)
        if self.recurrent_dropout:
            held[0] = apply(elementwise.Dropout(self.recurrent_dropout), held[0])
        new = self.step(self.inputs(x), held)
        return new[0], new if isinstance(states, (list, tuple)) else new[0]

    def build(self, input_shape: Any) -> None:
        width = self.gates * self.units
        for name, shape in (
            ("kernel", (input_shape[-1], width)),
            ("recurrent_kernel", (self.units, width)),
            ("bias", self._bias_shape(width)),
        ):
            kind = name.removesuffix("_kernel")
            if name == "bias" and not self.use_bias:
                self.bias: Variable | None = None
                continue
            weight = add_weight(self, name, shape, kind, initializer=self._initializer(kind))
            setattr(self, name, weight)

    kernel: Variable
    recurrent_kernel: Variable

    def _bias_shape(self, width: int) -> tuple[int, ...]:
        return (width,)

    def _initializer(self, kind: str) -> Any:
        return getattr(self, f"{kind}_initializer")

    def inputs(self, x: KerasTensor) -> KerasTensor:
        """What the gates take from the inputs of all steps: x @ kernel + bias."""
        y = product(x, self.kernel)
        return y if self.bias is None else add(y, self.bias)

    def gate(self, x: KerasTensor, k: int) -> KerasTensor:
        return part(x, x.type.rank - 1, k * self.units, (k + 1) * self.units)

    def activated(self, x: KerasTensor) -> Any:
        return self.activation(x)

    def gated(self, x: KerasTensor) -> Any:
        return self.recurrent_activation(x)

    def loop(self, backwards: bool) -> Op | None:
        """The operator that does all steps; None if there is none with the layer's activations."""
        names = [name for f in self.applied() if (name := activation_name(f)) is not None]
        known = len(names) == len(self.applied())
        made = self.loop_class(tuple(names), backwards, self.recurrent_dropout > 0)
        return made if known else None

    loop_class: type[Recurrence] = RnnLoop

    def applied(self) -> tuple[Any, ...]:
        """The activations in the operator's order."""
        return (self.activation,)

    def loop_operands(self) -> States:
        """What the operator takes between inputs and states."""
        return [as_tensor(self.recurrent_kernel)]

    def step(self, x: KerasTensor, states: States) -> States:
        """The new states, of which the first is the output."""
        return [self.activated(add(x, product(states[0], self.recurrent_kernel)))]


class SimpleRNNCell(Cell):
    """h = activation(x @ kernel + h @ recurrent_kernel + bias)."""

    def __init__(
        self, units: int, activation: Any = "tanh", use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform", recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros", kernel_regularizer: Any = None, recurrent_regularizer: Any = None,
        bias_regularizer: Any = None, kernel_constraint: Any = None, recurrent_constraint: Any = None,
        bias_constraint: Any = None, dropout: float = 0.0, recurrent_dropout: float = 0.0, seed: int | None = None,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        arguments = locals()
        super().__init__(**kwargs)
        self._set(arguments)


class LSTMCell(Cell):
    """Gates i, f, c, o (Hochreiter & Schmidhuber, 1997)."""

    gates = 4
    states = 2
    loop_class = LstmLoop

    def __init__(
        self, units: int, activation: Any = "tanh", recurrent_activation: Any = "sigmoid", use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform", recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros", unit_forget_bias: bool = True, kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None, kernel_constraint: Any = None, recurrent_constraint: Any = None,
        bias_constraint: Any = None, dropout: float = 0.0, recurrent_dropout: float = 0.0, seed: int | None = None,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        arguments = locals()
        super().__init__(**kwargs)
        self.unit_forget_bias = bool(unit_forget_bias)
        self._set(arguments)

    def applied(self) -> tuple[Any, ...]:
        inner = self.activation
        return (self.recurrent_activation, inner, inner)

    def _initializer(self, kind: str) -> Any:
        initializer = super()._initializer(kind)
        if kind != "bias" or not self.unit_forget_bias:
            return initializer
        return ForgetBias(initializer, self.units)

    def step(self, x: KerasTensor, states: States) -> States:
        h, c = states
        total = add(x, product(h, self.recurrent_kernel))
        i, f, o = (self.gated(self.gate(total, k)) for k in (0, 1, 3))
        c = add(mul(f, c), mul(i, self.activated(self.gate(total, 2))))
        return [mul(o, self.activated(c)), c]


class ForgetBias(initializers.Initializer):
    """Ones for the forget gates, another initializer for the rest (Jozefowicz et al., 2015)."""

    def __init__(self, other: Any, units: int) -> None:
        self.other, self.units = other, units

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        values = self.other(shape, dtype=dtype)
        values[..., self.units : 2 * self.units] = 1
        return values


class GRUCell(Cell):
    """Gates z, r, h (Cho et al., 2014); with reset_after, r acts on h @ recurrent_kernel + bias."""

    gates = 3

    def __init__(
        self, units: int, activation: Any = "tanh", recurrent_activation: Any = "sigmoid", use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform", recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros", kernel_regularizer: Any = None, recurrent_regularizer: Any = None,
        bias_regularizer: Any = None, kernel_constraint: Any = None, recurrent_constraint: Any = None,
        bias_constraint: Any = None, dropout: float = 0.0, recurrent_dropout: float = 0.0, reset_after: bool = True,
        seed: int | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        arguments = locals()
        super().__init__(**kwargs)
        self.reset_after = bool(reset_after)
        self.loop_class = GruLoop if self.reset_after else GruResetLoop
        self._set(arguments)

    def applied(self) -> tuple[Any, ...]:
        return (self.recurrent_activation, self.activation)

    def loop_operands(self) -> States:
        bias = self._bias(1)
        if not self.reset_after:
            return super().loop_operands()
        if bias is None:
            kernel = as_tensor(self.recurrent_kernel)
            zero = as_tensor(0.0, kernel.type.dtype)
            bias = apply(shapes.Broadcast((3 * self.units,)), zero)
        return [as_tensor(self.recurrent_kernel), bias]

    def _bias_shape(self, width: int) -> tuple[int, ...]:
        return (2, width) if self.reset_after else (width,)

    def _bias(self, row: int) -> KerasTensor | None:
        if self.bias is None:
            return None
        bias = as_tensor(self.bias)
        if not self.reset_after:
            return bias if row == 0 else None
        return reshape(part(bias, 0, row, row + 1), (3 * self.units,))

    def inputs(self, x: KerasTensor) -> KerasTensor:
        y, bias = product(x, self.kernel), self._bias(0)
        return y if bias is None else add(y, bias)

    def step(self, x: KerasTensor, states: States) -> States:
        h, recurrent = states[0], as_tensor(self.recurrent_kernel)
        if self.reset_after:
            mine, bias = product(h, recurrent), self._bias(1)
            mine = mine if bias is None else add(mine, bias)
            z = self.gated(add(self.gate(x, 0), self.gate(mine, 0)))
            r = self.gated(add(self.gate(x, 1), self.gate(mine, 1)))
            new = mul(r, self.gate(mine, 2))
        else:
            mine = product(h, part(recurrent, 1, 0, 2 * self.units))
            z = self.gated(add(self.gate(x, 0), self.gate(mine, 0)))
            r = self.gated(add(self.gate(x, 1), self.gate(mine, 1)))
            new = product(mul(r, h), part(recurrent, 1, 2 * self.units, 3 * self.units))
        new = self.activated(add(self.gate(x, 2), new))
        kept = mul(z, h)
        return [add(kept, apply(broadcasting.Sub(), new, mul(z, new)))]
