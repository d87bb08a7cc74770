"""What the steps of recurrent layers are written in: their activations, and one text for kernels and for graphs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from convc.loops.ir import Expr, Let, Stmt, Var, call, const, fma, maximum, minimum, select
from convc.ops.activations import np_sigmoid
from convc.ops.base import Array
from convc.ops.elementwise import sigmoid
from convc.ops.values import Value

Part = Callable[[int], Any]
"""A gate or a state by its number: one element of it, or all."""


@dataclass(frozen=True)
class Activation:
    """A function of single elements, and its derivative as a function of its value."""

    function: Callable[[Expr], Expr]
    slope: Callable[[Any], Any]
    numpy: Callable[[Array], Array]
    numpy_slope: Callable[[Array], Array]
    operator: str = ""
    """The operator that computes it, where that has another name."""
    attributes: Mapping[str, float] = field(default_factory=dict)
    """The operator's."""


def one(y: Any) -> Any:
    """1 of an element's kind."""
    return y.constant(1) if isinstance(y, Value) else const(1, y.dtype)


def is_positive(y: Any) -> Any:
    """1 where y > 0, else 0."""
    if isinstance(y, Value):
        return (y > 0).cast(y.dtype)
    return select(y > 0, const(1, y.dtype), const(0, y.dtype))


def hard_sigmoid(slope: float) -> Activation:
    """slope * x + 1/2 limited to 0 … 1."""

    def derivative(y: Any) -> Any:
        inside = (y > 0) & (y < 1)
        if isinstance(y, Value):
            return inside.cast(y.dtype) * slope
        return select(inside, const(slope, y.dtype), const(0, y.dtype))

    return Activation(
        lambda x: minimum(maximum(x * slope + 0.5, 0), 1),
        derivative,
        lambda x: np.clip(x * x.dtype.type(slope) + x.dtype.type(0.5), 0, 1),
        lambda y: ((y > 0) & (y < 1)) * y.dtype.type(slope),
        "hard_sigmoid",
        {"alpha": slope, "beta": 0.5},
    )


ACTIVATIONS = {
    "linear": Activation(lambda x: x, one, lambda x: x, np.ones_like),
    "relu": Activation(
        lambda x: maximum(x, 0),
        is_positive,
        lambda x: np.maximum(x, 0),
        lambda y: (y > 0).astype(y.dtype),
    ),
    "sigmoid": Activation(
        sigmoid, lambda y: y * (1 - y), np_sigmoid, lambda y: np.asarray(y * (1 - y))
    ),
    "hard_sigmoid": hard_sigmoid(1 / 6),
    "hard_sigmoid_keras2": hard_sigmoid(0.2),
    "tanh": Activation(
        lambda x: call("tanh", x), lambda y: 1 - y * y, np.tanh, lambda y: np.asarray(1 - y**2)
    ),
}
"""What gates may apply, by its name in the operators' attributes."""


class Elements:
    """What a step is written in, as statements of a kernel: elements of one unit and one row. `block` has them."""

    def __init__(self) -> None:
        self.block: list[Stmt] = []

    def let(self, name: str, value: Any) -> Any:
        """The value under a name: it is computed once."""
        self.block.append(Let(name, value))
        return Var(name, value.dtype)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        return fma(a, b, c)

    def activated(self, activation: str, x: Any) -> Any:
        return ACTIVATIONS[activation].function(x)

    def zero(self, like: Any) -> Any:
        return const(0, like.dtype)

    def where(self, condition: Any, then: Any, otherwise: Any) -> Any:
        """`then` in rows whose `condition` holds, else `otherwise`."""
        return select(condition, then, otherwise)


class Tensors(Elements):
    """The same as nodes of a graph: all units and rows at once."""

    def let(self, name: str, value: Any) -> Any:
        return value

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        return a * b + c

    def activated(self, activation: str, x: Any) -> Any:
        if activation == "linear":
            return x
        row = ACTIVATIONS[activation]
        return x.apply(row.operator or activation, **row.attributes)

    def zero(self, like: Any) -> Any:
        return like.constant(0).broadcast(like.shape)

    def where(self, condition: Any, then: Any, otherwise: Any) -> Any:
        return condition.reshape((*condition.shape, 1)).where(then, otherwise)
