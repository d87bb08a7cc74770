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

__all__ = [
    "backend", "epsilon", "floatx", "image_data_format", "progress_style", "set_epsilon", "set_floatx",
    "set_image_data_format", "set_progress_style", "set_threads", "threads",
]  # fmt: skip
