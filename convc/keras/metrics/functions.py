"""Metrics as functions of tensors: a value per sample (or element), as Keras 3 defines them."""

from __future__ import annotations

from typing import Any

from convc.keras import backend, ops
from convc.keras.engine.tensor import KerasTensor, as_tensor
from convc.keras.losses.functions import cosine_similarity as distance
from convc.keras.losses.functions import matched
from convc.keras.losses.loss import same_rank


def hits(a: KerasTensor, b: KerasTensor) -> Any:
    """1.0 where both are equal, else 0.0."""
    return ops.cast(ops.equal(a, b), backend.floatx())


def accuracy(y_true: Any, y_pred: Any) -> Any:
    """Whether both are equal."""
    return hits(*matched(y_true, y_pred))


def binary_accuracy(y_true: Any, y_pred: Any, threshold: float = 0.5) -> Any:
    """Whether predictions lie on the targets' side of the threshold."""
    y_true, y_pred = same_rank(as_tensor(y_true), as_tensor(y_pred))
    return hits(y_true, ops.cast(y_pred > threshold, y_true.dtype))


def categorical_accuracy(y_true: Any, y_pred: Any) -> Any:
    """Whether the likeliest class is the target's largest."""
    return hits(ops.argmax(y_true, -1), ops.argmax(y_pred, -1))


def labels_of(y_true: Any, y_pred: KerasTensor) -> Any:
    """Class numbers, an axis of size 1 after them taken away."""
    labels = as_tensor(y_true)
    if labels.ndim == y_pred.ndim and labels.shape[-1] == 1:
        labels = ops.squeeze(labels, -1)
    return ops.cast(labels, "int64")


def sparse_categorical_accuracy(y_true: Any, y_pred: Any) -> Any:
    """Whether the likeliest class is the label."""
    y_pred = as_tensor(y_pred)
    return hits(labels_of(y_true, y_pred), ops.cast(ops.argmax(y_pred, -1), "int64"))


def sparse_top_k_categorical_accuracy(
    y_true: Any, y_pred: Any, k: int = 5, from_sorted_ids: bool = False
) -> Any:
    """Whether fewer than k classes are likelier than the label."""
    y_pred = as_tensor(y_pred)
    labels = labels_of(y_true, y_pred)
    if from_sorted_ids:
        found = ops.expand_dims(labels, -1) == ops.cast(y_pred[..., :k], "int64")
        return ops.cast(ops.any(found, -1), backend.floatx())
    hit = ops.one_hot(labels, int(y_pred.shape[-1] or 0), dtype="bool")
    wanted = ops.sum(ops.where(hit, y_pred, 0.0), -1, True)
    larger = ops.sum(ops.cast(y_pred > wanted, "int32"), -1)
    return ops.cast(larger < k, backend.floatx())


def top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5) -> Any:
    return sparse_top_k_categorical_accuracy(ops.argmax(y_true, -1), y_pred, k)


def cosine_similarity(y_true: Any, y_pred: Any, axis: int = -1) -> Any:
    """1 where the directions agree, -1 where they are opposite."""
    return -distance(y_true, y_pred, axis)


def pearson_correlation(y_true: Any, y_pred: Any, axis: int = -1) -> Any:
    """The linear correlation of targets and predictions along an axis."""
    shifted = [t - ops.mean(t, axis, True) for t in matched(y_true, y_pred)]
    first, second = (t / ops.std(t, axis, True) for t in shifted)
    return ops.mean(first * second, axis)


def concordance_correlation(y_true: Any, y_pred: Any, axis: int = -1) -> Any:
    """Keras' agreement of targets and predictions along an axis (after Lin 1989)."""
    y_true, y_pred = matched(y_true, y_pred)
    means = [ops.mean(t, axis, True) for t in (y_true, y_pred)]
    spread = sum(ops.var(t, axis, True) for t in (y_true, y_pred))
    norm = spread + ops.square(means[0] - means[1])
    both = 2.0 * (y_true - means[1]) * (y_pred - means[1])
    return ops.mean(both / (norm + backend.epsilon()), axis)
