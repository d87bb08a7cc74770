"""`LossScaleOptimizer`, for programs that train in float16."""

from __future__ import annotations

from typing import Any

from convc.errors import ModelError
from convc.keras.engine.arguments import number
from convc.keras.engine.identifiers import resolved
from convc.keras.optimizers.classes import CLASSES
from convc.keras.optimizers.optimizer import Optimizer


class LossScaleOptimizer:
    """The optimizer that it is given: losses need no scale, as gradients don't underflow in float32.

    `scale_loss`, `get_scaled_loss` and `get_unscaled_gradients`, which loops of one's own call, give back what they are
    given.
    """

    def __new__(  # type: ignore[misc]
        cls,
        inner_optimizer: Any,
        initial_scale: float = 2.0**15,
        dynamic_growth_steps: int = 2000,
        **settings: Any,
    ) -> Optimizer:
        if not isinstance(inner_optimizer, Optimizer):
            raise ModelError(
                f"LossScaleOptimizer: inner_optimizer: expected an optimizer; received {inner_optimizer!r}"
            )
        number("LossScaleOptimizer", "initial_scale", initial_scale, "a number ≥ 0")
        number("LossScaleOptimizer", "dynamic_growth_steps", dynamic_growth_steps, "a number ≥ 0")
        return inner_optimizer

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """The optimizer in a config of Keras'."""
        known = {c.__name__: c for c in CLASSES}
        return resolved("optimizer", config.get("inner_optimizer"), known, custom_objects)
