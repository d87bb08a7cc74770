"""NASNet-A, mobile and large (Zoph et al., 2018)."""

from __future__ import annotations

from typing import Any

from convc.keras import layers
from convc.keras.applications import frame
from convc.keras.applications.imagenet_utils import decode_predictions
from convc.keras.engine.model import Model

__all__ = ["NASNetLarge", "NASNetMobile", "decode_predictions", "preprocess_input"]


def _normalized(x: Any, name: str) -> Any:
    return layers.BatchNormalization(
        frame.channel_axis(), momentum=0.9997, epsilon=1e-3, name=name
    )(x)  # fmt: skip


def _relu(x: Any, name: str | None = None) -> Any:
    return layers.Activation("relu", name=name)(x)


def _point(x: Any, filters: int, name: str) -> Any:
    """A 1×1 convolution."""
    return layers.Conv2D(
        filters, 1, padding="same", use_bias=False, kernel_initializer="he_normal", name=name
    )(x)  # fmt: skip


def _added(x: Any, y: Any, name: str | None = None) -> Any:
    return layers.Add(name=name)([x, y])


def _separable(x: Any, filters: int, kernel: int, name: str, stride: int = 1) -> Any:
    """Twice an activation, a separable convolution and a normalization."""
    x, padding = _relu(x), "same"
    if stride == 2:
        pad = frame.correct_pad(x, kernel)
        x, padding = layers.ZeroPadding2D(pad, name=f"separable_conv_1_pad_{name}")(x), "valid"
    for number in (1, 2):
        x = x if number == 1 else _relu(x)
        x = layers.SeparableConv2D(
            filters, kernel, strides=stride if number == 1 else 1, padding=padding if number == 1 else "same",
            use_bias=False, name=f"separable_conv_{number}_{name}",
        )(x)  # fmt: skip
        x = _normalized(x, f"separable_conv_{number}_bn_{name}")
    return x


def _average(x: Any, name: str) -> Any:
    return layers.AveragePooling2D(3, strides=1, padding="same", name=name)(x)


def _fitted(p: Any, x: Any, filters: int, name: str) -> Any:
    """The output of the cell before the last one, in the size of the last one's, with so many channels."""
    rows = 2 if frame.channel_axis() == 1 else 1
    if p is None:
        return x
    if p.shape[rows] != x.shape[rows]:
        p = _relu(p, f"adjust_relu_1_{name}")
        moved = layers.Cropping2D(((1, 0), (1, 0)))(layers.ZeroPadding2D(((0, 1), (0, 1)))(p))
        halves = []
        for number, half in enumerate((p, moved), 1):
            half = layers.AveragePooling2D(1, strides=2, name=f"adjust_avg_pool_{number}_{name}")(
                half
            )
            halves.append(_point(half, filters // 2, f"adjust_conv_{number}_{name}"))
        p = layers.Concatenate(frame.channel_axis())(halves)
        return _normalized(p, f"adjust_bn_{name}")
    if frame.channels(p) != filters:
        p = _point(_relu(p), filters, f"adjust_conv_projection_{name}")
        return _normalized(p, f"adjust_bn_{name}")
    return p


def _normal(x: Any, p: Any, filters: int, name: str) -> Any:
    """A cell that keeps the size, of the last two cells' outputs."""
    p = _fitted(p, x, filters, name)
    h = _normalized(_point(_relu(x), filters, f"normal_conv_1_{name}"), f"normal_bn_1_{name}")
    left = _separable(h, filters, 5, f"normal_left1_{name}")
    first = _added(left, _separable(p, filters, 3, f"normal_right1_{name}"), f"normal_add_1_{name}")
    left = _separable(p, filters, 5, f"normal_left2_{name}")
    second = _added(
        left, _separable(p, filters, 3, f"normal_right2_{name}"), f"normal_add_2_{name}"
    )
    third = _added(_average(h, f"normal_left3_{name}"), p, f"normal_add_3_{name}")
    left = _average(p, f"normal_left4_{name}")
    fourth = _added(left, _average(p, f"normal_right4_{name}"), f"normal_add_4_{name}")
    fifth = _added(_separable(h, filters, 3, f"normal_left5_{name}"), h, f"normal_add_5_{name}")
    parts = [p, first, second, third, fourth, fifth]
    return layers.Concatenate(frame.channel_axis(), name=f"normal_concat_{name}")(parts)


def _reduction(x: Any, p: Any, filters: int, name: str) -> Any:
    """A cell that halves the size, of the last two cells' outputs."""
    p = _fitted(p, x, filters, name)
    h = _normalized(_point(_relu(x), filters, f"reduction_conv_1_{name}"), f"reduction_bn_1_{name}")
    padded = layers.ZeroPadding2D(frame.correct_pad(h, 3), name=f"reduction_pad_1_{name}")(h)
    left = _separable(h, filters, 5, f"reduction_left1_{name}", 2)
    right = _separable(p, filters, 7, f"reduction_right1_{name}", 2)
    first = _added(left, right, f"reduction_add_1_{name}")
    left = layers.MaxPooling2D(3, strides=2, name=f"reduction_left2_{name}")(padded)
    right = _separable(p, filters, 7, f"reduction_right2_{name}", 2)
    second = _added(left, right, f"reduction_add_2_{name}")
    left = layers.AveragePooling2D(3, strides=2, name=f"reduction_left3_{name}")(padded)
    right = _separable(p, filters, 5, f"reduction_right3_{name}", 2)
    third = _added(left, right, f"reduction_add3_{name}")
    fourth = _added(second, _average(first, f"reduction_left4_{name}"))
    left = _separable(first, filters, 3, f"reduction_left4_{name}")
    right = layers.MaxPooling2D(3, strides=2, name=f"reduction_right5_{name}")(padded)
    fifth = _added(left, right, f"reduction_add4_{name}")
    parts = [second, third, fourth, fifth]
    return layers.Concatenate(frame.channel_axis(), name=f"reduction_concat_{name}")(parts)


def _body(x: Any, filters: int, blocks: int, skip: bool) -> Any:
    """Three rows of normal cells with reductions between them; `skip`: a row's first cell sees past the reduction."""
    x, p = _reduction(x, None, filters // 4, "stem_1"), x
    x, p = _reduction(x, p, filters // 2, "stem_2"), x
    for row in range(3):
        if row:
            reduced = _reduction(x, p, filters << row, f"reduce_{row * blocks}")
            x, p = reduced, p if skip else x
        for number in range(blocks):
            x, p = _normal(x, p, filters << row, f"{row * blocks + number + bool(row)}"), x
    return _relu(x)


def _nasnet(
    penultimate: int,
    blocks: int,
    stem: int,
    skip: bool,
    size: int,
    input_shape: Any,
    include_top: bool,
    weights: Any,
    input_tensor: Any,
    pooling: Any,
    classes: int,
    classifier_activation: Any,
    name: str,
) -> Model:
    if input_shape is None and input_tensor is None:
        input_shape = (3, size, size) if frame.channel_axis() == 1 else (size, size, 3)
    inputs = frame.image_input(name, input_tensor, input_shape, size, 32, weights)
    x = layers.Conv2D(
        stem, 3, strides=2, use_bias=False, kernel_initializer="he_normal", name="stem_conv1"
    )(inputs)  # fmt: skip
    x = _body(_normalized(x, "stem_bn1"), penultimate // 24, blocks, skip)
    if include_top:
        x = layers.GlobalAveragePooling2D()(x)
        x = frame.classifier(x, classes, classifier_activation, name)
    else:
        x = frame.global_pooling(x, pooling, name, named=False)
    return frame.assembled(inputs, x, name, weights)


def NASNetMobile(  # noqa: N802
    input_shape: Any = None, include_top: bool = True, weights: Any = "imagenet", input_tensor: Any = None,
    pooling: Any = None, classes: int = 1000, classifier_activation: Any = "softmax", name: str = "nasnet_mobile",
) -> Model:  # fmt: skip
    """5,326,716 parameters; input 224×224×3."""
    return _nasnet(
        1056, 4, 32, False, 224, input_shape, include_top, weights, input_tensor, pooling, classes,
        classifier_activation, name,
    )  # fmt: skip


def NASNetLarge(  # noqa: N802
    input_shape: Any = None, include_top: bool = True, weights: Any = "imagenet", input_tensor: Any = None,
    pooling: Any = None, classes: int = 1000, classifier_activation: Any = "softmax", name: str = "nasnet_large",
) -> Model:  # fmt: skip
    """88,949,818 parameters; input 331×331×3."""
    return _nasnet(
        4032, 6, 96, True, 331, input_shape, include_top, weights, input_tensor, pooling, classes,
        classifier_activation, name,
    )  # fmt: skip


def preprocess_input(x: Any, data_format: str | None = None) -> Any:
    """Images of 0 … 255 scaled to -1 … 1."""
    return frame.preprocess(x, data_format, "tf")
