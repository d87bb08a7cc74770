"""Helpers around models."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convc.errors import DataError, UsageError
from convc.keras.backend import clear_session
from convc.keras.initializers import set_stream_seed
from convc.keras.saving import get_custom_objects, register_keras_serializable

__all__ = [
    "clear_session", "get_custom_objects", "normalize", "register_keras_serializable", "set_random_seed",
    "to_categorical",
]  # fmt: skip


def set_random_seed(seed: Any) -> None:
    """Seeds Python's, numpy's and the initializers' random numbers: models made after it repeat."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**32:
        raise UsageError(
            f"set_random_seed: expected an integer from 0 to 2**32 - 1; received {seed!r}"
        )
    random.seed(int(seed))
    np.random.seed(int(seed))
    set_stream_seed(int(seed))


def to_categorical(x: Any, num_classes: int | None = None) -> NDArray[np.float32]:
    """Class numbers as rows with a single 1: shape (…,) or (…, 1) to (…, num_classes)."""
    labels = np.asarray(x)
    if labels.ndim > 1 and labels.shape[-1] == 1:
        labels = labels[..., 0]
    labels = labels.astype(np.int64)
    classes = int(num_classes) if num_classes else int(labels.max(initial=-1)) + 1
    if labels.size and not (labels.min() >= 0 and labels.max() < classes):
        raise DataError(
            f"to_categorical: expected labels from 0 to {classes - 1}; received {labels.min()} to {labels.max()}"
        )
    rows: NDArray[np.float32] = np.eye(classes, dtype=np.float32)[labels]
    return rows


def normalize(x: Any, axis: int = -1, order: int = 2) -> NDArray[np.generic]:
    """Arrays divided by their norm along an axis."""
    array = np.asarray(x)
    norms = np.atleast_1d(np.linalg.norm(array, order, axis, keepdims=True))
    norms[norms == 0] = 1
    return np.asarray(array / norms)
