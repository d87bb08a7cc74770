"""Normalisations and softmax: operators made of others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from convc.graph.ir import Builder
from convc.graph.op import Op, register
from convc.ops.base import (
    Array,
    Types,
    accumulator,
    axes_of,
    axis_of,
    expect_dtype,
    expect_float,
    expect_shape,
)
from convc.ops.broadcasting import Add, Div, Mul, Sub
from convc.ops.elementwise import Exp, Log, Sqrt, Square
from convc.ops.reduce import ReduceMax, ReduceMean, ReduceSum
from convc.ops.shape import Reshape, Transpose
from convc.types import DType, Shape, TensorType


@register
@dataclass(frozen=True)
class Softmax(Op):
    """e**x over its sum along an axis."""

    axis: int = -1

    def infer(self, x: TensorType) -> Types:
        expect_float(self, "x", x)
        axis_of(self, self.axis, x.rank)
        return (x,)

    def reference(self, x: Array) -> Array:
        wide = x.astype(accumulator(DType.of(x.dtype)).numpy)
        powers = np.exp(wide - wide.max(axis=self.axis, keepdims=True))
        result: Array = powers / powers.sum(axis=self.axis, keepdims=True)
        return result.astype(x.dtype)

    def decompose(self, builder: Builder, x: str) -> tuple[str]:
        largest = builder.add(ReduceMax((self.axis,), True), x)
        powers = builder.add(Exp(), builder.add(Sub(), x, largest))
        return (builder.add(Div(), powers, builder.add(ReduceSum((self.axis,), True), powers)),)

    def permute(self, perm: tuple[int, ...], x: TensorType) -> Op | None:
        return Softmax(perm.index(axis_of(self, self.axis, x.rank)))


@register
@dataclass(frozen=True)
class LogSoftmax(Op):
    """The logarithm of the softmax along an axis."""

    axis: int = -1

    def infer(self, x: TensorType) -> Types:
        expect_float(self, "x", x)
        axis_of(self, self.axis, x.rank)
        return (x,)

    def reference(self, x: Array) -> Array:
        wide = x.astype(accumulator(DType.of(x.dtype)).numpy)
        shifted = wide - wide.max(axis=self.axis, keepdims=True)
        result: Array = shifted - np.log(np.exp(shifted).sum(axis=self.axis, keepdims=True))
        return result.astype(x.dtype)

    def decompose(self, builder: Builder, x: str) -> tuple[str]:
        shifted = builder.add(Sub(), x, builder.add(ReduceMax((self.axis,), True), x))
        summed = builder.add(ReduceSum((self.axis,), True), builder.add(Exp(), shifted))
        return (builder.add(Sub(), shifted, builder.add(Log(), summed)),)

    def permute(self, perm: tuple[int, ...], x: TensorType) -> Op | None:
        return LogSoftmax(perm.index(axis_of(self, self.axis, x.rank)))


@register
@dataclass(frozen=True)
class BatchNorm(Op):
    """gamma * (x - mean) / sqrt(variance + epsilon) + beta per index of `axis`, with given statistics."""

    axis: int = 1
    epsilon: float = 1e-3

    def infer(
        self,
        x: TensorType,
        gamma: TensorType,
        beta: TensorType,
        mean: TensorType,
        variance: TensorType,
    ) -> Types:
        expect_float(self, "x", x)
        channels = (x.shape[axis_of(self, self.axis, x.rank)],)
        for name, type in (
            ("gamma", gamma), ("beta", beta), ("mean", mean), ("variance", variance)
        ):  # fmt: skip
            expect_dtype(self, name, type, x.dtype)
            expect_shape(self, name, type, channels)
        return (x,)

    def reference(self, x: Array, gamma: Array, beta: Array, mean: Array, variance: Array) -> Array:
        shape = [1] * x.ndim
        shape[self.axis] = -1
        gamma, beta, mean, variance = (a.reshape(shape) for a in (gamma, beta, mean, variance))
        result: Array = gamma * (x - mean) / np.sqrt(variance + self.epsilon) + beta
        return result.astype(x.dtype)

    def decompose(
        self, builder: Builder, x: str, gamma: str, beta: str, mean: str, variance: str
    ) -> tuple[str]:
        """x * scale + shift, where scale and shift are vectors that constant folding computes."""
        deviation = builder.add(Sqrt(), plus_epsilon(builder, variance, self.epsilon))
        scale = builder.add(Div(), gamma, deviation, name="scale")
        shift = builder.add(Sub(), beta, builder.add(Mul(), mean, scale), name="shift")
        type = builder.types[x]
        axis = axis_of(self, self.axis, type.rank)
        spread = Reshape(type.shape[axis : axis + 1] + (1,) * (type.rank - axis - 1))
        scaled = builder.add(Mul(), x, builder.add(spread, scale))
        return (builder.add(Add(), scaled, builder.add(spread, shift)),)

    def permute(self, perm: tuple[int, ...], x: TensorType, *statistics: TensorType) -> Op | None:
        return BatchNorm(perm.index(axis_of(self, self.axis, x.rank)), self.epsilon)


@register
@dataclass(frozen=True)
class LayerNorm(Op):
    """gamma * (x - mean) / sqrt(variance + epsilon) + beta, with the statistics of x over `axes`.

    gamma and beta have the shape of the axes, in the order of `axes`.
    """

    axes: tuple[int, ...] = (-1,)
    epsilon: float = 1e-3

    def infer(self, x: TensorType, gamma: TensorType, beta: TensorType) -> Types:
        expect_float(self, "x", x)
        shape = tuple(x.shape[a] for a in axes_of(self, self.axes, x.rank))
        for name, type in (("gamma", gamma), ("beta", beta)):
            expect_dtype(self, name, type, x.dtype)
            expect_shape(self, name, type, shape)
        return (x,)

    def reference(self, x: Array, gamma: Array, beta: Array) -> Array:
        wide = x.astype(accumulator(DType.of(x.dtype)).numpy)
        mean = wide.mean(axis=self.axes, keepdims=True)
        variance = wide.var(axis=self.axes, keepdims=True)
        normal = (wide - mean) / np.sqrt(variance + self.epsilon)
        # Moved to the end, the axes line up with gamma and beta.
        ends = tuple(range(-len(self.axes), 0))
        scaled = np.moveaxis(normal, self.axes, ends) * gamma + beta
        result: Array = np.moveaxis(scaled, ends, self.axes)
        return result.astype(x.dtype)

    def decompose(self, builder: Builder, x: str, gamma: str, beta: str) -> tuple[str]:
        type = builder.types[x]
        axes = axes_of(self, self.axes, type.rank)
        mean = builder.add(ReduceMean(axes, True), x)
        centred = builder.add(Sub(), x, mean)
        variance = builder.add(ReduceMean(axes, True), builder.add(Square(), centred))
        deviation = builder.add(Sqrt(), plus_epsilon(builder, variance, self.epsilon))
        normal = builder.add(Div(), centred, deviation)
        scaled = builder.add(Mul(), normal, spread(builder, gamma, axes, type.shape))
        return (builder.add(Add(), scaled, spread(builder, beta, axes, type.shape)),)

    def permute(self, perm: tuple[int, ...], x: TensorType, *scales: TensorType) -> Op | None:
        axes = tuple(perm.index(a) for a in axes_of(self, self.axes, x.rank))
        return LayerNorm(axes, self.epsilon)


def plus_epsilon(builder: Builder, value: str, epsilon: float) -> str:
    """value + epsilon, with the constant in the value's dtype."""
    constant = builder.weight("epsilon", np.array(epsilon, builder.types[value].dtype.numpy))
    return builder.add(Add(), value, constant)


def spread(builder: Builder, value: str, axes: tuple[int, ...], shape: Shape) -> str:
    """A tensor over `axes` of a shape, brought to a form that broadcasts to it."""
    order = tuple(sorted(range(len(axes)), key=lambda k: axes[k]))
    if order != tuple(range(len(axes))):
        value = builder.add(Transpose(order), value)
    wanted = tuple(e if d in axes else 1 for d, e in enumerate(shape))[min(axes, default=0) :]
    if wanted != builder.types[value].shape:
        value = builder.add(Reshape(wanted), value)
    return value
