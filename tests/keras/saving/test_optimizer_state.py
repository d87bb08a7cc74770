"""A training goes on from a file as it would have gone on without it."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convc import keras
from convc.errors import InputFileError
from convc.keras import layers
from tests.keras.saving.test_files_of_keras import ARCHIVES, unpacked

pytest.importorskip("h5py")


@pytest.mark.parametrize("archive", ARCHIVES)
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_training_goes_on_as_in_keras(archive: str, suffix: str, tmp_path: Path) -> None:
    model = keras.models.load_model(unpacked(archive, f"trained{suffix}", tmp_path))
    assert int(model.optimizer.iterations) == 3
    with zipfile.ZipFile(ARCHIVES[archive]) as files:
        kept = np.load(io.BytesIO(files.read("trained.npz")))
    for _ in range(3):
        model.train_on_batch(kept["x"], kept["y"])
    for k, mine in enumerate(model.get_weights()):
        np.testing.assert_allclose(mine, kept[f"after{k}"], rtol=1e-4, atol=1e-5)


def small() -> Any:
    return keras.Sequential(
        [keras.Input((3, 3, 2)), layers.Conv2D(4, 2), layers.Flatten(), layers.Dense(2)]
    )


X = np.random.default_rng(0).normal(size=(6, 3, 3, 2)).astype(np.float32)
Y = np.random.default_rng(1).normal(size=(6, 2)).astype(np.float32)


@pytest.mark.parametrize(
    "optimizer",
    [
        keras.optimizers.SGD(0.01, momentum=0.9),
        keras.optimizers.Nadam(0.01),
        keras.optimizers.RMSprop(0.01, momentum=0.5, centered=True),
        keras.optimizers.Adam(
            keras.optimizers.schedules.ExponentialDecay(0.01, 2, 0.5), amsgrad=True
        ),
    ],
    ids=lambda o: type(o).__name__,
)
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_training_goes_on_from_our_files(optimizer: Any, suffix: str, tmp_path: Path) -> None:
    model = small()
    model.compile(type(optimizer).from_config(optimizer.get_config()), "mse", metrics=["mae"])
    for _ in range(2):
        model.train_on_batch(X, Y)
    model.save(tmp_path / f"m{suffix}")
    again = keras.models.load_model(tmp_path / f"m{suffix}")
    again.save(tmp_path / f"n{suffix}")  # the state survives without a step
    third = keras.models.load_model(tmp_path / f"n{suffix}")
    logs = [m.train_on_batch(X, Y, return_dict=True) for m in (model, again, third)]
    assert logs[0]["loss"] != 0
    for other in (again, third):
        for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_files_without_training_and_with_another_s(tmp_path: Path) -> None:
    model = small()
    model.compile("adam", "mse")
    model.save(tmp_path / "m.keras")
    assert int(keras.models.load_model(tmp_path / "m.keras").optimizer.iterations) == 0
    model.train_on_batch(X, Y)
    model.save(tmp_path / "m.keras")
    assert not keras.models.load_model(tmp_path / "m.keras", compile=False).compiled
    model.save(tmp_path / "m.keras", include_optimizer=False)
    assert not keras.models.load_model(tmp_path / "m.keras").compiled


def test_state_of_another_model_is_refused(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    model = small()
    model.compile("adam", "mse")
    model.train_on_batch(X, Y)
    path = tmp_path / "m.h5"
    model.save(path)
    with h5py.File(path, "r+") as file:
        names = list(file["optimizer_weights"].attrs["weight_names"])
        file["optimizer_weights"].attrs["weight_names"] = names[:-1]
    with pytest.raises(InputFileError, match="optimizer's state has 9 arrays"):
        keras.models.load_model(path)
    assert keras.models.load_model(path, compile=False).count_params() == model.count_params()
