"""ONNX files are written as a whole, or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from convc_runtime import WriteError

from convc.onnx import rewriting
from tests.onnx.models import model_of, node


def model() -> onnx.ModelProto:
    weights: dict[str, Any] = {"w": np.arange(4000, dtype=np.float32).reshape(4, 1000)}
    made = model_of([node("MatMul", "x w", "y")], {"x": (np.float32, ["n", 4])}, weights=weights)
    output = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 1000])
    made.graph.output[0].CopyFrom(output)
    return made


@pytest.fixture(params=["one file", "weights beside"])
def split(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    beside = request.param == "weights beside"
    if beside:
        monkeypatch.setattr(rewriting, "LARGEST_FILE", 1 << 20)  # no byte of weights in the file
    return beside


def test_what_is_written_is_read_again(tmp_path: Path, split: bool) -> None:
    path = tmp_path / "m.onnx"
    for _ in range(2):  # the second one replaces the first
        files = rewriting.save(model(), path)
        assert sorted(tmp_path.iterdir()) == sorted(files)
        assert len(files) == 1 + split
        (found,) = onnx.load(path).graph.initializer
        np.testing.assert_array_equal(
            onnx.numpy_helper.to_array(found).ravel(), np.arange(4000, dtype=np.float32)
        )


def test_older_files_stay_when_the_new_ones_fail(
    tmp_path: Path, split: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.onnx"
    before = {f: f.read_bytes() for f in rewriting.save(model(), path)}

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    monkeypatch.setattr(onnx, "save", full)
    with pytest.raises(WriteError, match=r"can't write .*m\.onnx: No space left on device"):
        rewriting.save(model(), path)
    assert {f: f.read_bytes() for f in tmp_path.iterdir()} == before


def test_a_folder_that_is_not_there_is_said(tmp_path: Path, split: bool) -> None:
    with pytest.raises(WriteError, match="No such file or directory"):
        rewriting.save(model(), tmp_path / "nowhere" / "m.onnx")
