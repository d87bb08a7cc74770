"""Random changes of images: they are drawn in training, and nothing happens at inference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from convc.graph.ir import Builder
from convc.graph.op import Op, register
from convc.loops.formula import At, Tensor
from convc.ops.base import (
    Array,
    Gradients,
    Names,
    Pair,
    Types,
    expect_dtype,
    expect_float,
    expect_rank,
    expect_shape,
    fail,
    numbers,
)
from convc.ops.random import RandomBits
from convc.ops.shape import Concat, Slice
from convc.ops.values import Value
from convc.ops.warp import AffineWarp
from convc.types import DType, TensorType

Range = tuple[float, float]
REAL = DType.float64


class Drawn:
    """What training replaces: `trained` emits what it computes there, from a seed uint32[2] as RandomBits has it."""

    seed: int | None
    """The key of its draws; None for one that follows from the model's."""
    passes_on: ClassVar[int] = 0
    """Which input the output is at inference."""

    def trained(self, inputs: Sequence[Value], seed: Value) -> Value:
        raise NotImplementedError


class RandomImages(Drawn, Op):
    """Base of random changes of x[n, …] that leave its shape: x itself at inference."""

    axes: Pair
    """Of rows and columns."""

    def infer(self, x: TensorType) -> Types:
        expect_rank(self, "x", x, 4)
        expect_float(self, "x", x)
        if self.axes not in ((1, 2), (2, 3)):
            raise fail(self, f"axes expects (1, 2) or (2, 3), got {self.axes}")
        return (x,)

    def reference(self, x: Array) -> Array:
        return x

    def gradient(
        self, builder: Builder, inputs: Names, outputs: Names, output_gradients: Names
    ) -> Gradients:
        return output_gradients

    def formula(self, x: Tensor) -> At:
        return x.at

    def permute(self, perm: tuple[int, ...], x: TensorType) -> Op | None:
        axes = (perm.index(self.axes[0]), perm.index(self.axes[1]))
        if perm[0] != 0 or axes not in ((1, 2), (2, 3)):
            return None
        return replace(self, axes=axes)  # type: ignore[call-arg]


def uniforms(x: Value, seed: Value, count: int) -> list[Value]:
    """`count` random numbers in (0, 1) for each image: float64[n, 1] each."""
    builder, shape = x.builder, (x.shape[0], count)
    bits = Value(builder, builder.add(RandomBits(shape), seed.name)).cast(REAL)
    found = (bits + 0.5) * 2.0**-32
    return [column(found, k) for k in range(count)]


def column(x: Value, k: int) -> Value:
    return x.apply("slice", starts=(None, k), ends=(None, k + 1), steps=(1, 1))


def between(u: Value, limits: Range) -> Value:
    low, high = limits
    return u * (high - low) + low


def sign(u: Value, flips: bool) -> Value | float:
    """-1 for one half of the numbers, 1 for the other."""
    return (u <= 0.5).where(u.constant(-1), u.constant(1)) if flips else 1.0


def concatenated(parts: Sequence[Value], axis: int) -> Value:
    builder = parts[0].builder
    return Value(builder, builder.add(Concat(axis), *(p.name for p in parts)))


def maps(rows: Sequence[Sequence[Value]]) -> Value:
    """float64[n, 2, 3] of entries float64[n, 1]."""
    flat = concatenated([entry for row in rows for entry in row], 1)
    return flat.reshape((flat.shape[0], 2, 3))


class RandomMaps(RandomImages):
    """Base of those that see each image through an affine map of its own."""

    interpolation: str
    fill_mode: str
    fill_value: float

    def trained(self, inputs: Sequence[Value], seed: Value) -> Value:
        (x,) = inputs
        warp = AffineWarp(self.axes, self.interpolation, self.fill_mode, self.fill_value)
        return Value(x.builder, x.builder.add(warp, x.name, self.maps(x, seed).name))

    def maps(self, x: Value, seed: Value) -> Value:
        """float64[n, 2, 3]: the rows and columns of x that each image's pixels show."""
        raise NotImplementedError


@register
@dataclass(frozen=True)
class RandomAffine(RandomMaps):
    """Images flipped, turned, zoomed around their centres and moved, each as it is drawn.

    `rotation` is in turns, anticlockwise; `height` and `width` are shifts in shares of the image, downwards and to
    the right; `zoom_height` and `zoom_width` are how much longer the seen part is (None: as the height). `fill_mode`
    and `interpolation` are AffineWarp's.
    """

    axes: Pair = (1, 2)
    flip: tuple[bool, bool] = (False, False)
    """Vertically and horizontally."""
    rotation: Range = (0.0, 0.0)
    height: Range = (0.0, 0.0)
    width: Range = (0.0, 0.0)
    zoom_height: Range = (0.0, 0.0)
    zoom_width: Range | None = (0.0, 0.0)
    interpolation: str = "bilinear"
    fill_mode: str = "reflect"
    fill_value: float = 0.0
    seed: int | None = None

    def maps(self, x: Value, seed: Value) -> Value:
        height, width = numbers((x.shape[self.axes[0]], x.shape[self.axes[1]]))
        u = uniforms(x, seed, 7)
        angle = between(u[0], self.rotation) * (2 * math.pi)
        cos, sin = angle.apply("cos"), angle.apply("sin")
        tall = between(u[3], self.zoom_height) + 1
        wide = tall if self.zoom_width is None else between(u[4], self.zoom_width) + 1
        tall, wide = tall * sign(u[5], self.flip[0]), wide * sign(u[6], self.flip[1])
        rows = (cos * tall, sin * wide)
        columns = (-(sin * tall), cos * wide)
        y, z = (height - 1) / 2, (width - 1) / 2
        down, along = between(u[1], self.height) * height, between(u[2], self.width) * width
        above = rows[0] * -y - rows[1] * z + y - down
        left = columns[0] * -y - columns[1] * z + z - along
        return maps([(*rows, above), (*columns, left)])


@register
@dataclass(frozen=True)
class RandomShear(RandomMaps):
    """Images of which row i is moved by i * width, and column j by j * height, either way, each as it is drawn."""

    axes: Pair = (1, 2)
    width: Range = (0.0, 0.0)
    height: Range = (0.0, 0.0)
    interpolation: str = "bilinear"
    fill_mode: str = "reflect"
    fill_value: float = 0.0
    seed: int | None = None

    def maps(self, x: Value, seed: Value) -> Value:
        u = uniforms(x, seed, 3)
        way = sign(u[2], True)
        along, down = between(u[0], self.width) * way, between(u[1], self.height) * way
        one, zero = u[0] * 0 + 1, u[0] * 0
        return maps([(one, down, zero), (along, one, zero)])


@register
@dataclass(frozen=True)
class RandomContrast(RandomImages):
    """(x - mean) * factor + mean, cut to `limits`: the mean is each channel's over an image's pixels."""

    axes: Pair = (1, 2)
    factor: Range = (1.0, 1.0)
    limits: Range = (0.0, 255.0)
    seed: int | None = None

    def trained(self, inputs: Sequence[Value], seed: Value) -> Value:
        (x,) = inputs
        factor = per_image(between(uniforms(x, seed, 1)[0], self.factor), x)
        mean = x.mean(self.axes, keepdims=True)
        changed = (x - mean) * factor + mean
        return changed.apply("clip", min=self.limits[0], max=self.limits[1])


@register
@dataclass(frozen=True)
class RandomBrightness(RandomImages):
    """x plus a number, cut to `limits`, which is drawn in shares of their difference."""

    axes: Pair = (1, 2)
    delta: Range = (0.0, 0.0)
    limits: Range = (0.0, 255.0)
    seed: int | None = None

    def trained(self, inputs: Sequence[Value], seed: Value) -> Value:
        (x,) = inputs
        low, high = self.limits
        delta = per_image(between(uniforms(x, seed, 1)[0], self.delta) * (high - low), x)
        return (x + delta).apply("clip", min=low, max=high)


def per_image(u: Value, x: Value) -> Value:
    return u.cast(x.dtype).reshape((x.shape[0], 1, 1, 1))


@register
@dataclass(frozen=True)
class RandomCrop(Drawn, Op):
    """A window of x[n, …] in the size of `otherwise`, drawn once per batch; at inference `otherwise` itself."""

    axes: Pair = (1, 2)
    seed: int | None = None
    passes_on = 1

    def infer(self, x: TensorType, otherwise: TensorType) -> Types:
        expect_rank(self, "x", x, 4)
        expect_float(self, "x", x)
        expect_dtype(self, "otherwise", otherwise, x.dtype)
        if self.axes not in ((1, 2), (2, 3)):
            raise fail(self, f"axes expects (1, 2) or (2, 3), got {self.axes}")
        shape = list(x.shape)
        for a in self.axes:
            least, most = numbers((otherwise.shape[a], x.shape[a]))
            if least > most:
                raise fail(
                    self, f"otherwise expects at most {most} elements on axis {a}, got {least}"
                )
            shape[a] = least
        expect_shape(self, "otherwise", otherwise, tuple(shape))
        return (otherwise,)

    def reference(self, x: Array, otherwise: Array) -> Array:
        return otherwise

    def gradient(
        self, builder: Builder, inputs: Names, outputs: Names, output_gradients: Names
    ) -> Gradients:
        return (None, output_gradients[0])

    def formula(self, x: Tensor, otherwise: Tensor) -> At:
        return otherwise.at

    def trained(self, inputs: Sequence[Value], seed: Value) -> Value:
        x, otherwise = inputs
        builder = x.builder
        bits = Value(builder, builder.add(RandomBits((2,)), seed.name)).cast(REAL)
        starts = []
        for k, a in enumerate(self.axes):
            space, size = numbers((x.shape[a], otherwise.shape[a]))
            u = (bits.apply("slice", starts=(k,), ends=(k + 1,), steps=(1,)) + 0.5) * 2.0**-32
            starts.append((u * (space - size + 1)).apply("floor").minimum(space - size))
        one, zero = (Value(builder, builder.weight("unit", np.array([v]))) for v in (1.0, 0.0))
        flat = concatenated([one, zero, starts[0], zero, one, starts[1]], 0)
        matrices = flat.reshape((1, 2, 3)).broadcast((x.shape[0], 2, 3))
        moved = builder.add(AffineWarp(self.axes, "nearest"), x.name, matrices.name)
        ends = [otherwise.shape[d] if d in self.axes else None for d in range(4)]
        window = Slice((None,) * 4, tuple(ends), (1,) * 4)
        return Value(builder, builder.add(window, moved))
