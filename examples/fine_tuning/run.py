"""Transfer learning: a base that knows the digits 0 to 4 learns 5 to 9 from 10 pictures of each.

    python examples/fine_tuning/run.py [--epochs 10] [--curves curves.csv]
    python examples/fine_tuning/run.py --base mobilenet_v2 --weights mobilenet_v2_no_top.h5

1. A small convolutional base is trained on the digits 0 to 4 (or read from --weights).
2. Frozen: only a new last layer learns. Frozen layers cost no backward work: the compiled step has no gradients of
   theirs, no optimizer state and no updates, which its time shows.
3. Unfrozen: everything but the batch norms' statistics learns, at a third of the rate.
4. The same network without what the base knew, for comparison.

The pictures are the 1,000 held-out ones of examples/digits. README.md has the output.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convc import keras
from convc.keras import layers

DATA = Path(__file__).parents[1] / "digits" / "digits-test.npz"
SHOTS = 10
BATCH = 20
RATE = 3e-3

Array = NDArray[Any]
Pair = tuple[Array, Array]


def load() -> tuple[Pair, Pair, Pair]:
    """The digits 0 to 4, SHOTS of each of 5 to 9, and the rest of those.

    Each is images [n, 8, 8, 1] of 0 … 1 and classes 0 … 4.
    """
    with np.load(DATA) as data:
        images = (data["images"] / 16).astype(np.float32)[..., None]
        labels = data["labels"].astype(np.int64)
    known = np.flatnonzero(labels < 5)
    shots = np.concatenate([np.flatnonzero(labels == d)[:SHOTS] for d in range(5, 10)])
    rest = np.setdiff1d(np.flatnonzero(labels >= 5), shots)
    known_part, shots_part, rest_part = ((images[i], labels[i] % 5) for i in (known, shots, rest))
    return known_part, shots_part, rest_part


def small_base() -> keras.Model:
    """Three convolutions with batch norms: 256 features of an image of 8 x 8."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(32, 3, padding="same", use_bias=False),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
            layers.Conv2D(64, 3, padding="same", use_bias=False),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, padding="same", use_bias=False),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Flatten(),
        ],
        name="base",
    )


def mobilenet_v2(weights: str | None) -> keras.Model:
    """MobileNetV2 on the digits: enlarged to 64 x 64, in three equal channels of -1 … 1."""
    inputs = keras.Input((8, 8, 1))
    x = layers.UpSampling2D(8, interpolation="bilinear")(inputs)
    x = layers.Rescaling(2, -1)(layers.Concatenate()([x, x, x]))
    network = keras.applications.MobileNetV2(
        input_shape=(64, 64, 3), include_top=False, weights=weights, pooling="avg"
    )
    return keras.Model(inputs, network(x), name="base")


def with_head(base: keras.Model) -> keras.Model:
    """The base and a new last layer for five classes."""
    return keras.Sequential([base, layers.Dense(5, activation="softmax", name="head")])


def set_trainable(base: keras.Model, trainable: bool) -> None:
    """Freezes a base or lets it learn; batch norms keep their statistics, which few pictures would spoil."""
    base.trainable = trainable
    for layer in inner_layers(base) if trainable else []:
        layer.trainable = not isinstance(layer, layers.BatchNormalization)


def inner_layers(model: keras.Model) -> list[Any]:
    """The layers of a model and of models in it, without those models."""
    found: list[Any] = []
    for layer in model.layers:
        found += inner_layers(layer) if isinstance(layer, keras.Model) else [layer]
    return found


def train(
    model: keras.Model, rate: float, part: Pair, epochs: int, log: str | None = None, first: int = 0
) -> float:
    """Trains a model on a part of the data and returns the milliseconds of its fastest step.

    `first` is the number of the first epoch, so that a log goes on where another training ended.
    """
    model.compile(
        keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    callbacks = [keras.callbacks.CSVLogger(log, append=True)] if log else []
    x, y = part
    last = first + epochs
    model.fit(x, y, BATCH, last, verbose=0, callbacks=callbacks, initial_epoch=first)
    weights = model.get_weights()
    seconds = []
    for _ in range(20):
        start = time.perf_counter()
        model.train_on_batch(part[0][:BATCH], part[1][:BATCH])
        seconds.append(time.perf_counter() - start)
    model.set_weights(weights)
    return min(seconds) * 1e3


def report(name: str, model: keras.Model, milliseconds: float, test: Pair) -> float:
    """Prints and returns how many of the test's pictures a model gets right."""
    accuracy = float(model.evaluate(*test, verbose=0)[1])
    trained = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    print(f"{name:<34} {trained:>9,} trained  {milliseconds:6.2f} ms a step  {accuracy:6.1%} right")
    return accuracy


def main(arguments: Sequence[str] | None = None) -> dict[str, dict[str, float]]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", choices=("small", "mobilenet_v2"), default="small")
    parser.add_argument("--weights", help="the base's weights, instead of training it on 0 to 4")
    parser.add_argument("--epochs", type=int, default=10, help="of each of the two steps")
    parser.add_argument("--base-epochs", type=int, default=20)
    parser.add_argument("--curves", help="a CSVLogger's file of the fine-tuning, for convc curves")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    keras.utils.set_random_seed(options.seed)
    known, shots, test = load()
    fresh = small_base if options.base == "small" else lambda: mobilenet_v2(None)
    found: dict[str, dict[str, float]] = {}

    if options.base == "mobilenet_v2" and options.weights:
        base = mobilenet_v2(options.weights)
    else:
        base = fresh()
        if options.weights:
            base.load_weights(options.weights)
        else:
            teacher = with_head(base)
            step = train(teacher, RATE, known, options.base_epochs)
            report("base on 0 to 4 (its own pictures)", teacher, step, known)

    print(f"\n5 to 9 from {len(shots[0])} pictures, {len(test[0])} to test on:")
    model = with_head(base)
    if options.curves:
        Path(options.curves).unlink(missing_ok=True)
    plan = (("frozen base", False, RATE), ("then unfrozen", True, RATE / 3))
    for number, (name, trainable, rate) in enumerate(plan):
        set_trainable(base, trainable)
        first = number * options.epochs
        step = train(model, rate, shots, options.epochs, options.curves, first)
        found[name] = {"step": step, "accuracy": report(name, model, step, test)}

    scratch = with_head(fresh())
    step = train(scratch, RATE, shots, 2 * options.epochs)
    found["from nothing"] = {"step": step, "accuracy": report("from nothing", scratch, step, test)}
    return found


if __name__ == "__main__":
    main()
