"""Handwritten digits with large filters, plain SGD and a callback of one's own: 97 % and more after ten epochs.

python examples/tutorials/mnist_callback.py [--data mnist.npz] [--epochs 10]
"""

import argparse

import numpy as np

from convc import keras
from convc.keras.layers import Conv2D, Dense, Flatten, MaxPooling2D
from convc.keras.models import Sequential


class AccuracyHistory(keras.callbacks.Callback):
    """Keeps the accuracy of each epoch."""

    def on_train_begin(self, logs=None):
        self.accuracies = []

    def on_epoch_end(self, epoch, logs=None):
        self.accuracies.append((logs or {}).get("accuracy"))


def build(classes=10):
    model = Sequential()
    model.add(
        Conv2D(32, kernel_size=(5, 5), strides=(1, 1), activation="relu", input_shape=(28, 28, 1))
    )
    model.add(MaxPooling2D(pool_size=(2, 2), strides=(2, 2)))
    model.add(Conv2D(64, (5, 5), activation="relu"))
    model.add(MaxPooling2D(pool_size=(2, 2)))
    model.add(Flatten())
    model.add(Dense(1000, activation="relu"))
    model.add(Dense(classes, activation="softmax"))
    return model


def load(path):
    """Numbers from 0 to 1 suit SGD, whose steps are as long as the inputs are large."""
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
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    keras.utils.set_random_seed(options.seed)
    train, test = load(options.data)
    model = build()
    # A loss may be a function, and old programs call the learning rate lr.
    model.compile(
        loss=keras.losses.categorical_crossentropy,
        optimizer=keras.optimizers.SGD(lr=0.01),
        metrics=["accuracy"],
    )
    seen = AccuracyHistory()
    history = model.fit(
        *train,
        batch_size=128,
        epochs=options.epochs,
        verbose=1,
        validation_data=test,
        callbacks=[seen],
    )
    score = model.evaluate(*test, verbose=0)
    print("Test loss:", score[0])
    print("Test accuracy:", score[1])
    for epoch, accuracy in enumerate(seen.accuracies, 1):
        print(f"{epoch:3d} {'#' * round(50 * accuracy)} {accuracy:.4f}")
    return history.history


if __name__ == "__main__":
    main()
