"""Xception (Chollet, 2016)."""

from __future__ import annotations

from typing import Any

from convc.keras import layers
from convc.keras.applications import frame
from convc.keras.applications.imagenet_utils import decode_predictions
from convc.keras.engine.model import Model

__all__ = ["Xception", "decode_predictions", "preprocess_input"]


def _normalized(x: Any, name: str | None = None) -> Any:
    return layers.BatchNormalization(frame.channel_axis(), name=name)(x)


def _relu(x: Any, name: str) -> Any:
    return layers.Activation("relu", name=f"{name}_act")(x)


def _separable(x: Any, filters: int, name: str) -> Any:
    x = layers.SeparableConv2D(filters, 3, padding="same", use_bias=False, name=name)(x)
    return _normalized(x, f"{name}_bn")


def _halved(x: Any, filters: tuple[int, int], block: int, active: bool = True) -> Any:
    """Two separable convolutions and a pooling, beside a convolution of stride 2."""
    shortcut = layers.Conv2D(filters[1], 1, strides=2, padding="same", use_bias=False)(x)
    shortcut = _normalized(shortcut)
    names = [f"block{block}_sepconv{n}" for n in (1, 2)]
    x = _relu(x, names[0]) if active else x
    x = _relu(_separable(x, filters[0], names[0]), names[1])
    x = _separable(x, filters[1], names[1])
    x = layers.MaxPooling2D(3, strides=2, padding="same", name=f"block{block}_pool")(x)
    return layers.Add()([x, shortcut])


def _body(x: Any) -> Any:
    for number, (filters, stride) in enumerate(((32, 2), (64, 1)), 1):
        name = f"block1_conv{number}"
        x = layers.Conv2D(filters, 3, strides=stride, use_bias=False, name=name)(x)
        x = _relu(_normalized(x, f"{name}_bn"), name)
    for block, filters in enumerate((128, 256, 728), 2):
        x = _halved(x, (filters, filters), block, active=block > 2)
    for block in range(5, 13):
        shortcut = x
        for name in (f"block{block}_sepconv{n}" for n in (1, 2, 3)):
            x = _separable(_relu(x, name), 728, name)
        x = layers.Add()([x, shortcut])
    x = _halved(x, (728, 1024), 13)
    for number, filters in enumerate((1536, 2048), 1):
        name = f"block14_sepconv{number}"
        x = _relu(_separable(x, filters, name), name)
    return x


def Xception(  # noqa: N802
    include_top: bool = True,
    weights: Any = "imagenet",
    input_tensor: Any = None,
    input_shape: Any = None,
    pooling: Any = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    name: str = "xception",
) -> Model:
    """22,910,480 parameters; input 299×299×3, at least 71×71."""
    inputs = frame.image_input(name, input_tensor, input_shape, 299, 71, weights, include_top)
    x = _body(inputs)
    if include_top:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = frame.classifier(x, classes, classifier_activation, name)
    else:
        x = frame.global_pooling(x, pooling, name, named=False)
    return frame.assembled(inputs, x, name, weights)


def preprocess_input(x: Any, data_format: str | None = None) -> Any:
    """Images of 0 … 255 scaled to -1 … 1."""
    return frame.preprocess(x, data_format, "tf")
