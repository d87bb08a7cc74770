"""Handwritten digits with two convolutions at full size: about 98 % after ten epochs.

python examples/tutorials/mnist_conv.py [--data mnist.npz] [--epochs 10]
"""

import argparse

import numpy as np

from convc import keras
from convc.keras import layers


def build():
    """Each of 64 filters looks at 3x3 pixels everywhere; 32 more look at what those found. "same" keeps 28x28."""
    model = keras.models.Sequential()
    model.add(layers.Conv2D(64, 3, padding="same", activation="relu", input_shape=(28, 28, 1)))
    model.add(layers.Conv2D(32, 3, padding="same", activation="relu"))
    model.add(layers.Flatten())
    model.add(layers.Dense(32, activation="relu"))
    model.add(layers.Dense(32, activation="relu"))
    model.add(layers.Dense(10, activation="softmax"))
    return model


def load(path):
    """Pictures get an axis for their one channel."""
    if path is None:
        (images, labels), (test_images, test_labels) = keras.datasets.mnist.load_data()
    else:
        with np.load(path) as data:
            images, labels = data["x_train"], data["y_train"]
            test_images, test_labels = data["x_test"], data["y_test"]
    return (images[..., np.newaxis], labels), (test_images[..., np.newaxis], test_labels)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="mnist.npz (default: Keras' own download)")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    keras.utils.set_random_seed(options.seed)
    train, test = load(options.data)
    model = build()
    model.summary()

    # Labels can stay numbers too: then the loss is the sparse one.
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(*train, batch_size=128, epochs=options.epochs, validation_data=test)
    return history.history


if __name__ == "__main__":
    main()
