"""Weights files without HDF5 that are damaged or made to harm: one line that names the file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from convc import keras
from convc.errors import InputFileError
from convc.keras import layers


def refused(path: Path) -> None:
    """Loading raises InputFileError, and no weight has changed."""
    model = keras.Sequential([keras.Input((60,)), layers.Dense(50)])
    before = model.get_weights()
    with pytest.raises(InputFileError, match=path.name):
        model.load_weights(path)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_damaged_compression_is_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    np.savez_compressed(path, kernel=np.random.default_rng(0).normal(size=(60, 50)))
    data = bytearray(path.read_bytes())
    data[200:260] = b"\xff" * 60
    path.write_bytes(data)
    refused(path)


def test_pickled_arrays_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    np.savez(path, kernel=np.array([{}, None], object), allow_pickle=True)
    refused(path)


@pytest.mark.parametrize("order", [5, [[1]], {}, ["other"], None])
def test_an_order_of_something_else(tmp_path: Path, order: object) -> None:
    path = tmp_path / "weights.safetensors"
    kernel = np.zeros((60, 50), np.float32)
    safetensors.numpy.save_file({"kernel": kernel}, path, {"order": json.dumps(order)})
    refused(path)
