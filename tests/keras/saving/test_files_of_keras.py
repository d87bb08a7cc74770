"""Files that Keras 2 and 3 wrote give the predictions that they gave there (made by make_files.py)."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convc import keras
from tests.keras.running import run
from tests.keras.saving.networks import networks

pytest.importorskip("h5py")
HERE = Path(__file__).parent
ARCHIVES = {name: HERE / name for name in ("keras2.zip", "keras3.zip")}
FILES = [
    (name, member)
    for name, path in ARCHIVES.items()
    for member in sorted(zipfile.ZipFile(path).namelist())
    if not member.endswith(".npz") and not member.startswith("trained")
]


def unpacked(archive: str, member: str, folder: Path) -> Path:
    path = folder / member
    with zipfile.ZipFile(ARCHIVES[archive]) as files:
        path.write_bytes(files.read(member))
    return path


def numbers_of(archive: str, name: str) -> tuple[list[Any], list[Any]]:
    """The inputs and Keras' own outputs."""
    with zipfile.ZipFile(ARCHIVES[archive]) as files:
        found = np.load(io.BytesIO(files.read(f"{name}.npz")))
        return [found[k] for k in found if k[:2] == "in"], [
            found[k] for k in found if k[:3] == "out"
        ]


def assert_predicts(model: Any, archive: str, name: str) -> None:
    inputs, expected = numbers_of(archive, name)
    found = run(model, *inputs)
    for mine, theirs in zip(found if len(expected) > 1 else [found], expected, strict=True):
        assert mine.shape == theirs.shape
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("archive", "member"), FILES)
def test_a_file_of_keras_predicts_as_there(archive: str, member: str, tmp_path: Path) -> None:
    path = unpacked(archive, member, tmp_path)
    name = member.split(".")[0]
    if member.endswith(".weights.h5"):
        if name == "with_functions":
            pytest.skip("its architecture is in the other files")
        model = networks(keras)[name]()
        if archive == "keras2.zip" and name == "activations":
            pytest.skip("hard_sigmoid is another function in Keras 3, whose names these are")
        model.load_weights(path)
    else:
        model = keras.models.load_model(path)
    assert_predicts(model, archive, name)


@pytest.mark.parametrize("name", [*networks(keras), "with_functions"])
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_what_was_loaded_is_saved_and_loaded_again(name: str, suffix: str, tmp_path: Path) -> None:
    model = keras.models.load_model(unpacked("keras3.zip", f"{name}{suffix}", tmp_path))
    again = tmp_path / f"again{suffix}"
    model.save(again)
    assert_predicts(keras.models.load_model(again), "keras3.zip", name)


@pytest.mark.parametrize("name", networks(keras))
def test_our_config_is_what_keras_writes(name: str, tmp_path: Path) -> None:
    """Every argument that we write is one that Keras 3 has, layer by layer, and calls go between the same layers."""
    path = unpacked("keras3.zip", f"{name}.keras", tmp_path)
    theirs = keras.engine.archive.read(path).config
    ours = keras.saving.serialize_keras_object(keras.models.load_model(path))
    assert_within(ours, theirs, name)


SPELLED_OTHERWISE = {
    "dtype",
    "build_config",
    "compile_config",
    "initializer",
    "trainable",
    "build_input_shape",
    "seed",
}


def assert_within(ours: Any, theirs: Any, where: str) -> None:
    if isinstance(ours, dict):
        assert isinstance(theirs, dict), where
        for key, value in ours.items():
            if key in SPELLED_OTHERWISE or key.endswith("_initializer"):
                continue
            assert key in theirs, f"{where}: Keras has no {key!r}"
            assert_within(value, theirs[key], f"{where}.{key}")
    elif isinstance(ours, list) and not isinstance(theirs, list):
        assert set(ours) == {theirs}, where  # one number for all axes
    elif isinstance(ours, list):
        assert len(ours) == len(theirs), where
        for number, pair in enumerate(zip(ours, theirs, strict=True)):
            assert_within(*pair, f"{where}[{number}]")
    else:
        assert ours == theirs, where
