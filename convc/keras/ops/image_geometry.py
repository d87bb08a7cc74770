"""Images seen through maps of their pixels' places: affine, projective, elastic, or given pixel by pixel."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from convc.errors import ModelError
from convc.keras.engine.arguments import choice
from convc.keras.engine.call import operation
from convc.keras.engine.naming import user_line
from convc.keras.engine.tensor import KerasTensor, apply, as_tensor, cast, floating
from convc.keras.ops import elementwise, further, shaping
from convc.keras.ops.image_batches import back, batched, sides
from convc.keras.ops.image_filters import gaussian_blur
from convc.ops.base import numbers
from convc.ops.warp import AffineWarp
from convc.types import DType

WARPS = {
    "constant": "grid-constant", "nearest": "nearest", "reflect": "reflect", "wrap": "grid-wrap",
}  # fmt: skip
"""Keras' names of what lies outside, and AffineWarp's."""
FILL_MODES = ("constant", "nearest", "wrap", "mirror", "reflect")
INTERPOLATIONS = ("nearest", "bilinear")
INDEX = DType.int32

Tap = tuple[KerasTensor, KerasTensor | None, KerasTensor | None]
"""A pixel's position along an axis, its weight (None: 1), and where it lies on the image (None: everywhere)."""


@operation
def map_coordinates(
    inputs: Any, coordinates: Any, order: int, fill_mode: str = "constant", fill_value: float = 0.0
) -> KerasTensor:
    """x at coordinates (rank, …), in pixels along each of its axes: the closest element (order 0) or between (1).

    Outside of x: "constant" gives `fill_value`, "nearest" the border, "wrap" x again, "mirror" x reflected at the
    border's pixels (c b | a b c | b a), and "reflect" at its edge (b a | a b c | c b).
    """
    owner = "map_coordinates"
    x, places = as_tensor(inputs), as_tensor(coordinates)
    mode = choice(owner, "fill_mode", fill_mode, FILL_MODES)
    if order not in (0, 1):
        raise ModelError(f"{user_line()}: {owner}: order expects 0 or 1; received {order!r}")
    if places.ndim < 1 or places.type.shape[0] != x.ndim:
        raise ModelError(
            f"{user_line()}: {owner}: expected coordinates of shape ({x.ndim}, …) for inputs of shape {x.shape}; "
            f"received shape {places.shape}"
        )
    extents = numbers(x.type.shape)
    axes = [taps(places[d], e, order, mode) for d, e in enumerate(extents)]
    flat = shaping.reshape(floating(x), (-1,))
    found: Any = None
    for corner in itertools.product(*axes):
        at: Any = 0
        for (index, _, _), extent in zip(corner, extents, strict=True):
            at = at * extent + index
        value = weighed(shaping.take(flat, at), corner, fill_value)
        found = value if found is None else found + value
    return found if x.type.dtype.is_float else cast(elementwise.round(found), x.type.dtype)


def taps(place: KerasTensor, extent: int, order: int, mode: str) -> list[Tap]:
    """The pixels along an axis that make up the value at a place."""
    place = floating(place)
    if order == 0:
        # Halves go away from zero.
        rounded = elementwise.floor(elementwise.absolute(place) + 0.5)
        return [tap(elementwise.where(place < 0, -rounded, rounded), None, extent, mode)]
    below = elementwise.floor(place)
    share = place - below
    return [tap(below, 1.0 - share, extent, mode), tap(below + 1.0, share, extent, mode)]


def tap(at: KerasTensor, weight: KerasTensor | None, extent: int, mode: str) -> Tap:
    """A whole number as a pixel's position, brought back to the image."""
    within = elementwise.clip(at, 0.0, extent - 1.0)
    match mode:
        case "constant":
            return cast(within, INDEX), weight, elementwise.equal(within, at)
        case "nearest":
            found = within
        case "wrap":
            found = elementwise.mod(at, float(extent))
        case "mirror":
            found = mirrored(at, extent)
        case _:
            found = (mirrored(2.0 * at + 1.0, 2 * extent + 1) - 1.0) * 0.5
    return cast(found, INDEX), weight, None


def mirrored(at: KerasTensor, extent: int) -> KerasTensor:
    last = max(extent - 1, 1)
    found = elementwise.absolute(elementwise.mod(at + float(last), 2.0 * last) - float(last))
    return elementwise.minimum(found, float(extent - 1))


def weighed(value: KerasTensor, corner: tuple[Tap, ...], fill_value: float) -> KerasTensor:
    """A pixel's value times its weights, or the fill value's where it isn't on the image; shapes broadcast."""
    for _, _, inside in corner:
        if inside is not None:
            value = elementwise.where(inside, value, fill_value)
    for _, weight, _ in corner:
        if weight is not None:
            value = value * cast(weight, value.type.dtype)
    return value


def sampled(
    x: KerasTensor, rows: KerasTensor, columns: KerasTensor, order: int, mode: str, fill: float
) -> KerasTensor:
    """Floats x[n, h, w, c] at rows and columns [n, i, j], as `map_coordinates` has it: [n, i, j, c]."""
    high, wide = sides("map", x)
    n, channels = x.type.shape[0], x.type.shape[3]
    shape = rows.type.shape[1:]
    count = int(np.prod(shape))  # type: ignore[arg-type]
    flat = shaping.reshape(x, (-1 if not isinstance(n, int) else n, high * wide, channels))
    found: Any = None
    for down, along in itertools.product(
        taps(rows, high, order, mode), taps(columns, wide, order, mode)
    ):
        at = shaping.reshape(down[0] * wide + along[0], (-1, count, 1))
        at = shaping.repeat(at, int(channels), -1)  # type: ignore[arg-type]
        value = shaping.reshape(further.take_along_axis(flat, at, 1), (-1, *shape, channels))
        corner = tuple(
            (i, *(None if v is None else shaping.expand_dims(v, -1) for v in rest))
            for i, *rest in (down, along)
        )
        value = weighed(value, corner, fill)  # type: ignore[arg-type]
        found = value if found is None else found + value
    return as_tensor(found)


def _order(owner: str, interpolation: str) -> int:
    return INTERPOLATIONS.index(choice(owner, "interpolation", interpolation, INTERPOLATIONS))


@operation
def affine_transform(
    images: Any,
    transform: Any,
    interpolation: str = "bilinear",
    fill_mode: str = "constant",
    fill_value: float = 0,
    data_format: str | None = None,
) -> KerasTensor:
    """Images of which the pixel at column x and row y shows what was at (a0 x + a1 y + a2, b0 x + b1 y + b2).

    `transform` holds a0, a1, a2, b0, b1, b2, 0, 0 for each image, or for all. `fill_mode` is `map_coordinates`'.
    """
    owner = "affine_transform"
    mode = choice(owner, "fill_mode", fill_mode, FILL_MODES)
    order = _order(owner, interpolation)
    x, last, single = batched(owner, images, data_format)
    given = x.type.dtype
    maps = _eight(owner, "transform", transform, x)
    if mode == "mirror":
        rows, columns = _projected(maps, sides(owner, x))
        found = sampled(floating(x), rows, columns, order, mode, float(fill_value))
    else:
        a = [maps[:, k] for k in (4, 3, 5, 1, 0, 2)]
        matrix = shaping.reshape(shaping.stack(a, 1), (-1, 2, 3))
        warp = AffineWarp((1, 2), interpolation, WARPS[mode], float(fill_value))
        found = apply(warp, floating(x), cast(matrix, DType.float64))
    found = found if given.is_float else cast(found, given)
    return back(found, last, single)


def _eight(owner: str, name: str, transform: Any, x: KerasTensor) -> KerasTensor:
    """The eight numbers of a map, for each image."""
    maps = floating(transform)
    if maps.ndim not in (1, 2) or maps.type.shape[-1] != 8:
        raise ModelError(
            f"{user_line()}: {owner}: expected {name} of shape (8,) or (batch, 8); received shape {maps.shape}"
        )
    if maps.ndim == 1:
        maps = shaping.expand_dims(maps, 0)
    if maps.type.shape[0] == 1 and x.type.shape[0] != 1:
        maps = maps + 0.0 * shaping.reshape(x[:, :1, :1, :1], (-1, 1))
    return maps


def _projected(maps: KerasTensor, size: tuple[int, int]) -> tuple[KerasTensor, KerasTensor]:
    """Rows and columns [n, i, j] that projective maps [n, 8] give for an image's pixels."""
    kind = maps.type.dtype.numpy
    y = as_tensor(np.arange(size[0], dtype=kind)[None, :, None])
    x = as_tensor(np.arange(size[1], dtype=kind)[None, None, :])
    a = [shaping.reshape(maps[:, k], (-1, 1, 1)) for k in range(8)]
    below = a[6] * x + a[7] * y + 1.0
    return (a[3] * x + a[4] * y + a[5]) / below, (a[0] * x + a[1] * y + a[2]) / below


@operation
def perspective_transform(
    images: Any,
    start_points: Any,
    end_points: Any,
    interpolation: str = "bilinear",
    fill_value: float = 0,
    data_format: str | None = None,
) -> KerasTensor:
    """Images of which four points (x, y) of `start_points` (4, 2) come to `end_points`, for each image or for all."""
    owner = "perspective_transform"
    order = _order(owner, interpolation)
    x, last, single = batched(owner, images, data_format)
    given = x.type.dtype
    points = [floating(p) for p in (start_points, end_points)]
    for name, p in zip(("start_points", "end_points"), points, strict=True):
        if p.ndim not in (2, 3) or p.type.shape[-2:] != (4, 2):
            raise ModelError(
                f"{user_line()}: {owner}: expected {name} of shape (4, 2) or (batch, 4, 2); received shape {p.shape}"
            )
    start, end = (shaping.expand_dims(p, 0) if p.ndim == 2 else p for p in points)
    maps = _eight(owner, "points", homography(start, end), x)
    rows, columns = _projected(maps, sides(owner, x))
    found = sampled(floating(x), rows, columns, order, "constant", float(fill_value))
    return back(found if given.is_float else cast(found, given), last, single)


def homography(start: KerasTensor, end: KerasTensor) -> KerasTensor:
    """The projective maps [n, 8] that take points `end` [n, 4, 2] to `start`.

    Each is the map from the unit square's corners to `start` after the inverse of the one to `end` (Heckbert, 1989).
    """
    found = _product(_from_square(start), _adjoint(_from_square(end)))
    return shaping.stack([entry / found[8] for entry in found[:8]], -1)


def _from_square(points: KerasTensor) -> list[KerasTensor]:
    """The nine entries of the map that takes (0, 0), (1, 0), (0, 1) and (1, 1) to four points, in this order."""
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = ((points[:, k, 0], points[:, k, 1]) for k in range(4))
    dx1, dx2, sx = x1 - x3, x2 - x3, x0 - x1 + x3 - x2
    dy1, dy2, sy = y1 - y3, y2 - y3, y0 - y1 + y3 - y2
    area = dx1 * dy2 - dx2 * dy1
    g, h = (sx * dy2 - dx2 * sy) / area, (dx1 * sy - sx * dy1) / area
    one = shaping.ones_like(g)
    return [
        x1 - x0 + g * x1,
        x2 - x0 + h * x2,
        x0,
        y1 - y0 + g * y1,
        y2 - y0 + h * y2,
        y0,
        g,
        h,
        one,
    ]


def _adjoint(m: list[KerasTensor]) -> list[KerasTensor]:
    """The inverse of a matrix of nine entries, but for a factor."""
    a, b, c, d, e, f, g, h, i = m
    return [
        e * i - f * h, c * h - b * i, b * f - c * e, f * g - d * i, a * i - c * g, c * d - a * f,
        d * h - e * g, b * g - a * h, a * e - b * d,
    ]  # fmt: skip


def _product(m: list[KerasTensor], n: list[KerasTensor]) -> list[KerasTensor]:
    return [
        m[3 * i] * n[j] + m[3 * i + 1] * n[3 + j] + m[3 * i + 2] * n[6 + j]
        for i in range(3)
        for j in range(3)
    ]


def distorted(
    x: KerasTensor,
    noise: tuple[KerasTensor, KerasTensor],
    alpha: Any,
    sigma: Any,
    count: int,
    order: int,
    mode: str,
    fill_value: float,
) -> KerasTensor:
    """Floats x[n, h, w, c] whose pixels are displaced by standard normal noise [n, h, w, 1], for columns and for rows.

    The noise is multiplied by `sigma`, smoothed by a Gaussian of that width over `count` pixels, and multiplied by
    `alpha` (Simard et al., 2003).
    """
    high, wide = sides("elastic_transform", x)
    kind = x.type.dtype.numpy
    along, down = (
        gaussian_blur(n * sigma, (count, count), (sigma, sigma), "channels_last")[..., 0] * alpha
        for n in noise
    )
    rows = as_tensor(np.arange(high, dtype=kind)[None, :, None]) + down
    columns = as_tensor(np.arange(wide, dtype=kind)[None, None, :]) + along
    return sampled(x, rows, columns, order, mode, fill_value)


@operation
def elastic_transform(
    images: Any,
    alpha: float = 20.0,
    sigma: float = 5.0,
    interpolation: str = "bilinear",
    fill_mode: str = "reflect",
    fill_value: float = 0.0,
    seed: Any = None,
    data_format: str | None = None,
) -> KerasTensor:
    """Images whose pixels are displaced by smooth random fields: `alpha` is their strength, `sigma` their smoothness.

    `seed` is an integer, a SeedGenerator or None. Within models the layer RandomElasticTransform draws anew in each
    step.
    """
    owner = "elastic_transform"
    mode = choice(owner, "fill_mode", fill_mode, FILL_MODES)
    order = _order(owner, interpolation)
    x, last, single = batched(owner, images, data_format)
    given, x = x.type.dtype, floating(x)
    if not isinstance(x.type.shape[0], int):
        raise ModelError(
            f"{user_line()}: {owner}: expected a known number of images; use the layer RandomElasticTransform in models"
        )
    key = seed.next() if hasattr(seed, "next") else seed
    generator = np.random.default_rng(np.random.randint(1 << 31) if key is None else key)
    shape = (*(int(e) for e in x.type.shape[:3]), 1)  # type: ignore[arg-type]
    kind = x.type.dtype.numpy
    noise = [as_tensor(generator.standard_normal(shape).astype(kind)) for _ in range(2)]
    count = int(6 * sigma) | 1
    found = distorted(x, (noise[0], noise[1]), alpha, sigma, count, order, mode, float(fill_value))
    return back(found if given.is_float else cast(found, given), last, single)
