"""Recurrent layers over sequences of known length, and layers that wrap others.

One operator loops over the steps (ops/recurrent.py). With activations that it hasn't, with recurrent dropout and for a
GRU whose reset gate acts before the product, the steps are unrolled.

A mask (batch, steps) says which steps count: in others the states stay as they were and the output repeats the one
before, zeros where there is none (with `zero_output_for_mask`, and in Bidirectional with all outputs: zeros always).
"""

from __future__ import annotations

from typing import Any, ClassVar

from convc.errors import ModelError, UnsupportedError
from convc.graph.op import Op
from convc.keras import activations, constraints, initializers, regularizers
from convc.keras.engine.arguments import choice, fraction, positive, refuse
from convc.keras.engine.layer import Layer
from convc.keras.engine.naming import entered
from convc.keras.engine.revival import revived_layer
from convc.keras.engine.tensor import (
    KerasTensor,
    Variable,
    apply,
    as_tensor,
    cast,
    floating,
    promoted,
    reshape,
)
from convc.ops import broadcasting, elementwise, matmul, noise, ordering
from convc.ops import shape as shapes
from convc.ops.recurrent import ACTIVATIONS, GruLoop, LstmLoop, Recurrence, RnnLoop
from convc.types import DType

LONGEST = 1024
"""Steps that a layer is unrolled over at most."""

LOOPED = (DType.float32, DType.float64)
"""Dtypes that the operators over all steps take."""

States = list[KerasTensor]


def activation_name(function: Any) -> str | None:
    """The name of an activation among those of the operators over all steps."""
    return next((name for name in ACTIVATIONS if activations.get(name) is function), None)


def _add(a: Any, b: Any) -> KerasTensor:
    return apply(broadcasting.Add(), a, b)


def _mul(a: Any, b: Any) -> KerasTensor:
    return apply(broadcasting.Mul(), a, b)


def _product(x: Any, weights: Any) -> KerasTensor:
    return apply(matmul.MatMul(), x, weights)


def _part(x: KerasTensor, axis: int, start: int, stop: int) -> KerasTensor:
    starts = tuple(start if d == axis else None for d in range(x.type.rank))
    stops = tuple(stop if d == axis else None for d in range(x.type.rank))
    return apply(shapes.Slice(starts, stops, (1,) * x.type.rank), x)


def _flipped(x: KerasTensor) -> KerasTensor:
    """The steps of (batch, steps, …) from the last one to the first."""
    whole = (None,) * x.type.rank
    strides = tuple(-1 if d == 1 else 1 for d in range(x.type.rank))
    return apply(shapes.Slice(whole, whole, strides), x)


def _where(condition: KerasTensor, then: KerasTensor, otherwise: KerasTensor) -> KerasTensor:
    return apply(broadcasting.Where(), condition, then, otherwise)


def _states(y: KerasTensor, state: int, first: int, end: int) -> KerasTensor:
    """One of all states y[s, t, n, u] at the times from `first` to `end`."""
    part = shapes.Slice((state, first, None, None), (state + 1, end, None, None), (1, 1, 1, 1))
    return apply(part, y)


class Cell(Layer):
    """One step of a recurrent layer, and its weights: `kernel`, `recurrent_kernel` and `bias`, gates side by side."""

    gates: ClassVar[int] = 1
    states: ClassVar[int] = 1

    def __init__(self, owner: Recurrent) -> None:
        super().__init__(dtype=owner.dtype)
        self._owner = owner.settings()
        self.units: int = self._owner["units"]

    def build(self, input_shape: Any) -> None:
        owner, width = self._owner, self.gates * self.units
        for name, shape in (
            ("kernel", (input_shape[-1], width)),
            ("recurrent_kernel", (self.units, width)),
            ("bias", self._bias_shape(width)),
        ):
            kind = name.removesuffix("_kernel")
            if name == "bias" and not owner["use_bias"]:
                self.bias: Variable | None = None
                continue
            weight = self.add_weight(
                shape,
                self._initializer(kind),
                regularizer=owner[f"{kind}_regularizer"],
                constraint=owner[f"{kind}_constraint"],
                name=name,
            )
            setattr(self, name, weight)

    kernel: Variable
    recurrent_kernel: Variable

    def _bias_shape(self, width: int) -> tuple[int, ...]:
        return (width,)

    def _initializer(self, kind: str) -> Any:
        return self._owner[f"{kind}_initializer"]

    def inputs(self, x: KerasTensor) -> KerasTensor:
        """What the gates take from the inputs of all steps: x @ kernel + bias."""
        y = _product(x, self.kernel)
        return y if self.bias is None else _add(y, self.bias)

    def gate(self, x: KerasTensor, k: int) -> KerasTensor:
        return _part(x, x.type.rank - 1, k * self.units, (k + 1) * self.units)

    def activated(self, x: KerasTensor) -> Any:
        return self._owner["activation"](x)

    def gated(self, x: KerasTensor) -> Any:
        return self._owner["recurrent_activation"](x)

    def loop(self, backwards: bool) -> Op | None:
        """The operator that does all steps; None if there is none with the layer's activations."""
        names = [name for f in self.applied() if (name := activation_name(f)) is not None]
        known = len(names) == len(self.applied())
        return self.loop_class(tuple(names), backwards) if known else None

    loop_class: ClassVar[type[Recurrence]] = RnnLoop

    def applied(self) -> tuple[Any, ...]:
        """The activations in the operator's order."""
        return (self._owner["activation"],)

    def loop_operands(self) -> States:
        """What the operator takes between inputs and states."""
        return [as_tensor(self.recurrent_kernel)]

    def step(self, x: KerasTensor, states: States) -> States:
        """The new states, of which the first is the output."""
        return [self.activated(_add(x, _product(states[0], self.recurrent_kernel)))]


class SimpleRNNCell(Cell):
    """h = activation(x @ kernel + h @ recurrent_kernel + bias)."""


class LSTMCell(Cell):
    """Gates i, f, c, o (Hochreiter & Schmidhuber, 1997)."""

    gates = 4
    states = 2
    loop_class = LstmLoop

    def applied(self) -> tuple[Any, ...]:
        inner = self._owner["activation"]
        return (self._owner["recurrent_activation"], inner, inner)

    def _initializer(self, kind: str) -> Any:
        initializer = super()._initializer(kind)
        if kind != "bias" or not self._owner["unit_forget_bias"]:
            return initializer
        return _ForgetBias(initializer, self.units)

    def step(self, x: KerasTensor, states: States) -> States:
        h, c = states
        total = _add(x, _product(h, self.recurrent_kernel))
        i, f, o = (self.gated(self.gate(total, k)) for k in (0, 1, 3))
        c = _add(_mul(f, c), _mul(i, self.activated(self.gate(total, 2))))
        return [_mul(o, self.activated(c)), c]


class _ForgetBias(initializers.Initializer):
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
    loop_class = GruLoop

    @property
    def reset_after(self) -> bool:
        return bool(self._owner["reset_after"])

    def loop(self, backwards: bool) -> Op | None:
        return super().loop(backwards) if self.reset_after else None

    def applied(self) -> tuple[Any, ...]:
        return (self._owner["recurrent_activation"], self._owner["activation"])

    def loop_operands(self) -> States:
        bias = self._bias(1)
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
        return reshape(_part(bias, 0, row, row + 1), (3 * self.units,))

    def inputs(self, x: KerasTensor) -> KerasTensor:
        y, bias = _product(x, self.kernel), self._bias(0)
        return y if bias is None else _add(y, bias)

    def step(self, x: KerasTensor, states: States) -> States:
        h, recurrent = states[0], as_tensor(self.recurrent_kernel)
        if self.reset_after:
            mine, bias = _product(h, recurrent), self._bias(1)
            mine = mine if bias is None else _add(mine, bias)
            z = self.gated(_add(self.gate(x, 0), self.gate(mine, 0)))
            r = self.gated(_add(self.gate(x, 1), self.gate(mine, 1)))
            new = _mul(r, self.gate(mine, 2))
        else:
            mine = _product(h, _part(recurrent, 1, 0, 2 * self.units))
            z = self.gated(_add(self.gate(x, 0), self.gate(mine, 0)))
            r = self.gated(_add(self.gate(x, 1), self.gate(mine, 1)))
            new = _product(_mul(r, h), _part(recurrent, 1, 2 * self.units, 3 * self.units))
        new = self.activated(_add(self.gate(x, 2), new))
        kept = _mul(z, h)
        return [_add(kept, apply(broadcasting.Sub(), new, _mul(z, new)))]


class Recurrent(Layer):
    """What all recurrent layers share: (batch, steps, features) to the last output, or to all of them."""

    cell_class: ClassVar[type[Cell]]
    units: int

    def _set_common(self, arguments: dict[str, Any]) -> None:
        self.units = positive(self, "units", arguments["units"])
        self.activation = activations.get(arguments["activation"])
        self.recurrent_activation = activations.get(arguments.get("recurrent_activation"))
        self.use_bias = bool(arguments["use_bias"])
        for kind in ("kernel", "recurrent", "bias"):
            for name, get in (
                ("initializer", initializers.get),
                ("regularizer", regularizers.get),
                ("constraint", constraints.get),
            ):
                setattr(self, f"{kind}_{name}", get(arguments[f"{kind}_{name}"]))
        self.dropout = fraction(self, "dropout", arguments["dropout"])
        self.recurrent_dropout = fraction(self, "recurrent_dropout", arguments["recurrent_dropout"])
        for flag in ("return_sequences", "return_state", "go_backwards", "zero_output_for_mask"):
            setattr(self, flag, bool(arguments[flag]))
        if arguments["stateful"]:
            refuse(self, "stateful", "False: convc's models keep nothing between calls", True)
        self.cell = self.cell_class(self)

    return_sequences: bool
    return_state: bool
    go_backwards: bool
    zero_output_for_mask: bool

    def settings(self) -> dict[str, Any]:
        """What the cell needs to know of its layer."""
        inert = ("cell", "calls", "init_arguments")
        return {k: v for k, v in vars(self).items() if k not in inert and not k.startswith("_")}

    def build(self, input_shape: Any) -> None:
        shape = input_shape[0] if isinstance(input_shape, list) else input_shape
        if len(shape) != 3 or shape[2] is None:
            raise ModelError(
                f"layer {self.name!r} ({type(self).__name__}): expected shape (batch, steps, features); "
                f"received {shape}"
            )
        with entered(self.cell.name):
            self.cell.build(shape)
        self.cell.built = True

    def call(self, inputs: Any, initial_state: Any = None, mask: Any = None) -> Any:
        if isinstance(inputs, (list, tuple)):
            inputs, initial_state = inputs[0], list(inputs[1:]) or initial_state
        x = floating(inputs)
        steps = x.type.shape[1]
        if not isinstance(steps, int):
            raise UnsupportedError(
                f"layer {self.name!r} ({type(self).__name__}): expected a known number of steps; received {steps}"
            )
        states = self._first_states(initial_state, x)
        if self.dropout:
            # One draw for all steps (Gal & Ghahramani, 2016), as in Keras.
            x = apply(noise.SharedDropout(self.dropout, (1,)), x)
        possible = x.type.dtype in LOOPED and not self.recurrent_dropout
        loop = self.cell.loop(self.go_backwards) if possible else None
        looped = self._looped if loop is not None else self._unrolled
        counted = self._counted(mask, x)
        y, states = looped(x, states, counted)
        if counted is not None:
            y = self._shown(y, counted, initial_state is not None)
        return [y, *states] if self.return_state else y

    def _counted(self, mask: Any, x: KerasTensor) -> KerasTensor | None:
        """A mask as booleans (batch, steps), in the order of the sequence."""
        mask = mask[0] if isinstance(mask, (list, tuple)) else mask
        if mask is None:
            return None
        found = as_tensor(mask)
        if found.type.shape != x.type.shape[:2]:
            raise ModelError(
                f"layer {self.name!r} ({type(self).__name__}): mask: expected the inputs' (batch, steps), "
                f"{x.shape[:2]}; received {found.shape}"
            )
        if found.type.dtype is DType.bool:
            return found
        return apply(broadcasting.NotEqual(), found, as_tensor(0, found.type.dtype))

    def _shown(self, y: KerasTensor, counted: KerasTensor, started: bool) -> KerasTensor:
        """What the layer returns, zeros for it in steps without an output; `started`: the first states were given."""
        if not self.zero_output_for_mask and not started:
            return y  # The first state, which the steps before the first output have, is zeros.
        has_output = _flipped(counted) if self.go_backwards else counted
        if not self.zero_output_for_mask:
            number = apply(ordering.CumSum(1), cast(has_output, DType.int32))
            has_output = apply(broadcasting.Greater(), number, as_tensor(0, DType.int32))
        if self.return_sequences:
            has_output = reshape(has_output, (*has_output.type.shape, 1))
        else:
            steps = has_output.type.shape[1]
            assert isinstance(steps, int)
            has_output = _part(has_output, 1, steps - 1, steps)
        return _where(has_output, y, as_tensor(0.0, y.type.dtype))

    def _looped(
        self, x: KerasTensor, states: States, counted: KerasTensor | None
    ) -> tuple[KerasTensor, States]:
        """All steps in one operator: what the layer returns, and the last states."""
        loop = self.cell.loop(self.go_backwards)
        assert loop is not None
        batch, steps, _ = x.type.shape
        assert isinstance(steps, int)
        prepared = self.cell.inputs(apply(shapes.Transpose((1, 0, 2)), x))
        mask = [] if counted is None else [apply(shapes.Transpose((1, 0)), counted)]
        all = apply(loop, prepared, *self.cell.loop_operands(), *states, *mask)
        end = 0 if self.go_backwards else steps
        made = [
            reshape(_states(all, k, end, end + 1), (batch, self.units)) for k in range(len(states))
        ]
        if not self.return_sequences:
            return made[0], made
        first = 0 if self.go_backwards else 1
        outputs = _states(all, 0, first, first + steps)
        y = apply(shapes.Transpose((1, 0, 2)), reshape(outputs, (steps, batch, self.units)))
        return (_flipped(y) if self.go_backwards else y), made

    def _unrolled(
        self, x: KerasTensor, states: States, counted: KerasTensor | None
    ) -> tuple[KerasTensor, States]:
        """The same, the steps one after the other."""
        batch, steps, _ = x.type.shape
        if not isinstance(steps, int) or steps > LONGEST:
            raise UnsupportedError(
                f"layer {self.name!r} ({type(self).__name__}): expected up to {LONGEST} steps; received {steps}"
            )
        prepared = self.cell.inputs(x)
        width = prepared.type.shape[2]
        kept = self._kept(states[0]) if self.recurrent_dropout else None
        outputs = []
        for t in reversed(range(steps)) if self.go_backwards else range(steps):
            now = reshape(_part(prepared, 1, t, t + 1), (batch, width))
            given = states if kept is None else [_mul(states[0], kept), *states[1:]]
            new = self.cell.step(now, given)
            if counted is not None:
                inside = _part(counted, 1, t, t + 1)
                new = [_where(inside, n, old) for n, old in zip(new, states, strict=True)]
            states = new
            outputs.append(states[0])
        if not self.return_sequences:
            return states[0], states
        rows = [reshape(o, (batch, 1, self.units)) for o in outputs]
        return (apply(shapes.Concat(1), *rows) if len(rows) > 1 else rows[0]), states

    def _kept(self, state: KerasTensor) -> KerasTensor:
        """What every step multiplies the last output by: one draw of dropout in training, ones otherwise."""
        one = as_tensor(1.0, state.type.dtype)
        ones = apply(shapes.Broadcast(state.type.shape), one)
        return apply(elementwise.Dropout(self.recurrent_dropout), ones)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """That of the inputs for all outputs, if they are returned; none for states."""
        mask = previous_mask[0] if isinstance(previous_mask, (list, tuple)) else previous_mask
        passed = mask if self.return_sequences else None
        return [passed, *[None] * self.cell.states] if self.return_state else passed

    def _first_states(self, given: Any, x: KerasTensor) -> States:
        if given is not None:
            return [floating(s) for s in (given if isinstance(given, (list, tuple)) else [given])]
        zero = as_tensor(0.0, x.type.dtype)
        shape = (x.type.shape[0], self.units)
        return [apply(shapes.Broadcast(shape), zero) for _ in range(self.cell.states)]


class SimpleRNN(Recurrent):
    """h = activation(x @ kernel + h @ recurrent_kernel + bias), step by step."""

    cell_class = SimpleRNNCell

    def __init__(
        self, units: int, activation: Any = "tanh", use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform", recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros", kernel_regularizer: Any = None, recurrent_regularizer: Any = None,
        bias_regularizer: Any = None, activity_regularizer: Any = None, kernel_constraint: Any = None,
        recurrent_constraint: Any = None, bias_constraint: Any = None, dropout: float = 0.0,
        recurrent_dropout: float = 0.0, return_sequences: bool = False, return_state: bool = False,
        go_backwards: bool = False, stateful: bool = False, unroll: bool = False, seed: int | None = None,
        zero_output_for_mask: bool = False, **kwargs: Any,
    ) -> None:  # fmt: skip
        arguments = locals()
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self._set_common(arguments)


class LSTM(Recurrent):
    """Long short-term memory."""

    cell_class = LSTMCell

    def __init__(
        self, units: int, activation: Any = "tanh", recurrent_activation: Any = "sigmoid", use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform", recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros", unit_forget_bias: bool = True, kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None, bias_regularizer: Any = None, activity_regularizer: Any = None,
        kernel_constraint: Any = None, recurrent_constraint: Any = None, bias_constraint: Any = None,
        dropout: float = 0.0, recurrent_dropout: float = 0.0, seed: int | None = None,
        return_sequences: bool = False, return_state: bool = False, go_backwards: bool = False,
        stateful: bool = False, unroll: bool = False, zero_output_for_mask: bool = False, **kwargs: Any,
    ) -> None:  # fmt: skip
        arguments = locals()
        kwargs.pop("use_cudnn", None)
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.unit_forget_bias = bool(unit_forget_bias)
        self._set_common(arguments)


class GRU(Recurrent):
    """Gated recurrent units."""

    cell_class = GRUCell

    def __init__(
        self, units: int, activation: Any = "tanh", recurrent_activation: Any = "sigmoid", use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform", recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros", kernel_regularizer: Any = None, recurrent_regularizer: Any = None,
        bias_regularizer: Any = None, activity_regularizer: Any = None, kernel_constraint: Any = None,
        recurrent_constraint: Any = None, bias_constraint: Any = None, dropout: float = 0.0,
        recurrent_dropout: float = 0.0, seed: int | None = None, return_sequences: bool = False,
        return_state: bool = False, go_backwards: bool = False, stateful: bool = False, unroll: bool = False,
        reset_after: bool = True, zero_output_for_mask: bool = False, **kwargs: Any,
    ) -> None:  # fmt: skip
        arguments = locals()
        kwargs.pop("use_cudnn", None)
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.reset_after = bool(reset_after)
        self._set_common(arguments)


class Wrapper(Layer):
    """A layer around another."""

    def __init__(self, layer: Any, **kwargs: Any) -> None:
        if not isinstance(layer, Layer):
            refuse(type(self).__name__, "layer", "a layer", layer)
        super().__init__(**kwargs)
        self.layer = layer

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """The layers inside are made from their own configs."""
        inside = ("layer", "backward_layer")
        made = {k: revived_layer(v) if k in inside and v else v for k, v in config.items()}
        return cls(**made)


class TimeDistributed(Wrapper):
    """A layer applied to every step of a sequence."""

    supports_masking = True

    def call(self, inputs: Any, mask: Any = None) -> Any:
        x = as_tensor(inputs)
        batch, steps, *rest = x.type.shape
        if not isinstance(steps, int):
            raise ModelError(f"layer {self.name!r} (TimeDistributed): steps must be known")
        y = as_tensor(self.layer(reshape(x, (batch * steps, *rest))))
        return reshape(y, (batch, steps, *y.type.shape[1:]))


class Bidirectional(Wrapper):
    """A recurrent layer forwards, and one like it backwards."""

    def __init__(
        self,
        layer: Any,
        merge_mode: str | None = "concat",
        weights: Any = None,
        backward_layer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(layer, **kwargs)
        if not isinstance(layer, Recurrent):
            refuse(self, "layer", "SimpleRNN, LSTM or GRU", layer)
        if weights is not None:
            refuse(self, "weights", "None", weights)
        self.merge_mode = merge_mode
        if merge_mode is not None:
            self.merge_mode = choice(
                self, "merge_mode", merge_mode, ("concat", "sum", "ave", "mul")
            )
        config = layer.get_config()
        self.forward_layer = type(layer).from_config({**config, "name": f"forward_{layer.name}"})
        if backward_layer is None:
            backwards = {
                "name": f"backward_{layer.name}",
                "go_backwards": not layer.go_backwards,
            }
            backward_layer = type(layer).from_config({**config, **backwards})
        if backward_layer.go_backwards == layer.go_backwards:
            refuse(self, "backward_layer", "a layer of the other direction", backward_layer)
        self.backward_layer = backward_layer
        for each in (self.forward_layer, self.backward_layer):
            each.zero_output_for_mask = each.return_sequences

    def get_config(self) -> dict[str, Any]:
        return {k: v for k, v in super().get_config().items() if k != "weights"}

    def call(self, inputs: Any, initial_state: Any = None, mask: Any = None) -> Any:
        if initial_state is not None:
            raise UnsupportedError(f"layer {self.name!r} (Bidirectional): initial_state")
        y, z = self.forward_layer(inputs, mask=mask), self.backward_layer(inputs, mask=mask)
        states: States = []
        if self.forward_layer.return_state:
            (y, *one), (z, *two) = y, z
            states = [*one, *two]
        if self.forward_layer.return_sequences:
            z = _flipped(z)
        merged = self._merged(y, z)
        return [*merged, *states] if len(merged) > 1 or states else merged[0]

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """That of the inputs for the steps' outputs; none for states."""
        mask = previous_mask[0] if isinstance(previous_mask, (list, tuple)) else previous_mask
        passed = mask if self.forward_layer.return_sequences else None
        count = 2 if self.merge_mode is None else 1
        states = 2 * self.forward_layer.cell.states if self.forward_layer.return_state else 0
        return [*[passed] * count, *[None] * states]

    def _merged(self, y: KerasTensor, z: KerasTensor) -> States:
        match self.merge_mode:
            case None:
                return [y, z]
            case "concat":
                return [apply(shapes.Concat(y.type.rank - 1), y, z)]
            case "mul":
                return [_mul(y, z)]
            case "sum":
                return [_add(y, z)]
            case _:
                return [apply(broadcasting.Mul(), *promoted(_add(y, z), 0.5))]
