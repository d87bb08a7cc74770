"""ResNet V2 50, 101 and 152: normalization and activation come before each convolution (He et al., 2016)."""

from __future__ import annotations

from typing import Any

from convc.keras import layers
from convc.keras.applications import frame
from convc.keras.applications.imagenet_utils import decode_predictions
from convc.keras.engine.model import Model

__all__ = ["ResNet50V2", "ResNet101V2", "ResNet152V2", "decode_predictions", "preprocess_input"]


def _activated(x: Any, bn: str, relu: str) -> Any:
    x = layers.BatchNormalization(frame.channel_axis(), epsilon=1.001e-5, name=bn)(x)
    return layers.Activation("relu", name=relu)(x)


def _block(x: Any, filters: int, stride: int, project: bool, name: str) -> Any:
    """Three convolutions and a shortcut, a smaller one where the block strides, added as they are."""
    before = _activated(x, f"{name}_preact_bn", f"{name}_preact_relu")
    if project:
        shortcut = layers.Conv2D(4 * filters, 1, strides=stride, name=f"{name}_0_conv")(before)
    else:
        shortcut = layers.MaxPooling2D(1, strides=stride)(x) if stride > 1 else x
    y = layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_1_conv")(before)
    y = _activated(y, f"{name}_1_bn", f"{name}_1_relu")
    y = layers.ZeroPadding2D(1, name=f"{name}_2_pad")(y)
    y = layers.Conv2D(filters, 3, strides=stride, use_bias=False, name=f"{name}_2_conv")(y)
    y = _activated(y, f"{name}_2_bn", f"{name}_2_relu")
    y = layers.Conv2D(4 * filters, 1, name=f"{name}_3_conv")(y)
    return layers.Add(name=f"{name}_out")([shortcut, y])


def _resnet(
    depths: tuple[int, int, int, int],
    include_top: bool,
    weights: Any,
    input_tensor: Any,
    input_shape: Any,
    pooling: Any,
    classes: int,
    classifier_activation: Any,
    name: str,
) -> Model:
    inputs = frame.image_input(name, input_tensor, input_shape, 224, 32, weights, include_top)
    x: Any = layers.ZeroPadding2D(3, name="conv1_pad")(inputs)
    x = layers.Conv2D(64, 7, strides=2, name="conv1_conv")(x)
    x = layers.ZeroPadding2D(1, name="pool1_pad")(x)
    x = layers.MaxPooling2D(3, strides=2, name="pool1_pool")(x)
    for stage, (filters, depth) in enumerate(zip((64, 128, 256, 512), depths, strict=True), 2):
        for block in range(1, depth + 1):
            stride = 2 if block == depth and stage < 5 else 1
            x = _block(x, filters, stride, block == 1, f"conv{stage}_block{block}")
    x = _activated(x, "post_bn", "post_relu")
    if include_top:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = frame.classifier(x, classes, classifier_activation, name)
    else:
        x = frame.global_pooling(x, pooling, name)
    return frame.assembled(inputs, x, name, weights)


def preprocess_input(x: Any, data_format: str | None = None) -> Any:
    """Images of 0 … 255 scaled to -1 … 1."""
    return frame.preprocess(x, data_format, "tf")


def ResNet50V2(  # noqa: N802
    include_top: bool = True, weights: Any = "imagenet", input_tensor: Any = None, input_shape: Any = None,
    pooling: Any = None, classes: int = 1000, classifier_activation: Any = "softmax", name: str = "resnet50v2",
) -> Model:  # fmt: skip
    """25,613,800 parameters; input 224×224×3."""
    return _resnet(
        (3, 4, 6, 3), include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation, name
    )  # fmt: skip


def ResNet101V2(  # noqa: N802
    include_top: bool = True, weights: Any = "imagenet", input_tensor: Any = None, input_shape: Any = None,
    pooling: Any = None, classes: int = 1000, classifier_activation: Any = "softmax", name: str = "resnet101v2",
) -> Model:  # fmt: skip
    """44,675,560 parameters; input 224×224×3."""
    return _resnet(
        (3, 4, 23, 3), include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation, name
    )  # fmt: skip


def ResNet152V2(  # noqa: N802
    include_top: bool = True, weights: Any = "imagenet", input_tensor: Any = None, input_shape: Any = None,
    pooling: Any = None, classes: int = 1000, classifier_activation: Any = "softmax", name: str = "resnet152v2",
) -> Model:  # fmt: skip
    """60,380,648 parameters; input 224×224×3."""
    return _resnet(
        (3, 8, 36, 3), include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation, name
    )  # fmt: skip
