"""Labels as rows, and arrays of unit norm."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from convc.errors import DataError
from convc.keras.engine.tensor import Operators, function


def to_categorical(x: Any, num_classes: int | None = None) -> NDArray[np.float32]:
    """Class numbers as rows with a single 1: shape (…,) or (…, 1) to (…, num_classes)."""
    labels = np.asarray(x)
    if labels.ndim > 1 and labels.shape[-1] == 1:
        labels = labels[..., 0]
    if labels.dtype.kind not in "biuf":
        raise DataError(
            f"to_categorical: expected class numbers; received an array of dtype {labels.dtype}"
        )
    labels = labels.astype(np.int64)
    classes = int(num_classes) if num_classes else int(labels.max(initial=-1)) + 1
    if labels.size and not (labels.min() >= 0 and labels.max() < classes):
        raise DataError(
            f"to_categorical: expected labels from 0 to {classes - 1}; received {labels.min()} to {labels.max()}"
        )
    rows = np.zeros((labels.size, classes), np.float32)
    rows[np.arange(labels.size), labels.reshape(-1)] = 1
    return rows.reshape(*labels.shape, classes)


def normalize(x: Any, axis: int = -1, order: int = 2) -> Any:
    """Arrays or tensors divided by their norm along an axis."""
    if isinstance(x, Operators):
        return function("normalize")(x, axis, order)
    array = np.asarray(x)
    norms = np.atleast_1d(np.linalg.norm(array, order, axis, keepdims=True))
    norms[norms == 0] = 1
    return np.asarray(array / norms)
