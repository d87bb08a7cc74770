"""Cross entropies of logits: one operator each, so that neither they nor their gradients overflow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from convc.graph.ir import Builder
from convc.graph.op import Op, register
from convc.loops.ir import Expr, call, maximum
from convc.ops.base import (
    Array,
    Gradients,
    Names,
    Types,
    accumulator,
    expect_dtype,
    expect_float,
    expect_shape,
    fail,
)
from convc.ops.broadcasting import Broadcasting, Pullback
from convc.ops.elementwise import negated
from convc.ops.values import Value, values
from convc.types import DType, TensorType


def log_softmax(logits: Array) -> Array:
    """In the accumulator's dtype, along the last axis."""
    wide = logits.astype(accumulator(DType.of(logits.dtype)).numpy)
    shifted = wide - wide.max(axis=-1, keepdims=True)
    result: Array = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def check_logits(op: Op, logits: TensorType) -> None:
    expect_float(op, "logits", logits)
    if logits.rank < 1:
        raise fail(op, f"logits expects rank 1 or more, got {logits}")


@register
@dataclass(frozen=True)
class SoftmaxCrossentropy(Op):
    """-sum(wanted * log(softmax(logits))) over the last axis, of logits and wanted[..., classes]."""

    def infer(self, logits: TensorType, wanted: TensorType) -> Types:
        check_logits(self, logits)
        expect_dtype(self, "wanted", wanted, logits.dtype)
        expect_shape(self, "wanted", wanted, logits.shape)
        return (TensorType(logits.dtype, logits.shape[:-1]),)

    def reference(self, logits: Array, wanted: Array) -> Array:
        product = log_softmax(logits) * wanted
        return np.asarray(-product.sum(axis=-1)).astype(logits.dtype)

    def gradient(
        self, builder: Builder, inputs: Names, outputs: Names, output_gradients: Names
    ) -> Gradients:
        """Of the logits softmax * sum(wanted) - wanted: the wanted need not sum to 1."""
        logits, wanted, dy = values(builder, (*inputs, *output_gradients))
        dy = dy.reshape((*dy.shape, 1))
        likely = logits.apply("softmax") * wanted.sum((-1,), True)
        dwanted = -logits.apply("log_softmax") * dy
        return (((likely - wanted) * dy).name, dwanted.name)

    def decompose(self, builder: Builder, logits: str, wanted: str) -> tuple[str]:
        x, shares = values(builder, (logits, wanted))
        return ((-(x.apply("log_softmax") * shares).sum((-1,))).name,)


@register
@dataclass(frozen=True)
class SparseSoftmaxCrossentropy(Op):
    """-log(softmax(logits))[label] over the last axis, of logits[..., classes] and integer labels[...].

    A label outside the classes has no loss and no gradient.
    """

    def infer(self, logits: TensorType, labels: TensorType) -> Types:
        check_logits(self, logits)
        if not labels.dtype.is_integer:
            raise fail(self, f"labels expects an integer dtype, got {labels.dtype.value}")
        if not isinstance(logits.shape[-1], int):
            raise fail(self, f"the number of classes must be a number, got {logits.shape[-1]}")
        expect_shape(self, "labels", labels, logits.shape[:-1])
        return (TensorType(logits.dtype, labels.shape),)

    def reference(self, logits: Array, labels: Array) -> Array:
        likely = log_softmax(logits)
        inside = (labels >= 0) & (labels < logits.shape[-1])
        at = np.where(inside, labels, 0).astype(np.int64)[..., None]
        chosen = np.take_along_axis(likely, at, axis=-1)[..., 0]
        return np.asarray(np.where(inside, -chosen, 0)).astype(logits.dtype)

    def gradient(
        self, builder: Builder, inputs: Names, outputs: Names, output_gradients: Names
    ) -> Gradients:
        logits, labels, dy = values(builder, (*inputs, *output_gradients))
        extent = logits.shape[-1]
        hit = labels.apply("one_hot", depth=extent).cast(logits.dtype)
        likely = logits.apply("softmax") * hit.sum((-1,), True)
        return (((likely - hit) * dy.reshape((*dy.shape, 1))).name, None)

    def decompose(self, builder: Builder, logits: str, labels: str) -> tuple[str]:
        x, label = values(builder, (logits, labels))
        hit = label.apply("one_hot", depth=x.shape[-1])
        return ((-hit.where(x.apply("log_softmax"), 0).sum((-1,))).name,)


@register
@dataclass(frozen=True)
class SigmoidCrossentropy(Broadcasting):
    """-wanted * log(sigmoid(logit)) - (1 - wanted) * log(1 - sigmoid(logit)), element by element."""

    accepts = "float"
    operands = ("logit", "wanted")

    def reference(self, x: Array, wanted: Array) -> Array:
        wide = x.astype(accumulator(DType.of(x.dtype)).numpy)
        smooth = np.log1p(np.exp(-np.abs(wide)))
        return np.asarray(np.maximum(wide, 0) - wide * wanted + smooth).astype(x.dtype)

    def pullback(self, x: Value, wanted: Value, out: Value, dy: Value) -> Pullback:
        return dy * (x.sigmoid() - wanted), -dy * x

    def scalar(self, x: Expr, wanted: Expr) -> Expr:
        smooth = call("log1p", call("exp", negated(call("abs", x))))
        return maximum(x, 0) - x * wanted + smooth
