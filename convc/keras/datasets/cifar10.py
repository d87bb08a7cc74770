"""CIFAR-10: 60,000 photographs of 32 x 32 pixels in 10 classes.

Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images" (2009),
https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from __future__ import annotations

import numpy as np

from convc.keras.datasets.cache import Split
from convc.keras.datasets.cifar import Source, as_split, read_batch

SOURCE = Source(
    "cifar-10-batches-py",
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
)


def load_data() -> tuple[Split, Split]:
    """(x_train, y_train), (x_test, y_test): uint8[50000, 32, 32, 3], uint8[50000, 1] and 10,000 for testing.

    With the image data format "channels_first", images are [n, 3, 32, 32].
    """
    folder = SOURCE.folder()
    parts = [read_batch(folder / f"data_batch_{k}", "labels") for k in range(1, 6)]
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return as_split(images, labels), as_split(*read_batch(folder / "test_batch", "labels"))
