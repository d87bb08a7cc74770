"""The commands on .keras and .h5 files."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import convc_runtime
import numpy as np
import pytest

from convc import keras
from convc.cli import main
from convc.keras import layers

pytest.importorskip("h5py")


@pytest.fixture
def model() -> keras.Model:
    return keras.Sequential(
        [keras.Input((4, 4, 2)), layers.Conv2D(3, 2), layers.Flatten(), layers.Dense(2)]
    )


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_keras_file_compiles_and_runs(model: keras.Model, suffix: str, tmp_path: Path) -> None:
    source, target = tmp_path / f"m{suffix}", tmp_path / "m.cvc"
    model.save(source)
    assert main(["compile", str(source), "-o", str(target)]) == 0
    x = np.random.default_rng(0).normal(size=(3, 4, 4, 2)).astype(np.float32)
    np.testing.assert_array_equal(convc_runtime.load(target)(x), model.predict(x, verbose=0))
    assert main(["doctor", str(source)]) == 0


def test_doctor_lists_every_layer_that_convc_lacks(
    model: keras.Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model.save(tmp_path / "m.keras")
    config = json.loads(model.to_json())
    for number in (1, 3):
        config["config"]["layers"][number]["class_name"] = f"Odd{number}"
    path = tmp_path / "odd.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
    assert main(["doctor", str(path)]) == 5
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0].partition("(")[2] for line in lines] == ["Odd1)", "Odd3)"]
    assert main(["compile", str(path)]) == 5
    assert main(["compile", str(tmp_path / "none.keras")]) == 3


def test_doctor_tells_of_sizes_that_are_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "m.keras"
    keras.Sequential([keras.Input((None, None, 3), name="x"), layers.Conv2D(2, 3)]).save(source)
    assert main(["doctor", str(source)]) == 5
    assert "by --shape x=…" in capsys.readouterr().out
    assert main(["doctor", str(source), "--shape", "x=1,8,8,3"]) == 0
    assert main(["verify", str(source), "--shape", "x=1,8,8,3"]) == 0
