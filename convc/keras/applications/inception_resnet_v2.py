"""Inception-ResNet V2 (Szegedy et al., 2016)."""

from __future__ import annotations

from typing import Any

from convc.keras import layers
from convc.keras.applications import frame
from convc.keras.applications.imagenet_utils import decode_predictions
from convc.keras.engine.layer import Layer
from convc.keras.engine.model import Model
from convc.keras.engine.registry import LAYERS

__all__ = ["InceptionResNetV2", "decode_predictions", "preprocess_input"]

# Each branch of a residual block: (filters, kernel) of its convolutions.
_BRANCHES: dict[str, Any] = {
    "block35": (((32, 1),), ((32, 1), (32, 3)), ((32, 1), (48, 3), (64, 3))),
    "block17": (((192, 1),), ((128, 1), (160, (1, 7)), (192, (7, 1)))),
    "block8": (((192, 1),), ((192, 1), (224, (1, 3)), (256, (3, 1)))),
}


class CustomScaleLayer(Layer):
    """The first input plus `scale` times the second one."""

    def __init__(self, scale: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale = scale

    def call(self, inputs: Any) -> Any:
        return inputs[0] + inputs[1] * self.scale


LAYERS["CustomScaleLayer"] = CustomScaleLayer


def _conv(
    x: Any, filters: int, kernel: Any, stride: int = 1, padding: str = "same", name: str | None = None
) -> Any:  # fmt: skip
    x = layers.Conv2D(
        filters, kernel, strides=stride, padding=padding, use_bias=False, name=name
    )(x)  # fmt: skip
    bn, relu = (None, None) if name is None else (f"{name}_bn", f"{name}_ac")
    x = layers.BatchNormalization(frame.channel_axis(), scale=False, name=bn)(x)
    return layers.Activation("relu", name=relu)(x)


def _chain(x: Any, convolutions: Any) -> Any:
    for filters, kernel in convolutions:
        x = _conv(x, filters, kernel)
    return x


def _residual(x: Any, kind: str, number: int, scale: float, activate: bool = True) -> Any:
    """A block of Inception whose output, scaled, is added to its input."""
    name = f"{kind}_{number}"
    branches = [_chain(x, branch) for branch in _BRANCHES[kind]]
    mixed = layers.Concatenate(frame.channel_axis(), name=f"{name}_mixed")(branches)
    up = layers.Conv2D(frame.channels(x), 1, padding="same", name=f"{name}_conv")(mixed)
    x = CustomScaleLayer(scale)([x, up])
    return layers.Activation("relu", name=f"{name}_ac")(x) if activate else x


def _stem(x: Any) -> Any:
    x = _conv(_conv(x, 32, 3, 2, "valid"), 32, 3, 1, "valid")
    x = layers.MaxPooling2D(3, strides=2)(_conv(x, 64, 3))
    x = _conv(_conv(x, 80, 1, 1, "valid"), 192, 3, 1, "valid")
    x = layers.MaxPooling2D(3, strides=2)(x)
    single = _conv(x, 96, 1)
    five = _chain(x, ((48, 1), (64, 5)))
    double = _chain(x, ((64, 1), (96, 3), (96, 3)))
    pooled = _conv(layers.AveragePooling2D(3, strides=1, padding="same")(x), 64, 1)
    return layers.Concatenate(frame.channel_axis(), name="mixed_5b")([single, five, double, pooled])


def _reduced(x: Any, branches: tuple[Any, ...], name: str) -> Any:
    """Half the rows and columns: the last convolution of each branch strides, and a pooling beside them."""
    found = []
    for branch in branches:
        *before, (filters, kernel) = branch
        found.append(_conv(_chain(x, before), filters, kernel, 2, "valid"))
    found.append(layers.MaxPooling2D(3, strides=2)(x))
    return layers.Concatenate(frame.channel_axis(), name=name)(found)


def InceptionResNetV2(  # noqa: N802
    include_top: bool = True, weights: Any = "imagenet", input_tensor: Any = None, input_shape: Any = None,
    pooling: Any = None, classes: int = 1000, classifier_activation: Any = "softmax",
    name: str = "inception_resnet_v2",
) -> Model:  # fmt: skip
    """55,873,736 parameters; input 299×299×3, at least 75×75."""
    inputs = frame.image_input(name, input_tensor, input_shape, 299, 75, weights, include_top)
    x = _stem(inputs)
    for number in range(1, 11):
        x = _residual(x, "block35", number, 0.17)
    x = _reduced(x, (((384, 3),), ((256, 1), (256, 3), (384, 3))), "mixed_6a")
    for number in range(1, 21):
        x = _residual(x, "block17", number, 0.1)
    branches = (((256, 1), (384, 3)), ((256, 1), (288, 3)), ((256, 1), (288, 3), (320, 3)))
    x = _reduced(x, branches, "mixed_7a")
    for number in range(1, 10):
        x = _residual(x, "block8", number, 0.2)
    x = _residual(x, "block8", 10, 1.0, activate=False)
    x = _conv(x, 1536, 1, name="conv_7b")
    if include_top:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = frame.classifier(x, classes, classifier_activation, name)
    else:
        x = frame.global_pooling(x, pooling, name, named=False)
    return frame.assembled(inputs, x, name, weights)


def preprocess_input(x: Any, data_format: str | None = None) -> Any:
    """Images of 0 … 255 scaled to -1 … 1."""
    return frame.preprocess(x, data_format, "tf")
