"""Metrics as graph nodes: what a batch adds to their running sums.

Each gives a list of sums, scalars of the predictions' dtype, that a metric keeps; its value is a function of them that
needs no graph: a mean is total / count.
"""

from __future__ import annotations

from convc.ops.values import Value
from convc.types import DType


def mean_of(values: Value) -> list[Value]:
    """(total, count) of values per sample."""
    axes = range(values.rank)
    count = values.count(axes)
    return [values.sum(axes), count if isinstance(count, Value) else values.constant(count)]


def as_numbers(hits: Value, like: Value) -> Value:
    return hits.cast(like.dtype)


def best(values: Value) -> Value:
    """The first position of the largest element along the last axis."""
    return values.apply("arg_max", axis=-1)


def categorical_accuracy(y_true: Value, y_pred: Value) -> Value:
    return as_numbers(best(y_true).equal(best(y_pred)), y_pred)


def sparse_categorical_accuracy(labels: Value, y_pred: Value) -> Value:
    return as_numbers(best(y_pred).equal(labels.cast(DType.int64)), y_pred)


def binary_accuracy(y_true: Value, y_pred: Value, threshold: float = 0.5) -> Value:
    hits = as_numbers(y_true.equal(as_numbers(y_pred > threshold, y_true)), y_pred)
    return hits.mean((-1,))


def sparse_top_k_categorical_accuracy(labels: Value, y_pred: Value, k: int = 5) -> Value:
    """Whether fewer than k classes are more likely than the label."""
    hit = labels.apply("one_hot", depth=y_pred.shape[-1])
    wanted = hit.where(y_pred, 0).sum((-1,), True)
    larger = as_numbers(y_pred > wanted, y_pred).sum((-1,))
    return as_numbers(larger < k, y_pred)


def top_k_categorical_accuracy(y_true: Value, y_pred: Value, k: int = 5) -> Value:
    return sparse_top_k_categorical_accuracy(best(y_true), y_pred, k)


def confusion(y_true: Value, y_pred: Value, threshold: float = 0.5) -> list[Value]:
    """(true positives, false positives, false negatives): precision and recall are made of them."""
    axes = range(y_pred.rank)
    given = as_numbers(y_pred > threshold, y_pred)
    return [
        (y_true * given).sum(axes),
        ((1 - y_true) * given).sum(axes),
        (y_true * (1 - given)).sum(axes),
    ]
