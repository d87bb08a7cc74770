"""Weights in files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convc import keras
from convc.errors import InputFileError, OutputError, UsageError
from convc.keras import layers
from tests.keras.running import randomized


def model(units: int = 3) -> Any:
    return keras.Sequential(
        [keras.Input((4,)), layers.Dense(units), layers.BatchNormalization(), layers.Dense(2)]
    )


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".weights.h5"])
def test_weights_come_back_from_a_file(tmp_path: Path, suffix: str) -> None:
    if suffix.endswith("h5"):
        pytest.importorskip("h5py")
    path = tmp_path / f"weights{suffix}"
    first = randomized(model())
    first.save_weights(path)
    second = model()  # its layers have other automatic names
    second.load_weights(str(path))
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name]


def test_names_and_layout_of_a_file_are_plain(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    model().save_weights(path)
    with np.load(path) as file:
        assert file.files[:3] == ["dense/kernel", "dense/bias", "batch_normalization/gamma"]


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_damaged_and_unfit_files_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    with pytest.raises(InputFileError, match="doesn't exist"):
        model().load_weights(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(InputFileError, match="not a readable"):
        model().load_weights(path)
    model(5).save_weights(path)
    with pytest.raises(InputFileError, match="doesn't fit the model"):
        model(3).load_weights(path)
    with pytest.raises(OutputError, match="exists already"):
        model().save_weights(path, overwrite=False)
    with pytest.raises(UsageError, match="expected a name that ends in"):
        model().save_weights(tmp_path / "w.bin")
    with pytest.raises(OutputError, match="can't write"):
        model().save_weights(tmp_path / "missing" / f"w{suffix}")


def test_shape_mismatch_names_the_weight(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    model(5).save_weights(path)
    keras.backend.clear_session()
    other = model(3)
    with pytest.raises(InputFileError, match=r"dense/kernel has shape \(4, 5\); expected \(4, 3\)"):
        other.load_weights(path)
    other.load_weights(path, skip_mismatch=True)


def test_a_failed_load_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    model(5).save_weights(path)
    keras.backend.clear_session()
    other = model(3)
    before = other.get_weights()
    with pytest.raises(InputFileError):
        other.load_weights(path)
    for a, b in zip(before, other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_applications_take_a_weights_file(tmp_path: Path) -> None:
    path = tmp_path / "mobilenet.safetensors"
    build = keras.applications.MobileNetV2
    first = build(weights=None, input_shape=(32, 32, 3), classes=4, alpha=0.35)
    first.save_weights(path)
    second = build(weights=str(path), input_shape=(32, 32, 3), classes=4, alpha=0.35)
    np.testing.assert_array_equal(first.get_weights()[0], second.get_weights()[0])
