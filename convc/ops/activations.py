"""Activation functions: elementwise operators with a name of their own in neural networks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from convc.graph.op import register
from convc.loops.ir import Expr, call, maximum, minimum, select
from convc.ops.base import Array
from convc.ops.elementwise import Elementwise, erf, negated, sigmoid, softplus
from convc.ops.values import Value

SELU_ALPHA = 1.6732632423543772
SELU_SCALE = 1.0507009873554805


def np_sigmoid(x: Array) -> Any:
    """1 / (1 + e**-x) through the exponential that can't overflow."""
    power = np.exp(-np.abs(x))
    return np.where(x < 0, power, 1) / (1 + power)


def np_softplus(x: Array) -> Any:
    return np.logaddexp(x, 0)


@register
class Relu(Elementwise):
    accepts = "number"

    def numpy(self, x: Array) -> Any:
        return np.maximum(x, 0)

    def pullback(self, x: Value, y: Value, dy: Value) -> Value:
        return (y > 0).where(dy, 0)

    def scalar(self, x: Expr) -> Expr:
        return maximum(x, 0)


@register
@dataclass(frozen=True)
class LeakyRelu(Elementwise):
    """x, times alpha where x < 0."""

    alpha: float = 0.01

    def numpy(self, x: Array) -> Any:
        return np.where(x < 0, x * self.alpha, x)

    def pullback(self, x: Value, y: Value, dy: Value) -> Value:
        sign = y if self.alpha > 0 else x  # they have the same sign
        return (sign > 0).where(dy, dy * self.alpha)

    def scalar(self, x: Expr) -> Expr:
        return select(x < 0, x * self.alpha, x)


@register
@dataclass(frozen=True)
class ThresholdedRelu(Elementwise):
    """x where x > alpha, else 0."""

    alpha: float = 1.0

    def numpy(self, x: Array) -> Any:
        return np.where(x > self.alpha, x, 0)

    def pullback(self, x: Value, y: Value, dy: Value) -> Value:
        return (x > self.alpha).where(dy, 0)

    def scalar(self, x: Expr) -> Expr:
        return select(x > self.alpha, x, 0)


@register
@dataclass(frozen=True)
class Elu(Elementwise):
    """x, or alpha * (e**x - 1) where x is not positive."""

    alpha: float = 1.0

    def numpy(self, x: Array) -> Any:
        return np.where(x > 0, x, self.alpha * np.expm1(np.minimum(x, 0)))

    def pullback(self, x: Value, y: Value, dy: Value) -> Value:
        sign = y if self.alpha >= 0 else x
        return (sign > 0).where(dy, dy * (y + self.alpha))

    def scalar(self, x: Expr) -> Expr:
        return select(x > 0, x, call("expm1", x) * self.alpha)


@register
class Selu(Elementwise):
    """The scaled ELU of Klambauer et al. 2017 (self-normalizing networks)."""

    def numpy(self, x: Array) -> Any:
        negative = SELU_SCALE * SELU_ALPHA * np.expm1(np.minimum(x, 0))
        return np.where(x > 0, SELU_SCALE * x, negative)

    def pullback(self, x: Value, y: Value, dy: Value) -> Value:
        return (y > 0).where(dy * SELU_SCALE, dy * (y + SELU_SCALE * SELU_ALPHA))

    def scalar(self, x: Expr) -> Expr:
        return select(x > 0, x * SELU_SCALE, call("expm1", x) * (SELU_SCALE * SELU_ALPHA))


@register
@dataclass(frozen=True)
class Celu(Elementwise):
    """x, or alpha * (e**(x / alpha) - 1) where x is not positive."""

    alpha: float = 1.0

    def numpy(self, x: Array) -> Any:
        return np.where(x > 0, x, self.alpha * np.expm1(np.minimum(x, 0) / self.alpha))

    def pullback(self, x: Value, y: Value, dy: Value) -> Value:
        sign = y if self.alpha > 0 else x
        return (sign > 0).where(dy, dy * (y / self.alpha + 1))

    def scalar(self, x: Expr) -> Expr:
        return select(x > 0, x, call("expm1", x / self.alpha) * self.alpha)


@register
class Sigmoid(Elementwise):
    def numpy(self, x: Array) -> Any:
        return np_sigmoid(x)

    def pullback(self, x: Value, y: Value, dy: Value) -> Value:
        return dy * y * (1 - y)

    def scalar(self, x: Expr) -> Expr:
        return sigmoid(x)


@register
class LogSigmoid(Elementwise):
    def numpy(self, x: Array) -> Any:
        return -np_softplus(-x)

    def pullback(self, x: Value, y: Value, dy: Value) -> Value:
        return dy * (-x).sigmoid()

    def scalar(self, x: Expr) -> Expr:
        return minimum(x, 0) - call("log1p", call("exp", negated(call("abs", x))))


@register
@dataclass(frozen=True)
class HardSigmoid(Elementwise):
    """alpha * x + beta limited to 0 … 1 (Keras: alpha 1/6, beta 1/2; ONNX: alpha 0.2)."""

    alpha: float = 0.2
    beta: float = 0.5

    def numpy(self, x: Array) -> Any:
        line = x * self.alpha + self.beta
        return np.clip(line, 0, 1)

    def pullback(self, x: Value, y: Value, dy: Value) -> Value:
        return ((y > 0) & (y < 1)).where(dy * self.alpha, 0)

    def scalar(self, x: Expr) -> Expr:
        return minimum(maximum(x * self.alpha + self.beta, 0), 1)


@register
class HardSwish(Elementwise):
    """x times the hard sigmoid of slope 1/6."""

    def numpy(self, x: Array) -> Any:
        return x * np.clip(x + 3, 0, 6) / 6

    def pullback(self, x: Value, y: Value, dy: Value) -> Value:
        return (x >= 3).where(dy, (x > -3).where(dy * (x * (1 / 3) + 0.5), 0))

    def scalar(self, x: Expr) -> Expr:
        return x * minimum(maximum(x * (1 / 6) + 0.5, 0), 1)


@register
class Softplus(Elementwise):
    """log(1 + e**x)."""

    def numpy(self, x: Array) -> Any:
        return np_softplus(x)

    def pullback(self, x: Value, y: Value, dy: Value) -> Value:
        return dy * x.sigmoid()

    def scalar(self, x: Expr) -> Expr:
        return softplus(x)


@register
class Softsign(Elementwise):
    """x / (1 + |x|)."""

    def numpy(self, x: Array) -> Any:
        return x / (1 + np.abs(x))

    def pullback(self, x: Value, y: Value, dy: Value) -> Value:
        return dy / (x.abs() + 1).square()

    def scalar(self, x: Expr) -> Expr:
        return x / (1 + call("abs", x))


@register
class Silu(Elementwise):
    """x * sigmoid(x) (swish)."""

    def numpy(self, x: Array) -> Any:
        return x * np_sigmoid(x)

    def pullback(self, x: Value, y: Value, dy: Value) -> Value:
        s = x.sigmoid()
        return dy * s * (x * (1 - s) + 1)

    def scalar(self, x: Expr) -> Expr:
        return x / (1 + call("exp", negated(x)))


@register
class Mish(Elementwise):
    """x * tanh(softplus(x))."""

    def numpy(self, x: Array) -> Any:
        return x * np.tanh(np_softplus(x))

    def pullback(self, x: Value, y: Value, dy: Value) -> Value:
        t = x.apply("softplus").tanh()
        return dy * (t + x * x.sigmoid() * (1 - t.square()))

    def scalar(self, x: Expr) -> Expr:
        return x * call("tanh", softplus(x))


@register
@dataclass(frozen=True)
class Gelu(Elementwise):
    """x * Phi(x), by erf or by its tanh approximation (Hendrycks and Gimpel 2016)."""

    approximate: bool = False

    def numpy(self, x: Array) -> Any:
        if not self.approximate:
            return 0.5 * x * (1 + erf(x * math.sqrt(0.5)))
        inner = x + 0.044715 * x * x * x
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * inner))

    def pullback(self, x: Value, y: Value, dy: Value) -> Value:
        if not self.approximate:
            below = ((x * math.sqrt(0.5)).apply("erf") + 1) * 0.5
            density = (x.square() * -0.5).exp() * (1 / math.sqrt(2 * math.pi))
            return dy * (below + x * density)
        scale = math.sqrt(2 / math.pi)
        t = ((x + x.square() * x * 0.044715) * scale).tanh()
        slope = (x.square() * (3 * 0.044715) + 1) * scale
        return dy * ((t + 1) * 0.5 + x * 0.5 * (1 - t.square()) * slope)

    def scalar(self, x: Expr) -> Expr:
        if not self.approximate:
            return x * 0.5 * (1 + call("erf", x * math.sqrt(0.5)))
        inner = x + x * x * x * 0.044715
        return x * 0.5 * (1 + call("tanh", inner * math.sqrt(2 / math.pi)))
