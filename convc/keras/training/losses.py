"""Losses as graph nodes: per sample, as Keras 3 defines them, and their reduction.

Each takes the targets and the predictions and gives a value without the last axis.
"""

from __future__ import annotations

from convc.graph.ir import Node
from convc.ops.activations import Sigmoid
from convc.ops.norm import Softmax
from convc.ops.values import Value

EPSILON = 1e-7
"""Probabilities are kept this far from 0 and 1."""


def mean_squared_error(y_true: Value, y_pred: Value) -> Value:
    return (y_pred - y_true).square().mean((-1,))


def mean_absolute_error(y_true: Value, y_pred: Value) -> Value:
    return (y_pred - y_true).abs().mean((-1,))


def mean_absolute_percentage_error(y_true: Value, y_pred: Value) -> Value:
    relative = (y_true - y_pred) / y_true.abs().maximum(EPSILON)
    return relative.abs().mean((-1,)) * 100


def mean_squared_logarithmic_error(y_true: Value, y_pred: Value) -> Value:
    first, second = ((v.maximum(EPSILON) + 1).log() for v in (y_pred, y_true))
    return (first - second).square().mean((-1,))


def huber(y_true: Value, y_pred: Value, delta: float = 1.0) -> Value:
    error = (y_pred - y_true).abs()
    line = error * delta - 0.5 * delta * delta
    return (error <= delta).where(error.square() * 0.5, line).mean((-1,))


def log_cosh(y_true: Value, y_pred: Value) -> Value:
    """log(cosh(e)) without overflow."""
    error = y_pred - y_true
    return (error + (error * -2).apply("softplus") - 0.6931471805599453).mean((-1,))


def kl_divergence(y_true: Value, y_pred: Value) -> Value:
    wanted, given = (v.apply("clip", min=EPSILON, max=1.0) for v in (y_true, y_pred))
    return (wanted * (wanted / given).log()).sum((-1,))


def signs(y_true: Value) -> Value:
    """Targets of 0 and 1 as -1 and 1; others as they are."""
    axes = range(y_true.rank)
    strange = (y_true * (y_true - 1)).abs().apply("reduce_max", axes=tuple(axes), keepdims=False)
    return strange.equal(0).where(y_true * 2 - 1, y_true)


def hinge(y_true: Value, y_pred: Value) -> Value:
    return (1 - signs(y_true) * y_pred).maximum(0).mean((-1,))


def squared_hinge(y_true: Value, y_pred: Value) -> Value:
    return (1 - signs(y_true) * y_pred).maximum(0).square().mean((-1,))


def categorical_hinge(y_true: Value, y_pred: Value) -> Value:
    hit = (y_true * y_pred).sum((-1,))
    other = ((1 - y_true) * y_pred).apply("reduce_max", axes=(-1,), keepdims=False)
    return (other - hit + 1).maximum(0)


def dice(y_true: Value, y_pred: Value) -> Value:
    """1 - 2 |both| / (|targets| + |predictions|), one number for the batch."""
    axes = range(y_true.rank)
    both = (y_true * y_pred).sum(axes) * 2
    return 1 - both / (y_true.sum(axes) + y_pred.sum(axes) + EPSILON)


def logits_of(y_pred: Value, activation: type[Softmax] | type[Sigmoid]) -> Value | None:
    """What a softmax over the last axis, or a sigmoid, made y_pred of: from it the loss can't overflow."""
    producer = next((n for n in reversed(y_pred.builder.nodes) if y_pred.name in n.outputs), None)
    match producer:
        case Node(op=Softmax(axis=axis)) if activation is Softmax and axis in (-1, y_pred.rank - 1):
            return Value(y_pred.builder, producer.inputs[0])
        case Node(op=Sigmoid()) if activation is Sigmoid:
            return Value(y_pred.builder, producer.inputs[0])
    return None


def categorical_crossentropy(
    y_true: Value, y_pred: Value, from_logits: bool = False, label_smoothing: float = 0.0
) -> Value:
    if label_smoothing:
        classes = y_true.shape[-1]
        assert isinstance(classes, int), "the number of classes is a number"
        y_true = y_true * (1 - label_smoothing) + label_smoothing / classes
    logits = y_pred if from_logits else logits_of(y_pred, Softmax)
    if logits is not None:
        return logits.apply("softmax_crossentropy", y_true)
    return -(y_true * likely(y_pred).log()).sum((-1,))


def sparse_categorical_crossentropy(
    labels: Value, y_pred: Value, from_logits: bool = False
) -> Value:
    """The labels are integers without the last axis."""
    logits = y_pred if from_logits else logits_of(y_pred, Softmax)
    if logits is None:
        hit = labels.apply("one_hot", depth=y_pred.shape[-1])
        return -hit.where(likely(y_pred).log(), 0).sum((-1,))
    return logits.apply("sparse_softmax_crossentropy", labels)


def likely(y_pred: Value) -> Value:
    """Probabilities that sum to 1, none of them 0 or 1."""
    share = y_pred / y_pred.sum((-1,), True)
    return share.apply("clip", min=EPSILON, max=1 - EPSILON)


def binary_crossentropy(
    y_true: Value, y_pred: Value, from_logits: bool = False, label_smoothing: float = 0.0
) -> Value:
    if label_smoothing:
        y_true = y_true * (1 - label_smoothing) + 0.5 * label_smoothing
    logits = y_pred if from_logits else logits_of(y_pred, Sigmoid)
    if logits is not None:
        return logits.apply("sigmoid_crossentropy", y_true).mean((-1,))
    share = y_pred.apply("clip", min=EPSILON, max=1 - EPSILON)
    return -(y_true * share.log() + (1 - y_true) * (1 - share).log()).mean((-1,))


def averaged(losses: Value, sample_weight: Value | None = None) -> Value:
    """The sum of the weighted losses over their number (Keras' `sum_over_batch_size`): a scalar.

    The weights have the losses' shape, or fewer axes: those of the batch first.
    """
    if sample_weight is not None:
        missing = losses.rank - sample_weight.rank
        losses = losses * sample_weight.reshape((*sample_weight.shape, *(1,) * missing))
    return losses.mean(range(losses.rank)) if losses.rank else losses
