"""Trainings whose results real Keras decides: `python -m tests.keras.training.histories` records them.

That needs Keras (`pip install keras torch`, KERAS_BACKEND=torch); the tests read the record alone.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np

RECORD = Path(__file__).with_name("histories.json")
LABELS = np.arange(100) % 3
IMAGES = (np.random.default_rng(0).normal(size=(100, 8)) + LABELS[:, None]).astype(np.float32)
ONE_HOT = np.eye(3, dtype=np.float32)[LABELS]


def set_weights(model: Any) -> None:
    random = np.random.default_rng(7)
    model.set_weights(
        [
            (random.normal(size=w.shape) * 0.3 if w.ndim > 1 else np.full_like(w, 0.1)).astype(
                np.float32
            )
            for w in model.get_weights()
        ]
    )


def chain(keras: Any, norm: bool) -> Any:
    between = [keras.layers.BatchNormalization()] if norm else []
    layers = [keras.layers.Dense(16, activation="relu"), *between]
    last = keras.layers.Dense(3, activation="softmax")
    model = keras.Sequential([keras.Input((8,)), *layers, last])
    set_weights(model)
    return model


def weights_of_classes(keras: Any) -> Any:
    model = chain(keras, norm=True)
    loss = "sparse_categorical_crossentropy"
    model.compile("adam", loss, metrics=["accuracy"], weighted_metrics=["accuracy"])
    found = model.fit(
        IMAGES, LABELS, epochs=3, batch_size=16, shuffle=False, verbose=0, validation_split=0.25,
        class_weight={0: 2.0, 1: 0.5},
    )  # fmt: skip
    weights = np.linspace(0, 2, 100)
    scores = model.evaluate(IMAGES, LABELS, verbose=0, return_dict=True, sample_weight=weights)
    return [found.history, found.epoch, found.params, scores]


def two_outputs(keras: Any) -> Any:
    image = keras.Input((8,), name="image")
    x = keras.layers.Dense(8, activation="tanh", name="trunk")(image)
    outputs = [
        keras.layers.Dense(1, name="large", activation="sigmoid")(x),
        keras.layers.Dense(3, name="kind", activation="softmax")(x),
    ]
    model = keras.Model(image, outputs)
    set_weights(model)
    model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        {"large": "binary_crossentropy", "kind": "sparse_categorical_crossentropy"},
        loss_weights={"large": 1.0, "kind": 0.25},
        metrics={"large": ["accuracy", "AUC"], "kind": ["accuracy"]},
    )
    large = (LABELS > 0).astype(np.float32)
    targets = {"large": large, "kind": LABELS}
    history = model.fit(IMAGES, targets, epochs=2, batch_size=32, shuffle=False, verbose=0).history
    scores = model.evaluate(IMAGES, [large, LABELS], verbose=0)
    weights = [np.linspace(0, 1, 100), np.linspace(1, 0, 100)]
    step = model.train_on_batch(IMAGES, [large, LABELS], sample_weight=weights, return_dict=True)
    return [history, scores, step]


def moments(keras: Any) -> Any:
    """What callbacks hear, and when; two that change the training are among them."""
    heard: list[Any] = []

    class Listener(keras.callbacks.Callback):
        def on_train_begin(self, logs: Any = None) -> None:
            heard.append(["train begins", sorted(logs or {})])

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            heard.append(["epoch begins", epoch, sorted(logs or {})])

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            heard.append(["step", batch, {k: float(v) for k, v in logs.items()}])

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            heard.append(["epoch ends", epoch, list(logs)])

        def on_test_begin(self, logs: Any = None) -> None:
            heard.append(["test begins"])

        def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
            heard.append(["test step", batch, sorted(logs)])

        def on_train_end(self, logs: Any = None) -> None:
            heard.append(["train ends", sorted(logs or {})])

        def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
            heard.append(["prediction", batch, sorted(logs)])

    model = chain(keras, norm=False)
    model.compile("rmsprop", "mse", metrics=["mae"])
    reduce = keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=0.05)
    stop = keras.callbacks.EarlyStopping(
        "val_loss", patience=2, min_delta=0.04, restore_best_weights=True
    )
    listener = Listener()
    history = model.fit(
        IMAGES, ONE_HOT, epochs=6, batch_size=40, shuffle=False, verbose=0,
        validation_data=(IMAGES, ONE_HOT), callbacks=[listener, reduce, stop],
    ).history  # fmt: skip
    model.predict(IMAGES, batch_size=40, verbose=0, callbacks=[listener])
    return [history, heard, model.evaluate(IMAGES, ONE_HOT, verbose=0)]


def steps(keras: Any) -> Any:
    model = chain(keras, norm=False)
    model.compile("sgd", "mse")
    found = [
        model.evaluate(IMAGES, ONE_HOT, verbose=0),
        model.train_on_batch(IMAGES, ONE_HOT),
        model.test_on_batch(IMAGES, ONE_HOT),
        model.train_on_batch(IMAGES[:7], ONE_HOT[:7]),
    ]
    halved = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5)
    history = model.fit(
        IMAGES, ONE_HOT, epochs=4, verbose=0, shuffle=False, validation_data=(IMAGES, ONE_HOT),
        validation_freq=2, batch_size=30, callbacks=[halved],
    ).history  # fmt: skip
    return [found, history]


SCENES = {f.__name__: f for f in (weights_of_classes, two_outputs, moments, steps)}


if __name__ == "__main__":
    real = importlib.import_module("keras")
    found = {name: scene(real) for name, scene in SCENES.items()}
    RECORD.write_text(json.dumps(found, default=float, indent=1) + "\n")
