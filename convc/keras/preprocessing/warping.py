"""Batches of images under affine maps and changes of their colours, by a compiled kernel."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convc import driver
from convc.errors import DataError
from convc.graph.ir import Builder
from convc.keras.preprocessing import recycling
from convc.ops.values import Value
from convc.ops.warp import AffineWarp
from convc.types import Dim, DType, TensorType

Array = NDArray[Any]
_compiling = threading.Lock()
EACH = (1, 2, 3)
"""The axes of one image in a batch."""


@dataclass(frozen=True)
class Changes:
    """What is done to images[n, …], in this order; integers become `dtype`."""

    warp: AffineWarp | None
    """Seen through matrices[n, 2, 3]."""
    shifted: bool = False
    """Plus shifts[n], cut to each image's own range."""
    lit: bool = False
    """Times factors[n], as bytes."""
    channel_axis: int = 3
    stretched: bool = False
    """Of those that are lit: all are scaled to bytes first, and not back."""
    dtype: DType = DType.float32


def warped(images: Array, matrices: Array, op: AffineWarp, out: Array | None = None) -> Array:
    """images[n, …] as `op` sees them through matrices[n, 2, 3]: floats keep their type, integers become `op.dtype`."""
    return changed(images, Changes(op, dtype=op.dtype), matrices, out=out)


def changed(images: Array, changes: Changes, *parameters: Array, out: Array | None = None) -> Array:
    """images[n, …] changed, with the float64 parameters that the changes take.

    The kernel runs in the caller's thread and holds no lock: threads may call at once. It is compiled when a size of
    image is first met.
    """
    if images.dtype not in (np.uint8, np.float32, np.float64):
        images = images.astype(changes.dtype.numpy)
    kind = DType.of(images.dtype)
    with _compiling:
        native = _kernel(changes, kind, images.shape[1:]).model
    if out is None:
        result = kind if kind.is_float else changes.dtype
        out = recycling.empty(images.shape, result.numpy)
    return np.asarray(native(images, *(np.asarray(p, np.float64) for p in parameters), out=out))


@lru_cache(maxsize=64)
def _kernel(changes: Changes, dtype: DType, shape: tuple[int, ...]) -> driver.CompiledModel:
    builder = Builder("augment")
    batch = Dim.symbol("N")

    def given(name: str, kind: DType, *extents: int) -> Value:
        return Value(builder, builder.input(name, TensorType(kind, (batch, *extents))))

    x = given("images", dtype, *shape)
    if changes.warp is not None:
        maps = given("matrices", DType.float64, 2, 3)
        x = Value(builder, builder.add(changes.warp, x.name, maps.name, name="warped"))
    elif not dtype.is_float:
        x = x.cast(changes.dtype)
    if changes.shifted:
        x = shifted(x, given("shifts", DType.float64))
    if changes.lit:
        x = lit(x, given("factors", DType.float64), changes.channel_axis, changes.stretched)
    return driver.compile(builder.finish([x.name]), threads=1)


def shifted(x: Value, shifts: Value) -> Value:
    """x[n, …] + shifts[n], cut to each image's own least and largest value."""
    low, high = limits(x)
    return (x + per_image(shifts, x)).maximum(low).minimum(high)


def lit(x: Value, factors: Value, channel_axis: int, stretched: bool = False) -> Value:
    """x[n, …] times factors[n], as bytes, as Keras does it through Pillow's ImageEnhance.Brightness.

    Values are cut to whole numbers from 0 to 255 before and after. Images with values outside of that range are
    scaled to it first and back afterwards; if `stretched`, all are, and not back. A fourth channel (alpha) stays.
    """
    channels = x.shape[channel_axis]
    if channels not in (1, 3, 4):
        raise DataError(f"brightness: expected images of 1, 3 or 4 channels; received {channels}")
    low, high = limits(x)
    widest = (x - low).apply("reduce_max", axes=EACH, keepdims=True)
    scaled = (x - low) / widest.equal(0).where(widest.constant(1), widest) * 255.0
    beyond = (low < 0).apply("or", high > 255)
    whole = (scaled if stretched else beyond.where(scaled, x)).apply("floor")
    lighter = (whole * per_image(factors, x)).maximum(0).minimum(255).apply("floor")
    if channels == 4:
        alpha = np.arange(4).reshape([4 if a == channel_axis else 1 for a in range(4)]) == 3
        mask = Value(x.builder, x.builder.weight("alpha", alpha))
        lighter = mask.where(whole, lighter)
    if stretched:
        return lighter
    return beyond.where(lighter / 255.0 * (high - low) + low, lighter)


def limits(x: Value) -> tuple[Value, Value]:
    """The least and the largest value of each image: [n, 1, 1, 1]."""
    low, high = (x.apply(r, axes=EACH, keepdims=True) for r in ("reduce_min", "reduce_max"))
    return low, high


def per_image(values: Value, x: Value) -> Value:
    """values[n] in x's dtype, as they broadcast to it."""
    return values.cast(x.dtype).reshape((x.shape[0], 1, 1, 1))
