"""InceptionV3 (Szegedy et al., 2015)."""

from __future__ import annotations

from typing import Any

from convc.keras import layers
from convc.keras.applications import frame
from convc.keras.applications.imagenet_utils import decode_predictions
from convc.keras.engine.model import Model

__all__ = ["InceptionV3", "decode_predictions", "preprocess_input"]


def _conv(
    x: Any, filters: int, rows: int, columns: int, padding: str = "same", stride: int = 1
) -> Any:
    x = layers.Conv2D(filters, (rows, columns), strides=stride, padding=padding, use_bias=False)(x)
    x = layers.BatchNormalization(frame.channel_axis(), scale=False)(x)
    return layers.Activation("relu")(x)


def _joined(branches: list[Any], name: str | None = None) -> Any:
    return layers.Concatenate(frame.channel_axis(), name=name)(branches)


def _smoothed(x: Any, filters: int) -> Any:
    return _conv(layers.AveragePooling2D(3, strides=1, padding="same")(x), filters, 1, 1)


def _block_35(x: Any, pooled: int, name: str) -> Any:
    """35×35 pixels: 1×1, 5×5 and twice 3×3."""
    single = _conv(x, 64, 1, 1)
    five = _conv(_conv(x, 48, 1, 1), 64, 5, 5)
    double = _conv(_conv(_conv(x, 64, 1, 1), 96, 3, 3), 96, 3, 3)
    return _joined([single, five, double, _smoothed(x, pooled)], name)


def _block_17(x: Any, filters: int, name: str) -> Any:
    """17×17 pixels: 7×7 as 1×7 and 7×1."""
    single = _conv(x, 192, 1, 1)
    seven = _conv(_conv(_conv(x, filters, 1, 1), filters, 1, 7), 192, 7, 1)
    double = _conv(_conv(_conv(x, filters, 1, 1), filters, 7, 1), filters, 1, 7)
    double = _conv(_conv(double, filters, 7, 1), 192, 1, 7)
    return _joined([single, seven, double, _smoothed(x, 192)], name)


def _block_8(x: Any, number: int) -> Any:
    """8×8 pixels: 3×3 as 1×3 beside 3×1."""
    single = _conv(x, 320, 1, 1)
    three = _conv(x, 384, 1, 1)
    three = _joined([_conv(three, 384, 1, 3), _conv(three, 384, 3, 1)], f"mixed9_{number}")
    double = _conv(_conv(x, 448, 1, 1), 384, 3, 3)
    double = _joined([_conv(double, 384, 1, 3), _conv(double, 384, 3, 1)])
    return _joined([single, three, double, _smoothed(x, 192)], f"mixed{9 + number}")


def _body(x: Any) -> Any:
    x = _conv(_conv(x, 32, 3, 3, "valid", 2), 32, 3, 3, "valid")
    x = layers.MaxPooling2D(3, strides=2)(_conv(x, 64, 3, 3))
    x = _conv(_conv(x, 80, 1, 1, "valid"), 192, 3, 3, "valid")
    x = layers.MaxPooling2D(3, strides=2)(x)
    for number, pooled in enumerate((32, 64, 64)):
        x = _block_35(x, pooled, f"mixed{number}")
    three = _conv(x, 384, 3, 3, "valid", 2)
    double = _conv(_conv(_conv(x, 64, 1, 1), 96, 3, 3), 96, 3, 3, "valid", 2)
    x = _joined([three, double, layers.MaxPooling2D(3, strides=2)(x)], "mixed3")
    for number, filters in enumerate((128, 160, 160, 192), 4):
        x = _block_17(x, filters, f"mixed{number}")
    three = _conv(_conv(x, 192, 1, 1), 320, 3, 3, "valid", 2)
    seven = _conv(_conv(_conv(x, 192, 1, 1), 192, 1, 7), 192, 7, 1)
    seven = _conv(seven, 192, 3, 3, "valid", 2)
    x = _joined([three, seven, layers.MaxPooling2D(3, strides=2)(x)], "mixed8")
    return _block_8(_block_8(x, 0), 1)


def InceptionV3(  # noqa: N802
    include_top: bool = True,
    weights: Any = "imagenet",
    input_tensor: Any = None,
    input_shape: Any = None,
    pooling: Any = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    name: str = "inception_v3",
) -> Model:
    """23,851,784 parameters; input 299×299×3, at least 75×75."""
    inputs = frame.image_input(name, input_tensor, input_shape, 299, 75, weights, include_top)
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
