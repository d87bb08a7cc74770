"""More of TensorFlow's functions, for programs that import tensorflow where it isn't: what losses, layers and the first
lines of scripts call beside tensorflow_functions."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np

from convc.errors import UnsupportedError
from convc.keras import backend_graphs, backend_layers, initializers, ops, random, tree
from convc.keras.engine.naming import user_line
from convc.keras.engine.operators import Operators
from convc.keras.engine.tensor import KerasTensor, as_tensor
from convc.keras.utils.seeding import set_random_seed
from convc.ops.base import numbers

# ---------------------------------------------------------------- sums, norms, orders


def add_n(inputs: Sequence[Any], name: Any = None) -> Any:
    """The sum of several tensors."""
    total = as_tensor(inputs[0])
    for x in inputs[1:]:
        total = total + x
    return total


def clip_by_norm(t: Any, clip_norm: Any, axes: Any = None, name: Any = None) -> Any:
    """The tensor, scaled down where its norm is more than `clip_norm`."""
    length = ops.sqrt(ops.sum(ops.square(t), axis=axes, keepdims=True))
    return as_tensor(t) * clip_norm / ops.maximum(length, clip_norm)


def global_norm(t_list: Sequence[Any], name: Any = None) -> Any:
    """The norm of all elements of several tensors; None counts nothing."""
    return ops.sqrt(add_n([ops.sum(ops.square(t)) for t in t_list if t is not None]))


def clip_by_global_norm(
    t_list: Sequence[Any], clip_norm: Any, use_norm: Any = None, name: Any = None
) -> tuple[list[Any], Any]:
    """The tensors, scaled down together if their norm is more than `clip_norm`, and that norm."""
    length = global_norm(t_list) if use_norm is None else use_norm
    scale = clip_norm / ops.maximum(length, clip_norm)
    return [None if t is None else as_tensor(t) * scale for t in t_list], length


def sort(values: Any, axis: int = -1, direction: str = "ASCENDING", name: Any = None) -> Any:
    found = ops.sort(values, axis)
    return found if direction == "ASCENDING" else ops.flip(found, axis)


def argsort(
    values: Any,
    axis: int = -1,
    direction: str = "ASCENDING",
    stable: bool = False,
    name: Any = None,
) -> Any:
    descending = ops.negative(values) if direction == "DESCENDING" else values
    return ops.argsort(descending, axis)


def squared_difference(x: Any, y: Any, name: Any = None) -> Any:
    return ops.square(ops.subtract(x, y))


def confusion_matrix(
    labels: Any, predictions: Any, num_classes: int | None = None, weights: Any = None,
    dtype: Any = "int32", name: Any = None,
) -> Any:  # fmt: skip
    """How often (weighted) each class (row) was taken for each (column)."""
    if num_classes is None:
        num_classes = (
            int(max(np.max(_known(x, "confusion_matrix")) for x in (labels, predictions))) + 1
        )
    rows, columns = (ops.one_hot(x, num_classes) for x in (labels, predictions))
    if weights is not None:
        rows = rows * ops.expand_dims(ops.cast(weights, "float32"), -1)
    return ops.cast(ops.matmul(ops.transpose(rows), columns), dtype)


def count_nonzero(input: Any, axis: Any = None, **others: Any) -> Any:
    return ops.count_nonzero(input, axis)


def top_k(input: Any, k: int = 1, sorted: bool = True, name: Any = None) -> Any:
    return ops.top_k(input, k, sorted)


def broadcast_to(input: Any, shape: Any, name: Any = None) -> Any:
    return ops.broadcast_to(input, tuple(shape))


def roll(input: Any, shift: Any, axis: Any, name: Any = None) -> Any:
    return ops.roll(input, shift, axis)


def diag_part(input: Any, **others: Any) -> Any:
    """The diagonals of matrices."""
    return ops.diagonal(input, axis1=-2, axis2=-1)


def unsorted_segment_sum(data: Any, segment_ids: Any, num_segments: int, name: Any = None) -> Any:
    return ops.segment_sum(data, segment_ids, num_segments)


# ---------------------------------------------------------------- places


def _known(x: Any, owner: str) -> Any:
    """The values of a tensor; UnsupportedError where they are known only when the compiled model runs."""
    if isinstance(x, Operators) and as_tensor(x).step.symbolic:
        raise UnsupportedError(
            f"{user_line()}: tf.{owner}: the size of its result follows from values that are known only when the "
            f"compiled model runs: compute with all elements, and tf.where or a mask of zeros and ones"
        )
    return np.asarray(as_tensor(x).numpy())


def boolean_mask(tensor: Any, mask: Any, axis: int = 0, name: str = "boolean_mask") -> Any:
    """Those rows of known tensors whose mask is True."""
    wanted = _known(mask, "boolean_mask")
    array = (
        np.moveaxis(_known(tensor, "boolean_mask"), axis, 0)
        if axis
        else _known(tensor, "boolean_mask")
    )
    found = array[wanted]
    return as_tensor(np.moveaxis(found, 0, axis) if axis else found)


def unique(x: Any, out_idx: Any = "int32", name: Any = None) -> tuple[Any, Any]:
    """A known tensor's values in the order in which they come first, and where each element is among them."""
    values, first, where = np.unique(_known(x, "unique"), return_index=True, return_inverse=True)
    order = np.argsort(first)
    return as_tensor(values[order]), as_tensor(np.argsort(order)[where], str(out_idx))


def gather_nd(params: Any, indices: Any, batch_dims: int = 0, name: Any = None) -> Any:
    """The slices of params at indices (…, leading axes)."""
    if batch_dims:
        raise UnsupportedError(
            f"{user_line()}: tf.gather_nd: expected batch_dims=0; received {batch_dims}"
        )
    x, places = as_tensor(params), as_tensor(indices)
    depth = numbers(places.type.shape)[-1]
    inner = numbers(x.type.shape[1:depth])
    strides = [math.prod(inner[k:]) for k in range(depth)]
    rows = ops.sum(places * np.array(strides, places.type.dtype.numpy), axis=-1)
    flat = ops.reshape(x, (-1, *x.type.shape[depth:]))
    return ops.take(flat, rows, axis=0)


def scatter_nd(indices: Any, updates: Any, shape: Any, name: Any = None) -> Any:
    sizes = shape.numpy().tolist() if isinstance(shape, KerasTensor) else shape
    return ops.scatter(indices, updates, sizes)


def tensor_scatter_nd_update(tensor: Any, indices: Any, updates: Any, name: Any = None) -> Any:
    return ops.scatter_update(tensor, indices, updates)


def tensor_scatter_nd_add(tensor: Any, indices: Any, updates: Any, name: Any = None) -> Any:
    return ops.scatter_update(tensor, indices, updates, reduction="add")


def sequence_mask(
    lengths: Any, maxlen: int | None = None, dtype: Any = "bool", name: Any = None
) -> Any:
    """True for the first `lengths` of maxlen places, in a new last axis."""
    longest = int(_known(lengths, "sequence_mask").max()) if maxlen is None else maxlen
    steps = np.arange(longest, dtype=as_tensor(lengths).type.dtype.numpy)
    return ops.cast(ops.less(steps, ops.expand_dims(lengths, -1)), dtype)


def band_part(input: Any, num_lower: int, num_upper: int, name: Any = None) -> Any:
    """A matrix without what is further than so many diagonals from the main one; -1 keeps a side."""
    x = as_tensor(input)
    rows, columns = numbers(x.type.shape[-2:])
    distance = np.arange(rows)[:, None] - np.arange(columns)
    kept = ((num_lower < 0) | (distance <= num_lower)) & (
        (num_upper < 0) | (-distance <= num_upper)
    )
    return x * kept.astype(x.type.dtype.numpy)


# ---------------------------------------------------------------- control, and what does nothing here


def cond(pred: Any, true_fn: Any = None, false_fn: Any = None, name: Any = None) -> Any:
    return ops.cond(pred, true_fn, false_fn)


def switch_case(
    branch_index: Any, branch_fns: Any, default: Any = None, name: str = "switch_case"
) -> Any:
    functions = (
        [f for _, f in sorted(branch_fns.items())]
        if isinstance(branch_fns, dict)
        else list(branch_fns)
    )
    return ops.switch(branch_index, functions)


def while_loop(
    cond: Any, body: Any, loop_vars: Any, shape_invariants: Any = None, parallel_iterations: int = 10,
    back_prop: bool = True, swap_memory: bool = False, maximum_iterations: int | None = None, name: Any = None,
) -> Any:  # fmt: skip
    return ops.while_loop(cond, body, loop_vars, maximum_iterations)


def map_fn(fn: Callable[[Any], Any], elems: Any, dtype: Any = None, **others: Any) -> Any:
    """What a function gives for each row, as rows."""
    return ops.map(fn, elems)


def scan(
    fn: Callable[[Any, Any], Any],
    elems: Any,
    initializer: Any = None,
    reverse: bool = False,
    **others: Any,
) -> Any:
    """`fn(accumulated, row)` for each row: all that it gives, as rows."""
    rows = list(as_tensor(elems))
    rows = rows[::-1] if reverse else rows
    found = [] if initializer is not None else [rows.pop(0)]
    current = initializer if initializer is not None else found[0]
    for row in rows:
        current = fn(current, row)
        found.append(current)
    return ops.stack(found[::-1] if reverse else found)


def py_function(
    func: Callable[..., Any], inp: Any = None, Tout: Any = None, name: Any = None
) -> Any:
    """What a Python function gives for known tensors; it can't be a part of a compiled model."""
    given = list(inp or ())
    if any(isinstance(x, Operators) and as_tensor(x).step.symbolic for x in given):
        raise UnsupportedError(
            f"{user_line()}: tf.py_function: Python can't run within a compiled model: write it with functions of tf "
            f"or keras.ops, or call it on arrays in a Callback"
        )
    return tree.map_structure(as_tensor, func(*given))


def numpy_function(
    func: Callable[..., Any], inp: Any = None, Tout: Any = None, **others: Any
) -> Any:
    return py_function(lambda *x: func(*(np.asarray(as_tensor(v).numpy()) for v in x)), inp)


def print_(*inputs: Any, **others: Any) -> None:
    """Prints what is known; tensors of a model that is being traced by their form."""
    print(*inputs, sep=others.get("sep", " "), end=others.get("end", "\n"))


def nothing(*args: Any, **kwargs: Any) -> None:
    """What has nothing to do here."""


def block(*args: Any, **kwargs: Any) -> Any:
    """A `with` block that changes nothing: there is one device, and values are named by their layers."""
    return nullcontext()


def logger() -> logging.Logger:
    return logging.getLogger("tensorflow")


class TensorShape(tuple[Any, ...]):
    """A shape: a tuple that also has TensorFlow's names."""

    def __new__(cls, dims: Any = ()) -> TensorShape:
        return super().__new__(cls, (dims,) if isinstance(dims, int) else tuple(dims or ()))

    def as_list(self) -> list[Any]:
        return list(self)

    @property
    def rank(self) -> int:
        return len(self)

    ndims = rank

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        return TensorShape(found) if isinstance(key, slice) else found


# ---------------------------------------------------------------- networks


def _spatial(values: Any, rank: int) -> Any:
    """TensorFlow's strides, with or without those of batch and channels, for the axes of space."""
    if not isinstance(values, (list, tuple)):
        return values
    return tuple(values[1:-1]) if len(values) == rank + 2 else tuple(values)


def conv1d(
    input: Any, filters: Any, stride: Any, padding: str, data_format: Any = None, dilations: Any = 1, name: Any = None
) -> Any:  # fmt: skip
    return ops.conv(
        input, filters, _spatial(stride, 1), padding.lower(), None, _spatial(dilations, 1)
    )


def conv3d(
    input: Any, filters: Any, strides: Any, padding: str, data_format: str = "NDHWC", dilations: Any = 1,
    name: Any = None,
) -> Any:  # fmt: skip
    return ops.conv(
        input, filters, _spatial(strides, 3), padding.lower(), None, _spatial(dilations, 3)
    )


def depthwise_conv2d(
    input: Any, filter: Any, strides: Any, padding: str, data_format: Any = None, dilations: Any = 1, name: Any = None
) -> Any:  # fmt: skip
    return ops.depthwise_conv(
        input, filter, _spatial(strides, 2), padding.lower(), None, dilations or 1
    )


def separable_conv2d(
    input: Any, depthwise_filter: Any, pointwise_filter: Any, strides: Any, padding: str, data_format: Any = None,
    dilations: Any = 1, name: Any = None,
) -> Any:  # fmt: skip
    y = depthwise_conv2d(input, depthwise_filter, strides, padding, None, dilations)
    return ops.conv(y, pointwise_filter)


def batch_normalization(
    x: Any,
    mean: Any,
    variance: Any,
    offset: Any,
    scale: Any,
    variance_epsilon: float,
    name: Any = None,
) -> Any:
    return backend_layers.batch_normalization(
        x, mean, variance, offset, scale, epsilon=variance_epsilon
    )


def local_response_normalization(
    input: Any, depth_radius: int = 5, bias: float = 1.0, alpha: float = 1.0, beta: float = 0.5, name: Any = None
) -> Any:  # fmt: skip
    """x / (bias + alpha * the squares of the channels around it)^beta (Krizhevsky et al., 2012)."""
    x = as_tensor(input)
    (channels,) = numbers(x.type.shape[-1:])
    distance = np.abs(np.arange(channels)[:, None] - np.arange(channels))
    near = (distance <= depth_radius).astype(x.type.dtype.numpy)
    return x / ops.power(ops.matmul(ops.square(x), near) * alpha + bias, beta)


def compute_average_loss(
    per_example_loss: Any, sample_weight: Any = None, global_batch_size: Any = None
) -> Any:
    """The sum of the losses over the size of the batch."""
    losses = as_tensor(per_example_loss)
    losses = losses if sample_weight is None else losses * sample_weight
    size = ops.size(losses) if global_batch_size is None else global_batch_size
    return ops.sum(losses) / ops.cast(size, losses.dtype)


def _refused(name: str, instead: str) -> Callable[..., Any]:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise UnsupportedError(f"{user_line()}: tf.{name} isn't supported: {instead}")

    return refuse


_REFUSED = {
    "custom_gradient": "write the function with keras.ops.stop_gradient, so that its own gradient is the wanted one",
    "data.TFRecordDataset": "records of protocol buffers aren't read: give arrays, a generator or image folders",
    "io.parse_single_example": "records of protocol buffers aren't read: give arrays, a generator or image folders",
    "io.FixedLenFeature": "records of protocol buffers aren't read: give arrays, a generator or image folders",
    "saved_model.save": "use model.save('model.keras'), or `convc compile` for a file that programs load",
    "saved_model.load": "use keras.models.load_model('model.keras')",
    "summary.create_file_writer": "use the callback keras.callbacks.TensorBoard",
    "feature_column.numeric_column": "use keras.layers.Normalization, CategoryEncoding and keras.utils.FeatureSpace",
    "lite.TFLiteConverter.from_keras_model": "`convc compile model.keras` makes a file for small machines",
}  # fmt: skip


def crelu(features: Any, axis: int = -1, name: Any = None) -> Any:
    """relu(x) and relu(-x), one after the other."""
    return ops.concatenate([ops.relu(features), ops.relu(ops.negative(features))], axis)


def constant_initializer(value: Any = 0, support_partial_shape: bool = False) -> Any:
    return initializers.Constant(value)


def shuffled(value: Any, seed: Any = None, name: Any = None) -> Any:
    return random.shuffle(value, 0, seed)


def checked(*args: Any, **kwargs: Any) -> None:
    """An assertion about values: a compiled model makes none."""


_INERT = (
    "autograph.set_verbosity", "compat.v1.enable_eager_execution", "compat.v1.logging.set_verbosity",
    "config.experimental.set_memory_growth", "config.run_functions_eagerly", "config.set_visible_devices",
    "config.threading.set_inter_op_parallelism_threads", "config.threading.set_intra_op_parallelism_threads",
    "enable_eager_execution", "group", "logging.set_verbosity", "no_op",
)  # fmt: skip
_ASSERTIONS = ("equal", "near", "less", "greater", "non_negative", "all_finite")

NAMES: dict[str, Any] = {
    **{name: _refused(name, instead) for name, instead in _REFUSED.items()},
    **dict.fromkeys(_INERT, nothing),
    **dict.fromkeys(("control_dependencies", "device", "init_scope", "name_scope"), block),
    **{
        f"{module}.{level}": getattr(logging, level)
        for module in ("logging", "compat.v1.logging")
        for level in ("DEBUG", "ERROR", "FATAL", "INFO", "WARN")
    },
    **{f"debugging.assert_{what}": checked for what in _ASSERTIONS},
    **{f"linalg.{name}": getattr(ops, name) for name in ("cholesky", "det", "diag", "eigh", "einsum", "inv", "trace")},
    "UnconnectedGradients.NONE": "none",
    "UnconnectedGradients.ZERO": "zero",
    "TensorShape": TensorShape,
    "add_n": add_n,
    "argsort": argsort,
    "boolean_mask": boolean_mask,
    "broadcast_to": broadcast_to,
    "clip_by_global_norm": clip_by_global_norm,
    "clip_by_norm": clip_by_norm,
    "compat.v1.set_random_seed": set_random_seed,
    "cond": cond,
    "config.experimental.list_physical_devices": lambda device_type=None: [],
    "config.list_logical_devices": lambda device_type=None: [],
    "constant_initializer": constant_initializer,
    "foldl": lambda fn, elems, initializer=None, **others: backend_graphs.foldl(fn, elems, initializer),
    "foldr": lambda fn, elems, initializer=None, **others: backend_graphs.foldr(fn, elems, initializer),
    "gather_nd": gather_nd,
    "get_logger": logger,
    "linalg.band_part": band_part,
    "linalg.diag_part": diag_part,
    "linalg.global_norm": global_norm,
    "map_fn": map_fn,
    "math.add_n": add_n,
    "math.argsort": argsort,
    "math.confusion_matrix": confusion_matrix,
    "math.count_nonzero": count_nonzero,
    "math.squared_difference": squared_difference,
    "math.unsorted_segment_sum": unsorted_segment_sum,
    "meshgrid": lambda *args, indexing="xy", name=None: ops.meshgrid(*args, indexing=indexing),
    "nest.flatten": tree.flatten,
    "nest.map_structure": tree.map_structure,
    "nn.batch_normalization": batch_normalization,
    "nn.compute_average_loss": compute_average_loss,
    "nn.conv1d": conv1d,
    "nn.conv3d": conv3d,
    "nn.crelu": crelu,
    "nn.depthwise_conv2d": depthwise_conv2d,
    "nn.in_top_k": lambda targets, predictions, k, name=None: ops.in_top_k(targets, predictions, k),
    "nn.local_response_normalization": local_response_normalization,
    "nn.lrn": local_response_normalization,
    "nn.scale_regularization_loss": as_tensor,
    "nn.separable_conv2d": separable_conv2d,
    "nn.top_k": top_k,
    "numpy_function": numpy_function,
    "ones_initializer": initializers.Ones,
    "print": print_,
    "py_function": py_function,
    "random.shuffle": shuffled,
    "random_normal_initializer": initializers.RandomNormal,
    "random_uniform_initializer": initializers.RandomUniform,
    "recompute_grad": lambda f: f,
    "roll": roll,
    "scan": scan,
    "scatter_nd": scatter_nd,
    "searchsorted": lambda sorted_sequence, values, side="left", **others: ops.searchsorted(
        sorted_sequence, values, side
    ),
    "sequence_mask": sequence_mask,
    "set_random_seed": set_random_seed,
    "sort": sort,
    "squared_difference": squared_difference,
    "switch_case": switch_case,
    "tensor_scatter_nd_add": tensor_scatter_nd_add,
    "tensor_scatter_nd_update": tensor_scatter_nd_update,
    "test.gpu_device_name": lambda: "",
    "test.is_gpu_available": lambda *args, **kwargs: False,
    "unique": unique,
    "vectorized_map": lambda fn, elems, **others: ops.map(fn, elems),
    "while_loop": while_loop,
    "zeros_initializer": initializers.Zeros,
}  # fmt: skip
