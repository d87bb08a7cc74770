"""`tf`, `tf.math` and `tf.nn`, with TensorFlow's arguments, for programs that import tensorflow where it isn't."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from convc.keras import losses, ops, random
from convc.keras.engine.arguments import is_integer
from convc.keras.engine.tensor import KerasTensor, Variable, as_tensor, floating
from convc.keras.utils.elements import TensorSpec
from convc.keras.utils.pipelines import AUTOTUNE, Dataset

Function = Callable[..., Any]


# ---------------------------------------------------------------- tensors and variables


def variable(
    initial_value: Any = None,
    trainable: bool | None = None,
    validate_shape: bool = True,
    caching_device: Any = None,
    name: str | None = None,
    variable_def: Any = None,
    dtype: Any = None,
    **others: Any,
) -> Variable:
    """`tf.Variable`: a variable of a value (or of what a function of nothing gives)."""
    del validate_shape, caching_device, variable_def, others
    value = initial_value() if callable(initial_value) else initial_value
    array = np.asarray(as_tensor(value, dtype))
    return Variable(array, dtype=dtype, trainable=trainable is not False, name=name or "Variable")


def cast(x: Any, dtype: Any, name: Any = None) -> Any:
    del name
    return ops.cast(x, dtype)


def ones(shape: Any, dtype: Any = "float32", name: Any = None) -> Any:
    del name
    return ops.ones(_shape(shape), dtype)


def zeros(shape: Any, dtype: Any = "float32", name: Any = None) -> Any:
    del name
    return ops.zeros(_shape(shape), dtype)


def fill(dims: Any, value: Any, name: Any = None) -> Any:
    del name
    number = as_tensor(value)
    return ops.full(_shape(dims), value, number.dtype)


def _shape(shape: Any) -> Any:
    if isinstance(shape, KerasTensor):
        return tuple(int(d) for d in np.atleast_1d(shape.numpy()))
    return (shape,) if is_integer(shape) else tuple(shape)


def range_(
    start: Any, limit: Any = None, delta: Any = 1, dtype: Any = None, name: Any = "range"
) -> Any:
    """Numbers from start (0 for one number given) up to the limit."""
    del name
    return ops.arange(start, limit, delta, dtype)


def rank(input: Any, name: Any = None) -> Any:
    del name
    return as_tensor(as_tensor(input).ndim)


def size(input: Any, out_type: Any = "int32", name: Any = None) -> Any:
    del name, out_type
    return ops.size(input)


# ---------------------------------------------------------------- shapes and places


def transpose(a: Any, perm: Any = None, conjugate: bool = False, name: Any = "transpose") -> Any:
    del conjugate, name
    return ops.transpose(a, perm)


def squeeze(input: Any, axis: Any = None, name: Any = None) -> Any:
    del name
    return ops.squeeze(input, axis)


def split(
    value: Any, num_or_size_splits: Any, axis: int = 0, num: Any = None, name: Any = "split"
) -> Any:
    """So many equal parts, or parts of these sizes (one of them may be -1: what remains)."""
    del num, name
    if is_integer(num_or_size_splits):
        return ops.split(value, int(num_or_size_splits), axis)
    sizes = [int(s) for s in num_or_size_splits]
    if -1 in sizes:
        total = as_tensor(value).shape[axis]
        sizes[sizes.index(-1)] = int(total) - sum(s for s in sizes if s != -1)  # type: ignore[arg-type]
    return ops.split(value, list(itertools.accumulate(sizes))[:-1], axis)


def gather(
    params: Any,
    indices: Any,
    validate_indices: Any = None,
    axis: int | None = None,
    batch_dims: int = 0,
    name: Any = None,
) -> Any:
    """The slices at integer positions of an axis (the first); with batch_dims=1, of each row by its own indices."""
    del validate_indices, name
    x, chosen = as_tensor(params), as_tensor(indices)
    if batch_dims == 0:
        return ops.take(x, chosen, axis or 0)
    if batch_dims != 1 or (axis or 1) != 1 or chosen.ndim != 2:
        raise NotImplementedError("tf.gather: batch_dims=1 of indices of rank 2 are supported")
    wide = ops.reshape(chosen, (-1, chosen.shape[1], *[1] * (x.ndim - 2)))
    wide = ops.broadcast_to(wide, (*chosen.type.shape, *x.type.shape[2:]))
    return ops.take_along_axis(x, wide, 1)


def reverse(tensor: Any, axis: Any, name: Any = None) -> Any:
    del name
    return ops.flip(tensor, axis)


def tile(input: Any, multiples: Any, name: Any = None) -> Any:
    del name
    return ops.tile(input, _shape(multiples))


def pad(
    tensor: Any, paddings: Any, mode: str = "CONSTANT", constant_values: Any = 0, name: Any = None
) -> Any:
    """(before, after) elements added per axis: constants, or a reflection of the inside."""
    del name
    word = mode.lower()
    return ops.pad(tensor, paddings, word, constant_values if word == "constant" else None)


def slice_(input_: Any, begin: Any, size: Any, name: Any = None) -> Any:
    """A box of a tensor: where it begins, and how large it is (-1: up to the end)."""
    del name
    pairs = zip(_shape(begin), _shape(size), strict=True)
    return as_tensor(input_)[tuple(slice(b, None if s == -1 else b + s) for b, s in pairs)]


def one_hot(
    indices: Any,
    depth: Any,
    on_value: Any = None,
    off_value: Any = None,
    axis: int | None = None,
    dtype: Any = None,
    name: Any = None,
) -> Any:
    """Class numbers as rows with a single 1 (or on_value among off_value)."""
    del name
    found = ops.one_hot(
        ops.cast(indices, "int32"), int(depth), -1 if axis is None else axis, dtype or "float32"
    )
    on, off = 1 if on_value is None else on_value, 0 if off_value is None else off_value
    return found if (on, off) == (1, 0) else found * (on - off) + off


def stack(values: Any, axis: int = 0, name: str = "stack") -> Any:
    del name
    return ops.stack(list(values), axis)


def unstack(value: Any, num: int | None = None, axis: int = 0, name: str = "unstack") -> Any:
    del name
    return ops.unstack(value, num, axis)


# ---------------------------------------------------------------- numbers


def named(of: Function) -> Function:
    """A function with TensorFlow's `name` as one without."""

    def found(*args: Any, name: Any = None, **kwargs: Any) -> Any:
        del name
        return of(*args, **kwargs)

    return found


def position(of: Function) -> Function:
    """argmax or argmin with TensorFlow's arguments: along the first axis unless told otherwise, in int64."""

    def found(
        input: Any, axis: int | None = None, output_type: Any = "int64", name: Any = None
    ) -> Any:
        del name
        return ops.cast(of(input, axis=0 if axis is None else axis), output_type)

    return found


def reduction(of: Function) -> Function:
    """A reduction of keras.ops with TensorFlow's argument names."""

    def reduce(
        input_tensor: Any, axis: Any = None, keepdims: bool = False, name: Any = None
    ) -> Any:
        del name
        return of(input_tensor, axis, keepdims)

    return reduce


def clip_by_value(t: Any, clip_value_min: Any, clip_value_max: Any, name: Any = None) -> Any:
    del name
    return ops.minimum(ops.maximum(t, clip_value_min), clip_value_max)


def norm(
    tensor: Any,
    ord: Any = "euclidean",
    axis: Any = None,
    keepdims: bool = False,
    name: Any = None,
) -> Any:
    """The norm of all elements as one vector, or along axes."""
    del name
    kind = None if ord in ("euclidean", 2) else ord
    x = as_tensor(tensor)
    if axis is None and not keepdims:
        x = ops.ravel(x)
    return ops.norm(x, kind, axis, keepdims)


def matmul(
    a: Any, b: Any, transpose_a: bool = False, transpose_b: bool = False, **others: Any
) -> Any:
    del others
    a = ops.swapaxes(a, -1, -2) if transpose_a else a
    return ops.matmul(a, ops.swapaxes(b, -1, -2) if transpose_b else b)


def l2_normalize(x: Any, axis: Any = None, epsilon: float = 1e-12, name: Any = None) -> Any:
    """x over its Euclidean norm along axes (all of them), whose square is at least epsilon."""
    del name
    total = ops.sum(ops.square(x), axis=axis, keepdims=True)
    return as_tensor(x) * ops.rsqrt(ops.maximum(total, epsilon))


# ---------------------------------------------------------------- networks


def sigmoid_cross_entropy_with_logits(
    labels: Any = None, logits: Any = None, name: Any = None
) -> Any:
    """max(z, 0) - z y + log(1 + exp(-|z|)) of each logit z and label y."""
    del name
    z = floating(logits)
    return ops.relu(z) - z * as_tensor(labels, z.dtype) + ops.log1p(ops.exp(-ops.abs(z)))


def softmax_cross_entropy_with_logits(
    labels: Any, logits: Any, axis: int = -1, name: Any = None
) -> Any:
    del name
    z = floating(logits)
    return -ops.sum(as_tensor(labels, z.dtype) * ops.log_softmax(z, axis), axis=axis)


def sparse_softmax_cross_entropy_with_logits(labels: Any, logits: Any, name: Any = None) -> Any:
    del name
    return losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)


def leaky_relu(features: Any, alpha: float = 0.2, name: Any = None) -> Any:
    del name
    return ops.leaky_relu(features, alpha)


def gelu(features: Any, approximate: bool = False, name: Any = None) -> Any:
    del name
    return ops.gelu(features, approximate)


def softmax(logits: Any, axis: Any = None, name: Any = None) -> Any:
    del name
    return ops.softmax(logits, -1 if axis is None else axis)


def log_softmax(logits: Any, axis: Any = None, name: Any = None) -> Any:
    del name
    return ops.log_softmax(logits, -1 if axis is None else axis)


def depth_to_space(input: Any, block_size: int, data_format: str = "NHWC", name: Any = None) -> Any:
    del name
    return ops.depth_to_space(input, block_size, _format(data_format))


def space_to_depth(input: Any, block_size: int, data_format: str = "NHWC", name: Any = None) -> Any:
    del name
    return ops.space_to_depth(input, block_size, _format(data_format))


def _format(name: str) -> str:
    return "channels_last" if name == "NHWC" else "channels_first"


def _inner(steps: Any) -> Any:
    """TensorFlow's (1, rows, columns, 1) as Keras' (rows, columns)."""
    given = [steps] if is_integer(steps) else list(steps)
    return tuple(given[1:3]) if len(given) == 4 else tuple(given) * (3 - len(given))


def conv2d(
    input: Any,
    filters: Any,
    strides: Any,
    padding: str,
    data_format: str = "NHWC",
    dilations: Any = 1,
    name: Any = None,
) -> Any:
    del name
    rates, form = _inner(dilations), _format(data_format)
    return ops.conv(input, filters, _inner(strides), padding.lower(), form, rates)


def pool(of: Function) -> Function:
    """A pooling of keras.ops with TensorFlow's arguments."""

    def found(
        input: Any,
        ksize: Any,
        strides: Any,
        padding: str,
        data_format: str = "NHWC",
        name: Any = None,
    ) -> Any:
        del name
        return of(input, _inner(ksize), _inner(strides), padding.lower(), _format(data_format))

    return found


def dropout(
    x: Any, rate: float, noise_shape: Any = None, seed: Any = None, name: Any = None
) -> Any:
    """Zeros for a share of the elements, the others scaled up."""
    del name
    return random.dropout(x, rate, noise_shape, seed)


def moments(x: Any, axes: Any, shift: Any = None, keepdims: bool = False, name: Any = None) -> Any:
    del shift, name
    return ops.moments(x, axes, keepdims)


def uniform(
    shape: Any,
    minval: Any = 0,
    maxval: Any = None,
    dtype: Any = "float32",
    seed: Any = None,
    name: Any = None,
) -> Any:
    """Numbers between two bounds; integers for an integer dtype."""
    del name
    if str(dtype).startswith(("int", "uint")):
        return random.randint(_shape(shape), minval, maxval, dtype, seed)
    return random.uniform(_shape(shape), minval, 1.0 if maxval is None else maxval, dtype, seed)


def normal(
    shape: Any,
    mean: Any = 0.0,
    stddev: Any = 1.0,
    dtype: Any = "float32",
    seed: Any = None,
    name: Any = None,
) -> Any:
    del name
    return random.normal(_shape(shape), mean, stddev, dtype, seed)


_SAME = {
    "abs": "abs", "add": "add", "ceil": "ceil", "cos": "cos", "cumsum": "cumsum", "divide": "divide",
    "divide_no_nan": "divide_no_nan", "equal": "equal", "erf": "erf", "exp": "exp", "expm1": "expm1",
    "floor": "floor", "greater": "greater", "greater_equal": "greater_equal", "less": "less",
    "less_equal": "less_equal", "log": "log", "log1p": "log1p", "logical_and": "logical_and",
    "logical_not": "logical_not", "logical_or": "logical_or", "maximum": "maximum", "minimum": "minimum",
    "multiply": "multiply", "multiply_no_nan": "multiply", "negative": "negative", "not_equal": "not_equal",
    "pow": "power", "reciprocal": "reciprocal", "round": "round", "rsqrt": "rsqrt", "sigmoid": "sigmoid",
    "sign": "sign", "sin": "sin", "softplus": "softplus", "sqrt": "sqrt", "square": "square", "subtract": "subtract",
    "tan": "tan", "tanh": "tanh", "acos": "arccos", "asin": "arcsin", "atan": "arctan", "cosh": "cosh",
    "sinh": "sinh", "floordiv": "floor_divide", "truediv": "true_divide", "mod": "mod", "is_nan": "isnan",
    "is_finite": "isfinite", "is_inf": "isinf", "top_k": "top_k", "in_top_k": "in_top_k", "segment_sum": "segment_sum",
    "cumprod": "cumprod", "atan2": "arctan2", "bincount": "bincount",
}  # fmt: skip
"""tf.math's name, and that of keras.ops."""

_REDUCTIONS = {
    "all": ops.all, "any": ops.any, "logsumexp": ops.logsumexp, "max": ops.max, "mean": ops.mean, "min": ops.min,
    "prod": ops.prod, "std": ops.std, "sum": ops.sum, "variance": ops.var,
}  # fmt: skip

_MATH: dict[str, Any] = {
    **{theirs: named(getattr(ops, ours)) for theirs, ours in _SAME.items() if hasattr(ops, ours)},
    **{f"reduce_{name}": reduction(of) for name, of in _REDUCTIONS.items()},
    "argmax": position(ops.argmax),
    "argmin": position(ops.argmin),
    "l2_normalize": l2_normalize,
}
_TOP = (
    "abs", "acos", "add", "argmax", "argmin", "asin", "atan", "cos", "cosh", "cumsum", "divide", "equal", "exp",
    "floor", "greater", "greater_equal", "less", "less_equal", "logical_and", "logical_not", "logical_or", "maximum",
    "minimum", "multiply", "negative", "not_equal", "pow", "round", "sigmoid", "sign", "sin", "sinh", "sqrt",
    "square", "subtract", "tan", "tanh", "truediv",
    *(f"reduce_{name}" for name in _REDUCTIONS if name not in ("std", "variance")),
)  # fmt: skip
"""Those that `tf` has itself."""

_ACTIVATIONS = (
    "elu",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "softplus",
    "softsign",
    "swish",
    "tanh",
)

_NETWORKS: dict[str, Any] = {
    **{name: named(getattr(ops, name)) for name in _ACTIVATIONS},
    "avg_pool": pool(ops.average_pool),
    "avg_pool2d": pool(ops.average_pool),
    "bias_add": lambda value, bias, data_format=None, name=None: as_tensor(value) + bias,
    "conv2d": conv2d,
    "depth_to_space": depth_to_space,
    "dropout": dropout,
    "embedding_lookup": lambda params, ids, **others: ops.take(params, ids, 0),
    "gelu": gelu,
    "l2_loss": lambda t, name=None: ops.sum(ops.square(t)) / 2,
    "l2_normalize": l2_normalize,
    "leaky_relu": leaky_relu,
    "log_softmax": log_softmax,
    "max_pool": pool(ops.max_pool),
    "max_pool2d": pool(ops.max_pool),
    "moments": moments,
    "sigmoid_cross_entropy_with_logits": sigmoid_cross_entropy_with_logits,
    "softmax": softmax,
    "softmax_cross_entropy_with_logits": softmax_cross_entropy_with_logits,
    "space_to_depth": space_to_depth,
    "sparse_softmax_cross_entropy_with_logits": sparse_softmax_cross_entropy_with_logits,
}  # fmt: skip

NAMES: dict[str, Any] = {
    **{f"math.{name}": of for name, of in _MATH.items()},
    **{name: _MATH[name] for name in _TOP},
    **{f"nn.{name}": of for name, of in _NETWORKS.items()},
    "Tensor": KerasTensor,
    "TensorSpec": TensorSpec,
    "Variable": variable,
    "cast": cast,
    "clip_by_value": clip_by_value,
    "data.AUTOTUNE": AUTOTUNE,
    "data.Dataset": Dataset,
    "data.experimental.AUTOTUNE": AUTOTUNE,
    "einsum": named(ops.einsum),
    "eye": named(ops.eye),
    "executing_eagerly": lambda: True,
    "fill": fill,
    "gather": gather,
    "identity": named(ops.copy),
    "is_tensor": ops.is_tensor,
    "linalg.matmul": matmul,
    "linalg.norm": norm,
    "linspace": named(ops.linspace),
    "matmul": matmul,
    "newaxis": None,
    "norm": norm,
    "one_hot": one_hot,
    "ones": ones,
    "ones_like": named(ops.ones_like),
    "pad": pad,
    "random.normal": normal,
    "random.truncated_normal": named(random.truncated_normal),
    "random.uniform": uniform,
    "range": range_,
    "rank": rank,
    "repeat": named(ops.repeat),
    "reverse": reverse,
    "size": size,
    "slice": slice_,
    "split": split,
    "squeeze": squeeze,
    "stack": stack,
    "stop_gradient": named(ops.stop_gradient),
    "tensordot": named(ops.tensordot),
    "tile": tile,
    "transpose": transpose,
    "unstack": unstack,
    "where": named(ops.where),
    "zeros": zeros,
    "zeros_like": named(ops.zeros_like),
}  # fmt: skip
"""By their dotted names below `tensorflow`."""
