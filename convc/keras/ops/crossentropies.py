"""Crossentropies of distributions or logits, for each element or row."""

from __future__ import annotations

from typing import Any

from convc.keras import backend
from convc.keras.engine.call import operation
from convc.keras.engine.tensor import KerasTensor, as_tensor, promoted
from convc.keras.ops import elementwise, further, nn, reductions, shaping


def _inside(output: Any) -> KerasTensor:
    small = backend.epsilon()
    return elementwise.clip(output, small, 1.0 - small)


@operation
def binary_crossentropy(target: Any, output: Any, from_logits: bool = False) -> KerasTensor:
    """That of each element."""
    y, p = promoted(as_tensor(target), as_tensor(output))
    if from_logits:
        size = elementwise.absolute(p)
        return as_tensor(
            elementwise.maximum(p, 0.0) - p * y + elementwise.log1p(elementwise.exp(-size))
        )
    p = _inside(p)
    return as_tensor(-(y * elementwise.log(p) + (1.0 - y) * elementwise.log(1.0 - p)))


def _logs(output: Any, from_logits: bool, axis: int) -> KerasTensor:
    if from_logits:
        return nn.log_softmax(output, axis)
    p = as_tensor(output)
    return elementwise.log(_inside(p / reductions.sum(p, axis, True)))


@operation
def categorical_crossentropy(
    target: Any, output: Any, from_logits: bool = False, axis: int = -1
) -> KerasTensor:
    """That of each row of distributions along an axis."""
    y, p = promoted(as_tensor(target), as_tensor(output))
    return as_tensor(-reductions.sum(y * _logs(p, from_logits, axis), axis))


@operation
def sparse_categorical_crossentropy(
    target: Any, output: Any, from_logits: bool = False, axis: int = -1
) -> KerasTensor:
    """That of each row, whose class is a number."""
    p, labels = as_tensor(output), as_tensor(target, "int32")
    if labels.type.rank == p.type.rank and labels.shape[-1] == 1:
        labels = shaping.squeeze(labels, -1)
    found = further.take_along_axis(
        _logs(p, from_logits, axis), shaping.expand_dims(labels, axis), axis
    )
    return as_tensor(-shaping.squeeze(found, axis))


__all__ = ["binary_crossentropy", "categorical_crossentropy", "sparse_categorical_crossentropy"]
