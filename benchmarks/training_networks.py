"""The networks whose training is measured: six of the tutorials', ResNet-18 on small images and MobileNetV2.

`keras` is convc.keras or Keras itself: both build the same layers from these lines. Nothing of convc is imported here,
so that processes of other frameworks can read this file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class Row:
    """A network, its batch and how it is trained: an optimizer of Keras by its name, with its options."""

    name: str
    network: Callable[[Any], Any]
    shape: tuple[int, int, int]
    """Of an image: height, width, channels."""
    batch: int
    optimizer: str
    options: Mapping[str, float] = field(default_factory=dict)
    draws: bool = False
    """Whether a step draws random numbers (dropout): losses then agree by and large only."""


def sequential(keras: Any, shape: tuple[int, ...], *parts: Any) -> Any:
    return keras.Sequential([keras.layers.Input(shape), *parts])


def hidden(keras: Any, *units: int) -> list[Any]:
    return [keras.layers.Dense(n, activation="relu") for n in units]


def classifier(keras: Any) -> Any:
    return keras.layers.Dense(10, activation="softmax")


def tutorial_cnn(keras: Any) -> Any:
    layers = keras.layers
    first, second, third = (layers.Conv2D(f, 3, activation="relu") for f in (32, 64, 64))
    return sequential(
        keras,
        (28, 28, 1),
        *(first, layers.MaxPooling2D(), second, layers.MaxPooling2D(), third, layers.Flatten()),
        *(*hidden(keras, 64), classifier(keras)),
    )


def same_convolutions(keras: Any, pooled: bool) -> Any:
    layers = keras.layers
    parts: list[Any] = []
    for filters in (64, 32):
        parts.append(layers.Conv2D(filters, 3, padding="same", activation="relu"))
        parts += [layers.MaxPooling2D()] if pooled else []
    parts += [layers.Flatten(), *hidden(keras, 32, 32), classifier(keras)]
    return sequential(keras, (28, 28, 1), *parts)


def large_windows(keras: Any) -> Any:
    layers = keras.layers
    parts: list[Any] = []
    for filters in (32, 64):
        parts += [layers.Conv2D(filters, 5, activation="relu"), layers.MaxPooling2D()]
    parts += [layers.Flatten(), *hidden(keras, 1000), classifier(keras)]
    return sequential(keras, (28, 28, 1), *parts)


def perceptron(keras: Any) -> Any:
    parts = [keras.layers.Flatten(), *hidden(keras, 32, 32), classifier(keras)]
    return sequential(keras, (28, 28, 1), *parts)


def cifar(keras: Any) -> Any:
    layers = keras.layers
    x = image = layers.Input((32, 32, 3))
    for filters in (64, 32):
        x = layers.Conv2D(filters, 3, activation="relu")(x)
        x = layers.MaxPooling2D()(layers.BatchNormalization()(x))
    x = layers.Flatten()(x)
    for dense in hidden(keras, 512, 256):
        x = layers.Dropout(0.2)(dense(x))
    return keras.Model(image, classifier(keras)(x))


RESNET18_BLOCKS = (
    (64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1),
)  # fmt: skip
"""Filters and stride of each block."""


def resnet18(keras: Any) -> Any:
    """He et al. 2015, with a 3 x 3 stem and no pooling before the first stage, as for CIFAR."""
    layers = keras.layers
    x = image = layers.Input((32, 32, 3))
    x = normalised(keras, x, 64)
    for filters, stride in RESNET18_BLOCKS:
        y = normalised(keras, x, filters, stride=stride)
        y = normalised(keras, y, filters, relu=False)
        if stride != 1:
            x = normalised(keras, x, filters, 1, stride, relu=False)
        x = layers.ReLU()(layers.Add()([x, y]))
    return keras.Model(image, classifier(keras)(layers.GlobalAveragePooling2D()(x)))


def normalised(
    keras: Any, x: Any, filters: int, kernel: int = 3, stride: int = 1, relu: bool = True
) -> Any:
    layers = keras.layers
    x = layers.Conv2D(filters, kernel, strides=stride, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    return layers.ReLU()(x) if relu else x


def mobilenet_v2(keras: Any) -> Any:
    return keras.applications.MobileNetV2(weights=None, classes=1000)


MNIST, CIFAR, IMAGENET = (28, 28, 1), (32, 32, 3), (224, 224, 3)
MOMENTUM = {"momentum": 0.9}
ROWS: Sequence[Row] = (
    Row("Conv32-pool-Conv64-pool-Conv64", tutorial_cnn, MNIST, 64, "RMSprop"),
    Row("Conv64-pool-Conv32-pool", lambda k: same_convolutions(k, True), MNIST, 128, "Adam"),
    Row("Conv64-Conv32", lambda k: same_convolutions(k, False), MNIST, 128, "Adam"),
    Row("Conv32 5x5, Conv64 5x5, Dense 1000", large_windows, MNIST, 128, "SGD"),
    Row("Dense 32-32-10", perceptron, MNIST, 128, "Adam"),
    Row("CIFAR, BN and dropout", cifar, CIFAR, 32, "Adam", draws=True),
    Row("ResNet-18 32x32", resnet18, CIFAR, 32, "SGD", MOMENTUM),
    Row("MobileNetV2 224", mobilenet_v2, IMAGENET, 8, "SGD", MOMENTUM),
)
