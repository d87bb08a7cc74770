"""Functions of neural networks: activations with `keras.ops` defaults, convolutions, pooling, normalization."""

from __future__ import annotations

from typing import Any

import numpy as np

from convc.errors import ModelError
from convc.keras import activations, backend
from convc.keras.engine.arguments import axis_of, choice, is_integer, pair
from convc.keras.engine.call import operation
from convc.keras.engine.naming import user_line
from convc.keras.engine.tensor import (
    KerasTensor,
    apply,
    as_tensor,
    cast,
    elementwise_binary,
    floating,
    promoted,
    reshape,
    transpose,
)
from convc.keras.layers.convolution import paddings
from convc.keras.ops.reductions import axes_of, variance
from convc.ops import broadcasting, elementwise, matmul, norm, pool, reduce, volume
from convc.ops import conv as conv_kernels
from convc.ops import resize as resize_kernels
from convc.ops.base import numbers
from convc.types import DType, size_of

relu, relu6, elu, selu, celu = (
    activations.relu, activations.relu6, activations.elu, activations.selu, activations.celu,
)  # fmt: skip
leaky_relu, silu, swish, softplus = (
    activations.leaky_relu,
    activations.silu,
    activations.swish,
    activations.softplus,
)
softsign, sigmoid, log_sigmoid = activations.softsign, activations.sigmoid, activations.log_sigmoid
hard_sigmoid, hard_silu, hard_swish = (
    activations.hard_sigmoid,
    activations.hard_silu,
    activations.hard_swish,
)
hard_tanh, hard_shrink, soft_shrink = (
    activations.hard_tanh,
    activations.hard_shrink,
    activations.soft_shrink,
)
tanh_shrink, squareplus, sparse_plus = (
    activations.tanh_shrink,
    activations.squareplus,
    activations.sparse_plus,
)
sparse_sigmoid, sparsemax, threshold = (
    activations.sparse_sigmoid,
    activations.sparsemax,
    activations.threshold,
)
glu, mish = activations.glu, activations.mish


@operation
def gelu(x: Any, approximate: bool = True) -> KerasTensor:
    return activations.gelu(x, approximate)


@operation
def softmax(x: Any, axis: Any = -1) -> KerasTensor:
    """exp(x) / sum(exp(x)) over one axis, several, or (None) all."""
    return _over(norm.Softmax, floating(x), axis)


@operation
def log_softmax(x: Any, axis: Any = -1) -> KerasTensor:
    return _over(norm.LogSoftmax, floating(x), axis)


def _over(op: Any, x: KerasTensor, axis: Any) -> KerasTensor:
    axes = axes_of("softmax", axis, x)
    if len(axes) == 1:
        return apply(op(axes[0]), x)
    others = tuple(d for d in range(x.type.rank) if d not in axes)
    order = (*others, *axes)
    moved = transpose(x, order)
    flat = reshape(
        moved, (*moved.type.shape[: len(others)], size_of(x.type.shape[a] for a in axes))
    )
    y = reshape(apply(op(len(others)), flat), moved.type.shape)
    return transpose(y, tuple(int(d) for d in np.argsort(order)))


@operation
def normalize(x: Any, axis: Any = -1, order: int = 2, epsilon: float | None = None) -> KerasTensor:
    """x divided by its Euclidean norm over axes, at least epsilon."""
    if order != 2:
        raise ModelError(f"{user_line()}: normalize: order must be 2; received {order!r}")
    x, least = floating(x), backend.epsilon() if epsilon is None else epsilon
    squares = apply(
        reduce.ReduceSum(axes_of("normalize", axis, x), True), apply(elementwise.Square(), x)
    )
    size = apply(elementwise.Clip(float(least), None), apply(elementwise.Sqrt(), squares))
    return apply(broadcasting.Div(), x, size)


@operation
def moments(
    x: Any, axes: Any, keepdims: bool = False, synchronized: bool = False
) -> tuple[KerasTensor, KerasTensor]:
    """(mean, variance) over axes."""
    x = floating(x)
    mean = apply(reduce.ReduceMean(axes_of("moments", axes, x), keepdims), x)
    return mean, variance(x, axes, keepdims)


@operation
def batch_normalization(
    x: Any,
    mean: Any,
    variance: Any,
    axis: int,
    offset: Any = None,
    scale: Any = None,
    epsilon: float = 1e-3,
) -> KerasTensor:
    """scale * (x - mean) / sqrt(variance + epsilon) + offset per channel."""
    x = floating(x)
    at = axis_of("batch_normalization", axis, x.type.rank)
    size = (x.shape[at] or 0,)
    gamma = np.ones(size, x.dtype) if scale is None else scale
    beta = np.zeros(size, x.dtype) if offset is None else offset
    return apply(norm.BatchNorm(at, float(epsilon)), x, gamma, beta, mean, variance)


@operation
def layer_normalization(
    x: Any, gamma: Any = None, beta: Any = None, axis: Any = -1, epsilon: float | None = None
) -> KerasTensor:
    x = floating(x)
    axes = axes_of("layer_normalization", axis, x)
    size = tuple(x.shape[a] or 0 for a in axes)
    gamma = np.ones(size, x.dtype) if gamma is None else gamma
    beta = np.zeros(size, x.dtype) if beta is None else beta
    return apply(norm.LayerNorm(axes, 1e-3 if epsilon is None else float(epsilon)), x, gamma, beta)


def _image(owner: str, x: Any, data_format: Any) -> tuple[KerasTensor, bool]:
    """x as NCHW, and whether it came as NHWC."""
    x = as_tensor(x)
    last = backend.standardize_data_format(data_format, owner) == "channels_last"
    if x.type.rank != 4:
        raise ModelError(
            f"{user_line()}: {owner}: expected a batch of images (rank 4); received shape {x.shape}"
        )
    return (transpose(x, (0, 3, 1, 2)) if last else x), last


def _back(x: KerasTensor, last: bool) -> KerasTensor:
    return transpose(x, (0, 2, 3, 1)) if last else x


@operation
def conv(
    inputs: Any,
    kernel: Any,
    strides: Any = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Any = 1,
) -> KerasTensor:
    """Convolution over 1 to 3 dimensions with kernel (sizes …, channels / groups, filters)."""
    rank = as_tensor(inputs).type.rank - 2
    if rank in (1, 3):
        return _other_conv(rank, inputs, kernel, strides, padding, data_format, dilation_rate)
    image, last = _image("conv", inputs, data_format)
    weights = as_tensor(kernel)
    size = _kernel_size("conv", weights)
    stride, dilation = (
        pair("conv", "strides", strides),
        pair("conv", "dilation_rate", dilation_rate),
    )
    pads = paddings(
        choice("conv", "padding", padding, ("valid", "same")), image, size, stride, dilation
    )
    groups = (image.shape[1] or 1) // (weights.shape[2] or 1)
    op = conv_kernels.Conv2d(stride, pads, dilation, groups)
    return _back(apply(op, *promoted(image, transpose(weights, (3, 2, 0, 1)))), last)


def _other_conv(
    rank: int, inputs: Any, kernel: Any, strides: Any, padding: str, data_format: Any, rate: Any
) -> KerasTensor:
    """`conv` over one dimension, as an image of one row, or over three."""
    last = backend.standardize_data_format(data_format, "conv") == "channels_last"
    stride, dilation = each(rank, strides), each(rank, rate)
    x, weights = as_tensor(inputs), as_tensor(kernel)
    if rank == 1:
        row, order = (1 if last else 2), "channels_last" if last else "channels_first"
        size = x.type.shape
        image = reshape(x, (*size[:row], 1, *size[row:]))
        weights = reshape(weights, (1, *weights.type.shape))
        y = conv(image, weights, (1, *stride), padding, order, (1, *dilation))
        return reshape(y, tuple(e for d, e in enumerate(y.type.shape) if d != row))
    x = transpose(x, (0, 4, 1, 2, 3)) if last else x
    pads = []
    sizes, places = numbers(weights.type.shape), numbers(x.type.shape[2:])
    for d in range(3):
        reach = dilation[d] * (sizes[d] - 1) + 1
        total = 0
        if choice("conv", "padding", padding, ("valid", "same")) == "same":
            total = max((-(-places[d] // stride[d]) - 1) * stride[d] + reach - places[d], 0)
        pads.append((total // 2, total - total // 2))
    groups = (x.shape[1] or 1) // (weights.shape[3] or 1)
    op = volume.Conv3d(
        (stride[0], stride[1], stride[2]),
        (pads[0], pads[1], pads[2]),
        (dilation[0], dilation[1], dilation[2]),
        groups,
    )
    y = apply(op, *promoted(x, transpose(weights, (4, 3, 0, 1, 2))))
    return transpose(y, (0, 2, 3, 4, 1)) if last else y


def each(rank: int, value: Any) -> tuple[int, ...]:
    """A number for each dimension of space."""
    return (int(value),) * rank if is_integer(value) else tuple(int(v) for v in value)


@operation
def depthwise_conv(
    inputs: Any,
    kernel: Any,
    strides: Any = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Any = 1,
) -> KerasTensor:
    """Convolution of each channel with kernel (rows, columns, channels, multiplier)."""
    image, last = _image("depthwise_conv", inputs, data_format)
    weights = as_tensor(kernel)
    size = _kernel_size("depthwise_conv", weights)
    channels, multiplier = weights.shape[2] or 0, weights.shape[3] or 0
    stride = pair("depthwise_conv", "strides", strides)
    dilation = pair("depthwise_conv", "dilation_rate", dilation_rate)
    word = choice("depthwise_conv", "padding", padding, ("valid", "same"))
    op = conv_kernels.Conv2d(
        stride, paddings(word, image, size, stride, dilation), dilation, channels
    )
    flat = reshape(transpose(weights, (2, 3, 0, 1)), (channels * multiplier, 1, *size))
    return _back(apply(op, *promoted(image, flat)), last)


def _kernel_size(owner: str, kernel: KerasTensor) -> tuple[int, int]:
    if kernel.type.rank != 4:
        raise ModelError(
            f"{user_line()}: {owner}: expected a kernel of rank 4; received shape {kernel.shape}"
        )
    return kernel.shape[0] or 0, kernel.shape[1] or 0


@operation
def max_pool(
    inputs: Any,
    pool_size: Any,
    strides: Any = None,
    padding: str = "valid",
    data_format: str | None = None,
) -> KerasTensor:
    return _pooled(pool.MaxPool2d, "max_pool", inputs, pool_size, strides, padding, data_format)


@operation
def average_pool(
    inputs: Any,
    pool_size: Any,
    strides: Any = None,
    padding: str = "valid",
    data_format: str | None = None,
) -> KerasTensor:
    return _pooled(
        pool.AvgPool2d, "average_pool", floating(inputs), pool_size, strides, padding, data_format
    )


def _pooled(
    op: Any, owner: str, x: Any, pool_size: Any, strides: Any, padding: str, data_format: Any
) -> KerasTensor:
    image, last = _image(owner, x, data_format)
    size = pair(owner, "pool_size", pool_size)
    stride = size if strides is None else pair(owner, "strides", strides)
    pads = paddings(choice(owner, "padding", padding, ("valid", "same")), image, size, stride)
    return _back(apply(op(size, stride, pads), image), last)


@operation
def one_hot(
    x: Any, num_classes: int, axis: int = -1, dtype: Any = None, sparse: bool = False
) -> KerasTensor:
    """A new axis with 1 at the position of each integer."""
    x = as_tensor(x)
    at = axis_of("one_hot", axis, x.type.rank + 1)
    classes = np.arange(num_classes, dtype=x.type.dtype.numpy).reshape(
        [-1] + [1] * (x.type.rank - at)
    )
    wide = reshape(x, (*x.type.shape[:at], 1, *x.type.shape[at:]))
    hits = apply(broadcasting.Equal(), wide, classes)
    return cast(hits, DType.of(dtype or backend.floatx()))


_LETTERS = "abcdefghijklmnopq"


@operation
def dot(x1: Any, x2: Any) -> KerasTensor:
    """numpy's dot: a product with a number, or sums over the last axis of x1 and the last but one of x2."""
    a, b = as_tensor(x1), as_tensor(x2)
    if 0 in (a.type.rank, b.type.rank):
        return elementwise_binary(broadcasting.Mul, a, b)
    if b.type.rank > 2:
        left = _LETTERS[: a.type.rank - 1]
        right = _LETTERS[a.type.rank - 1 : a.type.rank + b.type.rank - 2]
        other = f"{right[:-1]}z{right[-1]}"
        found: KerasTensor = einsum(f"{left}z,{other}->{left}{right}", a, b)
        return found
    return as_tensor(a @ b)


@operation
def einsum(subscripts: str, *operands: Any) -> KerasTensor:
    """Sums of products by index letters, of one or two tensors, each letter once per tensor: "bij,bjk->bik"."""
    text = subscripts.replace(" ", "")
    inputs, _, output = text.partition("->")
    terms = inputs.split(",")
    usable = "->" in text and len(terms) == len(operands) in (1, 2) and "." not in text
    if not usable or any(len(set(t)) < len(t) for t in (*terms, output)):
        raise ModelError(
            f"{user_line()}: einsum: expected one or two tensors, each index once per tensor, and '->'; "
            f"received {subscripts!r} for {len(operands)} tensors"
        )
    tensors = [as_tensor(t) for t in promoted(*operands)]
    for term, tensor in zip(terms, tensors, strict=True):
        if len(term) != tensor.type.rank:
            raise ModelError(f"{user_line()}: einsum: {term!r} doesn't fit shape {tensor.shape}")
    if len(tensors) == 1:
        kept, y = _summed(terms[0], tensors[0], output)
        return transpose(y, tuple(kept.index(c) for c in output))
    return _contracted(terms, tensors, output)


def _summed(term: str, x: KerasTensor, needed: str) -> tuple[str, KerasTensor]:
    """The tensor summed over the indices that nothing needs."""
    gone = tuple(d for d, c in enumerate(term) if c not in needed)
    y = apply(reduce.ReduceSum(gone, False), x) if gone else x
    return "".join(c for c in term if c in needed), y


def _contracted(terms: list[str], tensors: list[KerasTensor], output: str) -> KerasTensor:
    """Two tensors as one product of matrices: batch indices, rows of the first, columns of the second."""
    a, x = _summed(terms[0], tensors[0], output + terms[1])
    b, y = _summed(terms[1], tensors[1], output + a)
    batch = [c for c in a if c in b and c in output]
    inner = [c for c in a if c in b and c not in output]
    rows, columns = [c for c in a if c not in b], [c for c in b if c not in a]
    extent = {**dict(zip(a, x.type.shape, strict=True)), **dict(zip(b, y.type.shape, strict=True))}

    def matrix(term: str, tensor: KerasTensor, first: list[str], second: list[str]) -> KerasTensor:
        moved = transpose(tensor, tuple(term.index(c) for c in (*batch, *first, *second)))
        sides = (size_of(extent[c] for c in first), size_of(extent[c] for c in second))
        return reshape(moved, (*(extent[c] for c in batch), *sides))

    product = apply(matmul.MatMul(), matrix(a, x, rows, inner), matrix(b, y, inner, columns))
    order = [*batch, *rows, *columns]
    apart = reshape(product, tuple(extent[c] for c in order))
    return transpose(apart, tuple(order.index(c) for c in output))


def resized(image: KerasTensor, size: tuple[int, int], mode: str) -> KerasTensor:
    """An NHWC batch at another size, by the nearest pixel ("nearest") or between pixels ("bilinear")."""
    image = floating(image) if mode == "bilinear" else image
    op = resize_kernels.Resize2d(size=size, mode=mode)
    return _back(apply(op, transpose(image, (0, 3, 1, 2))), True)


__all__ = [
    "average_pool", "batch_normalization", "celu", "conv", "depthwise_conv", "dot", "einsum",
    "elu", "gelu", "glu",
    "hard_shrink", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh", "layer_normalization", "leaky_relu",
    "log_sigmoid", "log_softmax", "max_pool", "mish", "moments", "normalize", "one_hot", "relu", "relu6",
    "selu", "sigmoid", "silu", "soft_shrink", "softmax", "softplus", "softsign", "sparse_plus", "sparse_sigmoid",
    "sparsemax", "squareplus", "swish", "tanh_shrink", "threshold",
]  # fmt: skip
