"""How the operators of gradients and updates read in ONNX: a table as `export_rules` has one, in plain operators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from convc.errors import UnsupportedError
from convc.graph.op import Op
from convc.onnx.rule import Emitter, Rule, cut, pads_of
from convc.ops.base import axes_of, axis_of
from convc.ops.conv import Conv2dWeightGradient
from convc.ops.elementwise import StopGradient
from convc.ops.indexing import OneHot, ScatterAdd
from convc.ops.loss import SigmoidCrossentropy
from convc.ops.pool import AvgPool2dGradient, MaxPool2dGradient, MaxPool2dPosition, PoolGradient
from convc.ops.random import KEY_STEP, MULTIPLIER, ROUNDS, DropoutMask
from convc.ops.reduce import Count, FirstEqual
from convc.ops.volume import Conv3dWeightGradient
from convc.types import DType, Extent, Shape, size_of


def weight_gradient(
    e: Emitter, op: Conv2dWeightGradient | Conv3dWeightGradient, x: str, dy: str
) -> str:
    """A convolution of x with dy, whose batch is the sum: stride and dilation change places. Groups stand beside
    one another in its channels.
    """
    swapped = (1, 0, *range(2, len(op.kernel) + 2))
    wide = reordered_groups(e, x, op.groups) if op.groups > 1 else transposed(e, x, swapped)
    back = transposed(e, dy, swapped)
    made = e(
        "Conv",
        wide,
        back,
        strides=op.dilation,
        dilations=op.stride,
        pads=pads_of(op.padding),
        group=op.groups,
    )
    whole = cut(e, made, ((None, None, 1), (None, None, 1), *((None, k, 1) for k in op.kernel)))
    return e("Transpose", whole, perm=swapped)


def transposed(e: Emitter, x: str, perm: Sequence[int]) -> str:
    return e("Transpose", x, perm=tuple(perm))


def reordered_groups(e: Emitter, x: str, groups: int) -> str:
    """[n, groups * c, …] as [c, groups * n, …]."""
    _, channels, *sizes = (int(i) if isinstance(i, int) else 0 for i in e.types[x].shape)
    if not channels or not all(sizes):
        raise UnsupportedError("a weight's gradient for images of symbolic size")
    split = e("Reshape", x, e.integers((-1, groups, channels // groups, *sizes), "shape"))
    turned = transposed(e, split, (2, 1, 0, *range(3, len(sizes) + 3)))
    return e("Reshape", turned, e.integers((channels // groups, -1, *sizes), "shape"))


def pool_position(e: Emitter, op: MaxPool2dPosition, x: str, y: str) -> str:
    """From the last tap to the first: its number where it is the maximum or no number, else what was found before."""
    (top, bottom), (left, right) = op.padding
    padded = x
    if any((top, bottom, left, right)):
        pads = e.integers((0, 0, top, left, 0, 0, bottom, right), "pads")
        dtype = e.types[x].dtype
        least = -np.inf if dtype.is_float else np.iinfo(dtype.numpy).min
        padded = e("Pad", x, pads, e.scalar(least, x), mode="constant")
    (_, _, height, width), (kh, kw) = e.types[y].shape, op.kernel
    found = e.constant(np.array(kh * kw, np.int32))
    for k in reversed(range(kh * kw)):
        spans = []
        for extent, start, stride in (
            (height, k // kw * op.dilation[0], op.stride[0]),
            (width, k % kw * op.dilation[1], op.stride[1]),
        ):
            spans.append((start, (extent - 1) * stride + start + 1, stride))
        patch = cut(e, padded, ((None, None, 1), (None, None, 1), *spans))
        hit = equal_or_nan(e, patch, y, e.types[x].dtype)
        found = e("Where", hit, e.constant(np.array(k, np.int32)), found)
    return found


def equal_or_nan(e: Emitter, x: str, y: str, dtype: DType) -> str:
    same = e("Equal", x, y)
    return e("Or", same, e("IsNaN", x)) if dtype.is_float else same


def sigmoid_crossentropy(e: Emitter, op: SigmoidCrossentropy, x: str, wanted: str) -> str:
    """max(x, 0) - x * wanted + log(1 + exp(-|x|))."""
    smooth = e("Softplus", e("Neg", e("Abs", x)))
    return e("Add", e("Sub", e("Relu", x), e("Mul", x, wanted)), smooth)


def scattered(e: Emitter, op: PoolGradient, dy: str, parts: Sequence[str], weight: Any) -> str:
    """Parts [n, c, i, j], each added to its tap's place in the input: a transposed convolution per image."""
    type = e.types[dy]
    extents = (*type.shape[1:], *op.size)
    numbers = [i for i in extents if isinstance(i, int)]
    if len(numbers) != len(extents):
        raise UnsupportedError("a pooling's gradient for images of symbolic size")
    channels, *windows, height, width = numbers
    image = e.integers((-1, 1, *windows), "shape")
    flat = [e("Reshape", part, image) for part in parts]
    stacked = e("Concat", *flat, axis=1) if len(flat) > 1 else flat[0]
    extra = []
    for d, size in enumerate((height, width)):
        covered = (windows[d] - 1) * op.stride[d] + op.dilation[d] * (op.kernel[d] - 1) + 1
        extra.append(size + sum(op.padding[d]) - covered)
    if any(not 0 <= x < max(s, d) for x, s, d in zip(extra, op.stride, op.dilation, strict=True)):
        raise UnsupportedError("a pooling's gradient whose input goes far past the last window")
    kernel = e.constant(weight.astype(type.dtype.numpy), "taps")
    how = {"strides": op.stride, "dilations": op.dilation, "pads": pads_of(op.padding)}
    made = e("ConvTranspose", stacked, kernel, output_padding=extra, **how)
    return e("Reshape", made, e.integers((-1, channels, height, width), "shape"))


def max_pool_gradient(e: Emitter, op: MaxPool2dGradient, dy: str, position: str) -> str:
    kh, kw = op.kernel
    zero = e.scalar(0, dy)
    hits = (e("Equal", position, e.constant(np.array(k, np.int32))) for k in range(kh * kw))
    parts = [e("Where", hit, dy, zero) for hit in hits]
    return scattered(e, op, dy, parts, np.eye(kh * kw).reshape(kh * kw, 1, kh, kw))


def avg_pool_gradient(e: Emitter, op: AvgPool2dGradient, dy: str) -> str:
    """Each window's gradient over the number of its elements, which is a constant for each place."""
    size: Any = op.size
    ones = np.ones((1, 1, *size))
    count = np.add.reduce(op.patches(ones, 1 if op.count_include_pad else 0))
    share = e("Mul", dy, e.constant((1 / count).astype(e.types[dy].dtype.numpy), "share"))
    return scattered(e, op, dy, [share], np.ones((1, 1, *op.kernel)))


def scatter_add(e: Emitter, op: ScatterAdd, x: str, indices: str) -> str:
    """Rows added to zeros by ScatterND; an axis behind the first is brought to the front for it."""
    rank = e.types[indices].rank
    axis = axis_of(op, op.axis, e.types[x].rank - rank + 1)
    rows, shape = x, e.types[x].shape
    rest: tuple[Extent, ...] = (*shape[:axis], *shape[axis + rank :])
    if axis:
        behind = range(axis + rank, len(shape))
        rows = transposed(e, x, (*range(axis, axis + rank), *range(axis), *behind))
    where = e("Unsqueeze", e.cast(indices, DType.int64), e.integers([-1], "axes"))
    zeros = e("Expand", e.scalar(0, x), e.extents((op.extent, *rest)))
    total = e("ScatterND", zeros, where, rows, reduction="add")
    if not axis:
        return total
    return transposed(e, total, (*range(1, axis + 1), 0, *range(axis + 1, len(rest) + 1)))


def one_hot(e: Emitter, op: OneHot, indices: str) -> str:
    column = e("Unsqueeze", e.cast(indices, DType.int64), e.integers([-1], "axes"))
    return e("Equal", column, e.integers(range(op.depth), "classes"))


def first_equal(e: Emitter, op: FirstEqual, x: str, y: str) -> str:
    """The least position of a hit, the extent where there is none."""
    axis, shape = axis_of(op, op.axis, e.types[x].rank), e.types[x].shape
    extent = shape[axis]
    if not isinstance(extent, int):
        raise UnsupportedError(f"the first position along the symbolic extent {extent}")
    hit = equal_or_nan(e, x, y, e.types[x].dtype)
    column = [1] * len(shape)
    column[axis] = extent
    positions = e.constant(np.arange(extent, dtype=np.int64).reshape(column))
    found = e("Where", hit, positions, e.constant(np.array(extent, np.int64)))
    if e.opset >= 18:
        return e("ReduceMin", found, e.integers([axis], "axes"), keepdims=int(op.keepdims))
    return e("ReduceMin", found, axes=[axis], keepdims=int(op.keepdims))


def count(e: Emitter, op: Count, x: str) -> str:
    type = e.types[x]
    total = e.extents([size_of(type.shape[a] for a in axes_of(op, op.axes, type.rank))])
    return e("Squeeze", e.cast(total, type.dtype), e.integers([0], "axes"))


def dropout_mask(e: Emitter, op: DropoutMask, seed: str) -> str:
    limit = e.constant(np.array(op.threshold, np.int64))
    kept = e("GreaterOrEqual", e.cast(philox(e, op.shape, seed), DType.int64), limit)
    return e("Reshape", kept, e.extents(op.shape))


def philox(e: Emitter, shape: Shape, seed: str) -> str:
    """A random word for each element of a shape, as uint64 in one dimension.

    Philox 2x32-10 in 64 bits: products wrap as int64, all else is uint64.
    """
    if e.opset < 18:
        raise UnsupportedError("BitwiseXor, for random numbers, needs opset 18")

    def word(value: int) -> str:
        return e.constant(np.array(value, np.uint64))

    def low_half(value: str) -> str:
        shifted = e("BitShift", value, word(32), direction="LEFT")
        return e("BitShift", shifted, word(32), direction="RIGHT")

    def at(k: int) -> str:
        return e.cast(e("Gather", seed, e.constant(np.array(k, np.int64)), axis=0), DType.uint64)

    key, stream = at(0), at(1)
    size = e("Squeeze", e.extents([size_of(shape)]), e.integers([0], "axes"))
    zero, one = (e.constant(np.array(k, np.int64)) for k in (0, 1))
    low, high = e.cast(e("Range", zero, size, one), DType.uint64), stream
    factor = e.constant(np.array(MULTIPLIER, np.int64))
    for n in range(ROUNDS):
        product = e.cast(e("Mul", e.cast(low, DType.int64), factor), DType.uint64)
        step = e.constant(np.array((n * KEY_STEP) & 0xFFFFFFFF, np.int64))
        moved = e.cast(e("Add", e.cast(key, DType.int64), step), DType.uint64)
        upper = e("BitShift", product, word(32), direction="RIGHT")
        mixed = e("BitwiseXor", e("BitwiseXor", upper, low_half(moved)), high)
        low, high = mixed, low_half(product)
    return low


RULES: dict[type[Op], Rule] = {
    Conv2dWeightGradient: weight_gradient,
    Conv3dWeightGradient: weight_gradient,
    MaxPool2dPosition: pool_position,
    MaxPool2dGradient: max_pool_gradient,
    AvgPool2dGradient: avg_pool_gradient,
    ScatterAdd: scatter_add,
    OneHot: one_hot,
    FirstEqual: first_equal,
    Count: count,
    DropoutMask: dropout_mask,
    SigmoidCrossentropy: sigmoid_crossentropy,
    StopGradient: lambda e, op, x: x,
}
"""The rule of each operator that only steps of a training have."""
