"""Import rules of convolutions and pools, in one to three dimensions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from convc.onnx.importers.call import Call, Rejected, Rule
from convc.ops.broadcasting import Add, Equal, Mul, Pow, Sub
from convc.ops.conv import NARROW, Conv2d, ConvTranspose2d
from convc.ops.elementwise import Abs, Identity
from convc.ops.pool import AvgPool2d, MaxPool2d
from convc.ops.reduce import ArgMax, ReduceMax, ReduceMean, ReduceSum
from convc.ops.shape import Concat, Pad, Slice
from convc.ops.volume import Conv3d
from convc.ops.windows import lowest
from convc.types import DType, Extent, Shape

Pads = list[tuple[int, int]]


def spatial(c: Call, name: str, rank: int, default: int = 1) -> list[int]:
    """An attribute with a number per spatial dimension."""
    given = [int(v) for v in c.attr(name) or [default] * rank]
    if len(given) != rank or min(given, default=1) < 1:
        raise Rejected(f"{name} expects {rank} numbers from 1, got {given}")
    return given


def pads_of(
    c: Call, sizes: Sequence[Extent], kernel: list[int], stride: list[int], dilation: list[int]
) -> Pads:
    """(before, after) per spatial dimension, from pads or auto_pad."""
    rank = len(kernel)
    auto = c.attr("auto_pad", "NOTSET")
    if auto in ("NOTSET", ""):
        flat = [int(v) for v in c.attr("pads") or [0] * 2 * rank]
        if len(flat) != 2 * rank:
            raise Rejected(f"pads expects {2 * rank} numbers, got {flat}")
        return list(zip(flat[:rank], flat[rank:], strict=True))
    if auto == "VALID":
        return [(0, 0)] * rank
    if auto not in ("SAME_UPPER", "SAME_LOWER"):
        raise Rejected(f"auto_pad {auto!r} is unknown")
    pads = []
    for size, k, s, d in zip(sizes, kernel, stride, dilation, strict=True):
        if not isinstance(size, int):
            raise Rejected(f"auto_pad of the symbolic extent {size}: give --shape")
        missing = max(0, (-(-size // s) - 1) * s + (k - 1) * d + 1 - size)
        less, more = missing // 2, missing - missing // 2
        pads.append((less, more) if auto == "SAME_UPPER" else (more, less))
    return pads


# ---------------------------------------------------------------- convolutions


def conv(c: Call) -> str:
    y = convolved(c, c[0], c[1])
    return biased(c, y, c[2]) if c.has(2) else y


def biased(c: Call, y: str, bias: str) -> str:
    """y plus one number per channel."""
    shape = (c.shape(bias)[0], *[1] * (c.rank(y) - 2))
    return c.add(Add(), y, c.reshape(bias, shape))


def convolved(c: Call, x: str, w: str) -> str:
    rank = c.rank(x) - 2
    kernel = [int(e) for e in c.numbers(w, "kernel")[2:]]
    given = c.attr("kernel_shape")
    if given is not None and list(given) != kernel:
        raise Rejected(f"kernel_shape {list(given)} isn't that of the weights, {kernel}")
    stride, dilation = spatial(c, "strides", rank), spatial(c, "dilations", rank)
    pads = pads_of(c, c.shape(x)[2:], kernel, stride, dilation)
    x, pads = without_crops(c, x, pads)
    groups = int(c.attr("group", 1))
    match rank:
        case 1:
            op = Conv2d((1, stride[0]), ((0, 0), pads[0]), (1, dilation[0]), groups)
            y = c.add(op, with_row(c, x), with_row(c, w))
            return without_row(c, y)
        case 2:
            return c.add(Conv2d(tuple(stride), tuple(pads), tuple(dilation), groups), x, w)  # type: ignore[arg-type]
        case 3:
            return c.add(Conv3d(tuple(stride), tuple(pads), tuple(dilation), groups), x, w)  # type: ignore[arg-type]
    raise Rejected(f"a convolution in {rank} dimensions")


def without_crops(c: Call, x: str, pads: Pads) -> tuple[str, Pads]:
    """Negative pads crop the input instead."""
    if all(p >= 0 for pair in pads for p in pair):
        return x, pads
    crops = ((0, 0), (0, 0), *((min(0, b), min(0, a)) for b, a in pads))
    return c.add(Pad(crops), x), [(max(0, b), max(0, a)) for b, a in pads]


def with_row(c: Call, x: str) -> str:
    """[n, c, w] as [n, c, 1, w]."""
    return c.reshape(x, (*c.shape(x)[:2], 1, *c.shape(x)[2:]))


def without_row(c: Call, x: str) -> str:
    return c.reshape(x, (*c.shape(x)[:2], *c.shape(x)[3:]))


def conv_transpose(c: Call) -> str:
    x, w = c[0], c[1]
    rank = c.rank(x) - 2
    kernel = [int(e) for e in c.numbers(w, "kernel")[2:]]
    stride, dilation = spatial(c, "strides", rank), spatial(c, "dilations", rank)
    extra = [int(v) for v in c.attr("output_padding") or [0] * rank]
    pads = transposed_pads(c, c.shape(x)[2:], kernel, stride, dilation, extra)
    groups = int(c.attr("group", 1))
    y = transposed(c, x, w, stride, pads, extra, dilation, groups)
    return biased(c, y, c[2]) if c.has(2) else y


def transposed(
    c: Call, x: str, w: str, stride: list[int], pads: Pads, extra: list[int], dilation: list[int],
    groups: int,
) -> str:  # fmt: skip
    """A transposed convolution in one to three dimensions."""
    match len(stride):
        case 1:
            stride, dilation, extra, pads = (
                [1, *stride],
                [1, *dilation],
                [0, *extra],
                [(0, 0), *pads],
            )
            x, w = with_row(c, x), with_row(c, w)
            return without_row(c, transposed(c, x, w, stride, pads, extra, dilation, groups))
        case 2:
            op = ConvTranspose2d(tuple(stride), tuple(pads), tuple(extra), tuple(dilation), groups)  # type: ignore[arg-type]
            return c.add(op, x, w)
        case 3:
            return scattered(c, x, w, stride, pads, extra, dilation, groups)
    raise Rejected(f"a convolution in {len(stride)} dimensions")


def transposed_pads(
    c: Call,
    sizes: Shape,
    kernel: list[int],
    stride: list[int],
    dilation: list[int],
    extra: list[int],
) -> Pads:
    """What is cropped from the full output; output_shape and auto_pad decide it from the output's size."""
    rank = len(kernel)
    auto = c.attr("auto_pad", "NOTSET")
    wanted = c.attr("output_shape")
    if wanted is None and auto in ("NOTSET", "", "VALID"):
        flat = [int(v) for v in c.attr("pads") or [0] * 2 * rank]
        return list(zip(flat[:rank], flat[rank:], strict=True))
    pads = []
    for d in range(rank):
        size = sizes[d]
        if not isinstance(size, int):
            raise Rejected(f"output_shape or auto_pad of the symbolic extent {size}: give --shape")
        target = int(wanted[-rank + d]) if wanted else size * stride[d]
        cropped = stride[d] * (size - 1) + extra[d] + (kernel[d] - 1) * dilation[d] + 1 - target
        small, large = cropped // 2, cropped - cropped // 2
        pads.append((small, large) if auto == "SAME_UPPER" else (large, small))
    return pads


def scattered(
    c: Call, x: str, w: str, stride: list[int], pads: Pads, extra: list[int], dilation: list[int],
    groups: int,
) -> str:  # fmt: skip
    """A transposed convolution as a convolution of x with zeros between its elements, by the mirrored kernel."""
    sizes = c.numbers(x)[2:]
    n, channels = c.shape(x)[:2]
    split: list[Extent] = [n, channels]
    widths: list[tuple[int, int]] = [(0, 0), (0, 0)]
    for size, s in zip(sizes, stride, strict=True):
        split += [size, 1]
        widths += [(0, 0), (0, s - 1)]
    spaced = c.add(Pad(tuple(widths)), c.reshape(x, split))
    spaced = c.reshape(spaced, (n, channels, *(e * s for e, s in zip(sizes, stride, strict=True))))
    inputs, per_group, *kernel = c.numbers(w)
    around = []
    for k, d, (before, after), e, s in zip(kernel, dilation, pads, extra, stride, strict=True):
        reach = d * (k - 1)
        around.append((reach - before, reach - after + e - (s - 1)))
    spaced = c.add(Pad(((0, 0), (0, 0), *around)), spaced)
    mirrored = c.add(Slice((None,) * 5, (None,) * 5, (1, 1, -1, -1, -1)), w)
    mirrored = c.reshape(mirrored, (groups, inputs // groups, per_group, *kernel))
    mirrored = c.transpose(mirrored, (0, 2, 1, 3, 4, 5))
    mirrored = c.reshape(mirrored, (groups * per_group, inputs // groups, *kernel))
    return c.add(Conv3d((1, 1, 1), ((0, 0),) * 3, tuple(dilation), groups), spaced, mirrored)  # type: ignore[arg-type]


# ---------------------------------------------------------------- pools


class Pooling:
    """A pool's attributes: windows per spatial dimension, with the pads that ceil_mode adds."""

    def __init__(self, c: Call) -> None:
        self.rank = c.rank(0) - 2
        self.kernel = spatial(c, "kernel_shape", self.rank)
        self.stride = spatial(c, "strides", self.rank)
        self.dilation = spatial(c, "dilations", self.rank)
        sizes = c.shape(0)[2:]
        self.pads = pads_of(c, sizes, self.kernel, self.stride, self.dilation)
        self.extended = list(self.pads)
        if c.attr("ceil_mode", 0):
            self.extended = [self.ceiled(d, sizes[d]) for d in range(self.rank)]

    def ceiled(self, d: int, size: Extent) -> tuple[int, int]:
        """Pads with the part of a last window that reaches beyond them; a window must begin before the end pad."""
        before, after = self.pads[d]
        if not isinstance(size, int):
            raise Rejected(f"ceil_mode of the symbolic extent {size}: give --shape")
        span = size + before + after - self.dilation[d] * (self.kernel[d] - 1) - 1
        count = -(-span // self.stride[d]) + 1
        if (count - 1) * self.stride[d] >= size + before:
            count -= 1
        needed = (count - 1) * self.stride[d] + self.dilation[d] * (self.kernel[d] - 1) + 1
        return before, max(after, needed - size - before)


def pooled(
    c: Call, x: str, p: Pooling, apply: Callable[[str, list[int], list[int], Pads, list[int]], str],
    pads: Pads,
) -> str:  # fmt: skip
    """Windows of one to three dimensions as windows of two: a third is pooled by itself."""
    match p.rank:
        case 1:
            y = apply(
                with_row(c, x), [1, *p.kernel], [1, *p.stride], [(0, 0), *pads], [1, *p.dilation]
            )
            return without_row(c, y)
        case 2:
            return apply(x, p.kernel, p.stride, pads, p.dilation)
        case 3:
            n, channels, d, h, w = c.shape(x)
            plane = c.reshape(x, (n, channels * d, h, w))
            plane = apply(plane, p.kernel[1:], p.stride[1:], pads[1:], p.dilation[1:])
            h, w = c.shape(plane)[2:]
            column = c.reshape(plane, (n, channels, d, h * w))
            column = apply(
                column, [p.kernel[0], 1], [p.stride[0], 1], [pads[0], (0, 0)], [p.dilation[0], 1]
            )
            return c.reshape(column, (n, channels, c.shape(column)[2], h, w))
    raise Rejected(f"a pool in {p.rank} dimensions")


def maximum(c: Call, x: str, p: Pooling) -> str:
    def apply(v: str, kernel: list[int], stride: list[int], pads: Pads, dilation: list[int]) -> str:
        return c.add(MaxPool2d(*windows(kernel, stride, pads, dilation)), v)

    return pooled(c, x, p, apply, p.extended)


def windows(kernel: list[int], stride: list[int], pads: Pads, dilation: list[int]) -> Any:
    return tuple(kernel), tuple(stride), tuple(pads), tuple(dilation)


def average(c: Call, x: str, p: Pooling, pads: Pads, count_pad: bool) -> str:
    def apply(v: str, kernel: list[int], stride: list[int], pads: Pads, dilation: list[int]) -> str:
        kernel_, stride_, pads_, dilation_ = windows(kernel, stride, pads, dilation)
        return c.add(AvgPool2d(kernel_, stride_, pads_, dilation_, count_pad), v)

    return pooled(c, x, p, apply, pads)


def max_pool(c: Call) -> Any:
    p = Pooling(c)
    if c.wants(1):
        return max_with_indices(c, p)
    return maximum(c, c[0], p)


def max_with_indices(c: Call, p: Pooling) -> tuple[str, str]:
    """The largest elements and their positions in the whole tensor: taps side by side, then the first largest."""
    x, shape = c[0], c.numbers(0)
    sizes = shape[2:]
    padded = c.add(Pad(((0, 0), (0, 0), *p.extended), "constant", lowest(c.dtype(x))), x)
    counts = [
        (e - p.dilation[d] * (p.kernel[d] - 1) - 1) // p.stride[d] + 1
        for d, e in enumerate(c.numbers(padded)[2:])
    ]
    c.require_small(math.prod(p.kernel), *counts)
    taps, places = [], []
    for tap in np.ndindex(*p.kernel):
        starts = [t * d for t, d in zip(tap, p.dilation, strict=True)]
        ends = [s + (k - 1) * g + 1 for s, k, g in zip(starts, counts, p.stride, strict=True)]
        cut = Slice((None, None, *starts), (None, None, *ends), (1, 1, *p.stride))
        taps.append(c.reshape(c.add(cut, padded), (1, *shape[:2], *counts)))
        places.append(positions(p, starts, counts, sizes, bool(c.attr("storage_order", 0))))
    stacked = c.add(Concat(0), *taps)
    largest = c.add(ReduceMax((0,), False), stacked)
    winner = c.add(ArgMax(0, True), stacked)
    numbers = np.stack(places).reshape((len(places), 1, 1, *counts))
    order = np.arange(len(places)).reshape((-1, *[1] * (len(counts) + 2)))
    hit = c.cast(c.add(Equal(), c.constant(order, DType.int64), winner), DType.int64)
    inside = c.add(ReduceSum((0,), False), c.add(Mul(), hit, c.constant(numbers, DType.int64)))
    c.require_small(*shape[:2])
    planes = np.arange(shape[0] * shape[1]).reshape((*shape[:2], *[1] * len(counts)))
    return largest, c.add(Add(), inside, c.constant(planes * math.prod(sizes), DType.int64))


def positions(
    p: Pooling, starts: list[int], counts: list[int], sizes: Sequence[int], columns: bool
) -> Any:
    """The position in a plane of one tap of each window."""
    grid = np.meshgrid(
        *(
            np.arange(k) * s + start - before
            for k, s, start, (before, _) in zip(counts, p.stride, starts, p.extended, strict=True)
        ),
        indexing="ij",
    )
    order = range(len(sizes)) if not columns else reversed(range(len(sizes)))
    total: Any = 0
    for d in order:
        total = total * sizes[d] + grid[d]
    return total


def average_pool(c: Call) -> str:
    """Pads count if count_include_pad says so; what ceil_mode adds beyond them never does."""
    p = Pooling(c)
    count_pad = bool(c.attr("count_include_pad", 0))
    if not count_pad or p.extended == p.pads:
        return average(c, c[0], p, p.extended, count_pad)
    padded = c.add(Pad(((0, 0), (0, 0), *p.pads)), c[0])
    beyond = [(0, e[1] - a[1]) for e, a in zip(p.extended, p.pads, strict=True)]
    return average(c, padded, p, beyond, False)


def lp_pool(c: Call) -> str:
    """The p-norm of each window."""
    p = Pooling(c)
    x = c.wide(c[0])
    power = c.scalar(float(c.attr("p", 2)), x)
    raised = c.add(Pow(), c.add(Abs(), x), power)
    count = c.scalar(math.prod(p.kernel), x)
    summed = c.add(Mul(), average(c, raised, p, p.extended, True), count)
    root = c.scalar(1 / float(c.attr("p", 2)), x)
    return c.cast(c.add(Pow(), summed, root), c.dtype(0))


def global_pool(kind: str) -> Rule:
    def rule(c: Call) -> str:
        axes = tuple(range(2, c.rank(0)))
        if not axes:
            return c.add(Identity(), c[0])
        if kind == "max":
            return c.add(ReduceMax(axes, True), c[0])
        if kind == "mean":
            return c.add(ReduceMean(axes, True), c[0])
        x = c.wide(c[0])
        p = float(c.attr("p", 2))
        raised = c.add(Pow(), c.add(Abs(), x), c.scalar(p, x))
        summed = c.add(ReduceSum(axes, True), raised)
        return c.cast(c.add(Pow(), summed, c.scalar(1 / p, x)), c.dtype(0))

    return rule


# ---------------------------------------------------------------- integers


def centred(c: Call, x: str, zero: int, axis: int | None = None) -> str:
    """x less its zero point, as int32; `axis` is that of a zero point per channel."""
    wide = c.cast(x, DType.int32)
    if not c.has(zero):
        return wide
    point = c.cast(c[zero], DType.int32)
    if c.rank(point) == 1 and axis is not None and c.shape(point) != (1,):
        point = c.reshape(point, (c.shape(point)[0], *[1] * (c.rank(x) - 1 - axis)))
    elif c.rank(point) == 1 and c.shape(point) == (1,):
        point = c.reshape(point, ())
    return c.add(Sub(), wide, point)


def conv_integer(c: Call) -> str:
    """Sums of products of integers less their zero points, in int32."""
    if not c.has(2) and not c.has(3) and c.dtype(0) in NARROW:
        return convolved(c, c[0], c[1])
    return convolved(c, centred(c, c[0], 2), centred(c, c[1], 3, 0))


RULES: dict[str, Rule] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "ConvInteger": conv_integer,
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "LpPool": lp_pool,
    "GlobalMaxPool": global_pool("max"),
    "GlobalAveragePool": global_pool("mean"),
    "GlobalLpPool": global_pool("lp"),
}
