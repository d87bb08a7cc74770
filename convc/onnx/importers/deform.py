"""Import rules of deformable convolutions and determinants."""

from __future__ import annotations

import math

import numpy as np

from convc.onnx.importers.call import Call, Rejected, Rule
from convc.onnx.importers.sampling import Sampler
from convc.onnx.importers.windows import biased, pads_of, spatial
from convc.ops.broadcasting import Add, Mul, Sub
from convc.ops.matmul import MatMul

LARGEST_DETERMINANT = 6


def deform_conv(c: Call) -> str:
    """A convolution whose taps are moved by offsets, read between pixels, and scaled by a mask."""
    n, channels, *sizes = c.numbers(0)
    outputs, per_group, *kernel = c.numbers(1)
    if len(sizes) != 2:
        raise Rejected(f"DeformConv in {len(sizes)} dimensions")
    stride, dilation = spatial(c, "strides", 2), spatial(c, "dilations", 2)
    pads = pads_of(c, sizes, kernel, stride, dilation)
    groups, parts = int(c.attr("group", 1)), int(c.attr("offset_group", 1))
    oh, ow = c.numbers(2)[2:]
    taps = math.prod(kernel)
    count = taps * oh * ow
    offsets = c.reshape(c.wide(c[2]), (n * parts, taps, 2, oh * ow))
    places = []
    for d in range(2):
        tap = np.arange(taps).reshape(kernel)
        which = (tap // kernel[1] if d == 0 else tap % kernel[1]).reshape(-1, 1, 1)
        out = np.arange(oh)[:, None] if d == 0 else np.arange(ow)[None, :]
        base = np.broadcast_to(out * stride[d] - pads[d][0] + which * dilation[d], (taps, oh, ow))
        moved = c.reshape(c.take(offsets, 2, d), (n * parts, 1, count))
        places.append(c.add(Add(), moved, c.constant(base.reshape(1, 1, count), c.dtype(moved))))
    flat = c.reshape(c[0], (n * parts, channels // parts, math.prod(sizes)))
    values = Sampler(c, flat, (sizes[0], sizes[1]), count, "zeros").weighted(places, 1)
    if c.has(4):
        mask = c.reshape(c.wide(c[4]), (n * parts, 1, count))
        values = c.add(Mul(), values, mask)
    columns = c.reshape(values, (n, groups, per_group * taps, oh * ow))
    weights = c.reshape(c.wide(c[1]), (1, groups, outputs // groups, per_group * taps))
    y = c.reshape(c.cast(c.add(MatMul(), weights, columns), c.dtype(0)), (n, outputs, oh, ow))
    return biased(c, y, c[3]) if c.has(3) else y


def determinant(c: Call) -> str:
    """Determinants of small matrices, expanded by their first row."""
    *batch, size, other = c.numbers(0)
    if size != other or size > LARGEST_DETERMINANT:
        raise Rejected(
            f"the determinant of a {size} x {other} matrix: at most {LARGEST_DETERMINANT} rows"
        )
    x = c.reshape(c.wide(c[0]), (math.prod(batch), size, size))
    rows = [[c.take(c.take(x, 1, i), 1, j) for j in range(size)] for i in range(size)]

    def expanded(i: int, columns: tuple[int, ...]) -> str:
        if i == size - 1:
            return rows[i][columns[0]]
        total: str | None = None
        for k, j in enumerate(columns):
            term = c.add(Mul(), rows[i][j], expanded(i + 1, columns[:k] + columns[k + 1 :]))
            if total is None:
                total = term
            else:
                total = c.add(Sub() if k % 2 else Add(), total, term)
        assert total is not None
        return total

    return c.cast(c.reshape(expanded(0, tuple(range(size))), batch), c.dtype(0))


RULES: dict[str, Rule] = {"DeformConv": deform_conv, "Det": determinant}
