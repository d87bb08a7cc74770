"""Small colour pictures, trained without and with augmentation: what pictures that never repeat do to overfitting.

python examples/tutorials/cifar_augmented.py [--data cifar10.npz] [--epochs 20]
"""

import argparse

import numpy as np

from convc import keras
from convc.keras.layers import (
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Input,
    MaxPooling2D,
)
from convc.keras.models import Model
from convc.keras.preprocessing.image import ImageDataGenerator
from convc.keras.utils import multi_gpu_model


def build(classes=10):
    """The functional way: each layer has a name and is called on what another gave."""
    image = Input(shape=(32, 32, 3), name="image")
    x = Conv2D(64, (3, 3), activation="relu", name="conv_1")(image)
    x = BatchNormalization(name="norm_1")(x)
    x = MaxPooling2D((2, 2), name="pool_1")(x)
    x = Conv2D(32, (3, 3), activation="relu", name="conv_2")(x)
    x = BatchNormalization(name="norm_2")(x)
    x = MaxPooling2D((2, 2), name="pool_2")(x)
    x = Flatten(name="flatten")(x)
    x = Dense(512, activation="relu", name="dense_1")(x)
    x = Dropout(0.2, name="dropout_1")(x)
    x = Dense(256, activation="relu", name="dense_2")(x)
    x = Dropout(0.2, name="dropout_2")(x)
    return Model(inputs=image, outputs=Dense(classes, activation="softmax", name="kind")(x))


def load(path):
    if path is None:
        (images, labels), (test_images, test_labels) = keras.datasets.cifar10.load_data()
    else:
        with np.load(path) as data:
            images, labels = data["x_train"], data["y_train"]
            test_images, test_labels = data["x_test"], data["y_test"]
    images, test_images = (a.astype("float32") / 255 for a in (images, test_images))
    labels, test_labels = (keras.utils.to_categorical(a, 10) for a in (labels, test_labels))
    return (images, labels), (test_images, test_labels)


def compiled():
    model = multi_gpu_model(build(), gpus=1)
    model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
    return model


def report(name, history):
    last = {key: np.mean(values[-3:]) for key, values in history.items()}
    gap = last["accuracy"] - last["val_accuracy"]
    print(
        f"{name}: accuracy {last['accuracy']:.3f}, on pictures that it hasn't seen {last['val_accuracy']:.3f}, "
        f"gap {gap:.3f}"
    )


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="an .npz like mnist.npz (default: Keras' own download)")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    keras.utils.set_random_seed(options.seed)
    (images, labels), test = load(options.data)
    plain = compiled().fit(
        images, labels, batch_size=32, epochs=options.epochs, validation_data=test
    )

    # Every epoch sees each picture anew: turned a little, moved a little, mirrored or not.
    generator = ImageDataGenerator(
        rotation_range=20, width_shift_range=0.02, height_shift_range=0.02, horizontal_flip=True
    )
    augmented = compiled().fit_generator(
        generator.flow(images, labels, batch_size=32),
        steps_per_epoch=len(images) // 32,
        epochs=options.epochs,
        validation_data=test,
    )
    report("without augmentation", plain.history)
    report("with augmentation", augmented.history)
    return {"plain": plain.history, "augmented": augmented.history}


if __name__ == "__main__":
    main()
