"""Data sets in one .npz file: rows of numbers, or sequences of word numbers; shuffled and divided as Keras does."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convc.errors import DAMAGED_ARRAYS, InputFileError, UsageError
from convc.keras.datasets.cache import dataset_file, dataset_folder

Array = NDArray[Any]
Parts = tuple[tuple[Array, Array], tuple[Array, Array]]

URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"

ADMITTED = {
    (module, name)
    for module in ("numpy.core.multiarray", "numpy._core.multiarray", "numpy")
    for name in ("_reconstruct", "ndarray", "dtype")
}
"""What an array of lists is made with."""


class Arrays(pickle.Unpickler):
    """Reads arrays of plain data; nothing else is imported or called."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) not in ADMITTED:
            raise pickle.UnpicklingError(f"it wants {module_name}.{global_name}")
        return super().find_class(module_name, global_name)


def located(path: str, published: str, file_hash: str) -> Path:
    """A name in the cache folder's `datasets`, downloaded if need be, or the path of a file of one's own."""
    if os.sep in path:
        return Path(path).expanduser()
    return dataset_file(dataset_folder() / path, URL + published, file_hash)


def read(path: Path, names: Sequence[str]) -> list[Array]:
    """Arrays of an .npz file, of numbers or of lists of numbers; InputFileError if it isn't one."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [_array(archive.read(f"{name}.npy")) for name in names]
    except KeyError as error:
        raise InputFileError(
            f"{path}: expected an .npz file with {', '.join(names)}: {error.args[0]}"
        ) from None
    except (*DAMAGED_ARRAYS, pickle.UnpicklingError, zipfile.BadZipFile, OSError) as error:
        raise InputFileError(f"{path}: damaged, or no .npz file of numbers: {error}") from None


def _array(data: bytes) -> Array:
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    read_header = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, _, dtype = read_header(file)
    if not dtype.hasobject:
        return np.asarray(np.load(io.BytesIO(data), allow_pickle=False))
    found = Arrays(file, encoding="latin1").load()
    if not isinstance(found, np.ndarray) or found.shape != shape:
        raise pickle.UnpicklingError("no array of lists")
    return found


def divided(arrays: Sequence[Array], test_split: float, seed: int) -> Parts:
    """x and y in another order, the last share of them for testing."""
    if not 0 <= test_split < 1:
        raise UsageError(f"load_data: test_split must be from 0 to 1; received {test_split!r}")
    x, y = shuffled(arrays, np.random.RandomState(seed))
    at = int(len(x) * (1 - test_split))
    return (x[:at], y[:at]), (x[at:], y[at:])


def shuffled(arrays: Sequence[Array], random: np.random.RandomState) -> list[Array]:
    order = np.arange(len(arrays[0]))
    random.shuffle(order)
    return [array[order] for array in arrays]


def marked(sequences: Any, start_char: int | None, index_from: int | None) -> list[list[int]]:
    """Sequences with a mark in front, their numbers from `index_from` on."""
    first = [] if start_char is None else [start_char]
    offset = index_from or 0
    return [[*first, *(int(w) + offset for w in row)] for row in sequences]


def shorter(
    rows: list[list[int]], labels: Array, maxlen: int | None
) -> tuple[list[list[int]], Array]:
    """Those of less than `maxlen` words."""
    if not maxlen:
        return rows, labels
    kept = [k for k, row in enumerate(rows) if len(row) < maxlen]
    if not kept:
        raise UsageError(f"load_data: no sequence is shorter than maxlen={maxlen}")
    return [rows[k] for k in kept], labels[kept]


def limited(
    rows: list[list[int]], num_words: int | None, skip_top: int, oov_char: int | None
) -> list[list[int]]:
    """Words from `skip_top` and below `num_words`; others as `oov_char`, or left out."""
    below = num_words or max(max(row) for row in rows)
    if oov_char is None:
        return [[w for w in row if skip_top <= w < below] for row in rows]
    return [[w if skip_top <= w < below else oov_char for w in row] for row in rows]


def ragged(rows: list[list[int]]) -> Array:
    """An array of lists."""
    found = np.empty(len(rows), object)
    found[:] = rows
    return found
