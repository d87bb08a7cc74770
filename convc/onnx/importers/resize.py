"""Import rules of resizing and sampling images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from convc.onnx.importers.call import Call, Rejected, Rule
from convc.ops.broadcasting import Add, Mul
from convc.ops.elementwise import Cast
from convc.ops.resize import Resize2d
from convc.ops.shape import Gather
from convc.types import DType

Float = Any


@dataclass(frozen=True)
class Axis:
    """How one dimension is resized: `extent` outputs of `size` inputs at a scale, maybe within a region of interest."""

    size: int
    extent: int
    scale: float
    start: float = 0.0
    end: float = 1.0


@dataclass(frozen=True)
class How:
    """The attributes of Resize that decide the weights."""

    mode: str
    coordinates: str
    rounding: str
    cubic: float
    antialias: bool
    exclude_outside: bool


def positions(how: How, axis: Axis) -> Float:
    """Where each output lies among the inputs."""
    i = np.arange(axis.extent, dtype=np.float64)
    match how.coordinates:
        case "half_pixel":
            return (i + 0.5) / axis.scale - 0.5
        case "pytorch_half_pixel":
            return (i + 0.5) / axis.scale - 0.5 if axis.extent > 1 else np.zeros(1)
        case "half_pixel_symmetric":
            adjustment = axis.extent / (axis.scale * axis.size)
            centre = axis.size / 2
            return centre * (1 - adjustment) + (i + 0.5) / axis.scale - 0.5
        case "align_corners":
            # As the specification's own code has it: the size before it was rounded down.
            last = axis.scale * axis.size - 1
            return (
                i * (axis.size - 1) / last
                if axis.extent > 1 and last > 0
                else np.zeros(axis.extent)
            )
        case "asymmetric":
            return i / axis.scale
        case "tf_half_pixel_for_nn":
            return (i + 0.5) / axis.scale
        case "tf_crop_and_resize":
            if axis.extent == 1:
                return np.array([0.5 * (axis.start + axis.end) * (axis.size - 1)])
            step = (axis.end - axis.start) * (axis.size - 1) / (axis.extent - 1)
            return axis.start * (axis.size - 1) + i * step
    raise Rejected(f"coordinate_transformation_mode {how.coordinates!r} is unknown")


def nearest(how: How, where: Float) -> Float:
    match how.rounding:
        case "round_prefer_floor":
            return np.ceil(where - 0.5)
        case "round_prefer_ceil":
            return np.floor(where + 0.5)
        case "floor":
            return np.floor(where)
        case "ceil":
            return np.ceil(where)
    raise Rejected(f"nearest_mode {how.rounding!r} is unknown")


def kernel(how: How, distance: Float) -> Float:
    """The weight of an input at a distance from the point: a triangle, or Keys' cubic of parameter `cubic`."""
    x = np.abs(distance)
    if how.mode == "linear":
        return np.maximum(0, 1 - x)
    a = how.cubic
    inner = ((a + 2) * x - (a + 3)) * x * x + 1
    outer = ((x - 5) * x + 8) * x * a - 4 * a
    return np.where(x <= 1, inner, np.where(x < 2, outer, 0))


def taps(how: How, axis: Axis) -> tuple[Float, Float]:
    """(inputs[k, extent], weights[k, extent]): each output is the weighted sum of its k inputs."""
    where = positions(how, axis)
    if how.mode == "nearest":
        found = np.clip(nearest(how, where), 0, axis.size - 1)
        return found[None].astype(np.int64), np.ones((1, axis.extent))
    stretch = max(1.0, 1 / axis.scale) if how.antialias else 1.0
    reach = (1 if how.mode == "linear" else 2) * stretch
    count = math.ceil(reach) * 2 + (1 if how.antialias else 0)
    first = np.floor(where) - math.ceil(reach) + 1
    inputs = first[None] + np.arange(count)[:, None]
    weights = kernel(how, (inputs - where[None]) / stretch)
    outside = (inputs < 0) | (inputs >= axis.size)
    if how.exclude_outside:
        weights = np.where(outside, 0, weights)
    if how.exclude_outside or how.antialias:
        weights = weights / weights.sum(axis=0)
    return np.clip(inputs, 0, axis.size - 1).astype(np.int64), weights


def apply(c: Call, x: str, d: int, how: How, axis: Axis, beyond: float | None) -> str:
    """x resized along dimension d; `beyond` fills what lies outside of the inputs."""
    c.require_small(axis.extent)
    inputs, weights = taps(how, axis)
    if beyond is not None:
        where = positions(how, axis)
        outside = (where < 0) | (where > axis.size - 1)
        weights = np.where(outside, 0, weights)
        filler = np.where(outside, beyond, 0)
    column = (axis.extent, *[1] * (c.rank(x) - 1 - d))
    if how.mode == "nearest" and beyond is None:
        return c.add(Gather(d), x, c.constant(inputs[0]))
    total: str | None = None
    for k in range(len(inputs)):
        if not weights[k].any():
            continue
        part = c.add(Gather(d), x, c.constant(inputs[k]))
        part = c.add(Mul(), part, c.constant(weights[k].reshape(column), c.dtype(x)))
        total = part if total is None else c.add(Add(), total, part)
    total = total or c.add(Mul(), c.add(Gather(d), x, c.constant(inputs[0])), c.scalar(0, x))
    return (
        total
        if beyond is None
        else c.add(Add(), total, c.constant(filler.reshape(column), c.dtype(x)))
    )


def resize(c: Call) -> str:
    rank = c.rank(0)
    later = c.opset >= 11
    axes = [c.from_front(int(a), rank) for a in c.attr("axes") or range(rank)]
    how = How(
        {"nearest": "nearest", "linear": "linear", "bilinear": "linear", "cubic": "cubic"}[
            c.attr("mode", "nearest")
        ],
        str(c.attr("coordinate_transformation_mode", "half_pixel" if later else "asymmetric")),
        str(c.attr("nearest_mode", "round_prefer_floor" if later else "floor")),
        float(c.attr("cubic_coeff_a", -0.75)),
        bool(c.attr("antialias", 0)),
        bool(c.attr("exclude_outside", 0)),
    )
    rows = resized_axes(c, axes, how, scales_at=2 if later else 1)
    return resized(c, rows, how)


def resized_axes(c: Call, axes: list[int], how: How, scales_at: int) -> dict[int, Axis]:
    """The dimensions that change, with their scales from `scales` or `sizes`."""
    shape = c.shape(0)
    roi = [0.0] * len(axes) + [1.0] * len(axes)
    if how.coordinates == "tf_crop_and_resize":
        roi = [float(v) for v in c.array(1).reshape(-1)]
    scales = [float(v) for v in c.array(scales_at).reshape(-1)] if given(c, scales_at) else None
    sizes: list[Any] = [None] * len(axes)
    if scales is None:
        sizes, scales = fitted(c, axes, list(c.extents(3)))
    if len(scales) != len(axes):
        raise Rejected(f"{len(scales)} scales for {len(axes)} dimensions")
    rows: dict[int, Axis] = {}
    for k, d in enumerate(axes):
        size, start, end = shape[d], roi[k], roi[len(axes) + k]
        if scales[k] == 1 and (sizes[k] is None or sizes[k] == size) and (start, end) == (0.0, 1.0):
            continue
        if not isinstance(size, int):
            raise Rejected(f"resizes the symbolic extent {size}: give --shape")
        scaled = math.floor(size * scales[k] * (end - start) + 1e-6)
        extent = scaled if sizes[k] is None else int(sizes[k])
        rows[d] = Axis(size, extent, scales[k], start, end)
    return rows


def given(c: Call, k: int) -> bool:
    """Whether an optional input has elements."""
    return c.has(k) and c.shape(k) != (0,)


def fitted(c: Call, axes: list[int], sizes: list[Any]) -> tuple[list[Any], list[float]]:
    """Sizes and scales, with the aspect ratio kept if that is asked for."""
    shape: Any = c.shape(0)
    changed = [d for d, s in zip(axes, sizes, strict=True) if s != shape[d]]
    if not all(isinstance(shape[d], int) for d in changed):
        raise Rejected(f"resizes a symbolic extent of {list(shape)}: give --shape")
    scales = [
        1.0 if s == shape[d] else float(s) / float(shape[d])
        for d, s in zip(axes, sizes, strict=True)
    ]
    policy = c.attr("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return sizes, scales
    scale = min(scales) if policy == "not_larger" else max(scales)
    # Halves round up: 2.5 pixels are 3.
    return [math.floor(scale * shape[d] + 0.5) for d in axes], [scale] * len(axes)


def resized(c: Call, rows: dict[int, Axis], how: How) -> str:
    x, dtype = c[0], c.dtype(0)
    plain = as_image(c, rows, how)
    if plain is not None:
        return c.add(plain, x)
    beyond = None
    if how.coordinates == "tf_crop_and_resize":
        beyond = float(c.attr("extrapolation_value", 0.0))
    if how.mode != "nearest" or beyond is not None:
        x = c.wide(x)
        x = x if c.dtype(x).is_float else c.cast(x, DType.float32)
    for d, axis in rows.items():
        x = apply(c, x, d, how, axis, beyond)
    return c.add(Cast(dtype), x)


def as_image(c: Call, rows: dict[int, Axis], how: How) -> Resize2d | None:
    """Rows and columns at half-pixel centres without antialiasing are an operator of their own."""
    if c.rank(0) != 4 or not set(rows) <= {2, 3} or not rows or how.antialias:
        return None
    height, width = c.shape(0)[2:]
    if not isinstance(height, int) or not isinstance(width, int):
        return None
    pair = [rows.get(d, Axis(e, e, 1.0)) for d, e in ((2, height), (3, width))]
    exact = all(a.size * a.scale == a.extent for a in pair)
    whole = all(a.extent % a.size == 0 for a in pair)
    repeats = how.mode == "nearest" and whole and (how.coordinates, how.rounding) in (
        ("asymmetric", "floor"), ("half_pixel", "round_prefer_floor"), ("half_pixel", "round_prefer_ceil"),
    )  # fmt: skip
    smooth = how.mode == "linear" and c.dtype(0).is_float and not how.exclude_outside and (
        how.coordinates == "half_pixel"
        or how.coordinates == "pytorch_half_pixel" and all(a.extent > 1 for a in pair)
    )  # fmt: skip
    if not exact or not (repeats or smooth):
        return None
    return Resize2d(
        size=(pair[0].extent, pair[1].extent), mode="nearest" if repeats else "bilinear"
    )


def upsample(c: Call) -> str:
    """Opsets 7 to 9: asymmetric coordinates, rounded down."""
    if not c.has(1):
        scales: Sequence[float] | None = c.attr("scales")
        if scales is None:
            scales = (1.0, 1.0, float(c.attr("height_scale")), float(c.attr("width_scale")))
        c.values.append(c.constant(np.array(scales, np.float32)))
    mode = {"nearest": "nearest", "linear": "linear", "bilinear": "linear"}[
        c.attr("mode", "nearest")
    ]
    how = How(mode, "asymmetric", "floor", -0.75, False, False)
    return resized(c, resized_axes(c, list(range(c.rank(0))), how, 1), how)


RULES: dict[str, Rule] = {"Resize": resize, "Upsample": upsample}
