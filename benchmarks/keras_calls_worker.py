"""The process that `benchmarks.keras_calls` measures: `python -m benchmarks.keras_calls_worker PACKAGE`.

It imports nothing but numpy and the package, which may be Keras in an environment without convc.
"""

from __future__ import annotations

import importlib
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

IMAGES = 20_000
BATCH = 128
Found = dict[str, float]


def networks(keras: Any) -> dict[str, list[Any]]:
    layers = keras.layers
    return {
        "Dense 32-32-10": [
            layers.Flatten(),
            layers.Dense(32, activation="relu"),
            layers.Dense(32, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ],
        "Conv8-pool-Conv16-pool-Dense10": [
            layers.Conv2D(8, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(16, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ],
    }


def seconds_of(call: Callable[[], object], times: int) -> float:
    """The median time of some calls, after one that isn't counted."""
    call()
    spent = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        spent.append(time.perf_counter() - start)
    return statistics.median(spent)


def work(package: str) -> dict[str, Found]:
    """Seconds of each call, by network and call."""
    keras = importlib.import_module(package)
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (IMAGES, 28, 28, 1), dtype=np.uint8)
    y = rng.integers(0, 10, IMAGES).astype(np.uint8)
    found = {}
    for name, layers in networks(keras).items():
        model = keras.Sequential([keras.Input((28, 28, 1)), *layers])
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        found[name] = calls_of(model, x, y)
    return found


def calls_of(model: Any, x: Any, y: Any) -> Found:
    """Seconds of each call of a compiled model."""
    one, pixels = x[:1], x[:1].astype(np.float32)
    batches = {"batch_size": BATCH, "verbose": 0}
    return {
        "fit, an epoch": seconds_of(lambda: model.fit(x, y, **batches), 3),
        "evaluate": seconds_of(lambda: model.evaluate(x, y, **batches), 3),
        "predict": seconds_of(lambda: model.predict(x, **batches), 3),
        "predict, one image": seconds_of(lambda: model.predict(one, verbose=0), 20),
        "call, one image": seconds_of(lambda: np.asarray(model(pixels)), 50),
        "train_on_batch": seconds_of(lambda: model.train_on_batch(x[:BATCH], y[:BATCH]), 50),
    }


if __name__ == "__main__":
    print(json.dumps(work(sys.argv[1])))
