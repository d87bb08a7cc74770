"""How many images per second are augmented: `python -m benchmarks.augmentation [--images N] [--repeats N]`.

Images of 32 x 32 x 3 bytes, in batches of 32, are turned by up to 20 degrees, moved by up to 2 % and flipped, as the
CIFAR-10 tutorial has it, and come out as float32. Beside convc stands what else is installed here: Keras'
ImageDataGenerator (which needs scipy), and a hand-written loop over OpenCV's warpAffine. A second table has the other
changes of the generator, and the layers, in the caller's thread. The best of the repeats counts, which take turns; CPU
seconds are of all threads.
"""

from __future__ import annotations

import argparse
import importlib
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from convc.keras import layers
from convc.keras.preprocessing.image import ImageDataGenerator

BATCH = 32
ARGUMENTS: dict[str, Any] = {
    "rotation_range": 20, "width_shift_range": 0.02, "height_shift_range": 0.02, "horizontal_flip": True,
}  # fmt: skip
Epoch = Callable[[], object]
"""Augments every image once."""


def ours(images: np.ndarray, workers: int, **more: Any) -> Epoch:
    """convc's iterator, its threads working ahead of the caller."""
    arguments = more or ARGUMENTS
    iterator = ImageDataGenerator(**arguments).flow(images, batch_size=BATCH, seed=1)
    iterator.workers = workers

    def epoch() -> None:
        for _ in range(len(iterator)):
            next(iterator)
        iterator.reset()

    return epoch


def keras_generator(images: np.ndarray) -> Epoch:
    """Keras' own, in the caller's thread."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    importlib.import_module("scipy.ndimage")
    module = importlib.import_module("keras.src.legacy.preprocessing.image")
    iterator = module.ImageDataGenerator(**ARGUMENTS).flow(images, batch_size=BATCH, seed=1)
    return lambda: [iterator[k] for k in range(len(iterator))]


def opencv_loop(images: np.ndarray) -> Epoch:
    """What one writes by hand: an affine matrix per image for cv2.warpAffine, then a flip, on one thread."""
    cv2: Any = importlib.import_module("cv2")
    cv2.setNumThreads(1)
    random = np.random.default_rng(1)
    height, width = images.shape[1:3]

    def epoch() -> None:
        for low in range(0, len(images), BATCH):
            chosen = images[low : low + BATCH]
            out = np.empty(chosen.shape, np.float32)
            for k, image in enumerate(chosen):
                matrix = cv2.getRotationMatrix2D(
                    ((width - 1) / 2, (height - 1) / 2), random.uniform(-20, 20), 1.0
                )
                matrix[:, 2] += random.uniform(-0.02, 0.02, 2) * (width, height)
                warped = cv2.warpAffine(
                    image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE
                )
                out[k] = warped[:, ::-1] if random.random() < 0.5 else warped

    return epoch


CONTENDERS: dict[str, Callable[[np.ndarray], Epoch]] = {
    "convc, in the caller's thread": lambda x: ours(x, 0),
    "convc, 1 thread ahead": lambda x: ours(x, 1),
    "convc, 2 threads ahead": lambda x: ours(x, 2),
    "OpenCV, a loop by hand": opencv_loop,
    "Keras' ImageDataGenerator": keras_generator,
}


def layer(make: Callable[[], Any]) -> Callable[[np.ndarray], Epoch]:
    """A layer called on one batch after the other."""

    def epochs(images: np.ndarray) -> Epoch:
        change = make()

        def epoch() -> None:
            for low in range(0, len(images), BATCH):
                change(images[low : low + BATCH])

        return epoch

    return epochs


FURTHER = {"zoom_range": 0.2, "shear_range": 10}
COLOURS = {"brightness_range": (0.5, 1.5), "channel_shift_range": 20.0}
OTHERS: dict[str, Callable[[np.ndarray], Epoch]] = {
    "… and zoom, shear": lambda x: ours(x, 0, **ARGUMENTS, **FURTHER),
    "brightness, channel shift": lambda x: ours(x, 0, **COLOURS),
    "all of these": lambda x: ours(x, 0, **ARGUMENTS, **FURTHER, **COLOURS),
    "… 2 threads ahead": lambda x: ours(x, 2, **ARGUMENTS, **FURTHER, **COLOURS),
    "RandomFlip": layer(layers.RandomFlip),
    "RandomRotation": layer(lambda: layers.RandomRotation(0.1)),
    "RandomTranslation": layer(lambda: layers.RandomTranslation(0.1, 0.1)),
    "RandomZoom": layer(lambda: layers.RandomZoom(0.2)),
    "RandomContrast": layer(lambda: layers.RandomContrast(0.3)),
    "RandomBrightness": layer(lambda: layers.RandomBrightness(0.3)),
}


def measured(epochs: dict[str, Epoch], repeats: int) -> dict[str, tuple[float, float]]:
    """The least wall-clock and CPU seconds of an epoch, by contender."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in epochs}
    for _ in range(repeats):
        for name, epoch in epochs.items():
            wall, busy = time.perf_counter(), time.process_time()
            epoch()
            found[name].append((time.perf_counter() - wall, time.process_time() - busy))
    return {n: (min(w for w, _ in t), min(c for _, c in t)) for n, t in found.items()}


def show(title: str, contenders: dict[str, Callable[[np.ndarray], Epoch]], options: Any) -> None:
    """Prints a table."""
    n = options.images
    images = np.random.default_rng(0).integers(0, 256, (n, 32, 32, 3), np.uint8)
    epochs, absent = {}, []
    for name, make in contenders.items():
        try:
            epochs[name] = make(images)
        except ImportError as error:
            absent.append(f"{name}: not installed ({error.name})")
            continue
        epochs[name]()
    table = Table(title=f"{n} images of 32 x 32 x 3: {title}")
    for column in ("", "images/s", "images per CPU second", "µs CPU per image"):
        table.add_column(column, justify="right" if column else "left")
    for name, (wall, busy) in measured(epochs, options.repeats).items():
        table.add_row(name, f"{n / wall:,.0f}", f"{n / busy:,.0f}", f"{busy / n * 1e6:.1f}")
    console = Console(width=110)
    console.print(table)
    for line in absent:
        console.print(line)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    show("rotation, shifts, flip", CONTENDERS, options)
    show("other changes", OTHERS, options)


if __name__ == "__main__":
    main()
