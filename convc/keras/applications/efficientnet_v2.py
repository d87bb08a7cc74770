"""EfficientNetV2 (Tan & Le, 2021). Images of 0 … 255 go in as they are: the first layers scale them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from convc.keras import initializers, layers
from convc.keras.applications import frame
from convc.keras.applications.imagenet_utils import decode_predictions
from convc.keras.engine.model import Model

__all__ = [
    "EfficientNetV2B0", "EfficientNetV2B1", "EfficientNetV2B2", "EfficientNetV2B3", "EfficientNetV2L",
    "EfficientNetV2M", "EfficientNetV2S", "decode_predictions", "preprocess_input",
]  # fmt: skip


class _Stage(NamedTuple):
    blocks: int
    filters: int
    expansion: int
    stride: int
    fused: bool
    """One full convolution in place of an expansion and a depthwise one, and no squeeze and excitation."""


def _stages(*rows: tuple[int, int, int, int]) -> tuple[_Stage, ...]:
    """The first three stages are fused."""
    return tuple(_Stage(*row, fused=k < 3) for k, row in enumerate(rows))


_B = _stages(
    (1, 16, 1, 1), (2, 32, 4, 2), (2, 48, 4, 2), (3, 96, 4, 2), (5, 112, 6, 1), (8, 192, 6, 2)
)
_S = _stages(
    (2, 24, 1, 1), (4, 48, 4, 2), (4, 64, 4, 2), (6, 128, 4, 2), (9, 160, 6, 1), (15, 256, 6, 2)
)
_M = _stages(
    (3, 24, 1, 1), (5, 48, 4, 2), (5, 80, 4, 2), (7, 160, 4, 2), (14, 176, 6, 1), (18, 304, 6, 2), (5, 512, 6, 1)
)  # fmt: skip
_L = _stages(
    (4, 32, 1, 1), (7, 64, 4, 2), (7, 96, 4, 2), (10, 192, 4, 2), (19, 224, 6, 1), (25, 384, 6, 2), (7, 640, 6, 1)
)  # fmt: skip
_DROP_CONNECT = 0.2


class _Variant(NamedTuple):
    stages: tuple[_Stage, ...]
    stem: int
    size: int
    width: float = 1.0
    depth: float = 1.0

    def filters(self, count: int) -> int:
        """A multiple of 8."""
        return max(8, int(count * self.width + 4) // 8 * 8)


def _kernels() -> Any:
    return initializers.VarianceScaling(2.0, "fan_out", "truncated_normal")


def _conv(x: Any, filters: int, name: str, kernel: int = 1, stride: int = 1) -> Any:
    return layers.Conv2D(
        filters, kernel, strides=stride, padding="same", use_bias=False, kernel_initializer=_kernels(), name=name
    )(x)  # fmt: skip


def _normalized(x: Any, name: str) -> Any:
    return layers.BatchNormalization(frame.channel_axis(), momentum=0.9, name=name)(x)


def _swish(x: Any, name: str) -> Any:
    return layers.Activation("swish", name=name)(x)


def _expanded(x: Any, filters: int, name: str, kernel: int = 1, stride: int = 1) -> Any:
    x = _normalized(_conv(x, filters, f"{name}expand_conv", kernel, stride), f"{name}expand_bn")
    return _swish(x, f"{name}expand_activation")


def _excited(x: Any, reduced: int, name: str) -> Any:
    """Squeeze and excitation: each channel times a number computed from all channels' means."""
    size = frame.channels(x)
    shape = (size, 1, 1) if frame.channel_axis() == 1 else (1, 1, size)
    y = layers.GlobalAveragePooling2D(name=f"{name}se_squeeze")(x)
    y = layers.Reshape(shape, name=f"{name}se_reshape")(y)
    for filters, activation, part in ((reduced, "swish", "reduce"), (size, "sigmoid", "expand")):
        y = layers.Conv2D(
            filters, 1, padding="same", activation=activation, kernel_initializer=_kernels(), name=f"{name}se_{part}"
        )(y)  # fmt: skip
    return layers.Multiply(name=f"{name}se_excite")([x, y])


def _separate(x: Any, filters: int, expansion: int, stride: int, name: str) -> Any:
    """Expand, filter each channel, weigh the channels, project."""
    size = frame.channels(x)
    if expansion != 1:
        x = _expanded(x, size * expansion, name)
    x = layers.DepthwiseConv2D(
        3, strides=stride, padding="same", use_bias=False, depthwise_initializer=_kernels(), name=f"{name}dwconv2"
    )(x)  # fmt: skip
    x = _swish(_normalized(x, f"{name}bn"), f"{name}activation")
    x = _excited(x, max(1, int(size * 0.25)), name)
    return _normalized(_conv(x, filters, f"{name}project_conv"), f"{name}project_bn")


def _fused(x: Any, filters: int, expansion: int, stride: int, name: str) -> Any:
    """Expand by a full convolution and project; without an expansion that convolution alone."""
    if expansion == 1:
        x = _conv(x, filters, f"{name}project_conv", 3, stride)
        return _swish(_normalized(x, f"{name}project_bn"), f"{name}project_activation")
    x = _expanded(x, frame.channels(x) * expansion, name, 3, stride)
    return _normalized(_conv(x, filters, f"{name}project_conv"), f"{name}project_bn")


def _body(x: Any, variant: _Variant) -> Any:
    total, done = sum(stage.blocks for stage in variant.stages), 0
    for number, stage in enumerate(variant.stages, 1):
        filters = variant.filters(stage.filters)
        block = _fused if stage.fused else _separate
        for n in range(math.ceil(stage.blocks * variant.depth)):
            inputs, name = x, f"block{number}{chr(ord('a') + n)}_"
            stride = 1 if n else stage.stride
            x = block(x, filters, stage.expansion, stride, name)
            if stride == 1 and frame.channels(inputs) == filters:
                if done:
                    rate = _DROP_CONNECT * done / total
                    x = layers.Dropout(rate, noise_shape=(None, 1, 1, 1), name=f"{name}drop")(x)
                x = layers.Add(name=f"{name}add")([x, inputs])
            done += 1
    return x


def _preprocessed(x: Any, variant: _Variant) -> Any:
    """What B0 to B3 do to three channels, and all others to any."""
    if variant.stages is not _B or frame.channels(x) != 3:
        return layers.Rescaling(1 / 128, -1.0)(x)
    variance = [0.229**2, 0.224**2, 0.225**2]
    scaled = layers.Rescaling(1 / 255)(x)
    return layers.Normalization(
        axis=frame.channel_axis(), mean=[0.485, 0.456, 0.406], variance=variance
    )(scaled)  # fmt: skip


def _efficientnet(
    variant: _Variant,
    include_top: bool,
    weights: Any,
    input_tensor: Any,
    input_shape: Any,
    pooling: Any,
    classes: int,
    classifier_activation: Any,
    include_preprocessing: bool,
    name: str,
) -> Model:
    inputs = frame.image_input(
        name, input_tensor, input_shape, variant.size, 32, weights, include_top
    )
    x: Any = _preprocessed(inputs, variant) if include_preprocessing else inputs
    x = _normalized(_conv(x, variant.filters(variant.stem), "stem_conv", 3, 2), "stem_bn")
    x = _body(_swish(x, "stem_activation"), variant)
    x = _normalized(_conv(x, variant.filters(1280), "top_conv"), "top_bn")
    x = _swish(x, "top_activation")
    if include_top:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = layers.Dropout(0.2, name="top_dropout")(x)
        dense = initializers.VarianceScaling(1 / 3, "fan_out", "uniform")
        x = frame.classifier(x, classes, classifier_activation, name, dense)
    else:
        x = frame.global_pooling(x, pooling, name)
    return frame.assembled(inputs, x, name, weights)


def preprocess_input(x: Any, data_format: str | None = None) -> Any:
    """The images themselves: the network scales them."""
    return x


def EfficientNetV2B0(  # noqa: N802
    include_top: bool = True, weights: Any = "imagenet", input_tensor: Any = None, input_shape: Any = None,
    pooling: Any = None, classes: int = 1000, classifier_activation: Any = "softmax",
    include_preprocessing: bool = True, name: str = "efficientnetv2-b0",
) -> Model:  # fmt: skip
    """7,200,312 parameters; input 224×224×3."""
    return _efficientnet(
        _Variant(_B, 32, 224), include_top, weights, input_tensor, input_shape, pooling, classes,
        classifier_activation, include_preprocessing, name,
    )  # fmt: skip


def EfficientNetV2B1(  # noqa: N802
    include_top: bool = True, weights: Any = "imagenet", input_tensor: Any = None, input_shape: Any = None,
    pooling: Any = None, classes: int = 1000, classifier_activation: Any = "softmax",
    include_preprocessing: bool = True, name: str = "efficientnetv2-b1",
) -> Model:  # fmt: skip
    """8,212,124 parameters; input 240×240×3."""
    return _efficientnet(
        _Variant(_B, 32, 240, 1.0, 1.1), include_top, weights, input_tensor, input_shape, pooling, classes,
        classifier_activation, include_preprocessing, name,
    )  # fmt: skip


def EfficientNetV2B2(  # noqa: N802
    include_top: bool = True, weights: Any = "imagenet", input_tensor: Any = None, input_shape: Any = None,
    pooling: Any = None, classes: int = 1000, classifier_activation: Any = "softmax",
    include_preprocessing: bool = True, name: str = "efficientnetv2-b2",
) -> Model:  # fmt: skip
    """10,178,374 parameters; input 260×260×3."""
    return _efficientnet(
        _Variant(_B, 32, 260, 1.1, 1.2), include_top, weights, input_tensor, input_shape, pooling, classes,
        classifier_activation, include_preprocessing, name,
    )  # fmt: skip


def EfficientNetV2B3(  # noqa: N802
    include_top: bool = True, weights: Any = "imagenet", input_tensor: Any = None, input_shape: Any = None,
    pooling: Any = None, classes: int = 1000, classifier_activation: Any = "softmax",
    include_preprocessing: bool = True, name: str = "efficientnetv2-b3",
) -> Model:  # fmt: skip
    """14,467,622 parameters; input 300×300×3."""
    return _efficientnet(
        _Variant(_B, 32, 300, 1.2, 1.4), include_top, weights, input_tensor, input_shape, pooling, classes,
        classifier_activation, include_preprocessing, name,
    )  # fmt: skip


def EfficientNetV2S(  # noqa: N802
    include_top: bool = True, weights: Any = "imagenet", input_tensor: Any = None, input_shape: Any = None,
    pooling: Any = None, classes: int = 1000, classifier_activation: Any = "softmax",
    include_preprocessing: bool = True, name: str = "efficientnetv2-s",
) -> Model:  # fmt: skip
    """21,612,360 parameters; input 384×384×3."""
    return _efficientnet(
        _Variant(_S, 24, 384), include_top, weights, input_tensor, input_shape, pooling, classes,
        classifier_activation, include_preprocessing, name,
    )  # fmt: skip


def EfficientNetV2M(  # noqa: N802
    include_top: bool = True, weights: Any = "imagenet", input_tensor: Any = None, input_shape: Any = None,
    pooling: Any = None, classes: int = 1000, classifier_activation: Any = "softmax",
    include_preprocessing: bool = True, name: str = "efficientnetv2-m",
) -> Model:  # fmt: skip
    """54,431,388 parameters; input 480×480×3."""
    return _efficientnet(
        _Variant(_M, 24, 480), include_top, weights, input_tensor, input_shape, pooling, classes,
        classifier_activation, include_preprocessing, name,
    )  # fmt: skip


def EfficientNetV2L(  # noqa: N802
    include_top: bool = True, weights: Any = "imagenet", input_tensor: Any = None, input_shape: Any = None,
    pooling: Any = None, classes: int = 1000, classifier_activation: Any = "softmax",
    include_preprocessing: bool = True, name: str = "efficientnetv2-l",
) -> Model:  # fmt: skip
    """119,027,848 parameters; input 480×480×3."""
    return _efficientnet(
        _Variant(_L, 32, 480), include_top, weights, input_tensor, input_shape, pooling, classes,
        classifier_activation, include_preprocessing, name,
    )  # fmt: skip
