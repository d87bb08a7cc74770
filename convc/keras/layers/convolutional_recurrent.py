"""LSTMs whose products are convolutions (Shi et al., 2015): (batch, steps, …, channels) in space and time."""

from __future__ import annotations

from typing import Any, ClassVar

from convc.errors import ModelError
from convc.keras import activations, constraints, initializers, regularizers
from convc.keras.backend import standardize_data_format
from convc.keras.engine.arguments import choice, fraction, positive
from convc.keras.engine.layer import Layer
from convc.keras.engine.tensor import KerasTensor, Variable, apply, floating, reshape
from convc.keras.layers.cells import ForgetBias, add, mul, part, zeros
from convc.keras.layers.rnn import RNN
from convc.keras.layers.weights import add_weight
from convc.keras.ops import nn
from convc.ops import elementwise


class ConvLSTMCell(Layer):
    """One step: gates i, f, c, o of convolutions of the input and of the last output."""

    def __init__(self, rank: int, filters: int, kernel_size: Any, settings: dict[str, Any]) -> None:
        super().__init__(dtype=settings.get("dtype"))
        self.spatial = rank
        self.filters = filters
        self.kernel_size = kernel_size
        for name in (
            "strides", "padding", "dilation_rate", "use_bias", "activation", "recurrent_activation", "dropout",
            "recurrent_dropout", "unit_forget_bias",
        ):  # fmt: skip
            setattr(self, name, settings[name])
        for kind in ("kernel", "recurrent", "bias"):
            for name in ("initializer", "regularizer", "constraint"):
                setattr(self, f"{kind}_{name}", settings[f"{kind}_{name}"])
        self.channels_first = settings["data_format"] == "channels_first"
        self._size: tuple[Any, ...] | None = None

    strides: Any
    padding: str
    dilation_rate: Any
    use_bias: bool
    activation: Any
    recurrent_activation: Any
    dropout: float
    recurrent_dropout: float
    unit_forget_bias: bool

    def build(self, input_shape: Any) -> None:
        channels = input_shape[1 if self.channels_first else -1]
        if channels is None:
            raise ModelError(f"layer {self.name!r}: the number of channels must be known")
        for name, depth in (("kernel", channels), ("recurrent_kernel", self.filters)):
            kind = name.removesuffix("_kernel")
            weight = add_weight(self, name, (*self.kernel_size, depth, 4 * self.filters), kind)
            setattr(self, name, weight)
        self.bias: Variable | None = None
        if self.use_bias:
            made: Any = self.bias_initializer  # type: ignore[attr-defined]
            first = ForgetBias(made, self.filters) if self.unit_forget_bias else made
            self.bias = add_weight(self, "bias", (4 * self.filters,), initializer=first)

    kernel: Variable
    recurrent_kernel: Variable

    @property
    def state_size(self) -> list[Any]:
        assert self._size is not None, "the layer's call sets it"
        return [self._size, self._size]

    def sized(self, features: tuple[Any, ...]) -> None:
        """Sets the states' size for inputs of these features (rows, columns, channels)."""
        places = features[1:] if self.channels_first else features[:-1]
        found = []
        for place, kernel, stride, dilation in zip(
            places, self.kernel_size, self.strides, self.dilation_rate, strict=True
        ):
            window = 1 if self.padding == "same" else (kernel - 1) * dilation + 1
            found.append((place - window) // stride + 1)
        self._size = (self.filters, *found) if self.channels_first else (*found, self.filters)

    def get_initial_state(self, batch_size: Any = None) -> list[KerasTensor]:
        return [zeros((batch_size, *size), self.dtype) for size in self.state_size]

    def call(self, inputs: Any, states: Any, training: Any = None) -> Any:
        h, c = (floating(s) for s in states)
        x, given, axis = floating(inputs), h, 1 if self.channels_first else self.spatial + 1
        order = "channels_first" if self.channels_first else "channels_last"
        if self.dropout:
            x = apply(elementwise.Dropout(self.dropout), x)
        if self.recurrent_dropout:
            given = apply(elementwise.Dropout(self.recurrent_dropout), h)
        total = nn.conv(x, self.kernel, self.strides, self.padding, order, self.dilation_rate)
        if self.bias is not None:
            shape = [1] * total.type.rank
            shape[axis] = 4 * self.filters
            total = add(total, reshape(floating(self.bias), tuple(shape)))
        total = add(total, nn.conv(given, self.recurrent_kernel, 1, "same", order))
        i, f, candidate, o = (
            part(total, axis, k * self.filters, (k + 1) * self.filters) for k in range(4)
        )
        gated = self.recurrent_activation
        c = add(mul(gated(f), c), mul(gated(i), self.activation(candidate)))
        h = mul(gated(o), self.activation(c))
        return h, [h, c]


class ConvLSTM(RNN):
    """Base of ConvLSTM1D to 3D. Their steps are unrolled."""

    rank: ClassVar[int]

    def __init__(
        self, filters: int, kernel_size: Any, strides: Any = 1, padding: str = "valid", data_format: Any = None,
        dilation_rate: Any = 1, activation: Any = "tanh", recurrent_activation: Any = "sigmoid", use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform", recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros", unit_forget_bias: bool = True, kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None, bias_regularizer: Any = None, activity_regularizer: Any = None,
        kernel_constraint: Any = None, recurrent_constraint: Any = None, bias_constraint: Any = None,
        dropout: float = 0.0, recurrent_dropout: float = 0.0, seed: int | None = None,
        return_sequences: bool = False, return_state: bool = False, go_backwards: bool = False,
        stateful: bool = False, **kwargs: Any,
    ) -> None:  # fmt: skip
        arguments = {**locals(), "unroll": True, "zero_output_for_mask": False}
        Layer.__init__(self, activity_regularizer=activity_regularizer, **kwargs)
        self.filters = positive(self, "filters", filters)
        self.kernel_size = nn.each(self.rank, kernel_size)
        self.strides, self.dilation_rate = (
            nn.each(self.rank, strides),
            nn.each(self.rank, dilation_rate),
        )
        self.padding = choice(self, "padding", str(padding).lower(), ("valid", "same"))
        self.data_format = standardize_data_format(data_format, self.name)
        self.activation = activations.get(activation)
        self.recurrent_activation = activations.get(recurrent_activation)
        self.use_bias, self.unit_forget_bias = bool(use_bias), bool(unit_forget_bias)
        for kind in ("kernel", "recurrent", "bias"):
            for name, get in (
                ("initializer", initializers.get),
                ("regularizer", regularizers.get),
                ("constraint", constraints.get),
            ):
                setattr(self, f"{kind}_{name}", get(arguments[f"{kind}_{name}"]))
        # The cell drops, each step anew.
        rates = {n: fraction(self, n, arguments[n]) for n in ("dropout", "recurrent_dropout")}
        self.recurrent_dropout = rates["recurrent_dropout"]
        self._set_flags(arguments)
        settings = {**vars(self), **rates, "dtype": self.dtype}
        self.cell = ConvLSTMCell(self.rank, self.filters, self.kernel_size, settings)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        return cls(**config)

    def _checked_shape(self, shape: Any) -> None:
        if len(shape) != self.rank + 3:
            raise ModelError(
                f"layer {self.name!r} ({type(self).__name__}): expected shape (batch, steps, {'size, ' * self.rank}"
                f"channels); received {shape}"
            )
        self.cell.sized(tuple(shape[2:]))

    def call(self, inputs: Any, initial_state: Any = None, mask: Any = None) -> Any:
        x = inputs[0] if isinstance(inputs, (list, tuple)) else inputs
        self.cell.sized(floating(x).type.shape[2:])
        return super().call(inputs, initial_state, mask)


class ConvLSTM1D(ConvLSTM):
    rank = 1


class ConvLSTM2D(ConvLSTM):
    rank = 2


class ConvLSTM3D(ConvLSTM):
    rank = 3
