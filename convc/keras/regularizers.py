"""Penalties on weights and activities, which training adds to the loss: functions of a tensor that give a number."""

from __future__ import annotations

from typing import Any

from convc.errors import ModelError
from convc.keras.engine.identifiers import config_of, resolved
from convc.keras.engine.tensor import as_tensor, function


class Regularizer:
    """Base of all regularizers: subclasses define `__call__(x)`, a scalar of a weight or an activity."""

    def __call__(self, x: Any) -> Any:
        return 0.0

    def get_config(self) -> dict[str, Any]:
        return dict(vars(self))

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Regularizer:
        return cls(**config)


def _strength(owner: str, name: str, value: Any) -> float:
    if value is None:
        return 0.0
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not 0 <= value < float("inf")
    ):
        raise ModelError(f"{owner}: {name} must be a non-negative number; received {value!r}")
    return float(value)


def _l1(x: Any, strength: float) -> Any:
    return strength * function("sum")(function("absolute")(x)) if strength else 0.0


def _l2(x: Any, strength: float) -> Any:
    return strength * function("sum")(function("square")(x)) if strength else 0.0


class L1L2(Regularizer):
    """l1 * sum(|w|) + l2 * sum(w²)."""

    def __init__(self, l1: float = 0.0, l2: float = 0.0) -> None:
        self.l1, self.l2 = _strength("L1L2", "l1", l1), _strength("L1L2", "l2", l2)

    def __call__(self, x: Any) -> Any:
        return _l1(x, self.l1) + _l2(x, self.l2)


class L1(Regularizer):
    """l1 * sum(|w|)."""

    def __init__(self, l1: float | None = 0.01) -> None:
        self.l1 = _strength("L1", "l1", 0.01 if l1 is None else l1)

    def __call__(self, x: Any) -> Any:
        return _l1(x, self.l1)


class L2(Regularizer):
    """l2 * sum(w²)."""

    def __init__(self, l2: float | None = 0.01) -> None:
        self.l2 = _strength("L2", "l2", 0.01 if l2 is None else l2)

    def __call__(self, x: Any) -> Any:
        return _l2(x, self.l2)


class OrthogonalRegularizer(Regularizer):
    """Penalises rows (or columns) that aren't orthogonal."""

    def __init__(self, factor: float = 0.01, mode: str = "rows") -> None:
        if mode not in ("rows", "columns"):
            raise ModelError(
                f"OrthogonalRegularizer: mode must be 'rows' or 'columns'; received {mode!r}"
            )
        self.factor, self.mode = _strength("OrthogonalRegularizer", "factor", factor), mode

    def __call__(self, x: Any) -> Any:
        x = as_tensor(x)
        if x.ndim != 2:
            raise ModelError(
                f"OrthogonalRegularizer: expected a weight of rank 2; received shape {x.shape}"
            )
        rows = x if self.mode == "rows" else function("transpose")(x)
        size = rows.shape[0] or 0
        rows = function("normalize")(rows, axis=1)
        product = rows @ function("transpose")(rows)
        others = function("absolute")(product * (1.0 - function("eye")(size, dtype=x.dtype)))
        return self.factor * 0.5 * function("sum")(others) / (size * (size - 1.0) / 2.0)


_BY_NAME: dict[str, type[Regularizer]] = {
    "l1": L1, "L1": L1, "l2": L2, "L2": L2, "l1_l2": L1L2, "l1l2": L1L2, "L1L2": L1L2,
    "orthogonal_regularizer": OrthogonalRegularizer, "OrthogonalRegularizer": OrthogonalRegularizer,
}  # fmt: skip


def serialize(regularizer: Any) -> Any:
    """A config (of a function: its name) that `deserialize` turns back into the regularizer."""
    return config_of("keras.regularizers", regularizer)


def deserialize(config: Any, custom_objects: Any = None) -> Any:
    return resolved("regularizer", config, _BY_NAME, custom_objects)


def get(identifier: Any) -> Any:
    """The regularizer of a name, a config, a class or a function; None stays None."""
    return resolved("regularizer", identifier, _BY_NAME)


l1, l2, orthogonal_regularizer = L1, L2, OrthogonalRegularizer


def l1_l2(l1: float = 0.01, l2: float = 0.01) -> L1L2:
    return L1L2(l1, l2)


l1l2 = l1_l2
"""Keras 1's name."""
