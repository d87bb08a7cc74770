"""Trainings in float32, where no two engines round alike: how far apart Keras' own back ends come is the yardstick.

`python -m tests.keras.references.single` adds the curves of the installed Keras' back end to `single.json`; it is run
once with TensorFlow and once with torch (KERAS_BACKEND). The tests read the record alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.keras.references.cases import Make, labels, seeded, wave
from tests.keras.references.make import curve

FILE = Path(__file__).with_name("single.json")
STEPS = 50


def images() -> tuple[Any, Any]:
    """Pictures and labels that can be learnt: each class has a wave of its own under noise."""
    classes = labels(64, classes=10)
    patterns = wave(10, 12, 12, 3, speed=0.9, start=1.3)
    return (0.5 * wave(64, 12, 12, 3) + patterns[classes]).astype(np.float32), classes


def convolutions(keras: Any) -> list[Any]:
    """As in the tutorials for MNIST."""
    layers = keras.layers
    return [
        layers.Conv2D(32, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(64, 3, activation="relu"),
        layers.Flatten(),
        layers.Dense(32, activation="relu"),
        layers.Dense(10, activation="softmax"),
    ]


def normalized(keras: Any) -> list[Any]:
    """As in the tutorial for CIFAR-10, without its dropout."""
    layers = keras.layers
    return [
        layers.Conv2D(32, 3, padding="same", activation="relu"),
        layers.BatchNormalization(),
        layers.MaxPooling2D(),
        layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False),
        layers.BatchNormalization(),
        layers.Activation("relu"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(10, activation="softmax"),
    ]


def separable(keras: Any) -> list[Any]:
    """As in mobile networks."""
    layers = keras.layers
    return [
        layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False),
        layers.BatchNormalization(),
        layers.ReLU(6.0),
        layers.DepthwiseConv2D(3, padding="same", use_bias=False),
        layers.BatchNormalization(),
        layers.ReLU(6.0),
        layers.Conv2D(24, 1, activation="swish"),
        layers.AveragePooling2D(2),
        layers.Flatten(),
        layers.Dense(10, activation="softmax"),
    ]


NETWORKS: dict[str, tuple[Make, Make]] = {
    "convolutions, sgd": (convolutions, lambda k: k.optimizers.SGD(0.01)),
    "convolutions, rmsprop": (convolutions, lambda k: k.optimizers.RMSprop(1e-3)),
    "normalized, adam": (normalized, lambda k: k.optimizers.Adam(1e-3)),
    "separable, momentum": (separable, lambda k: k.optimizers.SGD(0.01, momentum=0.9)),
}


def training(keras: Any, name: str) -> list[float]:
    """The loss of each of 50 steps on one batch, from the same weights everywhere."""
    layers, optimizer = NETWORKS[name]
    model = keras.Sequential([keras.Input((12, 12, 3)), *layers(keras)])
    seeded(model)
    model.compile(optimizer(keras), "sparse_categorical_crossentropy")
    return curve(model, *images(), STEPS)


def main() -> None:
    import keras

    kept = json.loads(FILE.read_text()) if FILE.exists() else {}
    kept[keras.backend.backend()] = {
        name: [float(f"{v:.9g}") for v in training(keras, name)] for name in NETWORKS
    }
    FILE.write_text(json.dumps(kept, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
