"""Normalisations and softmax: operators made of others."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from convc.graph.ir import Builder
from convc.graph.op import Op, register
from convc.ops.base import (
    Array,
    Gradients,
    Names,
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
from convc.ops.values import Value, values
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

    def gradient(
        self, builder: Builder, inputs: Names, outputs: Names, output_gradients: Names
    ) -> Gradients:
        y, dy = values(builder, (*outputs, *output_gradients))
        return (((dy - (dy * y).sum((self.axis,), True)) * y).name,)

    def decompose(self, builder: Builder, x: str) -> tuple[str]:
        # As a non-negative axis, so that a softmax and the log-softmax of a loss share what they can.
        axes = (axis_of(self, self.axis, builder.types[x].rank),)
        largest = builder.add(ReduceMax(axes, True), x)
        powers = builder.add(Exp(), builder.add(Sub(), x, largest))
        return (builder.add(Div(), powers, builder.add(ReduceSum(axes, True), powers)),)

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

    def gradient(
        self, builder: Builder, inputs: Names, outputs: Names, output_gradients: Names
    ) -> Gradients:
        y, dy = values(builder, (*outputs, *output_gradients))
        return ((dy - y.exp() * dy.sum((self.axis,), True)).name,)

    def decompose(self, builder: Builder, x: str) -> tuple[str]:
        axes = (axis_of(self, self.axis, builder.types[x].rank),)
        shifted = builder.add(Sub(), x, builder.add(ReduceMax(axes, True), x))
        summed = builder.add(ReduceSum(axes, True), builder.add(Exp(), shifted))
        return (builder.add(Sub(), shifted, builder.add(Log(), summed)),)

    def permute(self, perm: tuple[int, ...], x: TensorType) -> Op | None:
        return LogSoftmax(perm.index(axis_of(self, self.axis, x.rank)))


@register
@dataclass(frozen=True)
class BatchNorm(Op):
    """gamma * (x - mean) / sqrt(variance + epsilon) + beta per index of `axis`, with given statistics.

    Training takes the batch's statistics instead, but for a `frozen` one.
    """

    axis: int = 1
    epsilon: float = 1e-3
    frozen: bool = False

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

    def gradient(
        self, builder: Builder, inputs: Names, outputs: Names, output_gradients: Names
    ) -> Gradients:
        x, gamma, _, mean, variance, dy = values(builder, (*inputs, *output_gradients))
        others, shape = per_channel(x, axis_of(self, self.axis, x.rank))
        inverse = (variance + self.epsilon).apply("rsqrt")
        scale = gamma * inverse
        dbeta = dy.sum(others)
        centred = (dy * (x - mean.reshape(shape))).sum(others)
        return (
            (dy * scale.reshape(shape)).name,
            (centred * inverse).name,
            dbeta.name,
            (-dbeta * scale).name,
            (centred * scale * inverse.square() * -0.5).name,
        )

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
        return replace(self, axis=perm.index(axis_of(self, self.axis, x.rank)))


@register
@dataclass(frozen=True)
class MaskedBatchNorm(Op):
    """A `BatchNorm` whose statistics, in training, are those of the elements that a mask lets through.

    The mask has x's axes but the last. `least` is added to the number of elements that count.
    """

    axis: int = -1
    epsilon: float = 1e-3
    least: float = 1e-7
    frozen: bool = False

    @property
    def plain(self) -> BatchNorm:
        """What it is outside of training."""
        return BatchNorm(self.axis, self.epsilon)

    def infer(self, x: TensorType, *others: TensorType) -> Types:
        *statistics, mask = others
        expect_dtype(self, "mask", mask, DType.bool)
        expect_shape(self, "mask", mask, x.shape[:-1])
        return self.plain.infer(x, *statistics)

    def reference(self, x: Array, *others: Array) -> Array:
        return self.plain.reference(x, *others[:-1])

    def gradient(
        self, builder: Builder, inputs: Names, outputs: Names, output_gradients: Names
    ) -> Gradients:
        return (*self.plain.gradient(builder, inputs[:5], outputs, output_gradients), None)

    def decompose(self, builder: Builder, *inputs: str) -> tuple[str]:
        return self.plain.decompose(builder, *inputs[:5])

    def trained(self, x: Value, gamma: Value, beta: Value, mask: Value) -> tuple[Value, ...]:
        """y, and the mean and the variance of what the mask lets through."""
        others, shape = per_channel(x, axis_of(self, self.axis, x.rank))
        counts = mask.reshape((*mask.shape, 1)).broadcast(x.shape)
        count = counts.cast(x.dtype).sum(others) + self.least
        mean = counts.where(x, 0).sum(others) / count
        centred = x - mean.reshape(shape)
        variance = counts.where(centred, 0).square().sum(others) / count
        scale = gamma * (variance + self.epsilon).apply("rsqrt")
        return centred * scale.reshape(shape) + beta.reshape(shape), mean, variance


@register
@dataclass(frozen=True)
class BatchNormTraining(Op):
    """y = gamma * (x - mean) / sqrt(variance + epsilon) + beta per index of `axis`, with x's own statistics.

    Gives y, the mean and the variance. The variance is the mean square of the deviations, without Bessel's
    correction, as Keras 3 has it in its moving statistics too.
    """

    axis: int = 1
    epsilon: float = 1e-3

    def infer(self, x: TensorType, gamma: TensorType, beta: TensorType) -> Types:
        expect_float(self, "x", x)
        channels = (x.shape[axis_of(self, self.axis, x.rank)],)
        for name, type in (("gamma", gamma), ("beta", beta)):
            expect_dtype(self, name, type, x.dtype)
            expect_shape(self, name, type, channels)
        return (x, gamma, gamma)

    def reference(self, x: Array, gamma: Array, beta: Array) -> tuple[Array, Array, Array]:
        axes = tuple(d for d in range(x.ndim) if d != self.axis % x.ndim)
        shape = [1] * x.ndim
        shape[self.axis] = -1
        wide = x.astype(accumulator(DType.of(x.dtype)).numpy)
        mean, variance = wide.mean(axis=axes), wide.var(axis=axes)
        normal = (wide - mean.reshape(shape)) / np.sqrt(variance + self.epsilon).reshape(shape)
        y = normal * gamma.reshape(shape) + beta.reshape(shape)
        return y.astype(x.dtype), mean.astype(x.dtype), variance.astype(x.dtype)

    def gradient(
        self,
        builder: Builder,
        inputs: Names,
        outputs: Names,
        output_gradients: tuple[str | None, ...],
    ) -> Gradients:
        x, gamma, mean, variance = values(builder, (*inputs[:2], *outputs[1:]))
        others, shape = per_channel(x, axis_of(self, self.axis, x.rank))
        count = x.count(others)
        centred = x - mean.reshape(shape)
        dx: Value | None = None
        dgamma = dbeta = None
        if output_gradients[0] is not None:
            dy = Value(builder, output_gradients[0])
            inverse = (variance + self.epsilon).apply("rsqrt")
            dbeta = dy.sum(others)
            dgamma = (dy * centred).sum(others) * inverse
            # gamma * inverse * (dy - mean(dy) - normal * mean(dy * normal)), factors of a channel first.
            scale = gamma * inverse
            slope = dgamma * inverse / count
            part = dy - (dbeta / count).reshape(shape) - centred * slope.reshape(shape)
            dx = part * scale.reshape(shape)
        if output_gradients[1] is not None:
            dmean = Value(builder, output_gradients[1]) / count
            dx = (dx if dx is not None else x * 0) + dmean.reshape(shape)
        if output_gradients[2] is not None:
            dvariance = Value(builder, output_gradients[2]) * 2 / count
            given = centred * dvariance.reshape(shape)
            dx = given if dx is None else dx + given
        return tuple(v.name if v is not None else None for v in (dx, dgamma, dbeta))

    def decompose(self, builder: Builder, x: str, gamma: str, beta: str) -> tuple[str, str, str]:
        (value,) = values(builder, (x,))
        others, shape = per_channel(value, axis_of(self, self.axis, value.rank))
        mean = value.mean(others)
        centred = value - mean.reshape(shape)
        variance = centred.square().mean(others)
        scale = Value(builder, gamma) * (variance + self.epsilon).apply("rsqrt")
        y = centred * scale.reshape(shape) + Value(builder, beta).reshape(shape)
        return y.name, mean.name, variance.name


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

    def gradient(
        self, builder: Builder, inputs: Names, outputs: Names, output_gradients: Names
    ) -> Gradients:
        x, gamma, dy = values(builder, (*inputs[:2], *output_gradients))
        axes = axes_of(self, self.axes, x.rank)
        centred, inverse = normal_parts(x, axes, self.epsilon)
        normal = centred * inverse
        dnormal = dy * Value(builder, spread(builder, gamma.name, axes, x.shape))
        dx = normalised_gradient(normal, inverse, dnormal, axes)
        others = tuple(d for d in range(x.rank) if d not in axes)
        order = tuple(sorted(axes).index(a) for a in axes)
        dgamma, dbeta = (
            (g.sum(others) if others else g).transpose(order) for g in (dy * normal, dy)
        )
        return (dx.name, dgamma.name, dbeta.name)

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


def per_channel(x: Value, axis: int) -> tuple[tuple[int, ...], Shape]:
    """The axes but one, and the shape under which a vector over that one broadcasts to x."""
    others = tuple(d for d in range(x.rank) if d != axis)
    return others, x.shape[axis : axis + 1] + (1,) * (x.rank - axis - 1)


def normal_parts(x: Value, axes: tuple[int, ...], epsilon: float) -> tuple[Value, Value]:
    """x less its mean over axes, and 1 / sqrt(variance + epsilon)."""
    centred = x - x.mean(axes, True)
    return centred, (centred.square().mean(axes, True) + epsilon).apply("rsqrt")


def normalised_gradient(
    normal: Value, inverse: Value, dnormal: Value, axes: tuple[int, ...]
) -> Value:
    """The gradient of x, of which normal = (x - mean) * inverse over axes."""
    along = (dnormal * normal).mean(axes, True)
    return (dnormal - dnormal.mean(axes, True) - normal * along) * inverse


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
