"""VGG 16 (Simonyan & Zisserman, 2014)."""

from __future__ import annotations

from typing import Any

from convc.keras.applications.vgg import decode_predictions, preprocess_input, vgg
from convc.keras.engine.model import Model

__all__ = ["VGG16", "decode_predictions", "preprocess_input"]


def VGG16(  # noqa: N802
    include_top: bool = True,
    weights: Any = "imagenet",
    input_tensor: Any = None,
    input_shape: Any = None,
    pooling: Any = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    name: str = "vgg16",
) -> Model:
    """138,357,544 parameters; input 224×224×3."""
    return vgg(
        (2, 2, 3, 3, 3),
        include_top,
        weights,
        input_tensor,
        input_shape,
        pooling,
        classes,
        classifier_activation,
        name,
    )
