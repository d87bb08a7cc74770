"""Keras 2's backend functions that layers are made of: products, convolutions, pools, borders, norms, random numbers.

convc.keras.backend finds them here by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from convc.errors import ModelError
from convc.keras import backend, random
from convc.keras.engine.arguments import axis_of, choice, is_integer, pair
from convc.keras.engine.naming import user_line
from convc.keras.engine.steps import Variable
from convc.keras.engine.tensor import KerasTensor, as_tensor
from convc.keras.ops import elementwise, further, image, nn, numeric, ordering, shaping
from convc.ops.base import numbers

_LETTERS = "abcdefghijklmnop"


def batch_dot(x: Any, y: Any, axes: Any = None) -> KerasTensor:
    """Products summed over one axis of each, for each sample: x's other axes, then y's; (batch, 1) if there are none.

    Without `axes`, the last of x and the one before the last of y (its last for rank 2).
    """
    a, b = as_tensor(x), as_tensor(y)
    if a.ndim < 2 or b.ndim < 2:
        raise ModelError(
            f"{user_line()}: batch_dot: expected tensors of rank 2 or more; received {a.shape} and {b.shape}"
        )
    both = (axes, axes) if is_integer(axes) else axes
    both = both or (a.ndim - 1, b.ndim - (1 if b.ndim == 2 else 2))
    one, other = axis_of("batch_dot", both[0], a.ndim), axis_of("batch_dot", both[1], b.ndim)
    if 0 in (one, other) or a.shape[one] != b.shape[other]:
        raise ModelError(
            f"{user_line()}: batch_dot: axes {tuple(both)} must have equal sizes and not be the batch; received "
            f"{a.shape} and {b.shape}"
        )
    left = ["n", *_LETTERS[: a.ndim - 1]]
    right = ["n", *_LETTERS[a.ndim - 1 : a.ndim + b.ndim - 2]]
    left[one] = right[other] = "z"
    kept = [c for c in (*left, *right[1:]) if c != "z"]
    found = nn.einsum(f"{''.join(left)},{''.join(right)}->{''.join(kept)}", a, b)
    return shaping.expand_dims(found, -1) if found.ndim == 1 else found


def bias_add(x: Any, bias: Any, data_format: Any = None) -> KerasTensor:
    """x plus a bias for each channel, or for each place and channel."""
    x, bias = as_tensor(x), as_tensor(bias)
    first = backend.standardize_data_format(data_format, "bias_add") == "channels_first"
    sizes = bias.type.shape
    if first and x.ndim > 2:
        if bias.ndim == 1:
            bias = shaping.reshape(bias, (*sizes, *(1,) * (x.ndim - 2)))
        else:
            bias = shaping.moveaxis(bias, -1, 0)
    found: KerasTensor = x + bias
    return found


def batch_normalization(
    x: Any, mean: Any, var: Any, beta: Any, gamma: Any, axis: int = -1, epsilon: float = 1e-3
) -> KerasTensor:
    """gamma * (x - mean) / sqrt(var + epsilon) + beta."""
    scale = 1.0 if gamma is None else gamma
    return as_tensor(
        (x - mean) * elementwise.rsqrt(var + epsilon) * scale + (0.0 if beta is None else beta)
    )


def normalize_batch_in_training(
    x: Any, gamma: Any, beta: Any, reduction_axes: Any, epsilon: float = 1e-3
) -> tuple[KerasTensor, KerasTensor, KerasTensor]:
    """x normalized by its own mean and variance over some axes, and these two."""
    mean, var = nn.moments(x, list(reduction_axes), keepdims=True)
    wide = [1 if d in tuple(reduction_axes) else e for d, e in enumerate(as_tensor(x).type.shape)]
    gamma, beta = (None if v is None else shaping.reshape(v, wide) for v in (gamma, beta))
    y = batch_normalization(x, mean, var, beta, gamma, epsilon=epsilon)
    return y, *(shaping.squeeze(v, tuple(reduction_axes)) for v in (mean, var))  # type: ignore[return-value]


# ---------------------------------------------------------------- convolutions, pools, borders, sizes


def conv1d(
    x: Any, kernel: Any, strides: Any = 1, padding: str = "valid", data_format: Any = None, dilation_rate: Any = 1
) -> KerasTensor:  # fmt: skip
    """Convolution over steps; padding may be 'causal'."""
    padding = choice("conv1d", "padding", padding, ("valid", "same", "causal"))
    if padding == "causal":
        reach = int(np.ravel(dilation_rate)[0]) * (numbers(as_tensor(kernel).type.shape)[0] - 1)
        x = temporal_padding(x, (reach, 0))
        padding = "valid"
    return nn.conv(x, kernel, strides, padding, data_format, dilation_rate)


def conv2d(
    x: Any, kernel: Any, strides: Any = (1, 1), padding: str = "valid", data_format: Any = None,
    dilation_rate: Any = (1, 1),
) -> KerasTensor:  # fmt: skip
    return nn.conv(x, kernel, strides, padding, data_format, dilation_rate)


def conv3d(
    x: Any, kernel: Any, strides: Any = (1, 1, 1), padding: str = "valid", data_format: Any = None,
    dilation_rate: Any = (1, 1, 1),
) -> KerasTensor:  # fmt: skip
    return nn.conv(x, kernel, strides, padding, data_format, dilation_rate)


def depthwise_conv2d(
    x: Any, depthwise_kernel: Any, strides: Any = (1, 1), padding: str = "valid", data_format: Any = None,
    dilation_rate: Any = (1, 1),
) -> KerasTensor:  # fmt: skip
    return nn.depthwise_conv(x, depthwise_kernel, strides, padding, data_format, dilation_rate)


def separable_conv2d(
    x: Any, depthwise_kernel: Any, pointwise_kernel: Any, strides: Any = (1, 1), padding: str = "valid",
    data_format: Any = None, dilation_rate: Any = (1, 1),
) -> KerasTensor:  # fmt: skip
    """A convolution of each channel, then one of 1 x 1."""
    y = nn.depthwise_conv(x, depthwise_kernel, strides, padding, data_format, dilation_rate)
    return nn.conv(y, pointwise_kernel, 1, "valid", data_format)


def pool2d(
    x: Any, pool_size: Any, strides: Any = (1, 1), padding: str = "valid", data_format: Any = None,
    pool_mode: str = "max",
) -> KerasTensor:  # fmt: skip
    mode = choice("pool2d", "pool_mode", pool_mode, ("max", "avg"))
    pool = nn.max_pool if mode == "max" else nn.average_pool
    return pool(x, pool_size, strides, padding, data_format)


def temporal_padding(x: Any, padding: Any = (1, 1)) -> KerasTensor:
    """Zeros before and after the steps of (batch, steps, features)."""
    return shaping.pad(x, ((0, 0), tuple(padding), (0, 0)))


def spatial_2d_padding(
    x: Any, padding: Any = ((1, 1), (1, 1)), data_format: Any = None
) -> KerasTensor:
    return _padded("spatial_2d_padding", x, padding, data_format)


def spatial_3d_padding(
    x: Any, padding: Any = ((1, 1), (1, 1), (1, 1)), data_format: Any = None
) -> KerasTensor:
    return _padded("spatial_3d_padding", x, padding, data_format)


def _padded(owner: str, x: Any, padding: Any, data_format: Any) -> KerasTensor:
    last = backend.standardize_data_format(data_format, owner) == "channels_last"
    sides = tuple(tuple(p) for p in padding)
    return shaping.pad(x, ((0, 0), *sides, (0, 0)) if last else ((0, 0), (0, 0), *sides))


def resize_images(
    x: Any, height_factor: int, width_factor: int, data_format: Any = None, interpolation: str = "nearest"
) -> KerasTensor:  # fmt: skip
    """Images that many times as high and wide."""
    order = backend.standardize_data_format(data_format, "resize_images")
    rows, columns = (1, 2) if order == "channels_last" else (2, 3)
    if interpolation == "nearest":
        return shaping.repeat(shaping.repeat(x, height_factor, rows), width_factor, columns)
    sizes = as_tensor(x).type.shape
    size = (sizes[rows] * height_factor, sizes[columns] * width_factor)
    return image.resize(x, size, interpolation, data_format=order)


def resize_volumes(
    x: Any, depth_factor: int, height_factor: int, width_factor: int, data_format: Any = None
) -> KerasTensor:
    """Volumes whose elements are repeated that often along each axis."""
    order = backend.standardize_data_format(data_format, "resize_volumes")
    first = 1 if order == "channels_last" else 2
    for k, factor in enumerate((depth_factor, height_factor, width_factor)):
        x = shaping.repeat(x, factor, first + k)
    return as_tensor(x)


def local_conv1d(
    inputs: Any, kernel: Any, kernel_size: Any, strides: Any, data_format: Any = None
) -> KerasTensor:
    """Convolution with a kernel of its own for each step: (output steps, size * channels, filters)."""
    x = as_tensor(inputs)
    first = backend.standardize_data_format(data_format, "local_conv1d") == "channels_first"
    x = shaping.swapaxes(x, 1, 2) if first else x
    size, stride = int(np.ravel(kernel_size)[0]), int(np.ravel(strides)[0])
    count = numbers(as_tensor(kernel).type.shape)[0]
    taken = [x[:, k : k + (count - 1) * stride + 1 : stride] for k in range(size)]
    rows = shaping.concatenate(taken, -1)
    y = nn.einsum("nsk,skf->nsf", rows, kernel)
    return shaping.swapaxes(y, 1, 2) if first else y


def local_conv2d(
    inputs: Any, kernel: Any, kernel_size: Any, strides: Any, output_shape: Any, data_format: Any = None
) -> KerasTensor:  # fmt: skip
    """Convolution with a kernel of its own for each place: (output places, rows * columns * channels, filters)."""
    x = as_tensor(inputs)
    first = backend.standardize_data_format(data_format, "local_conv2d") == "channels_first"
    x = shaping.transpose(x, (0, 2, 3, 1)) if first else x
    (high, wide), (down, right) = (
        pair("local_conv2d", "kernel_size", kernel_size),
        pair("local_conv2d", "strides", strides),
    )
    rows, columns = int(output_shape[0]), int(output_shape[1])
    taken = [
        x[:, i : i + (rows - 1) * down + 1 : down, j : j + (columns - 1) * right + 1 : right]
        for i in range(high)
        for j in range(wide)
    ]
    # Keras' order within a place: channels first if the data are, else last.
    parts = shaping.stack(taken, -1 if first else -2)
    batch = x.type.shape[0]
    window = math.prod(numbers(parts.type.shape[3:]))
    flat = shaping.reshape(parts, (batch, rows * columns, window))
    y = shaping.reshape(nn.einsum("npk,pkf->npf", flat, kernel), (batch, rows, columns, -1))
    return shaping.transpose(y, (0, 3, 1, 2)) if first else y


# ---------------------------------------------------------------- sums, parts, random numbers


def cumsum(x: Any, axis: int = 0) -> KerasTensor:
    return further.cumsum(x, axis)


def cumprod(x: Any, axis: int = 0) -> KerasTensor:
    return numeric.cumprod(x, axis)


def slice_(x: Any, start: Any, size: Any) -> KerasTensor:
    """The part of a tensor from a place on; a size of -1 is the rest."""
    x = as_tensor(x)
    ends = [None if n == -1 else s + n for s, n in zip(start, size, strict=True)]
    found: KerasTensor = x[tuple(slice(s, e) for s, e in zip(start, ends, strict=True))]
    return found


def in_top_k(predictions: Any, targets: Any, k: int) -> KerasTensor:
    """Whether the targets are among the k highest predictions."""
    return ordering.in_top_k(targets, predictions, k)


def is_sparse(tensor: Any) -> bool:
    """False: there are no sparse tensors."""
    return False


def to_dense(tensor: Any) -> Any:
    return tensor


def dropout(x: Any, level: float, noise_shape: Any = None, seed: Any = None) -> KerasTensor:
    """x with a share of its elements 0, the others larger."""
    return random.dropout(x, level, noise_shape, seed)


def random_normal(
    shape: Any, mean: float = 0.0, stddev: float = 1.0, dtype: Any = None, seed: Any = None
) -> KerasTensor:
    return random.normal(_sizes(shape), mean, stddev, dtype, seed)


def random_uniform(
    shape: Any, minval: float = 0.0, maxval: float = 1.0, dtype: Any = None, seed: Any = None
) -> KerasTensor:
    return random.uniform(_sizes(shape), minval, maxval, dtype, seed)


def truncated_normal(
    shape: Any, mean: float = 0.0, stddev: float = 1.0, dtype: Any = None, seed: Any = None
) -> KerasTensor:
    return random.truncated_normal(_sizes(shape), mean, stddev, dtype, seed)


def random_bernoulli(
    shape: Any, p: float = 0.0, dtype: Any = None, seed: Any = None
) -> KerasTensor:
    """1 with probability p, else 0."""
    drawn = random.uniform(_sizes(shape), seed=seed)
    return elementwise.cast_(elementwise.less(drawn, p), dtype or backend.floatx())


def _sizes(shape: Any) -> Any:
    """A shape; one that is a tensor is that of another tensor, whose sizes it is made of."""
    return shape if is_integer(shape) else tuple(shape)


def random_uniform_variable(
    shape: Any, low: float, high: float, dtype: Any = None, name: Any = None, seed: Any = None
) -> Variable:
    drawn = random.uniform(tuple(shape), low, high, dtype, seed)
    return Variable(drawn.numpy(), name=name or "variable")


def random_normal_variable(
    shape: Any, mean: float, scale: float, dtype: Any = None, name: Any = None, seed: Any = None
) -> Variable:
    drawn = random.normal(tuple(shape), mean, scale, dtype, seed)
    return Variable(drawn.numpy(), name=name or "variable")


LAYERS: tuple[Callable[..., Any], ...] = (
    batch_dot, batch_normalization, bias_add, conv1d, conv2d, conv3d, cumprod, cumsum, depthwise_conv2d, dropout,
    in_top_k, is_sparse, local_conv1d, local_conv2d, normalize_batch_in_training, pool2d, random_bernoulli,
    random_normal, random_normal_variable, random_uniform, random_uniform_variable, resize_images, resize_volumes,
    separable_conv2d, spatial_2d_padding, spatial_3d_padding, temporal_padding, to_dense, truncated_normal,
)  # fmt: skip
backend.FUNCTIONS.update({f.__name__: f for f in LAYERS})
backend.FUNCTIONS |= {"random_binomial": random_bernoulli, "slice": slice_}
