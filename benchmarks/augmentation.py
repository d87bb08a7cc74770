"""How many images per second are augmented: `python -m benchmarks.augmentation [--images N] [--repeats N]`.

Images of 32 x 32 x 3 bytes, in batches of 32, are turned by up to 20 degrees, moved by up to 2 % and flipped, as the
CIFAR-10 tutorial has it, and come out as float32. Beside convc stands what else is installed here: Keras'
ImageDataGenerator (which needs scipy), and a hand-written loop over OpenCV's warpAffine. The best of the repeats
counts, which take turns; CPU seconds are of all threads.
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

from convc.keras.preprocessing.image import ImageDataGenerator

BATCH = 32
ARGUMENTS: dict[str, Any] = {
    "rotation_range": 20, "width_shift_range": 0.02, "height_shift_range": 0.02, "horizontal_flip": True,
}  # fmt: skip
Epoch = Callable[[], object]
"""Augments every image once."""


def ours(images: np.ndarray, workers: int) -> Epoch:
    """convc's iterator, its threads working ahead of the caller."""
    iterator = ImageDataGenerator(**ARGUMENTS).flow(images, batch_size=BATCH, seed=1)
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


def measured(epochs: dict[str, Epoch], repeats: int) -> dict[str, tuple[float, float]]:
    """The least wall-clock and CPU seconds of an epoch, by contender."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in epochs}
    for _ in range(repeats):
        for name, epoch in epochs.items():
            wall, busy = time.perf_counter(), time.process_time()
            epoch()
            found[name].append((time.perf_counter() - wall, time.process_time() - busy))
    return {n: (min(w for w, _ in t), min(c for _, c in t)) for n, t in found.items()}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    images = np.random.default_rng(0).integers(0, 256, (options.images, 32, 32, 3), np.uint8)
    epochs, absent = {}, []
    for name, make in CONTENDERS.items():
        try:
            epochs[name] = make(images)
        except ImportError as error:
            absent.append(f"{name}: not installed ({error.name})")
            continue
        epochs[name]()
    table = Table(title=f"{options.images} images of 32 x 32 x 3: rotation, shifts, flip")
    for column in ("", "images/s", "images per CPU second", "µs CPU per image"):
        table.add_column(column, justify="right" if column else "left")
    for name, (wall, busy) in measured(epochs, options.repeats).items():
        n = options.images
        table.add_row(name, f"{n / wall:,.0f}", f"{n / busy:,.0f}", f"{busy / n * 1e6:.1f}")
    console = Console(width=110)
    console.print(table)
    for line in absent:
        console.print(line)


if __name__ == "__main__":
    main()
