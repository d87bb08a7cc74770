"""Handwritten digits with convolutions and pooling: fewer parameters, less time, 98 % and more after ten epochs.

python examples/tutorials/mnist_pool.py [--data mnist.npz] [--epochs 10]
"""

import argparse

import numpy as np

from convc import keras
from convc.keras import layers


def build():
    """Pooling keeps the largest of each 2x2 numbers: a twelfth of the parameters of the model without it."""
    model = keras.models.Sequential()
    model.add(layers.Conv2D(64, 3, padding="same", activation="relu", input_shape=(28, 28, 1)))
    model.add(layers.MaxPooling2D(2))
    model.add(layers.Conv2D(32, 3, padding="same", activation="relu"))
    model.add(layers.MaxPooling2D(2))
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
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(*train, batch_size=128, epochs=options.epochs, validation_data=test)

    # What the model is least sure of, among the test's pictures.
    likely = model.predict(test[0], batch_size=128, verbose=0)
    doubtful = np.argsort(likely.max(axis=1))[:5]
    for k in doubtful:
        print(f"picture {k}: {likely[k].argmax()} with {likely[k].max():.0%}, it is {test[1][k]}")
    return history.history


if __name__ == "__main__":
    main()
