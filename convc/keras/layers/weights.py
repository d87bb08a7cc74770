"""Weights whose initializer, regularizer and constraint are arguments of their layer."""

from __future__ import annotations

from typing import Any

from convc.keras.engine.layer import Layer
from convc.keras.engine.tensor import Variable


def add_weight(
    layer: Layer, name: str, shape: Any, kind: str | None = None, initializer: Any = None
) -> Variable:
    """A new weight `layer/name`, as the layer's `{kind}_initializer`, `…_regularizer` and `…_constraint` say.

    `kind` is the weight's name unless it is given; an `initializer` takes the place of the layer's.
    """
    kind = kind or name
    return layer.add_weight(
        shape,
        getattr(layer, f"{kind}_initializer") if initializer is None else initializer,
        regularizer=getattr(layer, f"{kind}_regularizer"),
        constraint=getattr(layer, f"{kind}_constraint"),
        name=name,
    )
