"""Import rules of Fourier transforms, as products with matrices of cosines and sines."""

from __future__ import annotations

import numpy as np

from convc.onnx.importers.call import Call, Rejected, Rule
from convc.onnx.reading import dtype_of
from convc.ops.broadcasting import (
    Add,
    And,
    Div,
    Equal,
    GreaterEqual,
    Less,
    LessEqual,
    Maximum,
    Mul,
    Sub,
    Where,
)
from convc.ops.elementwise import Expm1, Floor, Log1p
from convc.ops.matmul import MatMul
from convc.ops.shape import Concat, Gather, Pad
from convc.types import DType


def transformed(
    c: Call, real: str, imaginary: str | None, length: int, inverse: bool, onesided: bool
) -> tuple[str, str]:
    """The transform of the last axis, cropped or padded with zeros to a length: real and imaginary parts."""
    extent = c.numbers(real)[-1]
    if extent != length:
        pads = ((0, 0),) * (c.rank(real) - 1) + ((0, length - extent),)
        real = c.add(Pad(pads), real)
        imaginary = imaginary and c.add(Pad(pads), imaginary)
    k = np.arange(length)
    angle = 2 * np.pi * (np.outer(k, k) % length) / length
    cos, sin = np.cos(angle), np.sin(angle) * (1 if inverse else -1)
    if onesided and not inverse:
        cos, sin = cos[:, : length // 2 + 1], sin[:, : length // 2 + 1]
    if inverse:
        cos, sin = cos / length, sin / length
    # In float64: what cancels in a plain product of float32 would drown the small coefficients.
    dtype = c.dtype(real)
    cosines, sines = (c.constant(m, DType.float64) for m in (cos, sin))
    real = c.cast(real, DType.float64)
    imaginary = imaginary and c.cast(imaginary, DType.float64)
    flat = c.rank(real) == 1

    def product(x: str, matrix: str) -> str:
        rows = c.reshape(x, (1, *c.shape(x))) if flat else x
        y = c.add(MatMul(), rows, matrix)
        return c.reshape(y, c.shape(y)[1:]) if flat else y

    a, b = product(real, cosines), product(real, sines)
    if imaginary is not None:
        a = c.add(Sub(), a, product(imaginary, sines))
        b = c.add(Add(), b, product(imaginary, cosines))
    return c.cast(a, dtype), c.cast(b, dtype)


def parts_of(c: Call, x: str) -> tuple[str, str | None]:
    """The real and imaginary parts in the last axis; one element there is a real signal."""
    last = c.rank(x) - 1
    count = c.numbers(x)[-1]
    return c.take(x, last, 0), c.take(x, last, 1) if count == 2 else None


def joined(c: Call, parts: tuple[str, str]) -> str:
    columns = [c.reshape(p, (*c.shape(p), 1)) for p in parts]
    return c.add(Concat(c.rank(parts[0])), *columns)


def dft(c: Call) -> str:
    """The axis is an attribute up to opset 19 (counted without the parts), then an input."""
    x, rank = c[0], c.rank(0)
    if c.opset < 20:
        axis = int(c.attr("axis", 1))
    else:
        axis = int(c.array(2).reshape(())) if c.has(2) else -2
    axis = c.from_front(axis, rank)
    real, imaginary = parts_of(c, x)
    length = int(c.array(1).reshape(())) if c.has(1) else c.numbers(0)[axis]
    inverse, onesided = bool(c.attr("inverse", 0)), bool(c.attr("onesided", 0))
    if onesided and inverse:
        half = c.numbers(0)[axis]
        length = int(c.array(1).reshape(())) if c.has(1) else 2 * (half - 1)
        real, imaginary = mirrored(c, real, imaginary, axis, length)
    order = [*(d for d in range(rank - 1) if d != axis), axis]
    back = [order.index(d) for d in range(rank - 1)]
    real = c.transpose(real, order)
    imaginary = imaginary and c.transpose(imaginary, order)
    y, z = transformed(c, real, imaginary, length, inverse, onesided)
    y, z = c.transpose(y, back), c.transpose(z, back)
    return c.reshape(y, (*c.shape(y), 1)) if onesided and inverse else joined(c, (y, z))


def mirrored(
    c: Call, real: str, imaginary: str | None, axis: int, length: int
) -> tuple[str, str | None]:
    """A one-sided spectrum with its conjugate other half."""
    k = np.arange(length)
    source = np.where(k <= length // 2, k, length - k)
    both = c.add(Gather(axis), real, c.constant(source))
    if imaginary is None:
        return both, None
    sign = np.where(k <= length // 2, 1, -1).reshape(
        [-1 if d == axis else 1 for d in range(c.rank(real))]
    )
    other = c.add(Gather(axis), imaginary, c.constant(source))
    return both, c.add(Mul(), other, c.constant(sign, c.dtype(real)))


def stft(c: Call) -> str:
    """Windowed frames of a signal [n, length, 1 or 2], each transformed."""
    length = c.numbers(0)[1]
    step = int(c.array(1).reshape(()))
    if c.has(3):
        frame = int(c.array(3).reshape(()))
    elif c.has(2):
        frame = int(c.numbers(2)[0])
    else:
        raise Rejected("needs a window or a frame_length")
    count = (length - frame) // step + 1
    c.require_small(count, frame)
    where = c.constant(np.arange(count)[:, None] * step + np.arange(frame))
    parts: list[str | None] = []
    for part in parts_of(c, c[0]):
        if part is None:
            parts.append(None)
            continue
        frames = c.add(Gather(1), part, where)
        parts.append(c.add(Mul(), frames, c[2]) if c.has(2) else frames)
    real, imaginary = parts
    assert real is not None
    onesided = bool(c.attr("onesided", 1))
    return joined(c, transformed(c, real, imaginary, frame, False, onesided))


def mel_weights(c: Call) -> str:
    """Triangles [frequencies, bands] of height 1, the bands' centers at equal distances on the mel scale.

    The numbers of bands and of frequencies are read at import. mel(f) = 2595 log10(1 + f / 700).
    """
    bands, length = (int(c.array(k).reshape(())) for k in (0, 1))
    rate, low, high = (c.reshape(c.cast(c[k], DType.float64), (1,)) for k in (2, 3, 4))

    def scaled(x: str, factor: float) -> str:
        return c.add(Mul(), x, c.scalar(factor, x))

    # In natural logarithms: 2595 / ln 10 of them make a mel, which cancels.
    first, last = (c.add(Log1p(), scaled(v, 1 / 700)) for v in (low, high))
    step = scaled(c.add(Sub(), last, first), 1 / (bands + 2))
    numbers = c.constant(np.arange(bands + 2), DType.float64)
    mels = c.add(Add(), c.add(Mul(), numbers, step), first)
    hertz = scaled(c.add(Expm1(), mels), 700.0 * (length + 1))
    edges = c.add(Floor(), c.add(Div(), hertz, rate))
    left, center, right = (c.slice(edges, 0, k, k + bands) for k in range(3))
    place = c.constant(np.arange(length // 2 + 1)[:, None], DType.float64)
    one, zero = (c.scalar(v, place) for v in (1.0, 0.0))
    rise, fall = c.add(Sub(), center, left), c.add(Sub(), right, center)
    steep = c.add(Equal(), rise, zero)
    up = c.add(Div(), c.add(Sub(), place, left), c.add(Where(), steep, one, rise))
    up = c.add(Where(), steep, c.cast(c.add(Equal(), place, center), DType.float64), up)
    before = c.add(LessEqual(), place, center)
    up = c.add(Where(), c.add(And(), before, c.add(GreaterEqual(), place, left)), up, zero)
    down = c.add(Div(), c.add(Sub(), right, place), c.add(Maximum(), fall, one))
    behind = c.add(And(), c.add(GreaterEqual(), place, center), c.add(Less(), place, right))
    dtype = dtype_of(int(c.attr("output_datatype", 1)))
    return c.cast(c.add(Where(), behind, down, up), dtype)


RULES: dict[str, Rule] = {"DFT": dft, "MelWeightMatrix": mel_weights, "STFT": stft}
