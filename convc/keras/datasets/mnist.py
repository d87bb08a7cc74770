"""MNIST: 70,000 handwritten digits of 28 x 28 grey pixels.

Source: Y. LeCun, C. Cortes, http://yann.lecun.com/exdb/mnist/; the file is Keras' own.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from convc.errors import DAMAGED_ARRAYS, InputFileError
from convc.keras.datasets.cache import Split, checked, dataset_file, dataset_folder, same_length

URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"


def load_data(path: str = "mnist.npz") -> tuple[Split, Split]:
    """(x_train, y_train), (x_test, y_test): uint8[60000, 28, 28], uint8[60000] and 10,000 for testing.

    `path` is a name in the cache folder's `datasets`, or the path of a file in the same format (an .npz with these
    four arrays), which is used as it is.
    """
    if os.sep in path:
        return read(Path(path).expanduser())
    return read(published(path))


def published(name: str) -> Path:
    """The file of a name in the cache folder's `datasets`, downloaded if need be."""
    return dataset_file(dataset_folder() / name, URL, SHA256)


def read(path: Path) -> tuple[Split, Split]:
    """The two parts in an .npz file; arrays of objects aren't unpickled."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {n: file[n] for n in ("x_train", "y_train", "x_test", "y_test")}
    except KeyError as error:
        raise InputFileError(f"{path}: expected an .npz file with {error.args[0]}") from None
    except DAMAGED_ARRAYS as error:
        raise InputFileError(f"{path}: damaged, or no .npz file of numbers: {error}") from None
    return _part(path, arrays, "train"), _part(path, arrays, "test")


def _part(path: Path, arrays: dict[str, np.ndarray], part: str) -> Split:
    images = checked(path, f"x_{part}", arrays[f"x_{part}"], None, 28, 28)
    return same_length(path, images, checked(path, f"y_{part}", arrays[f"y_{part}"], None))
