"""Normalization by statistics of groups of channels, or by the root mean square."""

from __future__ import annotations

import math
from typing import Any

from convc.keras import constraints, initializers, regularizers
from convc.keras.engine.arguments import axis_of, is_integer, number, refuse
from convc.keras.engine.layer import Layer
from convc.keras.engine.tensor import (
    KerasTensor,
    Variable,
    apply,
    as_tensor,
    floating,
    promoted,
    reshape,
)
from convc.keras.layers.weights import add_weight
from convc.ops import broadcasting, elementwise, reduce


def _plus(x: KerasTensor, value: float) -> KerasTensor:
    return apply(broadcasting.Add(), *promoted(x, value))


class GroupNormalization(Layer):
    """gamma * (x - mean) / sqrt(variance + epsilon) + beta, each sample's channels in `groups` (Wu & He, 2018)."""

    supports_masking = True

    def __init__(
        self,
        groups: int = 32,
        axis: int = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not is_integer(groups) or (groups < 1 and groups != -1):
            refuse(self, "groups", "a positive integer, or -1 for one group per channel", groups)
        if not is_integer(axis):
            refuse(self, "axis", "an integer", axis)
        self.groups, self.axis = int(groups), int(axis)
        self.epsilon = number(self, "epsilon", epsilon, "a positive number")
        self.center, self.scale = bool(center), bool(scale)
        self.beta_initializer = initializers.get(beta_initializer)
        self.gamma_initializer = initializers.get(gamma_initializer)
        self.beta_regularizer = regularizers.get(beta_regularizer)
        self.gamma_regularizer = regularizers.get(gamma_regularizer)
        self.beta_constraint = constraints.get(beta_constraint)
        self.gamma_constraint = constraints.get(gamma_constraint)
        self.gamma: Variable | None = None
        self.beta: Variable | None = None

    def build(self, input_shape: Any) -> None:
        channels = input_shape[axis_of(self, self.axis, len(input_shape))]
        if channels is None:
            refuse(self, "axis", f"an axis of known size of input {input_shape}", self.axis)
        if channels % self._groups(channels):
            refuse(self, "groups", f"a divisor of the {channels} channels", self.groups)
        for name, wanted in (("gamma", self.scale), ("beta", self.center)):
            if wanted:
                weight = add_weight(self, name, (channels,))
                setattr(self, name, weight)

    def _groups(self, channels: int) -> int:
        return channels if self.groups == -1 else self.groups

    def call(self, inputs: Any) -> Any:
        x = floating(inputs)
        axis = axis_of(self, self.axis, x.type.rank)
        channels = x.type.shape[axis]
        assert isinstance(channels, int)
        groups = self._groups(channels)
        apart = (groups, channels // groups)
        y = reshape(x, (*x.type.shape[:axis], *apart, *x.type.shape[axis + 1 :]))
        axes = tuple(d for d in range(1, y.type.rank) if d != axis)
        centred = apply(broadcasting.Sub(), y, apply(reduce.ReduceMean(axes, True), y))
        squares = apply(elementwise.Square(), centred)
        variance = _plus(apply(reduce.ReduceMean(axes, True), squares), self.epsilon)
        y = apply(broadcasting.Mul(), centred, apply(elementwise.Rsqrt(), variance))
        y = reshape(y, x.type.shape)
        along = (channels, *(1 for _ in x.type.shape[axis + 1 :]))
        if self.gamma is not None:
            y = apply(broadcasting.Mul(), y, reshape(as_tensor(self.gamma), along))
        if self.beta is not None:
            y = apply(broadcasting.Add(), y, reshape(as_tensor(self.beta), along))
        return y


class RMSNormalization(Layer):
    """x / sqrt(mean(x²) + epsilon) * scale over `axis` (Zhang & Sennrich, 2019)."""

    def __init__(self, axis: Any = -1, epsilon: float = 1e-6, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        axes = (axis,) if is_integer(axis) else axis
        if not isinstance(axes, (tuple, list)) or not axes or not all(map(is_integer, axes)):
            refuse(self, "axis", "an integer or a list of integers", axis)
        self.axis = [int(a) for a in axes]
        self.epsilon = number(self, "epsilon", epsilon, "a positive number")

    def build(self, input_shape: Any) -> None:
        axes = sorted(axis_of(self, a, len(input_shape)) for a in self.axis)
        shape = tuple(input_shape[a] for a in axes)
        if None in shape or not math.prod(shape):
            refuse(self, "axis", f"axes of known size of input {input_shape}", self.axis)
        self.scale = self.add_weight(shape, "ones", name="scale")

    def call(self, inputs: Any) -> Any:
        x = floating(inputs)
        axes = tuple(sorted(axis_of(self, a, x.type.rank) for a in self.axis))
        mean = apply(reduce.ReduceMean(axes, True), apply(elementwise.Square(), x))
        y = apply(broadcasting.Mul(), x, apply(elementwise.Rsqrt(), _plus(mean, self.epsilon)))
        along = tuple(x.type.shape[d] if d in axes else 1 for d in range(axes[0], x.type.rank))
        return apply(broadcasting.Mul(), y, reshape(as_tensor(self.scale), along))
