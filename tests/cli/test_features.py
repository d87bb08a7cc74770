"""`convc features` and `convc curves`: their files, tables and errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convc import keras
from convc.cli import main
from tests.test_imports import ROOT

MODEL = str(ROOT / "examples" / "digits" / "model.py")


@pytest.fixture(autouse=True)
def fresh_names() -> None:
    """Layers without a name of their own are numbered from the beginning."""
    keras.backend.clear_session()


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    with np.load(ROOT / "examples" / "digits" / "digits-test.npz") as data:
        images = (data["images"][:3, ..., None] / 16).astype(np.float32)
    np.save(tmp_path / "digits.npy", images)
    return tmp_path / "digits.npy"


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) != 0
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_numbers_without_pillow(digits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = shown(capsys, "features", MODEL, "-i", str(digits), "--layer", "re_lu")
    (row,) = found["layers"]
    assert row["layer"] == "re_lu"
    assert row["shape"] == [3, 8, 8, 32]
    assert row["min"] == 0 < row["mean"] < row["max"]
    assert main(["features", MODEL, "-i", str(digits), "--layer", "conv1"]) == 0
    assert "3×8×8×32" in capsys.readouterr().out


def test_an_onnx_model_has_the_same_maps(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "digits.onnx")
    assert main(["export", MODEL, "-o", path]) == 0
    capsys.readouterr()
    option = ("-i", str(digits), "--layer", "conv2")
    (ours,) = shown(capsys, "features", MODEL, *option)["layers"]
    (theirs,) = shown(capsys, "features", path, *option)["layers"]
    assert theirs["shape"] == [3, 32, 8, 8]
    for name in ("maps", "dead", "nonfinite"):
        assert ours[name] == theirs[name]
    for name in ("min", "max", "mean"):
        assert ours[name] == pytest.approx(theirs[name], rel=1e-4)
    ours, theirs = (shown(capsys, "features", m, "--filters")["filters"] for m in (MODEL, path))
    assert ours["shape"] == theirs["shape"] == [32, 1, 3, 3]


def test_sheets_and_pictures(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image_module = pytest.importorskip("PIL.Image")
    picture = tmp_path / "digit.png"
    bytes_ = np.rint(np.load(digits)[0, ..., 0] * 255).astype(np.uint8)
    image_module.fromarray(bytes_).save(picture)
    np.save(digits, (bytes_ / np.float32(255))[..., None])
    option = ("--layer", "conv1", "--layer", "conv2")
    folder = tmp_path / "made" / "sheets"
    found = shown(capsys, "features", MODEL, "-i", str(picture), *option, "-o", str(folder))
    expected = shown(capsys, "features", MODEL, "-i", str(digits), *option)
    for one, other in zip(found["layers"], expected["layers"], strict=True):
        assert one | {"written": None} == other
        assert image_module.open(one["written"]).size > (200, 100)
    assert sorted(p.name for p in folder.iterdir()) == ["conv1.png", "conv2.png"]
    target = tmp_path / "filters.png"
    assert main(["features", MODEL, "--filters", "-o", str(target)]) == 0
    assert image_module.open(target).size[0] > 200
    capsys.readouterr()
    one_file = ("features", MODEL, "-i", str(picture), *option, "-o", str(target))
    assert "one sheet per layer" in refused(capsys, *one_file)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--input: expected a picture"),
        (("--filters", "-i", "x.npy"), "give one of them"),
        (("-i", "none.npy"), "none.npy: no such file"),
        (("-i", "other=none.npy"), "no input 'other': expected input_layer"),
        (("-i", "x.npy", "--scale", "odd"), "--scale: expected one of unit"),
        (("--filters", "--layer", "hidden"), "layer 'hidden' has no 2-D convolution"),
        (("--filters", "--layer", "conv9"), "no layer 'conv9'; near it: conv"),
    ],
)
def test_wrong_arguments(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused(capsys, "features", MODEL, *arguments)


def test_curves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log.csv"
    log.write_text("epoch,loss,val_loss\n0,2,3\n1,1,2\n2,.5,2.5\n")
    found = shown(capsys, "curves", str(log))
    assert [row["metric"] for row in found["metrics"]] == ["loss", "val_loss"]
    assert found["metrics"][1] == {
        "metric": "val_loss", "epochs": 3, "first": 3, "last": 2.5,
        "min": 2, "min_epoch": 1, "max": 3, "max_epoch": 0,
    }  # fmt: skip
    assert "no such file" in refused(capsys, "curves", str(tmp_path / "none.csv"))
    pytest.importorskip("matplotlib")
    assert main(["curves", str(log), "-o", str(tmp_path / "c.png")]) == 0
    assert (tmp_path / "c.png").read_bytes()[:4] == b"\x89PNG"
