"""The networks whose training is measured: six of the tutorials', ResNet-18 on small images and MobileNetV2."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from convc import keras
from convc.keras import applications, layers
from convc.keras.training.rules import SGD, Adam, RMSprop, Rule


@dataclass(frozen=True)
class Row:
    """A network, its batch and how it is trained."""

    name: str
    network: Callable[[], Any]
    batch: int
    rule: Rule


def sequential(shape: tuple[int, ...], *parts: Any) -> Any:
    return keras.Sequential([layers.Input(shape), *parts])


def convolutions(*filters: int) -> list[Any]:
    return [layers.Conv2D(f, 3, activation="relu") for f in filters]


def tutorial_cnn() -> Any:
    first, second, third = convolutions(32, 64, 64)
    return sequential(
        (28, 28, 1),
        *(first, layers.MaxPooling2D(), second, layers.MaxPooling2D(), third, layers.Flatten()),
        *(layers.Dense(64, activation="relu"), layers.Dense(10, activation="softmax")),
    )


def same_convolutions(pooled: bool) -> Any:
    parts: list[Any] = []
    for filters in (64, 32):
        parts.append(layers.Conv2D(filters, 3, padding="same", activation="relu"))
        parts += [layers.MaxPooling2D()] if pooled else []
    dense = [layers.Dense(32, activation="relu"), layers.Dense(32, activation="relu")]
    return sequential(
        (28, 28, 1), *parts, layers.Flatten(), *dense, layers.Dense(10, activation="softmax")
    )


def large_windows() -> Any:
    parts: list[Any] = []
    for filters in (32, 64):
        parts += [layers.Conv2D(filters, 5, activation="relu"), layers.MaxPooling2D()]
    dense = (layers.Dense(1000, activation="relu"), layers.Dense(10, activation="softmax"))
    return sequential((28, 28, 1), *parts, layers.Flatten(), *dense)


def perceptron() -> Any:
    dense = [layers.Dense(32, activation="relu"), layers.Dense(32, activation="relu")]
    return sequential((28, 28, 1), layers.Flatten(), *dense, layers.Dense(10, activation="softmax"))


def cifar() -> Any:
    x = image = layers.Input((32, 32, 3))
    for filters in (64, 32):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D()(layers.BatchNormalization()(x))
    x = layers.Flatten()(x)
    for units in (512, 256):
        x = layers.Dropout(0.2)(layers.Dense(units, activation="relu")(x))
    return keras.Model(image, layers.Dense(10, activation="softmax")(x))


def resnet18() -> Any:
    """He et al. 2015, with a 3 x 3 stem and no pooling before the first stage, as for CIFAR."""
    x = image = layers.Input((32, 32, 3))
    x = normalised(x, 64)
    for filters, stride in (
        (64, 1),
        (64, 1),
        (128, 2),
        (128, 1),
        (256, 2),
        (256, 1),
        (512, 2),
        (512, 1),
    ):
        y = normalised(normalised(x, filters, stride=stride), filters, relu=False)
        if stride != 1:
            x = normalised(x, filters, 1, stride, relu=False)
        x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.Dense(10, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, x)


def normalised(x: Any, filters: int, kernel: int = 3, stride: int = 1, relu: bool = True) -> Any:
    x = layers.Conv2D(filters, kernel, strides=stride, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    return layers.ReLU()(x) if relu else x


def mobilenet_v2() -> Any:
    return applications.MobileNetV2(weights=None, classes=1000)


ROWS: Sequence[Row] = (
    Row("Conv32-pool-Conv64-pool-Conv64", tutorial_cnn, 64, RMSprop()),
    Row("Conv64-pool-Conv32-pool", lambda: same_convolutions(True), 128, Adam()),
    Row("Conv64-Conv32", lambda: same_convolutions(False), 128, Adam()),
    Row("Conv32 5x5, Conv64 5x5, Dense 1000", large_windows, 128, SGD()),
    Row("Dense 32-32-10", perceptron, 128, Adam()),
    Row("CIFAR, BN and dropout", cifar, 32, Adam()),
    Row("ResNet-18 32x32", resnet18, 32, SGD(momentum=0.9)),
    Row("MobileNetV2 224", mobilenet_v2, 8, SGD(momentum=0.9)),
)
