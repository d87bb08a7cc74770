"""Activations with arguments or weights."""

from __future__ import annotations

from typing import Any

from convc.keras import activations, constraints, initializers, regularizers
from convc.keras.engine.arguments import is_integer, number, refuse
from convc.keras.engine.layer import Layer
from convc.keras.engine.tensor import KerasTensor, apply, cast, floating
from convc.ops import broadcasting
from convc.types import DType


class ReLU(Layer):
    """max(x, 0), with an upper limit, a slope below `threshold`, and the threshold itself."""

    supports_masking = True
    elementwise = True

    def __init__(
        self,
        max_value: float | None = None,
        negative_slope: float = 0.0,
        threshold: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.max_value = None
        if max_value is not None:
            self.max_value = number(self, "max_value", max_value, "a number ≥ 0 or None")
        self.negative_slope = number(self, "negative_slope", negative_slope, "a number ≥ 0")
        self.threshold = number(self, "threshold", threshold, "a number ≥ 0")

    def call(self, inputs: Any) -> Any:
        return activations.relu(inputs, self.negative_slope, self.max_value, self.threshold)


class LeakyReLU(Layer):
    """x, or negative_slope * x below 0."""

    supports_masking = True
    elementwise = True

    def __init__(self, negative_slope: float = 0.3, **kwargs: Any) -> None:
        negative_slope = kwargs.pop("alpha", negative_slope)
        super().__init__(**kwargs)
        self.negative_slope = number(self, "negative_slope", negative_slope, "a number ≥ 0")

    def call(self, inputs: Any) -> Any:
        return activations.leaky_relu(inputs, self.negative_slope)


class ELU(Layer):
    """x, or alpha * (exp(x) - 1) below 0."""

    supports_masking = True
    elementwise = True

    def __init__(self, alpha: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.alpha = number(self, "alpha", alpha, "a number", float("-inf"))

    def call(self, inputs: Any) -> Any:
        return activations.elu(inputs, self.alpha)


class ThresholdedReLU(Layer):
    """x where it is more than theta, else 0 (Keras 2)."""

    supports_masking = True
    elementwise = True

    def __init__(self, theta: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.theta = number(self, "theta", theta, "a number ≥ 0")

    def call(self, inputs: Any) -> Any:
        return activations.threshold(inputs, self.theta, 0.0)


class PReLU(Layer):
    """x, or alpha * x below 0, with a weight `alpha` per element (one along each shared axis)."""

    supports_masking = True

    def __init__(
        self,
        alpha_initializer: Any = "Zeros",
        alpha_regularizer: Any = None,
        alpha_constraint: Any = None,
        shared_axes: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.alpha_initializer = initializers.get(alpha_initializer)
        self.alpha_regularizer = regularizers.get(alpha_regularizer)
        self.alpha_constraint = constraints.get(alpha_constraint)
        axes = () if shared_axes is None else shared_axes
        axes = (axes,) if is_integer(axes) else axes
        if not isinstance(axes, (tuple, list)) or not all(is_integer(a) for a in axes):
            refuse(self, "shared_axes", "an integer or a list of integers", shared_axes)
        self.shared_axes = list(axes)

    def build(self, input_shape: Any) -> None:
        shape = list(input_shape[1:])
        for axis in self.shared_axes:
            if not 1 <= axis % len(input_shape) < len(input_shape):
                refuse(
                    self,
                    "shared_axes",
                    f"axes from 1 to {len(shape)} for input {input_shape}",
                    axis,
                )
            shape[axis % len(input_shape) - 1] = 1
        self.alpha = self.add_weight(
            tuple(shape),
            self.alpha_initializer,
            regularizer=self.alpha_regularizer,
            constraint=self.alpha_constraint,
            name="alpha",
        )

    def call(self, inputs: Any) -> Any:
        return apply(broadcasting.PRelu(), floating(inputs), self.alpha)


class Softmax(Layer):
    """exp(x) / sum(exp(x)) along an axis; where a `mask` of x's shape is False, next to nothing."""

    supports_masking = True

    def __init__(self, axis: Any = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis = axis

    def call(self, inputs: Any, mask: Any = None) -> KerasTensor:
        if mask is not None:
            x = floating(inputs)
            lowest = -3e4 if x.type.dtype is DType.float16 else -1e9
            inputs = x + (1.0 - cast(mask, x.type.dtype)) * lowest
        return activations.softmax(inputs, self.axis)
