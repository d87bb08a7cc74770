"""EfficientNet B0 to B7 (Tan & Le, 2019). Images of 0 … 255 go in as they are: the first layers scale them."""

from __future__ import annotations

import math
from typing import Any

from convc.keras import initializers, layers
from convc.keras.applications import frame
from convc.keras.applications.imagenet_utils import decode_predictions
from convc.keras.engine.model import Model

__all__ = [
    "EfficientNetB0",
    "EfficientNetB1",
    "EfficientNetB2",
    "EfficientNetB3",
    "EfficientNetB4",
    "EfficientNetB5",
    "EfficientNetB6",
    "EfficientNetB7",
    "decode_predictions",
    "preprocess_input",
]

# (kernel, blocks, filters, expansion, stride of the first)
_STAGES = ((3, 1, 16, 1, 1), (3, 2, 24, 6, 2), (5, 2, 40, 6, 2), (3, 3, 80, 6, 2), (5, 3, 112, 6, 1),
           (5, 4, 192, 6, 2), (3, 1, 320, 6, 1))  # fmt: skip
_DROP_CONNECT = 0.2


def _kernels() -> Any:
    return initializers.VarianceScaling(2.0, "fan_out", "truncated_normal")


def _conv(x: Any, filters: int, name: str, activation: Any = None, use_bias: bool = False) -> Any:
    return layers.Conv2D(
        filters,
        1,
        padding="same",
        activation=activation,
        use_bias=use_bias,
        kernel_initializer=_kernels(),
        name=name,
    )(x)


def _normalized(x: Any, name: str) -> Any:
    return layers.BatchNormalization(frame.channel_axis(), name=name)(x)


def _block(
    x: Any, kernel: int, filters: int, expansion: int, stride: int, drop: float, name: str
) -> Any:
    """Expand, filter each channel, weigh the channels, project; a shortcut where the shapes agree."""
    inputs, size = x, frame.channels(x)
    if expansion != 1:
        x = _normalized(_conv(x, size * expansion, f"{name}expand_conv"), f"{name}expand_bn")
        x = layers.Activation("swish", name=f"{name}expand_activation")(x)
    if stride == 2:
        x = layers.ZeroPadding2D(frame.correct_pad(x, kernel), name=f"{name}dwconv_pad")(x)
    x = layers.DepthwiseConv2D(
        kernel,
        strides=stride,
        padding="valid" if stride == 2 else "same",
        use_bias=False,
        depthwise_initializer=_kernels(),
        name=f"{name}dwconv",
    )(x)
    x = layers.Activation("swish", name=f"{name}activation")(_normalized(x, f"{name}bn"))
    x = _excited(x, max(1, int(size * 0.25)), name)
    x = _normalized(_conv(x, filters, f"{name}project_conv"), f"{name}project_bn")
    if stride == 1 and size == filters:
        if drop > 0:
            x = layers.Dropout(drop, noise_shape=(None, 1, 1, 1), name=f"{name}drop")(x)
        x = layers.Add(name=f"{name}add")([x, inputs])
    return x


def _excited(x: Any, reduced: int, name: str) -> Any:
    """Squeeze and excitation: each channel times a number computed from all channels' means."""
    size = frame.channels(x)
    shape = (size, 1, 1) if frame.channel_axis() == 1 else (1, 1, size)
    y = layers.GlobalAveragePooling2D(name=f"{name}se_squeeze")(x)
    y = layers.Reshape(shape, name=f"{name}se_reshape")(y)
    y = _conv(y, reduced, f"{name}se_reduce", "swish", use_bias=True)
    y = _conv(y, size, f"{name}se_expand", "sigmoid", use_bias=True)
    return layers.Multiply(name=f"{name}se_excite")([x, y])


def _rounded(filters: int, width: float) -> int:
    """Filters times the width coefficient, as a multiple of 8 that isn't more than 10 % smaller."""
    filters_wide = filters * width
    rounded = max(8, int(filters_wide + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * filters_wide else rounded


def _stem(inputs: Any, width: float) -> Any:
    x: Any = layers.Rescaling(1.0 / 255.0)(inputs)
    x = layers.Normalization(axis=frame.channel_axis())(x)
    x = layers.ZeroPadding2D(frame.correct_pad(x, 3), name="stem_conv_pad")(x)
    x = layers.Conv2D(
        _rounded(32, width),
        3,
        strides=2,
        use_bias=False,
        kernel_initializer=_kernels(),
        name="stem_conv",
    )(x)
    return layers.Activation("swish", name="stem_activation")(_normalized(x, "stem_bn"))


def _body(x: Any, width: float, depth: float) -> Any:
    total = sum(math.ceil(blocks * depth) for _, blocks, *_ in _STAGES)
    done = 0
    for stage, (kernel, blocks, filters, expansion, stride) in enumerate(_STAGES, 1):
        for n in range(math.ceil(blocks * depth)):
            name = f"block{stage}{chr(ord('a') + n)}_"
            drop = _DROP_CONNECT * done / total
            x = _block(
                x, kernel, _rounded(filters, width), expansion, 1 if n else stride, drop, name
            )
            done += 1
    return x


def _efficientnet(
    width: float,
    depth: float,
    size: int,
    dropout: float,
    include_top: bool,
    weights: Any,
    input_tensor: Any,
    input_shape: Any,
    pooling: Any,
    classes: int,
    classifier_activation: Any,
    name: str,
) -> Model:
    inputs = frame.image_input(name, input_tensor, input_shape, size, 32, weights, include_top)
    x = _body(_stem(inputs, width), width, depth)
    x = _normalized(_conv(x, _rounded(1280, width), "top_conv"), "top_bn")
    x = layers.Activation("swish", name="top_activation")(x)
    if include_top:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = layers.Dropout(dropout, name="top_dropout")(x)
        dense = initializers.VarianceScaling(1 / 3, "fan_out", "uniform")
        x = frame.classifier(x, classes, classifier_activation, name, dense)
    else:
        x = frame.global_pooling(x, pooling, name)
    return frame.assembled(inputs, x, name, weights)


def preprocess_input(x: Any, data_format: str | None = None) -> Any:
    """The images themselves: the network scales them."""
    return x


def EfficientNetB0(  # noqa: N802
    include_top: bool = True,
    weights: Any = "imagenet",
    input_tensor: Any = None,
    input_shape: Any = None,
    pooling: Any = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    name: str = "efficientnetb0",
) -> Model:
    """5,330,571 parameters; input 224×224×3."""
    return _efficientnet(
        1.0,
        1.0,
        224,
        0.2,
        include_top,
        weights,
        input_tensor,
        input_shape,
        pooling,
        classes,
        classifier_activation,
        name,
    )


def EfficientNetB1(  # noqa: N802
    include_top: bool = True,
    weights: Any = "imagenet",
    input_tensor: Any = None,
    input_shape: Any = None,
    pooling: Any = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    name: str = "efficientnetb1",
) -> Model:
    """7,856,239 parameters; input 240×240×3."""
    return _efficientnet(
        1.0,
        1.1,
        240,
        0.2,
        include_top,
        weights,
        input_tensor,
        input_shape,
        pooling,
        classes,
        classifier_activation,
        name,
    )


def EfficientNetB2(  # noqa: N802
    include_top: bool = True,
    weights: Any = "imagenet",
    input_tensor: Any = None,
    input_shape: Any = None,
    pooling: Any = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    name: str = "efficientnetb2",
) -> Model:
    """9,177,569 parameters; input 260×260×3."""
    return _efficientnet(
        1.1,
        1.2,
        260,
        0.3,
        include_top,
        weights,
        input_tensor,
        input_shape,
        pooling,
        classes,
        classifier_activation,
        name,
    )


def EfficientNetB3(  # noqa: N802
    include_top: bool = True,
    weights: Any = "imagenet",
    input_tensor: Any = None,
    input_shape: Any = None,
    pooling: Any = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    name: str = "efficientnetb3",
) -> Model:
    """12,320,535 parameters; input 300×300×3."""
    return _efficientnet(
        1.2,
        1.4,
        300,
        0.3,
        include_top,
        weights,
        input_tensor,
        input_shape,
        pooling,
        classes,
        classifier_activation,
        name,
    )


def EfficientNetB4(  # noqa: N802
    include_top: bool = True,
    weights: Any = "imagenet",
    input_tensor: Any = None,
    input_shape: Any = None,
    pooling: Any = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    name: str = "efficientnetb4",
) -> Model:
    """19,466,823 parameters; input 380×380×3."""
    return _efficientnet(
        1.4,
        1.8,
        380,
        0.4,
        include_top,
        weights,
        input_tensor,
        input_shape,
        pooling,
        classes,
        classifier_activation,
        name,
    )


def EfficientNetB5(  # noqa: N802
    include_top: bool = True,
    weights: Any = "imagenet",
    input_tensor: Any = None,
    input_shape: Any = None,
    pooling: Any = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    name: str = "efficientnetb5",
) -> Model:
    """30,562,527 parameters; input 456×456×3."""
    return _efficientnet(
        1.6,
        2.2,
        456,
        0.4,
        include_top,
        weights,
        input_tensor,
        input_shape,
        pooling,
        classes,
        classifier_activation,
        name,
    )


def EfficientNetB6(  # noqa: N802
    include_top: bool = True,
    weights: Any = "imagenet",
    input_tensor: Any = None,
    input_shape: Any = None,
    pooling: Any = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    name: str = "efficientnetb6",
) -> Model:
    """43,265,143 parameters; input 528×528×3."""
    return _efficientnet(
        1.8,
        2.6,
        528,
        0.5,
        include_top,
        weights,
        input_tensor,
        input_shape,
        pooling,
        classes,
        classifier_activation,
        name,
    )


def EfficientNetB7(  # noqa: N802
    include_top: bool = True,
    weights: Any = "imagenet",
    input_tensor: Any = None,
    input_shape: Any = None,
    pooling: Any = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    name: str = "efficientnetb7",
) -> Model:
    """66,658,687 parameters; input 600×600×3."""
    return _efficientnet(
        2.0,
        3.1,
        600,
        0.5,
        include_top,
        weights,
        input_tensor,
        input_shape,
        pooling,
        classes,
        classifier_activation,
        name,
    )
