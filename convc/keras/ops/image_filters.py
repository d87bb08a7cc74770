"""Filters, measures and resampling of images: a batch of them (rank 4), or a single one (rank 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from convc.errors import ModelError
from convc.keras.engine.arguments import choice, pair, positive, refuse, whole
from convc.keras.engine.call import operation
from convc.keras.engine.naming import user_line
from convc.keras.engine.tensor import KerasTensor, as_tensor, cast, floating
from convc.keras.ops import elementwise, further, nn, reductions, shaping
from convc.keras.ops.image_batches import back, batched


def gaussian(count: int, width: Any, like: KerasTensor) -> KerasTensor:
    """A Gaussian's values at `count` pixels around its middle, of sum 1; `width` is its standard deviation."""
    at = as_tensor((np.arange(count) - (count - 1) / 2).astype(like.type.dtype.numpy))
    line = elementwise.exp(-0.5 * elementwise.square(at / width))
    return as_tensor(line / reductions.sum(line))


@operation
def gaussian_blur(
    images: Any, kernel_size: Any = (3, 3), sigma: Any = (1.0, 1.0), data_format: str | None = None
) -> KerasTensor:
    """Images convolved with a normalized Gaussian, zeros around them.

    As in Keras, the first of `sigma` is the columns', and a kernel that isn't square is filled row by row.
    """
    x, last, single = batched("gaussian_blur", floating(images), data_format)
    size = pair("gaussian_blur", "kernel_size", kernel_size)
    widths = (sigma, sigma) if isinstance(sigma, (int, float)) else sigma
    lines = [gaussian(count, widths[k], x) for k, count in enumerate(size)]
    plane = shaping.reshape(further.outer(lines[1], lines[0]), (*size, 1, 1))
    kernel = shaping.tile(plane, (1, 1, int(x.type.shape[3]), 1))  # type: ignore[arg-type]
    blurred = nn.depthwise_conv(x, kernel, padding="same", data_format="channels_last")
    return back(blurred, last, single)


@operation
def sobel_edges(images: Any, data_format: str | None = None) -> KerasTensor:
    """How steeply images rise, downwards and to the right: (..., 2), by Sobel's filters, the border mirrored."""
    x, last, single = batched("sobel_edges", floating(images), data_format)
    padded = shaping.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)], mode="reflect")
    down = np.array([[-1, -2, -1], [0, 0, 0], [1, 2, 1]], x.type.dtype.numpy)
    parts = []
    for weights in (down, np.ascontiguousarray(down.T)):
        kernel = np.tile(weights[:, :, None, None], (1, 1, int(x.type.shape[3]), 1))  # type: ignore[arg-type]
        found = nn.depthwise_conv(padded, kernel, padding="valid", data_format="channels_last")
        parts.append(back(found, last, single))
    return shaping.stack(parts, -1)


@operation
def ssim(
    image1: Any,
    image2: Any,
    max_val: float = 1.0,
    filter_size: int = 11,
    filter_sigma: float = 1.5,
    k1: float = 0.01,
    k2: float = 0.03,
    data_format: str | None = None,
) -> KerasTensor:
    """The structural similarity of pairs of images, from -1 to 1 (Wang et al., 2004): one number for each pair."""
    owner = "ssim"
    count = positive(owner, "filter_size", filter_size)
    x, _, single = batched(owner, floating(image1), data_format)
    y, _, _ = batched(owner, floating(image2), data_format)
    channels = int(x.type.shape[3])  # type: ignore[arg-type]
    line = gaussian(count, float(filter_sigma), x)
    plane = shaping.reshape(further.outer(line, line), (count, count, 1, 1))
    kernel = shaping.tile(plane, (1, 1, channels, 1))

    def local(value: KerasTensor) -> KerasTensor:
        return nn.depthwise_conv(value, kernel, padding="valid", data_format="channels_last")

    a, b = local(x), local(y)
    variances = local(x * x) - a * a + (local(y * y) - b * b)
    covariance = local(x * y) - a * b
    c1, c2 = (k1 * max_val) ** 2, (k2 * max_val) ** 2
    similar = (a * b * 2.0 + c1) * (covariance * 2.0 + c2)
    found = reductions.mean(similar / ((a * a + b * b + c1) * (variances + c2)), axis=(1, 2, 3))
    found = shaping.squeeze(found, 0) if single else found
    return cast(found, as_tensor(image1).type.dtype)


def _triple(owner: str, argument: str, value: Any) -> tuple[int, ...]:
    values = value if isinstance(value, (tuple, list)) else (value,) * 3
    if len(values) != 3:
        refuse(owner, argument, "a positive integer or three of them", value)
    return tuple(whole(owner, argument, v, 1) for v in values)


@operation
def extract_patches_3d(
    volumes: Any,
    size: Any,
    strides: Any = None,
    dilation_rate: Any = 1,
    padding: str = "valid",
    data_format: str | None = None,
) -> KerasTensor:
    """Windows of volumes, each flattened into the channels: (depth, row, column, channel) of a window, in this order.

    Volumes are (batch, depth, rows, columns, channels), or without the batch. `strides` are the windows' size unless
    given. "same" padding puts zeros around the volumes.
    """
    owner = "extract_patches_3d"
    x = as_tensor(volumes)
    if x.type.rank not in (4, 5):
        raise ModelError(
            f"{user_line()}: {owner}: expected a volume (rank 4) or a batch of them (rank 5); received shape {x.shape}"
        )
    single = x.type.rank == 4
    x = shaping.expand_dims(x, 0) if single else x
    first = data_format == "channels_first"
    x = shaping.transpose(x, (0, 2, 3, 4, 1)) if first else x
    window = _triple(owner, "size", size)
    step = window if strides is None else _triple(owner, "strides", strides)
    apart = _triple(owner, "dilation_rate", dilation_rate)
    extents = [int(e) for e in x.type.shape[1:4]]  # type: ignore[arg-type]
    seen = [(w - 1) * d + 1 for w, d in zip(window, apart, strict=True)]
    if choice(owner, "padding", padding, ("valid", "same")) == "same":
        widths = [(0, 0)]
        for extent, reach, stride in zip(extents, seen, step, strict=True):
            total = max((math.ceil(extent / stride) - 1) * stride + reach - extent, 0)
            widths.append((total // 2, total - total // 2))
        x = shaping.pad(x, [*widths, (0, 0)])
        extents = [int(e) for e in x.type.shape[1:4]]  # type: ignore[arg-type]
    counts = [(e - s) // t + 1 for e, s, t in zip(extents, seen, step, strict=True)]
    if min(counts) < 1:
        raise ModelError(
            f"{user_line()}: {owner}: windows of {seen} don't fit volumes of {extents}"
        )
    parts = []
    for corner in np.ndindex(*window):
        keys: list[Any] = [slice(None)]
        for at, d, t, c in zip(corner, apart, step, counts, strict=True):
            keys.append(slice(at * d, at * d + (c - 1) * t + 1, t))
        parts.append(x[tuple(keys)])
    found = shaping.concatenate(parts, -1)
    found = shaping.transpose(found, (0, 4, 1, 2, 3)) if first else found
    return shaping.squeeze(found, 0) if single else found


def _triangle(x: KerasTensor) -> KerasTensor:
    return elementwise.maximum(1.0 - x, 0.0)


def _cubic(x: KerasTensor) -> KerasTensor:
    """Keys' cubic convolution with a = -1/2 (IEEE Trans. ASSP 29, 1981)."""
    near = ((1.5 * x - 2.5) * x) * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return elementwise.where(x >= 2.0, 0.0, elementwise.where(x >= 1.0, far, near))


def _lanczos(radius: int, x: KerasTensor) -> KerasTensor:
    angle = x * math.pi
    waves = radius * elementwise.sin(angle) * elementwise.sin(angle / radius)
    safe = elementwise.where(x > 1e-3, elementwise.square(angle), 1.0)
    found = elementwise.where(x > 1e-3, waves / safe, 1.0)
    return elementwise.where(x > radius, 0.0, found)


KERNELS: dict[str, Any] = {
    **dict.fromkeys(("linear", "bilinear", "trilinear", "triangle"), _triangle),
    **dict.fromkeys(("cubic", "bicubic", "tricubic"), _cubic),
    "lanczos3": lambda x: _lanczos(3, x), "lanczos5": lambda x: _lanczos(5, x),
}  # fmt: skip


@operation
def scale_and_translate(
    images: Any,
    output_shape: Sequence[int],
    scale: Any,
    translation: Any,
    spatial_dims: Sequence[int],
    method: str,
    antialias: bool = True,
) -> KerasTensor:
    """x resampled along each of `spatial_dims`: what lies at p comes to `scale * p + translation`.

    Pixels are at halves. `method` is "linear", "cubic", "lanczos3" or "lanczos5"; places outside of x get zeros. With
    antialias a shrinking kernel is as wide as the pixels that it makes. Integers are rounded.
    """
    owner = "scale_and_translate"
    kernel = KERNELS[choice(owner, "method", method, KERNELS)]
    x = as_tensor(images)
    given, found = x, floating(x)
    scales, moves = (cast(as_tensor(v), found.type.dtype) for v in (scale, translation))
    for k, axis in enumerate(spatial_dims):
        at = axis % x.ndim
        extent = int(x.type.shape[at])  # type: ignore[arg-type]
        weights = _resampling(extent, int(output_shape[at]), scales[k], moves[k], kernel, antialias)
        found = shaping.moveaxis(shaping.moveaxis(found, at, -1) @ weights, -1, at)
    if given.type.dtype.is_float:
        return found
    cut = elementwise.clip(
        elementwise.round(found), cast(reductions.min(given), found.type.dtype),
        cast(reductions.max(given), found.type.dtype),
    )  # fmt: skip
    return cast(cut, given.type.dtype)


def _resampling(
    extent: int, target: int, scale: KerasTensor, move: KerasTensor, kernel: Any, antialias: bool
) -> KerasTensor:
    """The weights (extent, target) of one axis."""
    kind = scale.type.dtype.numpy
    inverse = 1.0 / scale
    wide = elementwise.maximum(inverse, 1.0) if antialias else 1.0
    places = as_tensor((np.arange(target) + 0.5).astype(kind)) * inverse - move * inverse - 0.5
    pixels = as_tensor(np.arange(extent, dtype=kind)[:, None])
    weights = kernel(elementwise.absolute(shaping.expand_dims(places, 0) - pixels) / wide)
    total = reductions.sum(weights, axis=0, keepdims=True)
    some = elementwise.absolute(total) > 1000.0 * float(np.finfo(np.float32).eps)
    shares = elementwise.where(some, weights / elementwise.where(some, total, 1.0), 0.0)
    inside = elementwise.logical_and(places >= -0.5, places <= extent - 0.5)
    return elementwise.where(shaping.expand_dims(inside, 0), shares, 0.0)
