"""Keras 3's name for the global settings."""

from convc.keras.backend import (
    backend,
    epsilon,
    floatx,
    image_data_format,
    progress_style,
    set_epsilon,
    set_floatx,
    set_image_data_format,
    set_progress_style,
    set_threads,
    threads,
)
from convc.keras.dtype_policies import dtype_policy, set_dtype_policy

__all__ = [
    "backend", "dtype_policy", "epsilon", "floatx", "image_data_format", "progress_style",
    "set_dtype_policy", "set_epsilon", "set_floatx",
    "set_image_data_format", "set_progress_style", "set_threads", "threads",
]  # fmt: skip
