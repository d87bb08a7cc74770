"""What the fuzzing of the importer found, and a brief run of it in little memory."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from convc.errors import ConvcError
from convc.onnx.importer import import_model
from tests.onnx.models import model_of, node

MANY = np.array(1 << 40)
PAIR = (np.float32, [2, 3])


def image(*shape: int) -> tuple[type, list[int]]:
    return np.float32, list(shape)


HARMS: dict[str, tuple[onnx.ModelProto, str]] = {
    "a-depth": (
        model_of([node("OneHot", "x d v")], {"x": PAIR}, ["y"], {"d": MANY, "v": np.array([0, 1], np.float32)}),
        "needs a constant of 1099511627776 elements",
    ),
    "a-unit-matrix": (model_of([node("EyeLike", "x")], {"x": image(1 << 19, 1 << 19)}), "needs a constant"),
    "a-triangle": (model_of([node("Trilu", "x")], {"x": image(1 << 19, 1 << 19)}), "needs a constant"),
    "a-size": (
        model_of([node("Resize", "x _ _ s", mode="linear")], {"x": PAIR}, ["y"], {"s": np.array([2, 1 << 38])}),
        "needs a constant of 274877906944 elements",
    ),
    "many-parts": (
        model_of([node("Split", "x", "y", axis=0, num_outputs=1 << 60)], {"x": image(1 << 30)}),
        "num_outputs is 1152921504606846976, but there are 1 outputs",
    ),
    "many-taps": (
        model_of(
            [node("MaxPool", "x", "y z", kernel_shape=[1 << 14, 1 << 14])],
            {"x": image(1, 1, 1 << 15, 1 << 15)}, ["y", "z"],
        ),
        "needs a constant",
    ),
    "a-long-sequence": (
        model_of(
            [node("SplitToSequence", "x n", "s"), node("SequenceAt", "s i")], {"x": image(1 << 40)}, ["y"],
            {"n": np.array(1), "i": np.array(0)},
        ),
        "a sequence of 1099511627776 tensors",
    ),
    "many-single-slices": (
        model_of(
            [node("SplitToSequence", "x", "s"), node("SequenceAt", "s i")], {"x": image(1 << 40)}, ["y"],
            {"i": np.array(0)},
        ),
        "a sequence of 1099511627776 tensors",
    ),
    "an-image-without-extent": (
        model_of([node("GridSample", "x g")], {"x": image(2, 3), "g": image(2, 0)}), "y",
    ),
    "vectors-of-no-length": (
        model_of([node("GatherND", "x i")], {"x": PAIR}, ["y"], {"i": np.zeros((2, 0), np.int64)}),
        "index vectors of no length",
    ),
    "a-body-that-is-missing": (
        model_of([node("Loop", "m c x")], {"x": PAIR}, ["y"], {"m": np.array(2), "c": np.array(True)}),
        "a body is missing",
    ),
    "a-name-of-two-lines": (model_of([node("Relu\nand more\x00", "x")], {"x": PAIR}), r"Relu\\nand more\\x00"),
}  # fmt: skip


def test_a_place_of_external_data_that_is_no_text(tmp_path: Path) -> None:
    model = model_of([node("MatMul", "x w")], {"x": (np.float32, ["n", 6])}, ["y"])
    tensor = model.graph.initializer.add(name="w", data_type=1, dims=[6, 4])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="wwwwww")
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString().replace(b"wwwwww", b"ww\xff\xfeww"))
    with pytest.raises(ConvcError, match=r"tensor 'w' lies in .*expected text"):
        import_model(path)


@pytest.mark.parametrize("name", HARMS)
def test_what_was_found_once_is_refused_by_name(name: str, tmp_path: Path) -> None:
    model, reason = HARMS[name]
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ConvcError) as error:
        import_model(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert message.isprintable()
    assert re.search(reason, message), message
    assert model.graph.node[-1].output[0] in message or model.graph.node[0].output[0] in message


def test_damaged_files_are_refused_soon_and_in_little_memory() -> None:
    """Some seconds' worth in a process whose memory is limited; the script runs as many as one likes."""
    command = [sys.executable, "-m", "tests.onnx.fuzz.hostile", "--files", "2000", "--seconds", "4"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[0]) > 50
