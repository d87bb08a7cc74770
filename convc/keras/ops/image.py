"""Functions on images: a batch of them (rank 4), or a single one (rank 3)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from convc.errors import ModelError
from convc.keras.engine.arguments import choice, pair
from convc.keras.engine.call import operation
from convc.keras.engine.naming import user_line
from convc.keras.engine.tensor import (
    KerasTensor,
    as_tensor,
    cast,
    floating,
    transpose,
)
from convc.keras.ops import elementwise, nn, shaping
from convc.keras.ops.image_batches import back, batched, expect_colours, sides
from convc.keras.ops.image_filters import (
    extract_patches_3d,
    gaussian_blur,
    scale_and_translate,
    sobel_edges,
    ssim,
)
from convc.keras.ops.image_geometry import (
    affine_transform,
    elastic_transform,
    map_coordinates,
    perspective_transform,
)
from convc.keras.ops.resampling import KERNELS, resampling
from convc.types import DType


@operation
def extract_patches(
    images: Any,
    size: Any,
    strides: Any = None,
    dilation_rate: Any = 1,
    padding: str = "valid",
    data_format: str | None = None,
) -> KerasTensor:
    """Windows of images, each flattened into the channels: (row, column, channel) of a window, in this order.

    `strides` are the windows' size unless given. "same" padding puts zeros around the images.
    """
    owner = "extract_patches"
    x, last, single = batched(owner, images, data_format)
    high, wide = pair(owner, "size", size)
    step = (high, wide) if strides is None else pair(owner, "strides", strides)
    apart = pair(owner, "dilation_rate", dilation_rate)
    seen = ((high - 1) * apart[0] + 1, (wide - 1) * apart[1] + 1)
    if choice(owner, "padding", padding, ("valid", "same")) == "same":
        x = _with_border(x, sides(owner, x), seen, step)
    rows, columns = sides(owner, x)
    counts = [(side - s) // t + 1 for side, s, t in zip((rows, columns), seen, step, strict=True)]
    if min(counts) < 1:
        raise ModelError(
            f"{user_line()}: {owner}: windows of {seen} don't fit images of {(rows, columns)}"
        )
    if (high, wide) == step == seen:
        found = _tiled(x, (high, wide), (counts[0], counts[1]))
    else:
        corners = [(i * apart[0], j * apart[1]) for i in range(high) for j in range(wide)]
        parts = [
            x[
                :,
                i : i + (counts[0] - 1) * step[0] + 1 : step[0],
                j : j + (counts[1] - 1) * step[1] + 1 : step[1],
            ]
            for i, j in corners
        ]
        found = shaping.concatenate(parts, -1)
    return back(found, last, single)


def _with_border(
    x: KerasTensor, sides: tuple[int, int], seen: tuple[int, int], step: tuple[int, int]
) -> KerasTensor:
    widths = [(0, 0)]
    for side, window, stride in zip(sides, seen, step, strict=True):
        total = max((math.ceil(side / stride) - 1) * stride + window - side, 0)
        widths.append((total // 2, total - total // 2))
    return shaping.pad(x, [*widths, (0, 0)])


def _tiled(x: KerasTensor, size: tuple[int, int], counts: tuple[int, int]) -> KerasTensor:
    """Windows that lie side by side: the same elements in another order."""
    (high, wide), (rows, columns), channels = size, counts, x.type.shape[3]
    x = x[:, : rows * high, : columns * wide]
    cells = shaping.reshape(x, (x.type.shape[0], rows, high, columns, wide, channels))
    cells = transpose(cells, (0, 1, 3, 2, 4, 5))
    return shaping.reshape(cells, (x.type.shape[0], rows, columns, high * wide * channels))


@operation
def rgb_to_grayscale(images: Any, data_format: str | None = None) -> KerasTensor:
    """The brightness of red, green and blue as the eye weighs them (ITU-R BT.601), in one channel."""
    x, last, single = batched("rgb_to_grayscale", images, data_format)
    expect_colours("rgb_to_grayscale", x)
    weights = np.array([0.2989, 0.5870, 0.1140], np.float32)
    gray = nn.dot(floating(x), as_tensor(weights[:, None], floating(x).dtype))
    return back(cast(gray, x.type.dtype), last, single)


@operation
def rgb_to_hsv(images: Any, data_format: str | None = None) -> KerasTensor:
    """Red, green and blue from 0 to 1 as hue, saturation and value from 0 to 1."""
    x, last, single = batched("rgb_to_hsv", floating(images), data_format)
    expect_colours("rgb_to_hsv", x)
    r, g, b = shaping.split(x, 3, -1)
    value = elementwise.maximum(elementwise.maximum(r, g), b)
    spread = value - elementwise.minimum(elementwise.minimum(r, g), b)
    saturation = elementwise.divide_no_nan(spread, value)
    parts = (g - b, 0.0), (b - r, 2.0), (r - g, 4.0)
    red, green, blue = (elementwise.divide_no_nan(d, spread) + at for d, at in parts)
    hue = elementwise.where(
        elementwise.equal(value, r),
        red,
        elementwise.where(elementwise.equal(value, g), green, blue),
    )
    hue = elementwise.where(elementwise.equal(spread, 0.0), 0.0, hue / 6.0)
    hue = elementwise.where(elementwise.less(hue, 0.0), hue + 1.0, hue)
    return back(shaping.concatenate([hue, saturation, value], -1), last, single)


@operation
def hsv_to_rgb(images: Any, data_format: str | None = None) -> KerasTensor:
    """Hue, saturation and value from 0 to 1 as red, green and blue from 0 to 1."""
    x, last, single = batched("hsv_to_rgb", floating(images), data_format)
    expect_colours("hsv_to_rgb", x)
    hue, saturation, value = shaping.split(x, 3, -1)
    sixth = hue * 6.0
    # How much of each colour a pure hue has: lines up and down between 0 and 1.
    colours = [
        elementwise.clip(elementwise.absolute(sixth - 3.0) - 1.0, 0.0, 1.0),
        elementwise.clip(2.0 - elementwise.absolute(sixth - 2.0), 0.0, 1.0),
        elementwise.clip(2.0 - elementwise.absolute(sixth - 4.0), 0.0, 1.0),
    ]
    pure = shaping.concatenate(colours, -1)
    return back(((pure - 1.0) * saturation + 1.0) * value, last, single)


@operation
def crop_images(
    images: Any,
    top_cropping: int | None = None,
    left_cropping: int | None = None,
    bottom_cropping: int | None = None,
    right_cropping: int | None = None,
    target_height: int | None = None,
    target_width: int | None = None,
    data_format: str | None = None,
) -> KerasTensor:
    """A part of images: of each direction two of what is cut before, what is cut after, and what is left."""
    x, last, single = batched("crop_images", images, data_format)
    rows, columns = sides("crop_images", x)
    top, _, high = _parts("crop_images", rows, top_cropping, bottom_cropping, target_height, -1)
    left, _, wide = _parts("crop_images", columns, left_cropping, right_cropping, target_width, -1)
    return back(x[:, top : top + high, left : left + wide], last, single)


@operation
def pad_images(
    images: Any,
    top_padding: int | None = None,
    left_padding: int | None = None,
    bottom_padding: int | None = None,
    right_padding: int | None = None,
    target_height: int | None = None,
    target_width: int | None = None,
    data_format: str | None = None,
) -> KerasTensor:
    """Images with zeros around them: of each direction two of before, after, and the whole size."""
    x, last, single = batched("pad_images", images, data_format)
    rows, columns = sides("pad_images", x)
    top, below, _ = _parts("pad_images", rows, top_padding, bottom_padding, target_height, 1)
    left, right, _ = _parts("pad_images", columns, left_padding, right_padding, target_width, 1)
    return back(shaping.pad(x, [(0, 0), (top, below), (left, right), (0, 0)]), last, single)


def _parts(
    owner: str, size: int, before: int | None, after: int | None, target: int | None, sign: int
) -> tuple[int, int, int]:
    """(before, after, target) of a direction, of which one wasn't given."""
    given = (before, after, target)
    match given:
        case int(), int(), None:
            target = size + sign * (before + after)  # type: ignore[operator]
        case None, int(), int():
            before = sign * (target - size) - after  # type: ignore[operator]
        case int(), None, int():
            after = sign * (target - size) - before  # type: ignore[operator]
        case _:
            raise ModelError(
                f"{user_line()}: {owner}: give two of what is before, what is after and the target size; "
                f"received {given}"
            )
    assert before is not None
    assert after is not None
    assert target is not None
    if min(before, after) < 0 or target < 1:
        raise ModelError(
            f"{user_line()}: {owner}: {given} (before, after, target) don't fit a size of {size}"
        )
    return before, after, target


@operation
def resize(
    images: Any,
    size: Any,
    interpolation: str = "bilinear",
    antialias: bool = False,
    crop_to_aspect_ratio: bool = False,
    pad_to_aspect_ratio: bool = False,
    fill_mode: str = "constant",
    fill_value: float = 0.0,
    data_format: str | None = None,
) -> KerasTensor:
    """Images at another size (rows, columns), with half-pixel centres.

    `interpolation` is "nearest", "bilinear", "bicubic", "lanczos3", "lanczos5" or "area". Where the sides' ratio
    changes, images may first be cut around their middle, or padded with `fill_value`.
    Integers are rounded (halves to even ones) and cut to their dtype's range.
    """
    owner = "resize"
    known = ("nearest", *KERNELS, "area")
    method = choice(owner, "interpolation", interpolation, known)
    if crop_to_aspect_ratio and pad_to_aspect_ratio:
        raise ModelError(
            f"{user_line()}: {owner}: only one of crop_to_aspect_ratio and pad_to_aspect_ratio may be True"
        )
    x, last, single = batched(owner, images, data_format)
    target = pair(owner, "size", size)
    if crop_to_aspect_ratio or pad_to_aspect_ratio:
        choice(owner, "fill_mode", fill_mode, ("constant",))
        x = _of_ratio(x, target, crop_to_aspect_ratio, fill_value)
    if method == "nearest":
        if antialias:
            raise ModelError(f"{user_line()}: {owner}: 'nearest' has no antialias; expected False")
        return back(nn.resized(x, target, method), last, single)
    given, x = x.type.dtype, floating(x)
    if method == "bilinear" and not antialias:
        x = nn.resized(x, target, method)
    else:
        for axis, (side, wanted) in enumerate(zip(sides(owner, x), target, strict=True), 1):
            weights = resampling(side, wanted, method, antialias).astype(x.type.dtype.numpy)
            x = nn.einsum("nhwc,ih->niwc" if axis == 1 else "nhwc,iw->nhic", x, weights)
    return back(x if given.is_float else rounded(x, given), last, single)


def rounded(x: KerasTensor, dtype: DType) -> KerasTensor:
    """Floats as integers of a dtype: the closest ones in its range."""
    limits = np.iinfo(dtype.numpy)
    return cast(elementwise.clip(elementwise.round(x), limits.min, limits.max), dtype)


def _of_ratio(
    x: KerasTensor, target: tuple[int, int], crop: bool, fill_value: float
) -> KerasTensor:
    """Images cut or padded around their middle to the ratio of the target's sides."""
    rows, columns = sides("resize", x)
    by_width, by_height = columns * target[0] // target[1], rows * target[1] // target[0]
    if crop:
        high, wide = min(rows, by_width) or rows, min(columns, by_height) or columns
        top, left = (rows - high) // 2, (columns - wide) // 2
        return as_tensor(x[:, top : top + high, left : left + wide])
    # As many pixels before as after: an odd one is left out, as Keras does.
    top, left = (max(rows, by_width) - rows) // 2, (max(columns, by_height) - columns) // 2
    around = [(0, 0), (top, top), (left, left), (0, 0)]
    return shaping.pad(x, around, constant_values=fill_value)


__all__ = [
    "affine_transform", "crop_images", "elastic_transform", "extract_patches", "extract_patches_3d", "gaussian_blur",
    "hsv_to_rgb", "map_coordinates", "pad_images", "perspective_transform", "resize", "rgb_to_grayscale",
    "rgb_to_hsv", "scale_and_translate", "sobel_edges", "ssim",
]  # fmt: skip
