"""Keras 2's backend functions, `K.mean` and the like: what losses and metrics of old scripts are written with.

`convc.keras.backend` finds them here by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from convc.keras import activations, backend
from convc.keras.engine.call import operation
from convc.keras.engine.operators import Operators
from convc.keras.engine.steps import Variable
from convc.keras.engine.tensor import KerasTensor, as_tensor, floating
from convc.keras.losses import functions as losses
from convc.keras.ops import elementwise, nn, reductions, shaping
from convc.types import DType


def cast_to_floatx(x: Any) -> Any:
    """Arrays stay arrays, tensors become tensors of the default float type."""
    if isinstance(x, Operators):
        return as_tensor(x, backend.floatx())
    return np.asarray(x, backend.floatx())


class Sizes(tuple[Any, ...]):
    """A tensor's shape: numbers, and the batch as a symbol that other shapes may be made of."""

    of: KerasTensor


def shape(x: Any) -> Sizes:
    """The sizes of a tensor; `cast` makes a tensor of them."""
    tensor = as_tensor(x)
    found = Sizes(tensor.type.shape)
    found.of = tensor
    return found


@operation
def sizes_of(x: Any) -> KerasTensor:
    """A tensor's sizes as int32."""
    return shaping.stack([as_tensor(size) for size in as_tensor(x).type.shape])


def cast(x: Any, dtype: Any) -> KerasTensor:
    return elementwise.cast_(sizes_of(x.of) if isinstance(x, Sizes) else x, dtype)


def constant(value: Any, dtype: Any = None, shape: Any = None, name: str | None = None) -> Any:
    array = np.asarray(value, DType.of(dtype or backend.floatx()).numpy)
    return as_tensor(array if shape is None else np.broadcast_to(array, tuple(shape)).copy())


def variable(
    value: Any, dtype: Any = None, name: str | None = None, constraint: Any = None
) -> Variable:
    kind = dtype or backend.floatx()
    return Variable(np.asarray(value), dtype=kind, name=name or "variable", constraint=constraint)


def sqrt(x: Any) -> KerasTensor:
    """The root, 0 for negative numbers."""
    return elementwise.sqrt(elementwise.maximum(floating(x), 0.0))


def clip(x: Any, min_value: Any, max_value: Any) -> KerasTensor:
    if isinstance(min_value, (int, float)) and isinstance(max_value, (int, float)):
        max_value = max(min_value, max_value)
    return elementwise.clip(x, min_value, max_value)


def hard_sigmoid(x: Any) -> KerasTensor:
    """0.2 * x + 0.5 between 0 and 1: Keras 2's, where Keras 3 has x / 6 + 0.5."""
    return elementwise.clip(floating(x) * 0.2 + 0.5, 0.0, 1.0)


def argmax(x: Any, axis: int = -1) -> KerasTensor:
    return elementwise.cast_(reductions.argmax(x, axis), "int64")


def argmin(x: Any, axis: int = -1) -> KerasTensor:
    return elementwise.cast_(reductions.argmin(x, axis), "int64")


def expand_dims(x: Any, axis: int = -1) -> KerasTensor:
    return shaping.expand_dims(x, axis)


def concatenate(tensors: Any, axis: int = -1) -> KerasTensor:
    return shaping.concatenate(tensors, axis)


def gather(reference: Any, indices: Any) -> KerasTensor:
    return shaping.take(reference, indices, axis=0)


def batch_flatten(x: Any) -> KerasTensor:
    """Each sample as a row."""
    x = as_tensor(x)
    return shaping.reshape(x, (x.type.shape[0], math.prod(x.shape[1:])))


def l2_normalize(x: Any, axis: Any = None) -> KerasTensor:
    """x over its norm, which is at least 1e-6."""
    return nn.normalize(x, axis, epsilon=1e-6)


def one_hot(indices: Any, num_classes: int) -> KerasTensor:
    return nn.one_hot(indices, num_classes)


def relu(
    x: Any, alpha: float = 0.0, max_value: float | None = None, threshold: float = 0.0
) -> KerasTensor:
    found: KerasTensor = activations.relu(x, alpha, max_value, threshold)
    return found


def repeat(x: Any, n: int) -> KerasTensor:
    """(samples, features) n times along a new axis 1."""
    return shaping.repeat(shaping.expand_dims(x, 1), n, 1)


def repeat_elements(x: Any, rep: int, axis: int) -> KerasTensor:
    return shaping.repeat(x, rep, axis)


def switch(condition: Any, then_expression: Any, else_expression: Any) -> KerasTensor:
    """Both sides are computed, and one of them taken, element by element."""
    sides = (s() if callable(s) else s for s in (then_expression, else_expression))
    then, otherwise = (as_tensor(s) for s in sides)
    condition = as_tensor(condition)
    while condition.ndim < then.ndim:
        condition = shaping.expand_dims(condition, -1)
    return elementwise.where(condition, then, otherwise)


def binary_crossentropy(target: Any, output: Any, from_logits: bool = False) -> Any:
    """Element by element."""
    return losses.binary_losses(*losses.pair(target, output), from_logits)


def categorical_crossentropy(
    target: Any, output: Any, from_logits: bool = False, axis: int = -1
) -> Any:
    return losses.categorical_crossentropy(target, output, from_logits, axis=axis)


def sparse_categorical_crossentropy(
    target: Any, output: Any, from_logits: bool = False, axis: int = -1
) -> Any:
    return losses.sparse_categorical_crossentropy(target, output, from_logits, axis=axis)


def int_shape(x: Any) -> tuple[int | None, ...]:
    return as_tensor(x).shape


def dtype(x: Any) -> str:
    return as_tensor(x).dtype


def is_keras_tensor(x: Any) -> bool:
    return isinstance(x, KerasTensor)


def count_params(x: Any) -> int:
    return math.prod(d or 0 for d in as_tensor(x).shape)


def update(x: Variable, new_x: Any) -> Variable:
    x.assign(new_x)
    return x


def update_add(x: Variable, increment: Any) -> Variable:
    x.assign_add(increment)
    return x


def update_sub(x: Variable, decrement: Any) -> Variable:
    x.assign_sub(decrement)
    return x


def identity(x: Any, name: str | None = None) -> KerasTensor:
    return as_tensor(x)


_SAME: tuple[Callable[..., Any], ...] = (
    elementwise.abs, elementwise.cos, elementwise.equal, elementwise.exp, elementwise.greater,
    elementwise.greater_equal, elementwise.less, elementwise.less_equal, elementwise.log, elementwise.maximum,
    elementwise.minimum, elementwise.not_equal, elementwise.round, elementwise.sign, elementwise.sin,
    elementwise.square, elementwise.tanh, nn.dot, nn.elu, nn.sigmoid, nn.softmax, nn.softplus,
    nn.softsign, reductions.all, reductions.any, reductions.logsumexp, reductions.max, reductions.mean, reductions.min,
    reductions.prod, reductions.std, reductions.sum, reductions.var, shaping.arange, shaping.eye, shaping.ndim,
    shaping.ones, shaping.ones_like, shaping.reshape, shaping.squeeze, shaping.stack,
    shaping.stop_gradient, shaping.tile, shaping.transpose, shaping.zeros, shaping.zeros_like,
)  # fmt: skip
"""Those whose names and first arguments are still the same."""

_OWN: tuple[Callable[..., Any], ...] = (
    argmax, argmin, batch_flatten, binary_crossentropy, cast, cast_to_floatx, categorical_crossentropy, clip,
    concatenate, constant, count_params, dtype, expand_dims, gather, hard_sigmoid, identity, int_shape,
    is_keras_tensor, l2_normalize, one_hot, relu, repeat, repeat_elements, shape, sparse_categorical_crossentropy,
    sqrt, switch, update, update_add, update_sub, variable,
)  # fmt: skip

FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{f.__name__: f for f in (*_SAME, *_OWN)},
    "abs": elementwise.abs,
    "eval": backend.get_value,
    "flatten": shaping.ravel,
    "permute_dimensions": shaping.transpose,
    "pow": elementwise.power,
    "reverse": shaping.flip,
}
backend.FUNCTIONS.update(FUNCTIONS)
