"""VGG 19 (Simonyan & Zisserman, 2014)."""

from __future__ import annotations

from typing import Any

from convc.keras.applications.vgg import decode_predictions, preprocess_input, vgg
from convc.keras.engine.model import Model

__all__ = ["VGG19", "decode_predictions", "preprocess_input"]


def VGG19(  # noqa: N802
    include_top: bool = True,
    weights: Any = "imagenet",
    input_tensor: Any = None,
    input_shape: Any = None,
    pooling: Any = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    name: str = "vgg19",
) -> Model:
    """143,667,240 parameters; input 224×224×3."""
    return vgg(
        (2, 2, 4, 4, 4),
        include_top,
        weights,
        input_tensor,
        input_shape,
        pooling,
        classes,
        classifier_activation,
        name,
    )
