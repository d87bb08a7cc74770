"""Handwritten digits with three dense layers, from raw bytes: about 93 % after ten epochs.

python examples/tutorials/mnist_dense.py [--data mnist.npz] [--epochs 10]
"""

import argparse

import numpy as np

from convc import keras
from convc.keras import layers


def build():
    """A picture is 784 numbers in a row; each layer mixes what the one before it found."""
    return keras.Sequential(
        [
            keras.Input((28, 28)),
            layers.Flatten(),
            layers.Dense(32, activation="relu"),
            layers.Dense(32, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def load(path):
    """MNIST's pictures are bytes from 0 to 255. They stay bytes: the compiled step converts them."""
    if path is None:
        return keras.datasets.mnist.load_data()
    with np.load(path) as data:
        return (data["x_train"], data["y_train"]), (data["x_test"], data["y_test"])


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="mnist.npz (default: Keras' own download)")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    keras.utils.set_random_seed(options.seed)
    (images, labels), (test_images, test_labels) = load(options.data)
    model = build()
    model.summary()

    # One number from 0 to 9 becomes ten, of which one is 1: what ten outputs are compared with.
    model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(
        images,
        keras.utils.to_categorical(labels, 10),
        batch_size=128,
        epochs=options.epochs,
        validation_data=(test_images, keras.utils.to_categorical(test_labels, 10)),
    )
    return history.history


if __name__ == "__main__":
    main()
