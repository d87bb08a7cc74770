"""Convolutions whose kernel differs from place to place, which Keras 2 had."""

from __future__ import annotations

import math
from typing import Any

from convc.errors import ModelError
from convc.keras import (
    activations,
    backend,
    backend_layers,
    constraints,
    initializers,
    regularizers,
)
from convc.keras.engine.arguments import choice, positive
from convc.keras.engine.layer import Layer
from convc.keras.engine.steps import Variable
from convc.keras.engine.tensor import KerasTensor, as_tensor
from convc.keras.layers.weights import add_weight
from convc.keras.ops.nn import each


class LocallyConnected(Layer):
    """What both have in common; weights `kernel` (places, window * channels, filters) and `bias` (…places, filters)."""

    rank: int

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        implementation: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.filters = positive(self, "filters", filters)
        self.kernel_size, self.strides = each(self.rank, kernel_size), each(self.rank, strides)
        self.padding = choice(self, "padding", padding, ("valid",))
        self.data_format = backend.standardize_data_format(data_format, self.name)
        self.activation = activations.get(activation)
        self.use_bias, self.implementation = bool(use_bias), implementation
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        self.kernel: Variable
        self.bias: Variable | None = None

    def build(self, input_shape: Any) -> None:
        last = self.data_format == "channels_last"
        sizes = tuple(input_shape[1:-1] if last else input_shape[2:])
        channels = input_shape[-1] if last else input_shape[1]
        if len(sizes) != self.rank or None in (*sizes, channels):
            raise ModelError(
                f"layer {self.name!r} ({type(self).__name__}): expected an input of rank {self.rank + 2} whose sizes "
                f"are known; received {tuple(input_shape)}"
            )
        windows = zip(sizes, self.kernel_size, self.strides, strict=True)
        self.places = tuple((n - window) // stride + 1 for n, window, stride in windows)
        shape = (math.prod(self.places), math.prod(self.kernel_size) * channels, self.filters)
        self.kernel = add_weight(self, "kernel", shape)
        if self.use_bias:
            self.bias = add_weight(self, "bias", (*self.places, self.filters))

    def call(self, inputs: Any) -> KerasTensor:
        y = self._products(inputs)
        if self.bias is not None:
            y = backend_layers.bias_add(y, self.bias, self.data_format)
        return as_tensor(self.activation(y))

    def _products(self, inputs: Any) -> KerasTensor:
        raise NotImplementedError


class LocallyConnected1D(LocallyConnected):
    """(batch, steps, channels) to (batch, output steps, filters), each step with a kernel of its own."""

    rank = 1

    def _products(self, inputs: Any) -> KerasTensor:
        return backend_layers.local_conv1d(
            inputs, self.kernel, self.kernel_size, self.strides, self.data_format
        )


class LocallyConnected2D(LocallyConnected):
    """(batch, rows, columns, channels) to (batch, …, filters), each place with a kernel of its own."""

    rank = 2

    def _products(self, inputs: Any) -> KerasTensor:
        return backend_layers.local_conv2d(
            inputs, self.kernel, self.kernel_size, self.strides, self.places, self.data_format
        )
