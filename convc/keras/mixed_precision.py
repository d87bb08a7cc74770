"""Keras 2's name for policies of dtypes."""

from __future__ import annotations

from convc.keras.dtype_policies import DTypePolicy, dtype_policy, set_dtype_policy
from convc.keras.optimizers.loss_scale import LossScaleOptimizer

Policy = DTypePolicy
global_policy, set_global_policy = dtype_policy, set_dtype_policy


__all__ = [
    "DTypePolicy", "LossScaleOptimizer", "Policy", "dtype_policy", "global_policy", "set_dtype_policy",
    "set_global_policy",
]  # fmt: skip
