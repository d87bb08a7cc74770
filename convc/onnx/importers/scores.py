"""What classifiers of ai.onnx.ml make of their scores: labels, and the transform behind."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from convc.onnx.importers.call import Call, Rejected
from convc.ops.activations import Sigmoid
from convc.ops.broadcasting import Div, Equal, Greater, LessEqual, Mul, Sub, Where
from convc.ops.elementwise import Abs, Exp, Neg
from convc.ops.norm import Softmax
from convc.ops.reduce import ArgMax, ReduceMax, ReduceSum
from convc.ops.shape import Concat, Gather
from convc.types import DType

Labels = Sequence[int]


def labels_of(c: Call, integers: str, strings: str) -> Labels:
    """The classes' integer labels."""
    if c.attr(strings):
        raise Rejected("labels that are strings are not supported: expected integer labels")
    labels = [int(v) for v in c.attr(integers) or []]
    if not labels:
        raise Rejected("has no labels")
    return labels


def chosen_label(c: Call, scores: str, labels: Labels) -> str:
    """The label of each row's highest score, the first of equal ones."""
    return c.add(Gather(0), c.constant(np.array(labels)), c.add(ArgMax(1, False), scores))


def picked(c: Call, condition: str, labels: Labels) -> str:
    """labels[1] where a condition [n, 1] holds, else labels[0]."""
    flat = c.reshape(condition, c.shape(condition)[:1])
    yes, no = (c.constant(np.array(v), DType.int64) for v in (labels[1], labels[0]))
    return c.add(Where(), flat, yes, no)


def two_classes(c: Call, score: str, labels: Labels, positive: bool, post: str) -> tuple[str, str]:
    """Labels and both scores from one score [n, 1].

    Where all weights are positive the score is a probability: a label is chosen by its half, and the other class has
    the rest, if no transform is asked for. Else the score's sign decides, and the other class has its negative.
    Sources: ONNX Runtime without a transform, ONNX' reference with one.
    """
    label = picked(c, c.add(Greater(), score, c.scalar(0.5 if positive else 0.0, score)), labels)
    if positive and post == "NONE":
        other = c.add(Sub(), c.scalar(1.0, score), score)
        return label, c.add(Concat(1), other, score)
    both = c.add(Concat(1), c.add(Neg(), score), score)
    return label, transformed(c, both, post)


def transformed(c: Call, scores: str, post: str) -> str:
    """Scores [n, classes] as the attribute post_transform says."""
    match post:
        case "NONE":
            return scores
        case "LOGISTIC":
            return c.add(Sigmoid(), scores)
        case "SOFTMAX":
            return c.add(Softmax(1), scores)
        case "SOFTMAX_ZERO":
            return softmax_zero(c, scores)
        case _:
            raise Rejected(f"post_transform {post} is not supported")


def softmax_zero(c: Call, scores: str) -> str:
    """A softmax in which a score of zero stays zero."""
    highest = c.add(ReduceMax((1,), True), scores)
    powers = c.add(Exp(), c.add(Sub(), scores, highest))
    is_zero = c.add(LessEqual(), c.add(Abs(), scores), c.scalar(1e-7, scores))
    small = c.add(Mul(), scores, c.add(Exp(), c.add(Neg(), highest)))
    parts = c.add(Where(), is_zero, small, powers)
    total = c.add(ReduceSum((1,), True), parts)
    nothing = c.add(Equal(), total, c.scalar(0.0, total))
    share = c.add(Div(), parts, c.add(Where(), nothing, c.scalar(1.0, total), total))
    return c.add(Where(), nothing, c.scalar(0.5, total), share)
