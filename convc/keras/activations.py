"""Activation functions with Keras' names, arguments and defaults."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from convc.errors import ModelError
from convc.keras.engine.call import operation
from convc.keras.engine.naming import nearest, user_line
from convc.keras.engine.registry import FAMILIES, LAYERS, custom, generation
from convc.keras.engine.serialization import serialize_keras_object
from convc.keras.engine.tensor import KerasTensor, apply, as_tensor, floating, promoted
from convc.ops import activations as kernels
from convc.ops import broadcasting, elementwise, norm, reduce, shape

_ELEMENTWISE: set[Callable[..., Any]] = set()


def _elementwise(function: Callable[..., KerasTensor]) -> Callable[..., KerasTensor]:
    """Marks a function of single elements: layers may apply it in any layout."""
    traced = operation(function)
    _ELEMENTWISE.add(traced)
    return traced


def is_elementwise(activation: Any) -> bool:
    """True if the function works element by element, so that axes may be moved before or after it."""
    return getattr(activation, "elementwise", False) or (
        not hasattr(activation, "calls") and activation in _ELEMENTWISE
    )


def _scalar(op: Any, x: Any, *values: float) -> KerasTensor:
    """A broadcasting operator between a tensor and numbers of its element type."""
    return apply(op(), *promoted(x, *values))


@_elementwise
def linear(x: Any) -> KerasTensor:
    """x"""
    return as_tensor(x)


@_elementwise
def relu(
    x: Any, negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0
) -> KerasTensor:
    """max_value above it, x from `threshold` on, negative_slope * (x - threshold) below."""
    x = as_tensor(x)
    if negative_slope == 0.0 and threshold == 0.0:
        if max_value is None:
            return apply(kernels.Relu(), x)
        return apply(elementwise.Clip(0.0, float(max_value)), x)
    x = floating(x)
    if threshold == 0.0:
        y = apply(kernels.LeakyRelu(float(negative_slope)), x)
    else:
        below = _scalar(broadcasting.Mul, _scalar(broadcasting.Sub, x, threshold), negative_slope)
        y = apply(broadcasting.Where(), _scalar(broadcasting.GreaterEqual, x, threshold), x, below)
    return y if max_value is None else apply(elementwise.Clip(None, float(max_value)), y)


@_elementwise
def leaky_relu(x: Any, negative_slope: float = 0.2) -> KerasTensor:
    return apply(kernels.LeakyRelu(float(negative_slope)), floating(x))


@_elementwise
def relu6(x: Any) -> KerasTensor:
    """min(max(x, 0), 6)"""
    return apply(elementwise.Clip(0.0, 6.0), x)


@_elementwise
def elu(x: Any, alpha: float = 1.0) -> KerasTensor:
    return apply(kernels.Elu(float(alpha)), floating(x))


@_elementwise
def selu(x: Any) -> KerasTensor:
    return apply(kernels.Selu(), floating(x))


@_elementwise
def celu(x: Any, alpha: float = 1.0) -> KerasTensor:
    return apply(kernels.Celu(float(alpha)), floating(x))


@_elementwise
def gelu(x: Any, approximate: bool = False) -> KerasTensor:
    return apply(kernels.Gelu(bool(approximate)), floating(x))


@_elementwise
def silu(x: Any) -> KerasTensor:
    """x * sigmoid(x)"""
    return apply(kernels.Silu(), floating(x))


@_elementwise
def mish(x: Any) -> KerasTensor:
    return apply(kernels.Mish(), floating(x))


@_elementwise
def softplus(x: Any) -> KerasTensor:
    return apply(kernels.Softplus(), floating(x))


@_elementwise
def softsign(x: Any) -> KerasTensor:
    return apply(kernels.Softsign(), floating(x))


@_elementwise
def tanh(x: Any) -> KerasTensor:
    return apply(elementwise.Tanh(), floating(x))


@_elementwise
def sigmoid(x: Any) -> KerasTensor:
    return apply(kernels.Sigmoid(), floating(x))


@_elementwise
def log_sigmoid(x: Any) -> KerasTensor:
    return apply(kernels.LogSigmoid(), floating(x))


@_elementwise
def exponential(x: Any) -> KerasTensor:
    return apply(elementwise.Exp(), floating(x))


@_elementwise
def hard_sigmoid(x: Any) -> KerasTensor:
    """relu6(x + 3) / 6"""
    return apply(kernels.HardSigmoid(1 / 6, 0.5), floating(x))


@_elementwise
def hard_sigmoid_keras2(x: Any) -> KerasTensor:
    """clip(0.2 * x + 0.5, 0, 1), which Keras called hard_sigmoid before version 3"""
    return apply(kernels.HardSigmoid(0.2, 0.5), floating(x))


@_elementwise
def hard_silu(x: Any) -> KerasTensor:
    """x * relu6(x + 3) / 6"""
    return apply(kernels.HardSwish(), floating(x))


@_elementwise
def hard_tanh(x: Any) -> KerasTensor:
    return apply(elementwise.Clip(-1.0, 1.0), floating(x))


@_elementwise
def tanh_shrink(x: Any) -> KerasTensor:
    """x - tanh(x)"""
    x = floating(x)
    return apply(broadcasting.Sub(), x, apply(elementwise.Tanh(), x))


@_elementwise
def hard_shrink(x: Any, threshold: float = 0.5) -> KerasTensor:
    """x where |x| > threshold, else 0"""
    x = floating(x)
    outside = _scalar(broadcasting.Greater, apply(elementwise.Abs(), x), threshold)
    return apply(broadcasting.Where(), outside, x, as_tensor(0.0, x.dtype))


@_elementwise
def soft_shrink(x: Any, threshold: float = 0.5) -> KerasTensor:
    """x moved towards 0 by threshold"""
    x = floating(x)
    inside = apply(elementwise.Clip(-float(threshold), float(threshold)), x)
    return apply(broadcasting.Sub(), x, inside)


@_elementwise
def threshold(x: Any, threshold: float, default_value: float) -> KerasTensor:
    """x where x > threshold, else default_value"""
    x = floating(x)
    return apply(
        broadcasting.Where(),
        _scalar(broadcasting.Greater, x, threshold),
        x,
        as_tensor(float(default_value), x.dtype),
    )


@_elementwise
def squareplus(x: Any, b: float = 4) -> KerasTensor:
    """(x + sqrt(x² + b)) / 2"""
    x = floating(x)
    root = apply(elementwise.Sqrt(), _scalar(broadcasting.Add, apply(elementwise.Square(), x), b))
    return _scalar(broadcasting.Mul, apply(broadcasting.Add(), x, root), 0.5)


@_elementwise
def sparse_plus(x: Any) -> KerasTensor:
    """0 up to -1, (x + 1)² / 4 between, x from 1 on"""
    x = floating(x)
    middle = _scalar(broadcasting.Add, apply(elementwise.Clip(-1.0, 1.0), x), 1.0)
    curve = _scalar(broadcasting.Mul, apply(elementwise.Square(), middle), 0.25)
    return apply(broadcasting.Where(), _scalar(broadcasting.Greater, x, 1.0), x, curve)


@_elementwise
def sparse_sigmoid(x: Any) -> KerasTensor:
    """0 up to -1, (x + 1) / 2 between, 1 from 1 on"""
    return apply(kernels.HardSigmoid(0.5, 0.5), floating(x))


@operation
def softmax(x: Any, axis: Any = -1) -> KerasTensor:
    """exp(x) / sum(exp(x)) along an axis; a warning where rows have one element, whose softmax is 1."""
    x = floating(x)
    axis = _axis("softmax", axis, x)
    if x.ndim == 2 and axis == 1 and x.shape[1] == 1:
        warnings.warn(
            f"{user_line()}: softmax of rows of one element, {tuple(x.shape)}, is always 1: was a sigmoid meant?",
            stacklevel=2,
        )
    return apply(norm.Softmax(axis), x)


@operation
def log_softmax(x: Any, axis: Any = -1) -> KerasTensor:
    x = floating(x)
    return apply(norm.LogSoftmax(_axis("log_softmax", axis, x)), x)


@operation
def sparsemax(x: Any, axis: int = -1) -> KerasTensor:
    """The nearest point of the probability simplex (Martins & Astudillo, 2016).

    Element i is in the support when the elements above it exceed it by less than 1 in all, which needs no sorting.
    """
    x = floating(x)
    axis = _axis("sparsemax", axis, x)
    last = x.type.rank - 1
    swap = tuple(last if d == axis else axis if d == last else d for d in range(x.type.rank))
    z = apply(shape.Transpose(swap), x) if axis != last else x
    rows = apply(shape.Reshape((*z.type.shape, 1)), z)
    columns = apply(shape.Reshape((*z.type.shape[:-1], 1, z.type.shape[-1])), z)
    excess = apply(kernels.Relu(), apply(broadcasting.Sub(), columns, rows))
    above = apply(reduce.ReduceSum((last + 1,), False), excess)
    support = apply(elementwise.Cast(x.type.dtype), _scalar(broadcasting.Less, above, 1.0))
    count = apply(reduce.ReduceSum((last,), True), support)
    total = apply(reduce.ReduceSum((last,), True), apply(broadcasting.Mul(), support, z))
    tau = apply(broadcasting.Div(), _scalar(broadcasting.Sub, total, 1.0), count)
    y = apply(kernels.Relu(), apply(broadcasting.Sub(), z, tau))
    return apply(shape.Transpose(swap), y) if axis != last else y


@operation
def glu(x: Any, axis: int = -1) -> KerasTensor:
    """The first half along an axis times the sigmoid of the second."""
    x = floating(x)
    axis = _axis("glu", axis, x)
    size = x.shape[axis]
    if size is None or size % 2:
        raise ModelError(f"glu: expected an even size of axis {axis}; received shape {x.shape}")

    def half(start: int | None, end: int | None) -> KerasTensor:
        starts = tuple(start if d == axis else None for d in range(x.type.rank))
        ends = tuple(end if d == axis else None for d in range(x.type.rank))
        return apply(shape.Slice(starts, ends, (1,) * x.type.rank), x)

    gate = apply(kernels.Sigmoid(), half(size // 2, None))
    return apply(broadcasting.Mul(), half(None, size // 2), gate)


def _axis(owner: str, axis: Any, x: KerasTensor) -> int:
    if isinstance(axis, (list, tuple)) and len(axis) == 1:
        axis = axis[0]
    if not isinstance(axis, int) or not -x.type.rank <= axis < x.type.rank:
        raise ModelError(f"{owner}: axis must be an axis of {x.shape}; received {axis!r}")
    return axis % x.type.rank


swish = silu
hard_swish = hard_silu

_BY_NAME: dict[str, Callable[..., Any]] = {
    f.__name__: f
    for f in (
        linear, relu, leaky_relu, relu6, elu, selu, celu, gelu, silu, mish, softplus, softsign, tanh, sigmoid,
        log_sigmoid, exponential, hard_sigmoid, hard_silu, hard_tanh, tanh_shrink, hard_shrink, soft_shrink,
        threshold, squareplus, sparse_plus, sparse_sigmoid, softmax, log_softmax, sparsemax, glu,
    )
}  # fmt: skip
_BY_NAME.update(swish=silu, hard_swish=hard_silu, exp=exponential)
_BY_NAME["hard_sigmoid_keras2"] = hard_sigmoid_keras2


def get(identifier: Any) -> Callable[..., Any]:
    """The activation of a name, a function or a layer; None is linear."""
    match identifier:
        case None:
            return linear
        case str() | {"class_name": str()} if (found := custom(identifier)) is not None:
            return found  # type: ignore[no-any-return]
        case "hard_sigmoid" if generation.get() < 3:
            return hard_sigmoid_keras2
        case str():
            if identifier not in _BY_NAME:
                known = sorted(_BY_NAME)
                raise ModelError(
                    f"unknown activation {identifier!r}{nearest(identifier, known)}: expected one of {', '.join(known)}"
                )
            return _BY_NAME[identifier]
        case {"config": str() as name}:
            return get(name)
        case {"class_name": str() as name, "config": dict()} if name in LAYERS:
            return FAMILIES["layers"](identifier)  # type: ignore[no-any-return]
        case _ if callable(identifier):
            return identifier  # type: ignore[no-any-return]
        case _:
            raise ModelError(f"expected an activation or its name; received {identifier!r}")


def serialize(activation: Any) -> Any:
    """The name, or the config, that `get` turns back into the function."""
    return serialize_keras_object(activation)


def deserialize(config: Any) -> Callable[..., Any]:
    return get(config)
