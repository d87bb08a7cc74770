"""Losses as functions of tensors: a value per sample, as Keras 3 defines them.

Targets and predictions are (batch, …, classes or outputs); the last axis, or `axis`, is summed or averaged away.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

from convc.errors import ModelError
from convc.keras import backend, ops
from convc.keras.engine.arguments import axis_of
from convc.keras.engine.naming import user_line
from convc.keras.engine.ranges import Limit, check_known
from convc.keras.engine.tensor import KerasTensor, apply, as_tensor, floating, transpose
from convc.keras.losses.loss import same_rank
from convc.ops import loss as kernels
from convc.ops.activations import Sigmoid
from convc.ops.norm import Softmax

Function = TypeVar("Function", bound=Callable[..., Any])


def of_labels(function: Function) -> Function:
    """Marks a loss whose targets are class numbers, which need not become floats."""
    function.takes_labels = True  # type: ignore[attr-defined]
    return function


def pair(y_true: Any, y_pred: Any) -> tuple[KerasTensor, KerasTensor]:
    """Both as floats of the predictions' dtype."""
    y_pred = floating(y_pred)
    return as_tensor(y_true, y_pred.dtype), y_pred


def matched(y_true: Any, y_pred: Any) -> tuple[KerasTensor, KerasTensor]:
    """Both as floats of one rank. ModelError where their shapes don't fit (see `fit`)."""
    true, predicted = same_rank(*pair(y_true, y_pred))
    if not fit(true, predicted):
        raise ModelError(
            f"{user_line()}: expected targets of the predictions' shape {predicted.shape}; "
            f"received shape {true.shape}"
        )
    return true, predicted


def fit(y_true: KerasTensor, y_pred: KerasTensor) -> bool:
    """False where one can't be spread over the other, or would be along its last axis.

    Keras spreads targets (n, 1) over outputs (n, k), which hides that labels have another form than the outputs.
    """
    true, predicted = y_true.type.shape[::-1], y_pred.type.shape[::-1]
    if len(true) == len(predicted) > 0:
        a, b = true[0], predicted[0]
        if isinstance(a, int) and isinstance(b, int) and a != b:
            return False
    return all(a == b or 1 in (a, b) for a, b in zip(true, predicted, strict=False))


def mean_squared_error(y_true: Any, y_pred: Any) -> Any:
    y_true, y_pred = matched(y_true, y_pred)
    return ops.mean(ops.square(y_true - y_pred), -1)


def mean_absolute_error(y_true: Any, y_pred: Any) -> Any:
    y_true, y_pred = matched(y_true, y_pred)
    return ops.mean(ops.abs(y_true - y_pred), -1)


def mean_absolute_percentage_error(y_true: Any, y_pred: Any) -> Any:
    y_true, y_pred = matched(y_true, y_pred)
    relative = (y_true - y_pred) / ops.maximum(ops.abs(y_true), backend.epsilon())
    return 100.0 * ops.mean(ops.abs(relative), -1)


def mean_squared_logarithmic_error(y_true: Any, y_pred: Any) -> Any:
    logs = [ops.log(ops.maximum(t, backend.epsilon()) + 1.0) for t in matched(y_true, y_pred)]
    return ops.mean(ops.square(logs[1] - logs[0]), -1)


def huber(y_true: Any, y_pred: Any, delta: float = 1.0) -> Any:
    """A parabola up to an error of delta, a line beyond (Huber 1964)."""
    y_true, y_pred = matched(y_true, y_pred)
    error = ops.abs(y_pred - y_true)
    line = delta * error - 0.5 * delta * delta
    return ops.mean(ops.where(error <= delta, 0.5 * ops.square(error), line), -1)


def log_cosh(y_true: Any, y_pred: Any) -> Any:
    """log(cosh(error)) without overflow."""
    y_true, y_pred = matched(y_true, y_pred)
    error = y_pred - y_true
    return ops.mean(error + ops.softplus(error * -2.0) - math.log(2.0), -1)


def kl_divergence(y_true: Any, y_pred: Any) -> Any:
    """sum(t * log(t / p)) (Kullback and Leibler 1951)."""
    wanted, given = (ops.clip(t, backend.epsilon(), 1) for t in matched(y_true, y_pred))
    return ops.sum(wanted * ops.log(wanted / given), -1)


def poisson(y_true: Any, y_pred: Any) -> Any:
    y_true, y_pred = matched(y_true, y_pred)
    return ops.mean(y_pred - y_true * ops.log(y_pred + backend.epsilon()), -1)


def cosine_similarity(y_true: Any, y_pred: Any, axis: int = -1) -> Any:
    """-1 where the directions agree, 1 where they are opposite."""
    y_true, y_pred = (unit(t, axis) for t in matched(y_true, y_pred))
    return -ops.sum(y_true * y_pred, axis)


def unit(x: KerasTensor, axis: int) -> Any:
    """x over its Euclidean norm; a zero stays zero."""
    size = ops.sqrt(ops.maximum(ops.sum(ops.square(x), axis, True), backend.epsilon() ** 2))
    return x / size


def signs(y_true: KerasTensor) -> Any:
    """Targets of 0 and 1 as -1 and 1; others as they are."""
    strange = ops.max(ops.abs(y_true * (y_true - 1.0)))
    return ops.where(strange == 0, 2.0 * y_true - 1.0, y_true)


def hinge(y_true: Any, y_pred: Any) -> Any:
    y_true, y_pred = matched(y_true, y_pred)
    return ops.mean(ops.maximum(1.0 - signs(y_true) * y_pred, 0.0), -1)


def squared_hinge(y_true: Any, y_pred: Any) -> Any:
    y_true, y_pred = matched(y_true, y_pred)
    return ops.mean(ops.square(ops.maximum(1.0 - signs(y_true) * y_pred, 0.0)), -1)


def categorical_hinge(y_true: Any, y_pred: Any) -> Any:
    y_true, y_pred = pair(y_true, y_pred)
    hit, other = ops.sum(y_true * y_pred, -1), ops.max((1.0 - y_true) * y_pred, -1)
    return ops.maximum(other - hit + 1.0, 0.0)


def logits_of(
    y_pred: KerasTensor, from_logits: bool, activation: type[Softmax] | type[Sigmoid]
) -> KerasTensor | None:
    """The logits, from which a loss can't overflow: y_pred itself, or what a softmax or sigmoid made y_pred of.

    As in Keras on TensorFlow, that counts even where `from_logits` says that y_pred were logits.
    """
    match y_pred.step.source:
        case Softmax(axis=axis) if activation is Softmax and axis in (-1, y_pred.ndim - 1):
            found = KerasTensor(y_pred.step.inputs[0])
        case Sigmoid() if activation is Sigmoid:
            found = KerasTensor(y_pred.step.inputs[0])
        case _:
            return y_pred if from_logits else None
    if from_logits:
        warnings.warn(
            f"from_logits=True, but a {activation.__name__.lower()} made the predictions: the loss takes its logits",
            stacklevel=2,
        )
    return found


def likely(y_pred: KerasTensor) -> Any:
    """Probabilities that sum to 1 along the last axis, none of them 0 or 1."""
    least = backend.epsilon()
    return ops.clip(y_pred / ops.sum(y_pred, -1, True), least, 1.0 - least)


def classes_last(x: KerasTensor, axis: int) -> Any:
    at = axis_of("axis", axis, x.ndim)
    return transpose(x, (*(d for d in range(x.ndim) if d != at), at))


def smoothed(y_true: KerasTensor, label_smoothing: float) -> Any:
    """Shares of the classes moved towards equal ones."""
    if not label_smoothing:
        return y_true
    classes = y_true.shape[-1]
    assert classes is not None, "the number of classes is a number"
    return y_true * (1.0 - label_smoothing) + label_smoothing / classes


def check_shapes(loss: str, y_true: KerasTensor, y_pred: KerasTensor, hint: str) -> None:
    """ModelError for targets that have another shape than the predictions; the hint where they may be class numbers."""
    if y_true.ndim != y_pred.ndim or not fit(y_true, y_pred):
        may_be_numbers = y_true.ndim != y_pred.ndim or y_true.shape[-1] == 1
        raise ModelError(
            f"{user_line()}: {loss}: expected targets of the predictions' shape {y_pred.shape}; "
            f"received shape {y_true.shape}" + (f": {hint}" if may_be_numbers else "")
        )


def categorical_crossentropy(
    y_true: Any,
    y_pred: Any,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Any:
    """-sum(t * log(p)) over the classes, computed from the logits where they are known."""
    y_true, y_pred = (classes_last(t, axis) for t in pair(y_true, y_pred))
    check_shapes(
        "categorical_crossentropy",
        y_true,
        y_pred,
        "labels that are class numbers need sparse_categorical_crossentropy or keras.utils.to_categorical",
    )
    y_true = smoothed(y_true, label_smoothing)
    logits = logits_of(y_pred, from_logits, Softmax)
    if logits is not None:
        return apply(kernels.SoftmaxCrossentropy(), logits, y_true)
    return -ops.sum(y_true * ops.log(likely(y_pred)), -1)


def categorical_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    alpha: Any = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Any:
    """The cross entropy, what is already likely weighing less (Lin et al. 2018)."""
    y_true, y_pred = (classes_last(t, axis) for t in pair(y_true, y_pred))
    y_true = smoothed(y_true, label_smoothing)
    share = likely(ops.softmax(y_pred) if from_logits else y_pred)
    return ops.sum((1.0 - share) ** gamma * alpha * (-y_true * ops.log(share)), -1)


@of_labels
def sparse_categorical_crossentropy(
    y_true: Any,
    y_pred: Any,
    from_logits: bool = False,
    ignore_class: int | None = None,
    axis: int = -1,
) -> Any:
    """-log(p[label]) for labels (batch, …) or (batch, …, 1).

    Labels equal to `ignore_class` have no loss and count in no mean.
    """
    labels, y_pred = as_tensor(y_true), floating(y_pred)
    if labels.ndim == y_pred.ndim and labels.shape[axis] == 1:
        labels = ops.squeeze(labels, axis)
    if labels.ndim != y_pred.ndim - 1:
        raise ModelError(
            f"{user_line()}: sparse_categorical_crossentropy: expected labels of rank {y_pred.ndim - 1} for "
            f"predictions of shape {y_pred.shape}; received shape {labels.shape}"
            + ("; rows of classes need categorical_crossentropy" * (labels.ndim == y_pred.ndim))
        )
    y_pred = classes_last(y_pred, axis)
    classes = y_pred.shape[-1]
    if classes is not None:
        check_known("y_true", labels, Limit(f"{classes} classes", classes, False), ignore_class)
    labels = ops.cast(labels, "int64")
    if ignore_class is None:
        return _of_labels(labels, y_pred, from_logits)
    valid = labels != ignore_class
    losses = ops.where(valid, _of_labels(ops.where(valid, labels, 0), y_pred, from_logits), 0.0)
    losses.mask = valid
    return losses


def _of_labels(labels: KerasTensor, y_pred: KerasTensor, from_logits: bool) -> Any:
    logits = logits_of(y_pred, from_logits, Softmax)
    if logits is not None:
        return apply(kernels.SparseSoftmaxCrossentropy(), logits, labels)
    hit = ops.one_hot(labels, int(y_pred.shape[-1] or 0), dtype="bool")
    return -ops.sum(ops.where(hit, ops.log(likely(y_pred)), 0.0), -1)


def binary_losses(y_true: KerasTensor, y_pred: KerasTensor, from_logits: bool) -> Any:
    """-t * log(p) - (1 - t) * log(1 - p) for each element."""
    logits = logits_of(y_pred, from_logits, Sigmoid)
    if logits is not None:
        return apply(kernels.SigmoidCrossentropy(), logits, y_true)
    share = ops.clip(y_pred, backend.epsilon(), 1.0 - backend.epsilon())
    return -(y_true * ops.log(share) + (1.0 - y_true) * ops.log(1.0 - share))


def binary_crossentropy(
    y_true: Any,
    y_pred: Any,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Any:
    """The mean of the elements' cross entropies, computed from the logits where they are known."""
    y_true, y_pred = pair(y_true, y_pred)
    check_shapes(
        "binary_crossentropy",
        y_true,
        y_pred,
        "class numbers need sparse_categorical_crossentropy, two classes one output",
    )
    if label_smoothing:
        y_true = y_true * (1.0 - label_smoothing) + 0.5 * label_smoothing
    return ops.mean(binary_losses(y_true, y_pred, from_logits), axis)


def binary_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    apply_class_balancing: bool = False,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Any:
    """The binary cross entropy, what is already likely weighing less (Lin et al. 2018)."""
    y_true, y_pred = matched(y_true, y_pred)
    if label_smoothing:
        y_true = y_true * (1.0 - label_smoothing) + 0.5 * label_smoothing
    if from_logits:
        y_pred = ops.sigmoid(y_pred)
    right = y_true * y_pred + (1.0 - y_true) * (1.0 - y_pred)
    focal = (1.0 - right) ** gamma * binary_losses(y_true, y_pred, False)
    if apply_class_balancing:
        focal = (y_true * alpha + (1.0 - y_true) * (1.0 - alpha)) * focal
    return ops.mean(focal, axis)


def dice(y_true: Any, y_pred: Any, axis: Any = None) -> Any:
    """1 - 2 |both| / (|targets| + |predictions|) over axes (all of them: one number for the batch)."""
    y_true, y_pred = pair(y_true, y_pred)
    both = 2.0 * ops.sum(y_true * y_pred, axis)
    sizes = ops.sum(y_true, axis) + ops.sum(y_pred, axis)
    return 1.0 - both / (sizes + backend.epsilon())


def tversky(
    y_true: Any, y_pred: Any, alpha: float = 0.5, beta: float = 0.5, axis: Any = None
) -> Any:
    """Dice with false negatives weighing `alpha` and false positives `beta` (Salehi et al. 2017)."""
    y_true, y_pred = pair(y_true, y_pred)
    both = ops.sum(y_true * y_pred, axis)
    missed = ops.sum((1.0 - y_pred) * y_true, axis)
    wrong = ops.sum(y_pred * (1.0 - y_true), axis)
    return 1.0 - both / (both + missed * alpha + wrong * beta + backend.epsilon())


def categorical_generalized_cross_entropy(y_true: Any, y_pred: Any, q: float) -> Any:
    """(1 - p[label] ** q) / q of class numbers: less sensitive to wrong labels (Zhang and Sabuncu 2018)."""
    y_pred = floating(y_pred)
    hit = ops.one_hot(ops.cast(y_true, "int64"), int(y_pred.shape[-1] or 0), dtype=y_pred.dtype)
    return (1.0 - ops.sum(y_pred * hit, -1) ** q) / q
