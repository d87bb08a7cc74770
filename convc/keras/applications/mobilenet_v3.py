"""MobileNetV3, small and large (Howard et al., 2019). Images of 0 … 255 go in as they are: a layer scales them."""

from __future__ import annotations

from typing import Any, NamedTuple

from convc.keras import layers
from convc.keras.applications import frame
from convc.keras.applications.imagenet_utils import decode_predictions
from convc.keras.applications.mobilenet_v2 import divisible
from convc.keras.engine.arguments import number as checked
from convc.keras.engine.model import Model

__all__ = ["MobileNetV3Large", "MobileNetV3Small", "decode_predictions", "preprocess_input"]


class _Stage(NamedTuple):
    expansion: float
    filters: int
    wide: bool
    """A 5×5 kernel, unless the network is minimalistic."""
    stride: int
    excite: bool
    swish: bool
    """Hard swish, unless the network is minimalistic."""


_SMALL = (
    _Stage(1, 16, False, 2, True, False), _Stage(72 / 16, 24, False, 2, False, False),
    _Stage(88 / 24, 24, False, 1, False, False), _Stage(4, 40, True, 2, True, True), _Stage(6, 40, True, 1, True, True),
    _Stage(6, 40, True, 1, True, True), _Stage(3, 48, True, 1, True, True), _Stage(3, 48, True, 1, True, True),
    _Stage(6, 96, True, 2, True, True), _Stage(6, 96, True, 1, True, True), _Stage(6, 96, True, 1, True, True),
)  # fmt: skip
_LARGE = (
    _Stage(1, 16, False, 1, False, False), _Stage(4, 24, False, 2, False, False), _Stage(3, 24, False, 1, False, False),
    _Stage(3, 40, True, 2, True, False), _Stage(3, 40, True, 1, True, False), _Stage(3, 40, True, 1, True, False),
    _Stage(6, 80, False, 2, False, True), _Stage(2.5, 80, False, 1, False, True),
    _Stage(2.3, 80, False, 1, False, True), _Stage(2.3, 80, False, 1, False, True),
    _Stage(6, 112, False, 1, True, True), _Stage(6, 112, False, 1, True, True), _Stage(6, 160, True, 2, True, True),
    _Stage(6, 160, True, 1, True, True), _Stage(6, 160, True, 1, True, True),
)  # fmt: skip


def _normalized(x: Any, name: str) -> Any:
    return layers.BatchNormalization(
        frame.channel_axis(), momentum=0.999, epsilon=1e-3, name=name
    )(x)  # fmt: skip


def _conv(x: Any, filters: int, name: str, kernel: int = 1, stride: int = 1) -> Any:
    """A convolution without a bias, normalized."""
    x = layers.Conv2D(
        filters, kernel, strides=stride, padding="same", use_bias=False, name=name
    )(x)  # fmt: skip
    return _normalized(x, f"{name}_bn")


def _activated(x: Any, swish: bool) -> Any:
    return layers.Activation("hard_swish")(x) if swish else layers.ReLU()(x)


def _excited(x: Any, prefix: str) -> Any:
    """Squeeze and excitation: each channel times a number computed from all channels' means."""
    prefix, size = f"{prefix}squeeze_excite_", frame.channels(x)
    y = layers.GlobalAveragePooling2D(keepdims=True, name=f"{prefix}avg_pool")(x)
    y = layers.Conv2D(divisible(size * 0.25), 1, padding="same", name=f"{prefix}conv")(y)
    y = layers.ReLU(name=f"{prefix}relu")(y)
    y = layers.Conv2D(size, 1, padding="same", name=f"{prefix}conv_1")(y)
    y = layers.ReLU(6.0)(y + 3.0) * (1.0 / 6.0)
    return layers.Multiply(name=f"{prefix}mul")([x, y])


def _block(x: Any, stage: _Stage, filters: int, minimal: bool, number: int) -> Any:
    """Expand, filter each channel, weigh the channels, project; a shortcut where the shapes agree."""
    inputs, size, swish = x, frame.channels(x), stage.swish and not minimal
    kernel = 5 if stage.wide and not minimal else 3
    prefix = f"expanded_conv_{number}_" if number else "expanded_conv_"
    if number:
        x = _activated(_conv(x, divisible(size * stage.expansion), f"{prefix}expand"), swish)
    if stage.stride == 2:
        x = layers.ZeroPadding2D(frame.correct_pad(x, kernel), name=f"{prefix}depthwise_pad")(x)
    padding = "same" if stage.stride == 1 else "valid"
    x = layers.DepthwiseConv2D(
        kernel, strides=stage.stride, padding=padding, use_bias=False, name=f"{prefix}depthwise"
    )(x)  # fmt: skip
    x = _activated(_normalized(x, f"{prefix}depthwise_bn"), swish)
    if stage.excite and not minimal:
        x = _excited(x, prefix)
    x = _conv(x, filters, f"{prefix}project")
    if stage.stride == 1 and size == filters:
        return layers.Add(name=f"{prefix}add")([inputs, x])
    return x


def _top(
    x: Any, points: int, swish: bool, classes: int, dropout: float, activation: Any, name: str
) -> Any:
    x = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = _activated(layers.Conv2D(points, 1, padding="same", name="conv_2")(x), swish)
    if dropout > 0:
        x = layers.Dropout(dropout)(x)
    x = layers.Conv2D(frame.classes_of(name, classes), 1, padding="same", name="logits")(x)
    return layers.Activation(activation, name="predictions")(layers.Flatten()(x))


def _mobilenet(
    stages: tuple[_Stage, ...],
    points: int,
    input_shape: Any,
    alpha: float,
    minimalistic: bool,
    include_top: bool,
    weights: Any,
    input_tensor: Any,
    classes: int,
    pooling: Any,
    dropout_rate: float,
    classifier_activation: Any,
    include_preprocessing: bool,
    name: str,
) -> Model:
    alpha = checked(name, "alpha", alpha, "a positive number")
    inputs = frame.image_input(name, input_tensor, input_shape, None, 32, weights)
    swish = not minimalistic
    x: Any = layers.Rescaling(1 / 127.5, -1.0)(inputs) if include_preprocessing else inputs
    x = _activated(_conv(x, 16, "conv", 3, 2), swish)
    for number, stage in enumerate(stages):
        x = _block(x, stage, divisible(stage.filters * alpha), minimalistic, number)
    x = _activated(_conv(x, divisible(frame.channels(x) * 6), "conv_1"), swish)
    if include_top:
        points = divisible(points * alpha) if alpha > 1.0 else points
        x = _top(x, points, swish, classes, dropout_rate, classifier_activation, name)
    else:
        x = frame.global_pooling(x, pooling, name)
    return frame.assembled(inputs, x, name, weights)


def MobileNetV3Small(  # noqa: N802
    input_shape: Any = None, alpha: float = 1.0, minimalistic: bool = False, include_top: bool = True,
    weights: Any = "imagenet", input_tensor: Any = None, classes: int = 1000, pooling: Any = None,
    dropout_rate: float = 0.2, classifier_activation: Any = "softmax", include_preprocessing: bool = True,
    name: str = "MobileNetV3Small",
) -> Model:  # fmt: skip
    """2,554,968 parameters at alpha 1; `minimalistic` has ReLU, 3×3 kernels and no squeeze and excitation only."""
    return _mobilenet(
        _SMALL, 1024, input_shape, alpha, minimalistic, include_top, weights, input_tensor, classes, pooling,
        dropout_rate, classifier_activation, include_preprocessing, name,
    )  # fmt: skip


def MobileNetV3Large(  # noqa: N802
    input_shape: Any = None, alpha: float = 1.0, minimalistic: bool = False, include_top: bool = True,
    weights: Any = "imagenet", input_tensor: Any = None, classes: int = 1000, pooling: Any = None,
    dropout_rate: float = 0.2, classifier_activation: Any = "softmax", include_preprocessing: bool = True,
    name: str = "MobileNetV3Large",
) -> Model:  # fmt: skip
    """5,507,432 parameters at alpha 1; `minimalistic` has ReLU, 3×3 kernels and no squeeze and excitation only."""
    return _mobilenet(
        _LARGE, 1280, input_shape, alpha, minimalistic, include_top, weights, input_tensor, classes, pooling,
        dropout_rate, classifier_activation, include_preprocessing, name,
    )  # fmt: skip


def preprocess_input(x: Any, data_format: str | None = None) -> Any:
    """The images themselves: the network scales them."""
    return x
