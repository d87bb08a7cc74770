"""MobileNetV2 (Sandler et al., 2018)."""

from __future__ import annotations

from typing import Any

from convc.keras import layers
from convc.keras.applications import frame
from convc.keras.applications.imagenet_utils import decode_predictions
from convc.keras.engine.arguments import number as checked
from convc.keras.engine.model import Model

__all__ = ["MobileNetV2", "decode_predictions", "divisible", "preprocess_input"]

# (filters, blocks, stride of the first, expansion)
_STAGES = (
    (16, 1, 1, 1),
    (24, 2, 2, 6),
    (32, 3, 2, 6),
    (64, 4, 2, 6),
    (96, 3, 1, 6),
    (160, 3, 2, 6),
    (320, 1, 1, 6),
)


def divisible(value: float, divisor: int = 8) -> int:
    """The nearest multiple of the divisor, at least one and never more than 10 % below the value."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def _normalized(x: Any, name: str) -> Any:
    return layers.BatchNormalization(frame.channel_axis(), momentum=0.999, epsilon=1e-3, name=name)(
        x
    )


def _conv(x: Any, filters: int, name: str, kernel: int = 1, stride: int = 1) -> Any:
    return layers.Conv2D(
        filters, kernel, strides=stride, padding="same", use_bias=False, name=name
    )(x)


def _block(x: Any, filters: int, stride: int, expansion: int, number: int) -> Any:
    """Expand, filter each channel, project; a shortcut where the shapes agree."""
    inputs, size = x, frame.channels(x)
    prefix = f"block_{number}_" if number else "expanded_conv_"
    if number:
        x = _normalized(_conv(x, expansion * size, f"{prefix}expand"), f"{prefix}expand_BN")
        x = layers.ReLU(6.0, name=f"{prefix}expand_relu")(x)
    if stride == 2:
        x = layers.ZeroPadding2D(frame.correct_pad(x, 3), name=f"{prefix}pad")(x)
    padding = "same" if stride == 1 else "valid"
    x = layers.DepthwiseConv2D(
        3, strides=stride, padding=padding, use_bias=False, name=f"{prefix}depthwise"
    )(x)
    x = layers.ReLU(6.0, name=f"{prefix}depthwise_relu")(_normalized(x, f"{prefix}depthwise_BN"))
    x = _normalized(_conv(x, filters, f"{prefix}project"), f"{prefix}project_BN")
    if size == filters and stride == 1:
        return layers.Add(name=f"{prefix}add")([inputs, x])
    return x


def MobileNetV2(  # noqa: N802
    input_shape: Any = None,
    alpha: float = 1.0,
    include_top: bool = True,
    weights: Any = "imagenet",
    input_tensor: Any = None,
    pooling: Any = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
) -> Model:
    """3,538,984 parameters at alpha 1; input 224×224×3. `alpha` scales the number of filters."""
    alpha = checked("MobileNetV2", "alpha", alpha, "a positive number")
    inputs = frame.image_input(
        "MobileNetV2", input_tensor, input_shape, 224, 32, weights, include_top
    )
    rows = inputs.shape[2 if frame.channel_axis() == 1 else 1]
    name = name or f"mobilenetv2_{alpha:0.2f}_{rows}"
    x = _normalized(_conv(inputs, divisible(32 * alpha), "Conv1", 3, 2), "bn_Conv1")
    x = layers.ReLU(6.0, name="Conv1_relu")(x)
    number = 0
    for filters, depth, stride, expansion in _STAGES:
        for n in range(depth):
            x = _block(x, divisible(int(filters * alpha)), 1 if n else stride, expansion, number)
            number += 1
    last = divisible(1280 * alpha) if alpha > 1.0 else 1280
    x = layers.Conv2D(last, 1, use_bias=False, name="Conv_1")(x)
    x = layers.ReLU(6.0, name="out_relu")(_normalized(x, "Conv_1_bn"))
    if include_top:
        x = layers.GlobalAveragePooling2D()(x)
        x = frame.classifier(x, classes, classifier_activation, name)
    else:
        x = frame.global_pooling(x, pooling, name, named=False)
    return frame.assembled(inputs, x, name, weights)


def preprocess_input(x: Any, data_format: str | None = None) -> Any:
    """Images of 0 … 255 scaled to -1 … 1."""
    return frame.preprocess(x, data_format, "tf")
