"""Handwritten digits with three convolutions and RMSprop: about 99 % after five epochs.

This one says `import keras`. It runs as it is where Keras is installed, and without Keras by

    convc run-script examples/tutorials/mnist_rmsprop.py [--data mnist.npz] [--epochs 5]
"""

import argparse

import keras
import numpy as np
from keras import layers, models


def build():
    """Convolutions find ever larger patterns on ever smaller maps: 26x26, 11x11, 3x3."""
    model = models.Sequential()
    model.add(keras.Input((28, 28, 1)))
    model.add(layers.Conv2D(32, (3, 3), activation="relu"))
    model.add(layers.MaxPooling2D((2, 2)))
    model.add(layers.Conv2D(64, (3, 3), activation="relu"))
    model.add(layers.MaxPooling2D((2, 2)))
    model.add(layers.Conv2D(64, (3, 3), activation="relu"))
    model.add(layers.Flatten())
    model.add(layers.Dense(64, activation="relu"))
    model.add(layers.Dense(10, activation="softmax"))
    return model


def load(path):
    if path is None:
        (images, labels), (test_images, test_labels) = keras.datasets.mnist.load_data()
    else:
        with np.load(path) as data:
            images, labels = data["x_train"], data["y_train"]
            test_images, test_labels = data["x_test"], data["y_test"]
    images, test_images = (
        a.reshape(-1, 28, 28, 1).astype("float32") / 255 for a in (images, test_images)
    )
    labels, test_labels = (keras.utils.to_categorical(a, 10) for a in (labels, test_labels))
    return (images, labels), (test_images, test_labels)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="mnist.npz (default: Keras' own download)")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    keras.utils.set_random_seed(options.seed)
    train, test = load(options.data)
    model = build()
    model.compile(optimizer="rmsprop", loss="categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(*train, epochs=options.epochs, batch_size=64)
    test_loss, test_accuracy = model.evaluate(*test)
    print(f"test accuracy: {test_accuracy:.4f}, loss {test_loss:.4f}")
    return {**history.history, "test_accuracy": [test_accuracy]}


if __name__ == "__main__":
    main()
