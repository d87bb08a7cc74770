"""ONNX models on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from convc_runtime import load

from convc.errors import UnsupportedError, UsageError
from tests.cli.test_main import outcome
from tests.onnx.models import model_of, node

W = np.arange(12, dtype=np.float32).reshape(4, 3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    nodes = [node("MatMul", "x w", "h"), node("Relu", "h")]
    model = model_of(nodes, {"x": (np.float32, ["n", "width"])}, ["y"], {"w": W}, 17)
    onnx.save(model, tmp_path / "small.onnx")
    return tmp_path / "small.onnx"


def test_compile_takes_an_onnx_file(capsys: pytest.CaptureFixture[str], path: Path) -> None:
    made = path.with_suffix(".cvc")
    code, _, err = outcome(capsys, "compile", path, "-o", made, "--shape", "width=4")
    assert (code, err) == (0, [])
    x = np.ones((2, 4), np.float32)
    np.testing.assert_array_equal(load(made)(x), x @ W)


def test_a_shape_that_does_not_fit_is_named(capsys: pytest.CaptureFixture[str], path: Path) -> None:
    code, _, err = outcome(capsys, "compile", path, "--shape", "width=5")
    assert code == UnsupportedError.exit_code
    assert "node 'h' (MatMul) at opset 17 on (float32[N, 5], float32[4, 3])" in err[-1]
    code, _, err = outcome(capsys, "compile", path, "--shape", "width=wide")
    assert code == UsageError.exit_code
    assert "--shape: expected name=4 or name=1,3,224,224, got 'width=wide'" in err[-1]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_verify_chooses_sizes_that_are_free(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, dtype: Any
) -> None:
    weights = {"w": np.random.default_rng(0).standard_normal((2, 1, 9, 9)).astype(dtype)}
    types: Any = {"x": (dtype, ["n", 1, "height", "width"])}
    path = tmp_path / "free.onnx"
    onnx.save(model_of([node("Conv", "x w")], types, ["y"], weights, 17), path)
    code, out, err = outcome(capsys, "verify", path, "--json", "--tolerance", "1e-2")
    assert (code, err) == (0, [])
    found = json.loads(out)
    assert found["sizes"] == {"N": 2, "height": 16, "width": 16}  # 8 is smaller than the filter
    assert 0 < found["layers"][-1]["error"] < 1e-2


def test_sizes_that_may_help_are_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    types: Any = {"x": (np.float32, ["n", 1, "height", "width"])}
    path = tmp_path / "free.onnx"
    pool = node("MaxPool", "x", kernel_shape=[2, 2], strides=[2, 2])
    onnx.save(model_of([pool], types, ["y"], {}, 17), path)
    code, _, err = outcome(capsys, "compile", path)
    assert code == UnsupportedError.exit_code
    assert err[-1].endswith("; it may fit for given sizes: --shape height=… --shape width=…")
    sizes = ("--shape", "height=8", "--shape", "width=6")
    assert outcome(capsys, "verify", path, *sizes)[0] == 0


def test_doctor_lists_every_problem(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    nodes = [
        node("NonMaxSuppression", "x x", "a"),
        node("Multinomial", "x", "b"),
        node("Relu", "x"),
    ]
    path = tmp_path / "bad.onnx"
    onnx.save(model_of(nodes, {"x": (np.float32, [1, 4, 4])}), path)
    code, out, _ = outcome(capsys, "doctor", path, "--json")
    assert code == UnsupportedError.exit_code
    problems = json.loads(out)["problems"]
    assert [(p["node"], p["operator"], p["opset"]) for p in problems] == [
        ("'a'", "NonMaxSuppression", "21"),
        ("'b'", "Multinomial", "21"),
    ]
    assert problems[0]["types"] == "float32[1, 4, 4], float32[1, 4, 4]"
    assert "give a number of rows for all data by --shape" in problems[0]["advice"]


def test_doctor_looks_behind_a_problem_too(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    nodes = [
        node("Multinomial", "x", "a"),
        node("Cast", "a", "b", to=1),
        node("Multinomial", "b", "c"),
        node("Reshape", "x s", "d"),
    ]
    path = tmp_path / "bad.onnx"
    inputs: dict[str, Any] = {"x": (np.float32, ["n", 4]), "s": (np.int64, [2])}
    onnx.save(model_of(nodes, inputs, ["c", "d"]), path)
    code, out, _ = outcome(capsys, "doctor", path)
    assert code == UnsupportedError.exit_code
    lines = out.splitlines()
    assert [line.split(")")[0] for line in lines] == [
        "node 'a' (Multinomial",
        "node 'c' (Multinomial",
        "node 'd' (Reshape",
    ]
    assert lines[0].endswith("instead: give the random numbers as an input")
    assert lines[2].endswith("make that input a constant of the model: it decides a shape")


def test_doctor_names_the_dimensions_that_need_numbers(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "free.onnx"
    resize = node("Resize", "x _ scales", mode="linear")
    weights = {"scales": np.array([1, 1, 1.5, 1.5], np.float32)}
    onnx.save(model_of([resize], {"x": (np.float32, [1, 3, "h", "w"])}, ["y"], weights), path)
    code, out, _ = outcome(capsys, "doctor", path)
    assert code == UnsupportedError.exit_code
    assert out.rstrip().endswith("instead: give --shape h=… --shape w=…")
    assert outcome(capsys, "doctor", path, "--shape", "h=4", "--shape", "w=6")[0] == 0


def test_doctor_finds_nothing_in_a_good_model(
    capsys: pytest.CaptureFixture[str], path: Path
) -> None:
    code, out, _ = outcome(capsys, "doctor", path, "--shape", "width=4")
    assert (code, out) == (0, f"{path}: everything compiles\n")


def test_export_writes_what_compile_takes(capsys: pytest.CaptureFixture[str], path: Path) -> None:
    again = path.with_name("again.onnx")
    code, _, err = outcome(
        capsys, "export", path, "-o", again, "--opset", "18", "--shape", "width=4"
    )
    assert (code, err) == (0, [])
    model = onnx.load(again)
    assert model.opset_import[0].version == 18
    assert [n.op_type for n in model.graph.node][:2] == ["MatMul", "Relu"]
    assert outcome(capsys, "doctor", again)[0] == 0


def test_bench_wants_a_number_for_each_size_but_the_batch(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model = model_of([node("Relu", "x", "y")], {"x": (np.float32, ["n", "width"])}, ["y"], {}, 17)
    onnx.save(model, tmp_path / "free.onnx")
    command = ("bench", tmp_path / "free.onnx", "--seconds", "0.01")
    code, _, err = outcome(capsys, *command)
    assert (code, len(err)) == (UsageError.exit_code, 1)
    assert (
        "free besides the batch (width) in x float32[N, width]: give numbers by --shape" in err[0]
    )
    assert outcome(capsys, *command, "--shape", "width=4")[0] == 0


def test_verify_and_inspect_take_shapes(capsys: pytest.CaptureFixture[str], path: Path) -> None:
    for command in ("verify", "inspect"):
        assert outcome(capsys, command, path, "--shape", "width=4")[0] == 0
    made = path.with_suffix(".cvc")
    assert outcome(capsys, "compile", path, "-o", made, "--shape", "width=4")[0] == 0
    for command in ("bench", "inspect"):
        code, _, err = outcome(capsys, command, made, "--shape", "width=4")
        assert code == UsageError.exit_code
        assert "is compiled already: --shape is for the model it was made of" in err[-1]
