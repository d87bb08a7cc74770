"""Dense, activations as layers, functions as layers, and what does nothing at inference."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

from convc.errors import ModelError
from convc.keras import activations, backend, constraints, initializers, regularizers
from convc.keras.engine.arguments import fraction, number, positive, refuse
from convc.keras.engine.input import InputLayer
from convc.keras.engine.layer import Layer
from convc.keras.engine.masks import masked
from convc.keras.engine.tensor import (
    KerasTensor,
    Variable,
    apply,
    as_tensor,
    cast,
    floating,
    reshape,
)
from convc.keras.layers.weights import add_weight
from convc.ops import broadcasting, elementwise, matmul, noise, reduce

__all__ = [
    "Activation", "ActivityRegularization", "AlphaDropout", "Dense", "Dropout", "GaussianDropout", "GaussianNoise",
    "Identity", "InputLayer", "Lambda", "Masking", "SpatialDropout2D",
]  # fmt: skip


class Dense(Layer):
    """activation(x @ kernel + bias) over the last axis; weights `kernel` (inputs, units) and `bias` (units)."""

    supports_masking = True

    def __init__(
        self,
        units: int,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.units = positive(self, "units", units)
        self.activation = activations.get(activation)
        self.use_bias = bool(use_bias)
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        self.bias: Variable | None = None

    def build(self, input_shape: Any) -> None:
        if not isinstance(input_shape, tuple) or len(input_shape) < 2 or input_shape[-1] is None:
            raise ModelError(
                f"layer {self.name!r} (Dense): expected an input of shape (batch, …, features); received {input_shape}"
            )
        self.kernel = add_weight(self, "kernel", (input_shape[-1], self.units))
        if self.use_bias:
            self.bias = add_weight(self, "bias", (self.units,))

    def call(self, inputs: Any) -> Any:
        x = floating(inputs)
        if x.shape[-1] != self.kernel.shape[0]:
            raise ModelError(
                f"layer {self.name!r} (Dense): expected {self.kernel.shape[0]} features; received shape {x.shape}"
            )
        y = apply(matmul.MatMul(), x, self.kernel)
        if self.bias is not None:
            y = apply(broadcasting.Add(), y, self.bias)
        return y if self.activation is None else self.activation(y)  # type: ignore[redundant-expr]


class Activation(Layer):
    """An activation function as a layer."""

    supports_masking = True

    def __init__(self, activation: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.activation = activations.get(activation)

    @property
    def elementwise(self) -> bool:
        return activations.is_elementwise(self.activation)

    def call(self, inputs: Any) -> Any:
        return self.activation(inputs)


class Identity(Layer):
    """Its input."""

    elementwise = True
    supports_masking = True

    def call(self, inputs: Any) -> Any:
        return inputs


class Masking(Identity):
    """Steps whose values are all `mask_value` become zeros, and layers that heed masks skip them."""

    def __init__(self, mask_value: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mask_value = mask_value

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        x = floating(inputs)
        known = apply(broadcasting.NotEqual(), x, as_tensor(float(self.mask_value), x.dtype))
        kept = apply(reduce.ReduceMax((x.type.rank - 1,)), cast(known, x.type.dtype))
        return apply(broadcasting.Greater(), kept, as_tensor(0.0, x.dtype))

    def call(self, inputs: Any) -> Any:
        x = floating(inputs)
        mask = self.compute_mask(x)
        inside = reshape(mask, (*mask.type.shape, 1))
        return masked(apply(broadcasting.Where(), inside, x, as_tensor(0.0, x.dtype)), mask)


class ActivityRegularization(Identity):
    """Its input; the penalty matters in training only."""

    def __init__(self, l1: float = 0.0, l2: float = 0.0, **kwargs: Any) -> None:
        super().__init__(activity_regularizer=regularizers.L1L2(l1, l2), **kwargs)
        self.l1, self.l2 = l1, l2

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.pop("activity_regularizer")  # l1 and l2 say it
        return config


class Dropout(Layer):
    """Sets a share `rate` of its inputs to zero in training; passes them on otherwise."""

    elementwise = True
    supports_masking = True

    def __init__(
        self, rate: float, noise_shape: Any = None, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.rate = fraction(self, "rate", rate)
        self.noise_shape = noise_shape
        self.seed = seed

    def call(self, inputs: Any, training: Any = False) -> Any:
        shared = _shared(self, self.noise_shape, inputs)
        if not shared or not self.rate:
            return apply(elementwise.Dropout(self.rate), inputs)
        return apply(noise.SharedDropout(_below_1(self, self.rate), shared), floating(inputs))


def _below_1(layer: Layer, rate: float) -> float:
    """A rate that leaves something; Keras' own dropouts of 1 give NaN or infinity."""
    return rate if rate < 1 else refuse(layer, "rate", "less than 1", rate)


def _shared(layer: Layer, noise_shape: Any, inputs: KerasTensor) -> tuple[int, ...]:
    """The axes along which one draw holds for all: those of size 1 in `noise_shape`."""
    if noise_shape is None:
        return ()
    rank = inputs.type.rank
    if not isinstance(noise_shape, (list, tuple)) or len(noise_shape) != rank:
        refuse(
            layer, "noise_shape", f"a shape of rank {rank} for input {inputs.shape}", noise_shape
        )
    return tuple(d for d, size in enumerate(noise_shape) if size == 1 and inputs.shape[d] != 1)


class BaseSpatialDropout(Layer):
    """Sets whole channels to zero in training; passes its inputs on otherwise."""

    has_format: ClassVar[bool] = True
    supports_masking = True

    def __init__(
        self,
        rate: float,
        data_format: str | None = None,
        seed: int | None = None,
        name: str | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, dtype=dtype, **kwargs)
        self.rate = fraction(self, "rate", rate)
        self.data_format, self.seed = data_format, seed

    def call(self, inputs: Any, training: Any = False) -> Any:
        if not self.rate:
            return inputs
        rank = inputs.type.rank
        first = backend.standardize_data_format(self.data_format, self.name) == "channels_first"
        spatial = tuple(range(2, rank)) if first and self.has_format else tuple(range(1, rank - 1))
        return apply(noise.SharedDropout(_below_1(self, self.rate), spatial), floating(inputs))

    def get_config(self) -> dict[str, Any]:
        """Keras' spatial dropouts take no `trainable`, those of images and volumes alone a data_format."""
        known = ("name", "dtype", "rate", "seed", "data_format")
        return {k: v for k, v in super().get_config().items() if k in known}


class SpatialDropout1D(BaseSpatialDropout):
    """For sequences (batch, steps, channels)."""

    has_format = False

    def __init__(
        self,
        rate: float,
        seed: int | None = None,
        name: str | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(rate, None, seed, name, dtype, **kwargs)


class SpatialDropout2D(BaseSpatialDropout):
    """For images."""


class SpatialDropout3D(BaseSpatialDropout):
    """For volumes."""


class GaussianNoise(Layer):
    """Adds noise in training; passes its inputs on otherwise."""

    elementwise = True
    supports_masking = True

    def __init__(self, stddev: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stddev, self.seed = number(self, "stddev", stddev, "a number ≥ 0"), seed

    def call(self, inputs: Any, training: Any = False) -> Any:
        if not self.stddev:
            return inputs
        return apply(noise.GaussianNoise(self.stddev, self.seed), floating(inputs))


class GaussianDropout(Layer):
    """Multiplies by noise in training; passes its inputs on otherwise."""

    elementwise = True
    supports_masking = True

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rate, self.seed = fraction(self, "rate", rate), seed

    def call(self, inputs: Any, training: Any = False) -> Any:
        if not self.rate:
            return inputs
        rate = _below_1(self, self.rate)
        return apply(noise.GaussianDropout(rate, self.seed), floating(inputs))


class AlphaDropout(GaussianDropout):
    """Dropout that keeps mean and variance in training; passes its inputs on otherwise."""

    def __init__(
        self, rate: float, noise_shape: Any = None, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(rate, seed, **kwargs)
        self.noise_shape = noise_shape

    def call(self, inputs: Any, training: Any = False) -> Any:
        if not self.rate:
            return inputs
        shared = _shared(self, self.noise_shape, inputs)
        return apply(
            noise.AlphaDropout(_below_1(self, self.rate), shared, self.seed), floating(inputs)
        )


class Lambda(Layer):
    """A plain function of tensors as a layer: it is traced like any other code.

    `mask` is the output's mask, or a function (inputs, mask) that gives it.
    """

    supports_masking = True

    def __init__(
        self,
        function: Any,
        output_shape: Any = None,
        mask: Any = None,
        arguments: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not callable(function):
            raise ModelError(
                f"Lambda {self.name!r}: function must be callable; received {function!r}"
            )
        self.function = function
        self.mask = mask
        self.arguments = dict(arguments or {})

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return self.mask(inputs, previous_mask) if callable(self.mask) else self.mask

    def call(self, inputs: Any, mask: Any = None) -> Any:
        arguments = dict(self.arguments)
        if mask is not None and "mask" in inspect.signature(self.function).parameters:
            arguments["mask"] = mask
        outputs = self.function(inputs, **arguments)
        if isinstance(outputs, (KerasTensor, Variable, list, tuple, dict)):
            return outputs
        try:
            return as_tensor(outputs)
        except ModelError:
            line = inspect.getsourcefile(self.function) or "its function"
            raise ModelError(
                f"Lambda {self.name!r}: {line} must return tensors; it returned {outputs!r}"
            ) from None
