"""Import rules of operators that read images at computed points: GridSample, RoiAlign, Col2Im."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from convc.onnx.importers.call import Call, Rejected, Rule
from convc.onnx.importers.windows import spatial, transposed
from convc.ops.broadcasting import Add, And, GreaterEqual, LessEqual, Maximum, Mul, Sub, Where
from convc.ops.elementwise import Abs, Clip, Floor, Round
from convc.ops.integer import Remainder
from convc.ops.ordering import GatherElements
from convc.ops.reduce import ReduceMax, ReduceMean
from convc.ops.shape import Broadcast, Gather
from convc.types import DType

CUBIC = -0.75


class Points:
    """Elementwise arithmetic on the points' coordinates."""

    def __init__(self, c: Call) -> None:
        self.c = c

    def constant(self, value: float, like: str) -> str:
        return self.c.scalar(value, like)

    def add(self, x: str, y: str | float) -> str:
        return self.c.add(Add(), x, y if isinstance(y, str) else self.constant(y, x))

    def mul(self, x: str, y: str | float) -> str:
        return self.c.add(Mul(), x, y if isinstance(y, str) else self.constant(y, x))

    def sub(self, x: str, y: str) -> str:
        return self.c.add(Sub(), x, y)


def reflected(c: Call, x: str, low: float, high: float) -> str:
    """Coordinates mirrored at both ends until they lie inside."""
    p = Points(c)
    span = high - low
    if span <= 0:
        return p.mul(x, 0.0)
    distance = c.add(Abs(), p.add(x, -low))
    rest = c.add(Remainder(), distance, c.scalar(2 * span, x))
    beyond = c.add(LessEqual(), rest, c.scalar(span, x))
    mirrored = p.add(p.mul(rest, -1.0), 2 * span)
    return p.add(c.add(Where(), beyond, rest, mirrored), low)


def grid_sample(c: Call) -> str:
    """x[n, c, …] at the points grid[n, …, (…, y, x)], which run from -1 to 1."""
    x, shape = c[0], c.numbers(0)
    sizes = shape[2:]
    rank = len(sizes)
    out = c.numbers(1)[1:-1]
    grid = c.wide(c[1])
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(
        str(c.attr("mode", "linear")), str(c.attr("mode", "linear"))
    )
    count = math.prod(out)
    axes = []
    for d in range(rank):
        part = c.reshape(c.take(grid, rank + 1, rank - 1 - d), (shape[0], 1, count))
        axes.append(unnormalised(c, part, sizes[d]))
    flat = c.reshape(x, (*shape[:2], math.prod(sizes)))
    sampler = Sampler(c, flat, sizes, count, str(c.attr("padding_mode", "zeros")))
    match mode:
        case "nearest":
            total = sampler.at([[c.add(Round(), a)] for a in axes], None)
        case "linear":
            total = sampler.weighted(axes, 1)
        case "cubic":
            total = sampler.weighted(axes, 2)
        case _:
            raise Rejected(f"mode {mode!r} is unknown")
    return c.reshape(c.cast(total, c.dtype(0)), (*shape[:2], *out))


def unnormalised(c: Call, part: str, size: int) -> str:
    """-1 … 1 as positions: of the corners' centres with align_corners, else of their outer edges."""
    p = Points(c)
    if c.attr("align_corners", 0):
        return p.mul(p.add(part, 1.0), (size - 1) / 2)
    return p.mul(p.add(p.mul(p.add(part, 1.0), float(size)), -1.0), 0.5)


class Sampler:
    """Reads flat images [n, c, size] at positions [n, 1, count] per dimension."""

    def __init__(
        self, c: Call, flat: str, sizes: tuple[int, ...], count: int, padding: str
    ) -> None:
        self.c = c
        self.flat = flat
        self.sizes = sizes
        self.count = count
        self.padding = padding

    def weighted(self, axes: list[str], reach: int) -> str:
        """Linear (reach 1) or cubic (reach 2) interpolation."""
        c, p = self.c, Points(self.c)
        places, weights = [], []
        for axis in axes:
            floor = c.add(Floor(), axis)
            part = p.sub(axis, floor)
            steps = range(1 - reach, reach + 1)
            places.append([p.add(floor, float(k)) for k in steps])
            weights.append([self.weight(part, k, reach) for k in steps])
        return self.at(places, weights)

    def weight(self, part: str, k: int, reach: int) -> str:
        """The weight of the pixel k steps from the floor, for the part of a pixel between."""
        c, p = self.c, Points(self.c)
        distance = c.add(Abs(), p.add(p.mul(part, -1.0), float(k)))
        if reach == 1:
            return p.add(p.mul(distance, -1.0), 1.0)
        square = p.mul(distance, distance)
        if k in (0, 1):
            inner = p.add(p.mul(distance, CUBIC + 2), -(CUBIC + 3))
            return p.add(p.mul(inner, square), 1.0)
        outer = p.mul(p.add(p.mul(p.add(distance, -5.0), distance), 8.0), distance)
        return p.mul(p.add(outer, -4.0), CUBIC)

    def at(self, places: list[list[str]], weights: list[list[str]] | None) -> str:
        """The sum over all combinations of places, one per dimension."""
        c = self.c
        total: str | None = None
        for chosen in itertools.product(*(range(len(p)) for p in places)):
            value = self.read([places[d][k] for d, k in enumerate(chosen)])
            if weights is not None:
                for d, k in enumerate(chosen):
                    value = c.add(Mul(), value, weights[d][k])
            total = value if total is None else c.add(Add(), total, value)
        assert total is not None
        return total

    def read(self, where: list[str]) -> str:
        """The pixels at whole positions; outside of the image what the padding mode says."""
        c, p = self.c, Points(self.c)
        inside: str | None = None
        index: str | None = None
        for position, size in zip(where, self.sizes, strict=True):
            if self.padding == "reflection":
                ends = (0.0, size - 1.0) if c.attr("align_corners", 0) else (-0.5, size - 0.5)
                position = c.add(Round(), reflected(c, position, *ends))
            if self.padding == "zeros":
                zero, last = c.scalar(0, position), c.scalar(size - 1, position)
                here = c.add(
                    And(), c.add(GreaterEqual(), position, zero), c.add(LessEqual(), position, last)
                )
                inside = here if inside is None else c.add(And(), inside, here)
            whole = c.cast(c.add(Clip(0.0, size - 1.0), position), DType.int64)
            index = whole if index is None else c.add(Add(), p.mul(index, float(size)), whole)
        if index is None:
            raise Rejected("needs an image with a spatial dimension")
        n, channels = c.shape(self.flat)[:2]
        spread = c.add(Broadcast((n, channels, self.count)), index)
        value = c.wide(c.add(GatherElements(2), self.flat, spread))
        return value if inside is None else c.add(Where(), inside, value, c.scalar(0, value))


# ---------------------------------------------------------------- regions


def roi_align(c: Call) -> str:
    """Regions [k, 4] of images as means (or maxima) over regular points inside of each bin."""
    shape, dtype = c.numbers(0), c.dtype(0)
    count = int(c.numbers(1)[0])
    height, width = int(c.attr("output_height", 1)), int(c.attr("output_width", 1))
    ratio = int(c.attr("sampling_ratio", 0))
    boxes = c.wide(c[1])
    scale = float(c.attr("spatial_scale", 1.0))
    half = c.opset >= 16 and c.attr("coordinate_transformation_mode", "half_pixel") == "half_pixel"
    if ratio <= 0:
        ratio_y, ratio_x = adaptive(c, scale, half, height, width)
    else:
        ratio_y = ratio_x = ratio
    p = Points(c)
    x1, y1, x2, y2 = (
        p.add(
            p.mul(c.reshape(c.slice(boxes, 1, k, k + 1), (count, 1)), scale), -0.5 if half else 0.0
        )
        for k in range(4)
    )
    ys = region_points(c, y1, y2, height, ratio_y, half)
    xs = region_points(c, x1, x2, width, ratio_x, half)
    rows, columns = height * ratio_y, width * ratio_x
    grid = (count, rows, columns)
    flat_y = c.reshape(
        c.add(Broadcast(grid), c.reshape(ys, (count, rows, 1))), (count, 1, rows * columns)
    )
    flat_x = c.reshape(
        c.add(Broadcast(grid), c.reshape(xs, (count, 1, columns))), (count, 1, rows * columns)
    )
    images = c.add(Gather(0), c.reshape(c[0], (*shape[:2], shape[2] * shape[3])), c[2])
    value = clamped_bilinear(c, images, (flat_y, flat_x), shape[2:], str(c.attr("mode", "avg")))
    bins = c.reshape(value, (count, shape[1], height, ratio_y, width, ratio_x))
    pool = ReduceMax((3, 5), False) if c.attr("mode", "avg") == "max" else ReduceMean((3, 5), False)
    return c.cast(c.add(pool, bins), dtype)


def adaptive(c: Call, scale: float, half: bool, height: int, width: int) -> tuple[int, int]:
    """Points per bin where the model leaves them open: as many as pixels, which must be the same for all regions."""
    boxes = c.array(1).astype(np.float64) * scale
    counts = set()
    for x1, y1, x2, y2 in boxes:
        h, w = (y2 - y1, x2 - x1) if half else (max(y2 - y1, 1.0), max(x2 - x1, 1.0))
        counts.add((math.ceil(h / height), math.ceil(w / width)))
    if len(counts) != 1:
        raise Rejected("sampling_ratio 0 with regions of different sizes")
    return counts.pop()


def region_points(c: Call, start: str, end: str, bins: int, ratio: int, half: bool) -> str:
    """The coordinates [k, bins * ratio] of the points of each region along one dimension."""
    p = Points(c)
    span = p.sub(end, start)
    if not half:
        span = c.add(Clip(1.0, None), span)
    c.require_small(bins, ratio)
    steps = (np.arange(bins * ratio) + 0.5) / (bins * ratio)
    return c.add(Add(), start, c.add(Mul(), span, c.constant(steps[None], c.dtype(span))))


def clamped_bilinear(
    c: Call, images: str, where: tuple[str, str], sizes: tuple[int, ...], mode: str
) -> str:
    """Bilinear reads [k, c, points]: points up to one pixel outside count as on the edge, others as 0."""
    p = Points(c)
    outside: list[str] = []
    places, weights = [], []
    for position, size in zip(where, sizes, strict=True):
        low = c.add(GreaterEqual(), position, c.scalar(-1.0, position))
        high = c.add(LessEqual(), position, c.scalar(float(size), position))
        outside.append(c.add(And(), low, high))
        inside = c.add(Clip(0.0, size - 1.0), position)
        floor = c.add(Clip(0.0, max(0.0, size - 1.0)), c.add(Floor(), inside))
        part = p.sub(inside, floor)
        places.append([floor, c.add(Clip(0.0, size - 1.0), p.add(floor, 1.0))])
        weights.append([p.add(p.mul(part, -1.0), 1.0), part])
    valid = c.add(And(), *outside)
    k, channels = c.shape(images)[:2]
    count = c.numbers(where[0])[2]
    values = []
    for i, j in itertools.product(range(2), range(2)):
        row = c.cast(places[0][i], DType.int64)
        index = p.add(p.mul(row, float(sizes[1])), c.cast(places[1][j], DType.int64))
        value = c.wide(
            c.add(GatherElements(2), images, c.add(Broadcast((k, channels, count)), index))
        )
        values.append(p.mul(p.mul(value, weights[0][i]), weights[1][j]))
    total = c.fold(Maximum if mode == "max" else Add, values)
    return c.add(Where(), valid, total, c.scalar(0, total))


# ---------------------------------------------------------------- columns


def col2im(c: Call) -> str:
    """Columns added back to where they came from: a transposed convolution with one-hot weights."""
    sizes, block = c.ints(1), list(c.ints(2))
    rank = len(sizes)
    dilation, stride = spatial(c, "dilations", rank), spatial(c, "strides", rank)
    flat = [int(v) for v in c.attr("pads") or [0] * 2 * rank]
    pads = list(zip(flat[:rank], flat[rank:], strict=True))
    n, columns = c.numbers(0)[:2]
    channels = columns // math.prod(block)
    counts, extra = [], []
    for size, k, s, d, pad in zip(sizes, block, stride, dilation, pads, strict=True):
        span = size + sum(pad) - d * (k - 1) - 1
        counts.append(span // s + 1)
        extra.append(span - (counts[-1] - 1) * s)
    taps: Any = np.eye(math.prod(block)).reshape((1, math.prod(block), 1, *block))
    weights = np.broadcast_to(taps, (channels, *taps.shape[1:])).reshape((columns, 1, *block))
    x = c.reshape(c[0], (n, columns, *counts))
    w = c.constant(weights, c.dtype(0))
    return transposed(c, x, w, stride, pads, extra, dilation, channels)


RULES: dict[str, Rule] = {"GridSample": grid_sample, "RoiAlign": roi_align, "Col2Im": col2im}
