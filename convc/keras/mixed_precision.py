"""Keras 2's name for policies of dtypes."""

from __future__ import annotations

from typing import Any

from convc.keras.dtype_policies import DTypePolicy, dtype_policy, set_dtype_policy

Policy = DTypePolicy
global_policy, set_global_policy = dtype_policy, set_dtype_policy


def LossScaleOptimizer(inner_optimizer: Any, *others: Any, **settings: Any) -> Any:  # noqa: N802
    """The optimizer itself: gradients don't underflow in float32."""
    return inner_optimizer


__all__ = [
    "DTypePolicy", "LossScaleOptimizer", "Policy", "dtype_policy", "global_policy", "set_dtype_policy",
    "set_global_policy",
]  # fmt: skip
