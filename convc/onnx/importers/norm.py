"""Import rules of normalisations."""

from __future__ import annotations

from typing import Any

import numpy as np

from convc.onnx.importers.call import Call, Rejected, Rule
from convc.ops.broadcasting import Add, Div, Mul, Pow, Sub
from convc.ops.elementwise import Reciprocal, Sqrt, Square
from convc.ops.norm import BatchNorm, LayerNorm
from convc.ops.pool import AvgPool2d
from convc.ops.reduce import ReduceMean
from convc.types import Extent


def batch_norm(c: Call) -> Any:
    """With given statistics; in training mode those of the batch, and the running ones."""
    x, gamma, beta, mean, variance = (c[k] for k in range(5))
    epsilon = float(c.attr("epsilon", 1e-5))
    if c.opset < 9 and not c.attr("spatial", 1):
        raise Rejected("BatchNormalization with spatial=0 is not supported")
    if not c.attr("training_mode", 0):
        dtype = c.dtype(0)
        values = (c.cast(v, dtype) for v in (gamma, beta, mean, variance))
        return c.add(BatchNorm(1, epsilon), x, *values)
    wide = c.wide(x)
    axes = tuple(d for d in range(c.rank(0)) if d != 1)
    present = c.add(ReduceMean(axes, False), wide)
    channels = (c.shape(x)[1], *[1] * (c.rank(0) - 2))
    centred = c.add(Sub(), wide, c.reshape(present, channels))
    spread = c.add(ReduceMean(axes, False), c.add(Square(), centred))
    values = (c.cast(v, c.dtype(wide)) for v in (gamma, beta, present, spread))
    y = c.cast(c.add(BatchNorm(1, epsilon), wide, *values), c.dtype(0))
    momentum = float(c.attr("momentum", 0.9))
    running = [
        c.add(Add(), c.add(Mul(), old, c.scalar(momentum, old)),
              c.add(Mul(), c.cast(new, c.dtype(old)), c.scalar(1 - momentum, old)))
        for old, new in ((mean, present), (variance, spread))
    ]  # fmt: skip
    return y, *running


def normalised(c: Call, x: str, axes: tuple[int, ...], epsilon: float) -> tuple[str, str, str]:
    """(x - mean) / sqrt(variance + epsilon) over axes, with the mean and 1 / that root."""
    mean = c.add(ReduceMean(axes, True), x)
    centred = c.add(Sub(), x, mean)
    variance = c.add(ReduceMean(axes, True), c.add(Square(), centred))
    deviation = c.add(Sqrt(), c.add(Add(), variance, c.scalar(epsilon, x)))
    return c.add(Div(), centred, deviation), mean, c.add(Reciprocal(), deviation)


def layer_norm(c: Call) -> Any:
    rank = c.rank(0)
    axis, epsilon = c.axis(0, -1), float(c.attr("epsilon", 1e-5))
    axes = tuple(range(axis, rank))
    sizes = c.shape(1)
    known = all(isinstance(e, int) for e in sizes)
    has_shift = c.shape(2) == sizes if c.has(2) else known
    if sizes == c.shape(0)[axis:] and has_shift and not c.wants(1) and not c.wants(2):
        beta = c[2] if c.has(2) else c.constant(np.zeros(c.numbers(1)), c.dtype(1))
        return c.add(LayerNorm(axes, epsilon), c[0], c[1], beta)
    x = c.wide(c[0])
    normal, mean, inverse = normalised(c, x, axes, epsilon)
    scaled = c.add(Mul(), normal, c.cast(c[1], c.dtype(x)))
    if c.has(2):
        scaled = c.add(Add(), scaled, c.cast(c[2], c.dtype(x)))
    return c.cast(scaled, c.dtype(0)), mean, inverse


def rms_norm(c: Call) -> str:
    axes = tuple(range(c.axis(0, -1), c.rank(0)))
    x = c.wide(c[0])
    squares = c.add(ReduceMean(axes, True), c.add(Square(), x))
    root = c.add(Sqrt(), c.add(Add(), squares, c.scalar(float(c.attr("epsilon", 1e-5)), x)))
    normal = c.cast(c.add(Div(), x, root), c.dtype(1))
    return c.cast(c.add(Mul(), normal, c[1]), c.dtype(1))


def per_channel(c: Call, value: str, like: str) -> str:
    """A vector over dimension 1, in the dtype and with the rank of another tensor."""
    column = c.reshape(value, (c.shape(value)[0], *[1] * (c.rank(like) - 2)))
    return c.cast(column, c.dtype(like))


def instance_norm(c: Call) -> str:
    x = c.wide(c[0])
    axes = tuple(range(2, c.rank(0)))
    normal, _, _ = normalised(c, x, axes, float(c.attr("epsilon", 1e-5)))
    scaled = c.add(Mul(), normal, per_channel(c, c[1], x))
    return c.cast(c.add(Add(), scaled, per_channel(c, c[2], x)), c.dtype(0))


def group_norm(c: Call) -> str:
    """Statistics per group of channels; scale and bias are per group up to opset 20, then per channel."""
    x, shape = c.wide(c[0]), c.shape(0)
    groups = int(c.attr("num_groups"))
    if not isinstance(shape[1], int) or shape[1] % groups:
        raise Rejected(f"{shape[1]} channels in {groups} groups")
    depth = shape[1] // groups
    split = c.reshape(x, (shape[0], groups, depth, *shape[2:]))
    axes = tuple(range(2, c.rank(split)))
    normal, _, _ = normalised(c, split, axes, float(c.attr("epsilon", 1e-5)))
    if c.shape(1) == (groups,) and c.opset < 21:
        scaled = c.add(Mul(), normal, per_channel(c, c[1], normal))
        return c.cast(
            c.reshape(c.add(Add(), scaled, per_channel(c, c[2], normal)), shape), c.dtype(0)
        )
    whole = c.reshape(normal, shape)
    scaled = c.add(Mul(), whole, per_channel(c, c[1], whole))
    return c.cast(c.add(Add(), scaled, per_channel(c, c[2], whole)), c.dtype(0))


def mean_variance(c: Call) -> str:
    x = c.wide(c[0])
    axes = tuple(sorted(c.from_front(int(a), c.rank(0)) for a in c.attr("axes", [0, 2, 3])))
    mean = c.add(ReduceMean(axes, True), x)
    centred = c.add(Sub(), x, mean)
    deviation = c.add(Sqrt(), c.add(ReduceMean(axes, True), c.add(Square(), centred)))
    small = c.add(Add(), deviation, c.scalar(1e-9, x))
    return c.cast(c.add(Div(), centred, small), c.dtype(0))


def lrn(c: Call) -> str:
    """x / (bias + alpha / size * the sum of squares of `size` channels around)**beta, the sum as a pool."""
    x, size = c.wide(c[0]), int(c.attr("size"))
    n, channels = c.shape(x)[:2]
    rest: Extent = 1
    for e in c.shape(x)[2:]:
        rest = rest * e
    squares = c.reshape(c.add(Square(), x), (n, 1, channels, rest))
    pads = ((size - 1) // 2, size - 1 - (size - 1) // 2)
    mean = c.add(AvgPool2d((size, 1), (1, 1), (pads, (0, 0)), (1, 1), True), squares)
    scaled = c.add(Mul(), c.reshape(mean, c.shape(x)), c.scalar(float(c.attr("alpha", 1e-4)), x))
    base = c.add(Add(), scaled, c.scalar(float(c.attr("bias", 1.0)), x))
    power = c.add(Pow(), base, c.scalar(float(c.attr("beta", 0.75)), x))
    return c.cast(c.add(Div(), x, power), c.dtype(0))


RULES: dict[str, Rule] = {
    "BatchNormalization": batch_norm,
    "LayerNormalization": layer_norm,
    "RMSNormalization": rms_norm,
    "InstanceNormalization": instance_norm,
    "GroupNormalization": group_norm,
    "MeanVarianceNormalization": mean_variance,
    "LRN": lrn,
}
