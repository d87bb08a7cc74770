"""Import rules of random operators: numbers that follow from a seed and a place, the same in every run."""

from __future__ import annotations

import math
import zlib
from typing import Any

import numpy as np

from convc.onnx.importers.call import Call, Rejected, Rule
from convc.onnx.reading import dtype_of
from convc.ops.broadcasting import Add, Div, Less, LessEqual, Mul, Sub, Where
from convc.ops.elementwise import Cos, Log, Sqrt
from convc.ops.integer import ShiftRight
from convc.ops.random import RandomBits
from convc.types import DType, Shape


def uniform(c: Call, shape: Shape, dtype: DType, draw: int = 0) -> str:
    """Numbers between 0 and 1, neither of them included, in steps of 2**-23 (in float64 of 2**-32).

    The attribute `seed` is the key. A node without one has its output's name for a key, so that it differs from others.
    """
    seed = c.attr("seed")
    name = zlib.crc32(c.outputs[0].encode())
    key = name if seed is None else np.float32(seed).view(np.uint32)
    bits = c.add(RandomBits(tuple(shape)), c.constant(np.array([key, draw], np.uint32)))
    if dtype is DType.float64:
        wide, scale = c.cast(bits, DType.float64), 2.0**-32
    else:
        shifted = c.add(ShiftRight(), bits, c.constant(np.array(9, np.uint32)))
        wide, scale = c.cast(shifted, DType.float32), 2.0**-23
    return scaled(c, c.add(Add(), wide, c.scalar(0.5, wide)), scale, 0.0)


def normal(c: Call, shape: Shape, dtype: DType) -> str:
    """Standard normal numbers, by Box and Muller (1958) from two uniform ones each."""
    u, v = (uniform(c, shape, dtype, draw) for draw in (0, 1))
    radius = c.add(Sqrt(), scaled(c, c.add(Log(), u), -2.0, 0.0))
    return c.add(Mul(), radius, c.add(Cos(), scaled(c, v, math.tau, 0.0)))


def scaled(c: Call, x: str, factor: float, offset: float) -> str:
    y = c.add(Mul(), x, c.scalar(factor, x)) if factor != 1.0 else x
    return c.add(Add(), y, c.scalar(offset, y)) if offset else y


def wanted(c: Call, like: bool) -> tuple[Shape, DType]:
    """The shape and the dtype of what is drawn."""
    code = c.attr("dtype")
    if like:
        return c.shape(0), c.dtype(0) if code is None else dtype_of(int(code))
    return tuple(c.attr("shape")), dtype_of(int(code or 1))


def random_uniform(like: bool) -> Rule:
    def rule(c: Call) -> str:
        shape, dtype = wanted(c, like)
        low, high = float(c.attr("low", 0.0)), float(c.attr("high", 1.0))
        return c.cast(scaled(c, uniform(c, shape, dtype), high - low, low), dtype)

    return rule


def random_normal(like: bool) -> Rule:
    def rule(c: Call) -> str:
        shape, dtype = wanted(c, like)
        mean, deviation = float(c.attr("mean", 0.0)), float(c.attr("scale", 1.0))
        return c.cast(scaled(c, normal(c, shape, dtype), deviation, mean), dtype)

    return rule


def bernoulli(c: Call) -> str:
    """1 with the probability that each element is."""
    code = c.attr("dtype")
    x = c.wide(c[0])
    drawn = c.add(Less(), uniform(c, c.shape(x), c.dtype(x)), x)
    return c.cast(drawn, c.dtype(0) if code is None else dtype_of(int(code)))


def dropout(c: Call) -> Any:
    """In training: x / (1 - ratio) where a number drawn for each element is at least the ratio, else 0."""
    x, ratio = c[0], c.reshape(c[1], ()) if c.has(1) else c.constant(np.array(0.5, np.float32))
    if c.importer.known(ratio) and not 0 <= float(c.importer.evaluate(ratio)) < 1:
        raise Rejected(f"expected a ratio from 0 to below 1, got {c.importer.evaluate(ratio)}")
    ratio = c.cast(ratio, DType.float32)
    kept = c.add(LessEqual(), ratio, uniform(c, c.shape(x), DType.float32))
    keep = c.add(Sub(), c.scalar(1.0, ratio), ratio)
    share = c.add(Div(), c.cast(x, DType.float32), keep)
    zero = c.constant(np.zeros((), np.float32))
    return c.cast(c.add(Where(), kept, share, zero), c.dtype(x)), kept


RULES: dict[str, Rule] = {
    "Bernoulli": bernoulli,
    "RandomNormal": random_normal(False),
    "RandomNormalLike": random_normal(True),
    "RandomUniform": random_uniform(False),
    "RandomUniformLike": random_uniform(True),
}
