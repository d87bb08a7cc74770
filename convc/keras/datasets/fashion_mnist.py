"""Fashion-MNIST: 70,000 articles of clothing in MNIST's format.

Source: H. Xiao, K. Rasul, R. Vollgraf (2017), https://github.com/zalandoresearch/fashion-mnist.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np

from convc.errors import InputFileError
from convc.keras.datasets.cache import Bytes, Split, dataset_file, dataset_folder, same_length

URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
MD5 = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
"""As its authors publish them."""

MOST_BYTES = 256 << 20


def load_data() -> tuple[Split, Split]:
    """(x_train, y_train), (x_test, y_test): uint8[60000, 28, 28], uint8[60000] and 10,000 for testing."""
    return _part("train"), _part("t10k")


def _part(prefix: str) -> Split:
    images = _file(f"{prefix}-images-idx3-ubyte.gz")
    labels = _file(f"{prefix}-labels-idx1-ubyte.gz")
    return same_length(images, read_idx(images, 3), read_idx(labels, 1))


def _file(name: str) -> Path:
    folder = dataset_folder() / "fashion-mnist"
    return dataset_file(folder / name, URL + name, MD5[name])


def read_idx(path: Path, rank: int) -> Bytes:
    """The bytes in a gzipped IDX file (http://yann.lecun.com/exdb/mnist/): magic, extents (big-endian int32), data."""
    try:
        with gzip.open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputFileError(f"{path}: damaged, or no gzip file: {error}") from None
    if len(data) < 4 + 4 * rank or data[:4] != bytes((0, 0, 8, rank)) or len(data) > MOST_BYTES:
        raise InputFileError(f"{path}: expected an IDX file of bytes of rank {rank}")
    shape = tuple(int.from_bytes(data[4 + 4 * d : 8 + 4 * d], "big") for d in range(rank))
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * rank)
    expected = 1
    for extent in shape:
        expected *= extent
    if values.size != expected or (rank == 3 and shape[1:] != (28, 28)):
        raise InputFileError(f"{path}: expected {shape} bytes, got {values.size}")
    return values.reshape(shape).copy()
