"""The networks that are measured: six of convc.keras.applications at their usual size, and a tutorial's small one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.random_weights import randomised
from convc import keras
from convc.graph.ir import Array, Graph
from convc.keras import applications, layers

SEED = 7


def tutorial_cnn() -> Any:
    """Three convolutions and two dense layers on 28 x 28 x 1 images, as tutorials have it."""
    return keras.Sequential(
        [
            layers.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10),
        ],
        name="tutorial_cnn",
    )


def unet() -> Any:
    """U-Net (Ronneberger et al. 2015) on 256 x 256 x 3 images with 32 to 512 channels and two classes.

    Convolutions keep the size and have batch norms, as later implementations do.
    """
    x = image = layers.Input((256, 256, 3))
    skipped = []
    for channels in (32, 64, 128, 256):
        x = two_convolutions(x, channels)
        skipped.append(x)
        x = layers.MaxPooling2D()(x)
    x = two_convolutions(x, 512)
    for channels in (256, 128, 64, 32):
        x = layers.Conv2DTranspose(channels, 2, strides=2)(x)
        x = two_convolutions(layers.Concatenate()([skipped.pop(), x]), channels)
    return keras.Model(image, layers.Conv2D(2, 1)(x), name="unet")


def two_convolutions(x: Any, channels: int) -> Any:
    for _ in range(2):
        x = layers.Conv2D(channels, 3, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    return x


def application(name: str) -> Callable[[], Any]:
    return lambda: getattr(applications, name)(weights=None, classifier_activation=None)


APPLICATIONS = (
    "ResNet50",
    "MobileNetV2",
    "VGG16",
    "DenseNet121",
    "InceptionV3",
    "EfficientNetB0",
)
NETWORKS: dict[str, Callable[[], Any]] = {n: application(n) for n in APPLICATIONS} | {
    "U-Net 256": unet,
    "CNN 28x28": tutorial_cnn,
}
"""How each network is built. All end with logits, which keep errors that a softmax would hide."""

LINES = (
    *((name, 1) for name in NETWORKS),
    ("ResNet50", 16),
    ("MobileNetV2", 16),
    ("CNN 28x28", 128),
)
"""What is measured: networks and their batches."""


def image_of(graph: Graph, batch: int = 1, seed: int = SEED) -> Any:
    """Random pixels for a graph of one input, in the range that the networks expect."""
    (shape,) = (graph.types[n].shape for n in graph.inputs)
    image: Any = np.random.default_rng(seed).uniform(-1, 1, (batch, *shape[1:])).astype("f4")  # type: ignore[arg-type]
    # EfficientNet begins with its own scaling of bytes.
    is_bytes = "rescaling" in graph.nodes[0].layer
    return (image + 1) * np.float32(127.5) if is_bytes else image


def network(name: str, batch: int = 1) -> tuple[Graph, Array]:
    """The graph of a network with random weights, and images for it."""
    graph = NETWORKS[name]().graphs()["predict"]
    weights = randomised(graph, {graph.inputs[0]: image_of(graph)}, SEED)
    return weights, image_of(graph, batch)
