"""Import rules of the domain ai.onnx.preview.training: gradients, and one step of an optimizer, as plain operators."""

from __future__ import annotations

import numpy as np

from convc.onnx.importers.call import Call, Rejected, Rule
from convc.ops.broadcasting import Add, Div, Greater, Mul, Pow, Sub, Where
from convc.ops.differentiation import add_gradients
from convc.ops.elementwise import Sqrt
from convc.ops.reduce import ReduceSum
from convc.types import DType


def groups(c: Call, each: int) -> list[list[str]]:
    """The inputs after rate and step, `each` per parameter: all values, then all gradients, then the states."""
    rest = c.rest(2)
    count = len(rest) // each
    if count * each != len(rest):
        raise Rejected(f"{len(rest)} tensors in groups of {each}")
    return [rest[k::count] for k in range(count)]


def regularised(c: Call, x: str, g: str) -> str:
    """The gradient with that of norm_coefficient / 2 * |x|²."""
    norm = float(c.attr("norm_coefficient", 0.0))
    return c.add(Add(), g, c.add(Mul(), x, c.scalar(norm, x))) if norm else g


def after_first(c: Call, later: str, first: str) -> str:
    """`later` where the step count is above 0, else `first`."""
    started = c.add(Greater(), c.reshape(c[1], ()), c.constant(np.array(0), c.dtype(1)))
    return c.add(Where(), started, later, first)


def rate_of(c: Call) -> str:
    return c.reshape(c[0], ())


def momentum(c: Call) -> tuple[str, ...]:
    alpha, beta = float(c.attr("alpha")), float(c.attr("beta"))
    nesterov = c.attr("mode") == "nesterov"
    values, states = [], []
    for x, g, v in groups(c, 3):
        g = regularised(c, x, g)
        weight = after_first(c, c.scalar(beta, x), c.scalar(1.0, x))
        new = c.add(Add(), c.add(Mul(), v, c.scalar(alpha, x)), c.add(Mul(), weight, g))
        step = c.add(Add(), g, c.add(Mul(), new, c.scalar(alpha, x))) if nesterov else new
        values.append(c.add(Sub(), x, c.add(Mul(), rate_of(c), step)))
        states.append(new)
    return *values, *states


def adagrad(c: Call) -> tuple[str, ...]:
    decay, epsilon = float(c.attr("decay_factor", 0.0)), float(c.attr("epsilon", 1e-6))
    values, states = [], []
    for x, g, h in groups(c, 3):
        count = c.cast(c.reshape(c[1], ()), c.dtype(x))
        slower = c.add(Add(), c.add(Mul(), count, c.scalar(decay, x)), c.scalar(1.0, x))
        rate = c.add(Div(), rate_of(c), slower)
        g = regularised(c, x, g)
        new = c.add(Add(), h, c.add(Mul(), g, g))
        root = c.add(Add(), c.add(Sqrt(), new), c.scalar(epsilon, x))
        values.append(c.add(Sub(), x, c.add(Div(), c.add(Mul(), rate, g), root)))
        states.append(new)
    return *values, *states


def adam(c: Call) -> tuple[str, ...]:
    alpha, beta = float(c.attr("alpha", 0.9)), float(c.attr("beta", 0.999))
    epsilon, post = float(c.attr("epsilon", 1e-6)), float(c.attr("norm_coefficient_post", 0.0))
    values, firsts, seconds = [], [], []
    for x, g, v, h in groups(c, 4):
        g = regularised(c, x, g)
        first = mixed(c, v, g, alpha)
        second = mixed(c, h, c.add(Mul(), g, g), beta)
        count = c.cast(c.reshape(c[1], ()), DType.float64)

        def missing(base: float, count: str = count) -> str:
            return c.add(Sub(), c.scalar(1.0, count), c.add(Pow(), c.scalar(base, count), count))

        ratio = c.add(Div(), c.add(Sqrt(), missing(beta)), missing(alpha))
        adjusted = c.add(Mul(), rate_of(c), c.cast(ratio, c.dtype(0)))
        rate = after_first(c, adjusted, rate_of(c))
        root = c.add(Add(), c.add(Sqrt(), second), c.scalar(epsilon, x))
        new = c.add(Sub(), x, c.add(Div(), c.add(Mul(), rate, first), root))
        values.append(c.add(Mul(), new, c.scalar(1 - post, x)))
        firsts.append(first)
        seconds.append(second)
    return *values, *firsts, *seconds


def mixed(c: Call, old: str, new: str, share: float) -> str:
    """share * old + (1 - share) * new."""
    kept = c.add(Mul(), old, c.scalar(share, old))
    return c.add(Add(), kept, c.add(Mul(), new, c.scalar(1 - share, new)))


def gradient(c: Call) -> tuple[str, ...]:
    """dy/dx for each of the values xs that y depends on, through the operators before this node."""
    names = [*c.attr("xs"), *(c.attr("zs") or [])]
    for k, name in enumerate(names):
        if c.importer.named(name) != c.values[k]:
            raise Rejected(f"expected the value {name!r} itself as input {k}")
    y = c.importer.named(c.attr("y"))
    if not isinstance(y, str):
        raise Rejected(f"{c.attr('y')!r} is no tensor")
    loss = c.add(ReduceSum(tuple(range(c.rank(y))), False), y) if c.rank(y) else y
    return add_gradients(c.builder, loss, [c[k] for k in range(len(c.attr("xs")))])


RULES: dict[str, Rule] = {
    "Gradient": gradient,
    "Momentum": momentum,
    "Adagrad": adagrad,
    "Adam": adam,
}
