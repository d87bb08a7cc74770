"""MobileNet (Howard et al., 2017)."""

from __future__ import annotations

from typing import Any

from convc.keras import layers
from convc.keras.applications import frame
from convc.keras.applications.imagenet_utils import decode_predictions
from convc.keras.engine.arguments import fraction, positive
from convc.keras.engine.arguments import number as checked
from convc.keras.engine.model import Model

__all__ = ["MobileNet", "decode_predictions", "preprocess_input"]

# (filters, stride) of the pairs of a depthwise and a pointwise convolution
_PAIRS = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1),
)  # fmt: skip


def _activated(x: Any, name: str) -> Any:
    x = layers.BatchNormalization(frame.channel_axis(), name=f"{name}_bn")(x)
    return layers.ReLU(6.0, name=f"{name}_relu")(x)


def _pair(x: Any, filters: int, stride: int, multiplier: int, number: int) -> Any:
    if stride > 1:
        x = layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"conv_pad_{number}")(x)
    x = layers.DepthwiseConv2D(
        3,
        strides=stride,
        padding="same" if stride == 1 else "valid",
        depth_multiplier=multiplier,
        use_bias=False,
        name=f"conv_dw_{number}",
    )(x)
    x = _activated(x, f"conv_dw_{number}")
    x = layers.Conv2D(filters, 1, padding="same", use_bias=False, name=f"conv_pw_{number}")(x)
    return _activated(x, f"conv_pw_{number}")


def MobileNet(  # noqa: N802
    input_shape: Any = None,
    alpha: float = 1.0,
    depth_multiplier: int = 1,
    dropout: float = 1e-3,
    include_top: bool = True,
    weights: Any = "imagenet",
    input_tensor: Any = None,
    pooling: Any = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
    name: str | None = None,
) -> Model:
    """4,253,864 parameters at alpha 1; input 224×224×3. `alpha` scales the number of filters."""
    alpha = checked("MobileNet", "alpha", alpha, "a positive number")
    inputs = frame.image_input(
        "MobileNet", input_tensor, input_shape, 224, 32, weights, include_top
    )
    rows = inputs.shape[2 if frame.channel_axis() == 1 else 1]
    name = name or f"mobilenet_{alpha:0.2f}_{rows}"
    x: Any = layers.Conv2D(
        int(32 * alpha), 3, strides=2, padding="same", use_bias=False, name="conv1"
    )(inputs)
    x = _activated(x, "conv1")
    for number, (filters, stride) in enumerate(_PAIRS, 1):
        x = _pair(x, int(filters * alpha), stride, depth_multiplier, number)
    if include_top:
        classes = positive(name, "classes", classes)
        x = layers.GlobalAveragePooling2D(keepdims=True)(x)
        x = layers.Dropout(fraction(name, "dropout", dropout), name="dropout")(x)
        x = layers.Conv2D(classes, 1, padding="same", name="conv_preds")(x)
        x = layers.Reshape((classes,), name="reshape_2")(x)
        x = layers.Activation(classifier_activation, name="predictions")(x)
    else:
        x = frame.global_pooling(x, pooling, name, named=False)
    return frame.assembled(inputs, x, name, weights)


def preprocess_input(x: Any, data_format: str | None = None) -> Any:
    """Images of 0 … 255 scaled to -1 … 1."""
    return frame.preprocess(x, data_format, "tf")
