"""VGG 16 and 19 (Simonyan & Zisserman, 2014)."""

from __future__ import annotations

from typing import Any

from convc.keras import layers
from convc.keras.applications import frame
from convc.keras.applications.imagenet_utils import decode_predictions
from convc.keras.engine.model import Model

__all__ = ["decode_predictions", "preprocess_input", "vgg"]


def vgg(
    depths: tuple[int, ...],
    include_top: bool,
    weights: Any,
    input_tensor: Any,
    input_shape: Any,
    pooling: Any,
    classes: int,
    classifier_activation: Any,
    name: str,
) -> Model:
    """Five blocks of 3×3 convolutions and a pooling, then three dense layers."""
    inputs = frame.image_input(name, input_tensor, input_shape, 224, 32, weights, include_top)
    x: Any = inputs
    for block, (filters, depth) in enumerate(zip((64, 128, 256, 512, 512), depths, strict=True), 1):
        for n in range(1, depth + 1):
            x = layers.Conv2D(
                filters, 3, padding="same", activation="relu", name=f"block{block}_conv{n}"
            )(x)
        x = layers.MaxPooling2D(2, strides=2, name=f"block{block}_pool")(x)
    if include_top:
        x = layers.Flatten(name="flatten")(x)
        x = layers.Dense(4096, activation="relu", name="fc1")(x)
        x = layers.Dense(4096, activation="relu", name="fc2")(x)
        x = frame.classifier(x, classes, classifier_activation, name)
    else:
        x = frame.global_pooling(x, pooling, name, named=False)
    return frame.assembled(inputs, x, name, weights)


def preprocess_input(x: Any, data_format: str | None = None) -> Any:
    """RGB images of 0 … 255 as BGR around 0."""
    return frame.preprocess(x, data_format, "caffe")
