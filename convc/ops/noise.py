"""Noise on any values: it is drawn in training, and nothing happens at inference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from convc.graph.ir import Builder
from convc.graph.op import Op, register
from convc.loops.ir import Expr
from convc.ops.augment import Drawn
from convc.ops.base import Array, axes_of
from convc.ops.elementwise import Elementwise
from convc.ops.random import DropoutMask, RandomBits
from convc.ops.values import Value
from convc.types import DType, TensorType

ALPHA = 1.6732632423543772848170429916717
SCALE = 1.0507009873554804934193349852946
"""Of SELU (Klambauer et al., 2017)."""


class Noise(Drawn, Elementwise):
    """Base: x itself at inference."""

    accepts: ClassVar[str] = "float"

    def numpy(self, x: Array) -> Array:
        return x

    def pullback(self, x: Value, y: Value, dy: Value) -> Value:
        return dy

    def scalar(self, x: Expr) -> Expr:
        return x


def normals(x: Value, seed: Value) -> Value:
    """Standard normal numbers of x's shape and dtype, by Box and Muller (1958) from two uniform ones each."""
    builder = x.builder
    kind = DType.float64 if x.dtype is DType.float64 else DType.float32
    bits = Value(builder, builder.add(RandomBits((2, *x.shape)), seed.name)).cast(kind)
    both = (bits + 0.5) * 2.0**-32
    rest = (None,) * x.rank
    u, v = (
        both.apply("slice", starts=(k, *rest), ends=(k + 1, *rest), steps=(1,) * (x.rank + 1))
        for k in (0, 1)
    )
    drawn = (u.log() * -2.0).sqrt() * (v * math.tau).apply("cos")
    return drawn.reshape(x.shape).cast(x.dtype)


@register
@dataclass(frozen=True)
class GaussianNoise(Noise):
    """x + stddev * n, with n standard normal."""

    stddev: float = 1.0
    seed: int | None = None

    def trained(self, inputs: Sequence[Value], seed: Value) -> Value:
        (x,) = inputs
        return x + normals(x, seed) * self.stddev


@register
@dataclass(frozen=True)
class GaussianDropout(Noise):
    """x * (1 + sqrt(rate / (1 - rate)) * n), with n standard normal (Srivastava et al., 2014)."""

    rate: float = 0.5
    seed: int | None = None

    def trained(self, inputs: Sequence[Value], seed: Value) -> Value:
        (x,) = inputs
        return x * (normals(x, seed) * math.sqrt(self.rate / (1 - self.rate)) + 1.0)


class Masked(Noise):
    """Base: a mask drops a share `rate` of the elements, those of `shared` axes together."""

    rate: float
    shared: tuple[int, ...]

    def infer(self, x: TensorType) -> tuple[TensorType]:
        axes_of(self, self.shared, x.rank)
        return super().infer(x)  # type: ignore[return-value]

    def permute(self, perm: tuple[int, ...], x: TensorType) -> Op | None:
        if x.rank != len(perm):
            return None
        axes = axes_of(self, self.shared, x.rank)
        return replace(self, shared=tuple(sorted(perm.index(a) for a in axes)))  # type: ignore[call-arg]

    def mask(self, x: Value, seed: Value) -> Value:
        """Bools that broadcast to x: true where it is kept."""
        builder: Builder = x.builder
        axes = axes_of(self, self.shared, x.rank)
        shape = tuple(1 if d in axes else e for d, e in enumerate(x.shape))
        return Value(builder, builder.add(DropoutMask(self.rate, shape), seed.name))


@register
@dataclass(frozen=True)
class SharedDropout(Masked):
    """x / (1 - rate) where the mask keeps it, else 0; channels as a whole with `shared` axes (Tompson et al., 2015)."""

    rate: float = 0.5
    shared: tuple[int, ...] = ()
    seed: int | None = None

    def trained(self, inputs: Sequence[Value], seed: Value) -> Value:
        (x,) = inputs
        return self.mask(x, seed).where(x * (1 / (1 - self.rate)), x.constant(0))


@register
@dataclass(frozen=True)
class AlphaDropout(Masked):
    """Dropout to SELU's lowest value, then the affine map that keeps mean and variance (Klambauer et al., 2017)."""

    rate: float = 0.5
    shared: tuple[int, ...] = ()
    seed: int | None = None

    def trained(self, inputs: Sequence[Value], seed: Value) -> Value:
        (x,) = inputs
        lowest = -ALPHA * SCALE
        a = 1 / math.sqrt((1 - self.rate) * (1 + self.rate * lowest**2))
        kept = self.mask(x, seed).where(x, x.constant(lowest))
        return kept * a - a * lowest * self.rate


@register
@dataclass(frozen=True)
class FreshSeed(Drawn, Elementwise):
    """A seed uint32[2] for draws within a model: x itself at inference, a new one in each step of training."""

    accepts: ClassVar[str] = "any"
    seed: int | None = None

    def numpy(self, x: Array) -> Array:
        return x

    def pullback(self, x: Value, y: Value, dy: Value) -> Value:
        return dy

    def scalar(self, x: Expr) -> Expr:
        return x

    def trained(self, inputs: Sequence[Value], seed: Value) -> Value:
        return seed
