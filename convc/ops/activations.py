"""Activation functions: elementwise operators with a name of their own in neural networks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from convc.graph.op import register
from convc.loops.ir import Expr, call, maximum, minimum, select
from convc.ops.base import Array
from convc.ops.elementwise import Elementwise, erf, negated, sigmoid, softplus

SELU_ALPHA = 1.6732632423543772
SELU_SCALE = 1.0507009873554805


def np_sigmoid(x: Array) -> Array:
    positive = 1 / (1 + np.exp(-np.abs(x)))
    result: Array = np.where(x < 0, 1 - positive, positive).astype(x.dtype)
    small = np.exp(np.minimum(x, 0)) * positive
    return np.where(x < 0, small, result).astype(x.dtype)


def np_softplus(x: Array) -> Array:
    return np.logaddexp(x, x.dtype.type(0)).astype(x.dtype)


@register
class Relu(Elementwise):
    accepts = "number"

    def reference(self, x: Array) -> Array:
        return np.maximum(x, x.dtype.type(0))

    def scalar(self, x: Expr) -> Expr:
        return maximum(x, 0)


@register
@dataclass(frozen=True)
class LeakyRelu(Elementwise):
    """x, times alpha where x < 0."""

    alpha: float = 0.01

    def reference(self, x: Array) -> Array:
        return np.where(x < 0, x * x.dtype.type(self.alpha), x)

    def scalar(self, x: Expr) -> Expr:
        return select(x < 0, x * self.alpha, x)


@register
@dataclass(frozen=True)
class ThresholdedRelu(Elementwise):
    """x where x > alpha, else 0."""

    alpha: float = 1.0

    def reference(self, x: Array) -> Array:
        return np.where(x > x.dtype.type(self.alpha), x, x.dtype.type(0))

    def scalar(self, x: Expr) -> Expr:
        return select(x > self.alpha, x, 0)


@register
@dataclass(frozen=True)
class Elu(Elementwise):
    """x, or alpha * (e**x - 1) where x is not positive."""

    alpha: float = 1.0

    def reference(self, x: Array) -> Array:
        return np.where(x > 0, x, x.dtype.type(self.alpha) * np.expm1(np.minimum(x, 0)))

    def scalar(self, x: Expr) -> Expr:
        return select(x > 0, x, call("expm1", x) * self.alpha)


@register
class Selu(Elementwise):
    """The scaled ELU of Klambauer et al. 2017 (self-normalizing networks)."""

    def reference(self, x: Array) -> Array:
        negative = x.dtype.type(SELU_SCALE * SELU_ALPHA) * np.expm1(np.minimum(x, 0))
        return np.where(x > 0, x.dtype.type(SELU_SCALE) * x, negative)

    def scalar(self, x: Expr) -> Expr:
        return select(x > 0, x * SELU_SCALE, call("expm1", x) * (SELU_SCALE * SELU_ALPHA))


@register
@dataclass(frozen=True)
class Celu(Elementwise):
    """x, or alpha * (e**(x / alpha) - 1) where x is not positive."""

    alpha: float = 1.0

    def reference(self, x: Array) -> Array:
        alpha = x.dtype.type(self.alpha)
        return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0) / alpha))

    def scalar(self, x: Expr) -> Expr:
        return select(x > 0, x, call("expm1", x / self.alpha) * self.alpha)


@register
class Sigmoid(Elementwise):
    def reference(self, x: Array) -> Array:
        return np_sigmoid(x)

    def scalar(self, x: Expr) -> Expr:
        return sigmoid(x)


@register
class LogSigmoid(Elementwise):
    def reference(self, x: Array) -> Array:
        return -np_softplus(-x)

    def scalar(self, x: Expr) -> Expr:
        return minimum(x, 0) - call("log1p", call("exp", negated(call("abs", x))))


@register
@dataclass(frozen=True)
class HardSigmoid(Elementwise):
    """alpha * x + beta limited to 0 … 1 (Keras: alpha 1/6, beta 1/2; ONNX: alpha 0.2)."""

    alpha: float = 0.2
    beta: float = 0.5

    def reference(self, x: Array) -> Array:
        line = x * x.dtype.type(self.alpha) + x.dtype.type(self.beta)
        return np.clip(line, x.dtype.type(0), x.dtype.type(1))

    def scalar(self, x: Expr) -> Expr:
        return minimum(maximum(x * self.alpha + self.beta, 0), 1)


@register
class HardSwish(Elementwise):
    """x times the hard sigmoid of slope 1/6."""

    def reference(self, x: Array) -> Array:
        return x * np.clip(x + x.dtype.type(3), x.dtype.type(0), x.dtype.type(6)) / x.dtype.type(6)

    def scalar(self, x: Expr) -> Expr:
        return x * minimum(maximum(x * (1 / 6) + 0.5, 0), 1)


@register
class Softplus(Elementwise):
    """log(1 + e**x)."""

    def reference(self, x: Array) -> Array:
        return np_softplus(x)

    def scalar(self, x: Expr) -> Expr:
        return softplus(x)


@register
class Softsign(Elementwise):
    """x / (1 + |x|)."""

    def reference(self, x: Array) -> Array:
        return x / (x.dtype.type(1) + np.abs(x))

    def scalar(self, x: Expr) -> Expr:
        return x / (1 + call("abs", x))


@register
class Silu(Elementwise):
    """x * sigmoid(x) (swish)."""

    def reference(self, x: Array) -> Array:
        return x * np_sigmoid(x)

    def scalar(self, x: Expr) -> Expr:
        return x * sigmoid(x)


@register
class Mish(Elementwise):
    """x * tanh(softplus(x))."""

    def reference(self, x: Array) -> Array:
        return x * np.tanh(np_softplus(x))

    def scalar(self, x: Expr) -> Expr:
        return x * call("tanh", softplus(x))


@register
@dataclass(frozen=True)
class Gelu(Elementwise):
    """x * Phi(x), by erf or by its tanh approximation (Hendrycks and Gimpel 2016)."""

    approximate: bool = False

    def reference(self, x: Array) -> Array:
        half, one = x.dtype.type(0.5), x.dtype.type(1)
        if not self.approximate:
            return half * x * (one + erf(x * x.dtype.type(math.sqrt(0.5))))
        inner = x + x.dtype.type(0.044715) * x * x * x
        return half * x * (one + np.tanh(x.dtype.type(math.sqrt(2 / math.pi)) * inner))

    def scalar(self, x: Expr) -> Expr:
        if not self.approximate:
            return x * 0.5 * (1 + call("erf", x * math.sqrt(0.5)))
        inner = x + x * x * x * 0.044715
        return x * 0.5 * (1 + call("tanh", inner * math.sqrt(2 / math.pi)))
