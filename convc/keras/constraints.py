"""Limits on weights: functions of a tensor that give what it becomes after each step of training."""

from __future__ import annotations

from typing import Any

from convc.keras import backend
from convc.keras.engine.arguments import fraction, number
from convc.keras.engine.identifiers import config_of, resolved
from convc.keras.engine.naming import snake_case
from convc.keras.engine.tensor import function


class Constraint:
    """Base of all constraints: subclasses define `__call__(w)`, a weight of the same shape."""

    def __call__(self, w: Any) -> Any:
        return w

    def get_config(self) -> dict[str, Any]:
        return dict(vars(self))

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Constraint:
        return cls(**config)


def _norms(w: Any, axis: Any) -> Any:
    squares = function("sum")(function("square")(w), axis, True)
    return function("sqrt")(squares)


def _scaled(w: Any, norms: Any, desired: Any) -> Any:
    return w * (desired / (backend.epsilon() + norms))


class MaxNorm(Constraint):
    """Scales weights down to a norm along `axis`."""

    def __init__(self, max_value: float = 2, axis: Any = 0) -> None:
        number("MaxNorm", "max_value", max_value, "a number ≥ 0")
        self.max_value, self.axis = max_value, axis

    def __call__(self, w: Any) -> Any:
        norms = _norms(w, self.axis)
        return _scaled(w, norms, function("clip")(norms, 0, self.max_value))


class NonNeg(Constraint):
    """Sets negative weights to zero."""

    def __call__(self, w: Any) -> Any:
        return function("maximum")(w, 0)


class UnitNorm(Constraint):
    """Scales weights to norm 1 along `axis`."""

    def __init__(self, axis: Any = 0) -> None:
        self.axis = axis

    def __call__(self, w: Any) -> Any:
        return w / (backend.epsilon() + _norms(w, self.axis))


class MinMaxNorm(Constraint):
    """Moves norms along `axis` into a range, `rate` of the way per step."""

    def __init__(
        self, min_value: float = 0.0, max_value: float = 1.0, rate: float = 1.0, axis: Any = 0
    ) -> None:
        number("MinMaxNorm", "min_value", min_value, "a number ≥ 0")
        number("MinMaxNorm", "max_value", max_value, "a number ≥ 0")
        fraction("MinMaxNorm", "rate", rate)
        self.min_value, self.max_value, self.rate, self.axis = min_value, max_value, rate, axis

    def __call__(self, w: Any) -> Any:
        norms = _norms(w, self.axis)
        limited = function("clip")(norms, self.min_value, self.max_value)
        return _scaled(w, norms, self.rate * limited + (1.0 - self.rate) * norms)


_CLASSES: tuple[type[Constraint], ...] = (MaxNorm, NonNeg, UnitNorm, MinMaxNorm)
_BY_NAME = {n: c for c in _CLASSES for n in (c.__name__, snake_case(c.__name__))}


def serialize(constraint: Any) -> Any:
    """A config (of a function: its name) that `deserialize` turns back into the constraint."""
    return config_of("keras.constraints", constraint)


def deserialize(config: Any, custom_objects: Any = None) -> Any:
    return resolved("constraint", config, _BY_NAME, custom_objects)


def get(identifier: Any) -> Any:
    """The constraint of a name, a config, a class or a function; None stays None."""
    return resolved("constraint", identifier, _BY_NAME)


max_norm, non_neg, unit_norm, min_max_norm = MaxNorm, NonNeg, UnitNorm, MinMaxNorm

# Keras 1's names.
maxnorm, nonneg, unitnorm = MaxNorm, NonNeg, UnitNorm
