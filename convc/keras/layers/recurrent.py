"""Recurrent layers over sequences of known length.

One operator loops over the steps (ops/recurrent.py); with activations that it has not (ops/gates.py) they are unrolled.
"""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

from convc.keras import activations
from convc.keras.engine.layer import Layer
from convc.keras.layers.cells import (
    Cell,
    GRUCell,
    LSTMCell,
    SimpleRNNCell,
    set_weights_and_dropouts,
)
from convc.keras.layers.rnn import RNN


class Recurrent(RNN):
    """What layers with a cell of their own share: (batch, steps, features) to the last output, or to all of them."""

    cell_class: ClassVar[type[Cell]]
    units: int
    dropout: float

    def _set_common(self, arguments: dict[str, Any]) -> None:
        set_weights_and_dropouts(self, arguments)
        self.activation = activations.get(arguments["activation"])
        self.recurrent_activation = activations.get(arguments.get("recurrent_activation"))
        self._set_flags(arguments)
        self.cell = self.cell_class(**self._cell_settings(), dtype=self.dtype)

    def _cell_settings(self) -> dict[str, Any]:
        """The arguments of the cell, as the layer holds them."""
        names = inspect.signature(self.cell_class.__init__).parameters
        return {n: getattr(self, n) for n in names if n not in ("self", "seed", "kwargs")}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        return cls(**config)


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
        Layer.__init__(self, activity_regularizer=activity_regularizer, **kwargs)
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
        Layer.__init__(self, activity_regularizer=activity_regularizer, **kwargs)
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
        Layer.__init__(self, activity_regularizer=activity_regularizer, **kwargs)
        self.reset_after = bool(reset_after)
        self._set_common(arguments)
