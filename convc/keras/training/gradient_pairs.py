"""What `optimizer.apply_gradients` is given: each a gradient and the variable that it is of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from convc.errors import ModelError
from convc.keras.engine.naming import user_line
from convc.keras.engine.tensor import KerasTensor, Variable, as_tensor


def checked_pairs(optimizer: Any, pairs: Iterable[Any]) -> list[tuple[Any, Variable]]:
    """The pairs as a list; ModelError for what is no pair, or has no variable as its second."""
    found = []
    for pair in pairs:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise _refused(optimizer, "pairs (gradient, variable), as zip makes them", pair)
        if not isinstance(pair[1], Variable):
            raise _refused(optimizer, "a variable as the second of each pair", pair[1])
        found.append((pair[0], pair[1]))
    return found


def gradient_of(optimizer: Any, gradient: Any, variable: Variable) -> KerasTensor:
    """The gradient in the variable's dtype; ModelError where its shape is another than the variable's."""
    found = as_tensor(gradient, variable.dtype)
    if len(found.shape) != len(variable.shape) or any(
        size is not None and size != expected
        for size, expected in zip(found.shape, variable.shape, strict=True)
    ):
        raise ModelError(
            f"{user_line()}: {type(optimizer).__name__}.apply: {variable.path} has shape {tuple(variable.shape)}; "
            f"received a gradient of shape {tuple(found.shape)}"
        )
    return found


def _refused(optimizer: Any, expected: str, received: Any) -> ModelError:
    return ModelError(
        f"{user_line()}: {type(optimizer).__name__}.apply_gradients: expected {expected}; received {received!r}"
    )
