"""`convc diff` names what was made wrong on purpose: a pass, a schedule, a weight, an import rule, a peer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from convc import driver
from convc.cli.differences import comparing
from convc.codegen.llvm_kernel import kernel_function
from convc.errors import DataError, UsageError
from convc.graph.ir import Array, Graph
from convc.loops.parser import parse_kernel
from convc.loops.printer import print_kernel
from convc.onnx.importers import RULES
from convc.onnx.importers.call import Call
from convc.onnx.peers import run_reference
from convc.ops.activations import LeakyRelu
from convc.passes.fold_batch_norm import FoldBatchNorm
from convc.program.ir import Program
from tests.cli.test_main import outcome
from tests.onnx.models import model_of, node

RNG = np.random.default_rng(5)
SCRIPT = """
from convc import keras
from convc.keras import layers

model = keras.Sequential([
    keras.Input((6, 6, 3)),
    layers.Conv2D(8, 3, use_bias=False, name="edges"),
    layers.BatchNormalization(beta_initializer="random_normal", name="norm"),
    layers.ReLU(name="relu"),
    layers.Flatten(),
    layers.Dense(5, activation="softmax", name="scores"),
], name="small")
"""


def f32(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    (tmp_path / "small.py").write_text(SCRIPT)
    return tmp_path / "small.py"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    nodes = [
        node("Conv", "x w b", "conv", pads=[1, 1, 1, 1]),
        node("LeakyRelu", "conv", "leaky", alpha=0.1),
        node("GlobalAveragePool", "leaky", "mean"),
        node("Flatten", "mean", "flat"),
        node("Gemm", "flat d", "y"),
    ]
    weights = {"w": f32(8, 3, 3, 3), "b": f32(8), "d": f32(8, 4)}
    onnx.save(
        model_of(nodes, {"x": (np.float32, ["n", 3, 7, 7])}, ["y"], weights, 17),
        tmp_path / "m.onnx",
    )
    return tmp_path / "m.onnx"


def found(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> dict[str, Any]:
    """What diff prints with --json; its exit code has to agree."""
    code, out, err = outcome(capsys, "diff", *arguments, "--json")
    assert err == []
    result: dict[str, Any] = json.loads(out)
    assert code == (0 if result["right"] else 1)
    return result


def first_fault(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> dict[str, Any]:
    fault: dict[str, Any] = found(capsys, *arguments)["faults"][0]
    return fault


def scheduled(monkeypatch: pytest.MonkeyPatch, change: Callable[[Program], Program]) -> None:
    """Compiles with a change to every scheduled program."""
    plain: Any = vars(driver)["schedule"]
    monkeypatch.setattr(driver, "schedule", lambda *a, **k: change(plain(*a, **k)))


def edited(program: Program, operators: str, old: str, new: str) -> Program:
    """The program with a word of one kernel's text replaced."""
    kernels = {}
    for name, kernel in program.kernels.items():
        text = print_kernel(kernel)
        if operators in dict(kernel.notes).get("ops", ""):
            assert old in text
            text = text.replace(old, new)
        kernels[name] = parse_kernel(text)
    return replace(program, kernels=kernels)


# ---------------------------------------------------------------- what is right


def test_a_right_model_passes(capsys: pytest.CaptureFixture[str], script: Path, path: Path) -> None:
    assert found(capsys, script)["right"]
    result = found(capsys, path)
    assert result["right"]
    assert result["against"] == "reference"
    layers = [r["layer"] for r in result["rows"] if r["stage"] == "reference"]
    assert layers == ["conv", "leaky", "mean", "flat", "y", "y"]


def test_the_table_tells_ranges_and_a_verdict(
    capsys: pytest.CaptureFixture[str], path: Path
) -> None:
    code, out, _ = outcome(capsys, "diff", path, "--all")
    assert code == 0
    assert "range of its inputs" in out
    assert "convc and reference: rounding explains every difference" in out


def test_arrays_may_be_given(
    capsys: pytest.CaptureFixture[str], path: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", np.full((3, 3, 7, 7), 50, np.float32))
    rows = found(capsys, path, "--input", f"x={tmp_path / 'x.npy'}")["rows"]
    conv = next(r for r in rows if r["layer"] == "conv")
    assert (conv["low"], conv["high"]) == (50, 50)
    code, _, err = outcome(capsys, "diff", path, "--input", f"z={tmp_path / 'x.npy'}")
    assert code == DataError.exit_code
    assert "no input is called 'z': expected x" in err[-1]


def test_peers_are_for_onnx_models(capsys: pytest.CaptureFixture[str], script: Path) -> None:
    code, _, err = outcome(capsys, "diff", script, "--against", "reference")
    assert code == UsageError.exit_code
    assert "--against reference is for ONNX models" in err[-1]
    code, _, err = outcome(capsys, "diff", script, "--against", "tensorrt")
    assert "--against: expected one of float64, reference, onnxruntime, got 'tensorrt'" in err[-1]


def test_levels_of_a_quantized_model_may_flip(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Also: the reference evaluator has these operators for newer opsets only."""
    nodes = [
        node("QuantizeLinear", "x s z", "q"),
        node("DequantizeLinear", "q s z", "d"),
        node("Conv", "d w", "c"),
        node("QuantizeLinear", "c s z", "q2"),
        node("DequantizeLinear", "q2 s z", "y"),
    ]
    weights = {"s": np.float32(0.05), "z": np.int8(3), "w": f32(4, 3, 3, 3)}
    model = model_of(nodes, {"x": (np.float32, ["n", 3, 6, 6])}, ["y"], weights, 17)
    onnx.save(model, tmp_path / "q.onnx")
    assert found(capsys, tmp_path / "q.onnx")["right"]


def test_onnxruntime_as_a_peer(capsys: pytest.CaptureFixture[str], path: Path) -> None:
    pytest.importorskip("onnxruntime")
    assert found(capsys, path, "--against", "onnxruntime")["right"]


# ---------------------------------------------------------------- what is wrong


def test_a_wrong_pass_is_named(
    capsys: pytest.CaptureFixture[str], script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = FoldBatchNorm.__call__

    def wrong(self: FoldBatchNorm, graph: Graph) -> Graph:
        made = right(self, graph)
        weights = {
            n: np.multiply(a, np.float32(1.01)) if a.ndim == 4 else a
            for n, a in made.weights.items()
        }
        return replace(made, weights=weights)

    monkeypatch.setattr(FoldBatchNorm, "__call__", wrong)
    fault = first_fault(capsys, script)
    assert (fault["who"], fault["layer"], fault["step"]) == (
        "convc",
        "norm",
        "pass fold-batch-norm",
    )


def test_a_wrong_schedule_is_named(
    capsys: pytest.CaptureFixture[str], script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduled(monkeypatch, lambda p: edited(p, "conv2d", "= 0.0\n", "= 0.125\n"))
    fault = first_fault(capsys, script)
    assert fault["layer"].split(" + ")[0] == "edges"
    assert fault["step"].startswith("schedule (predict_")
    assert fault["row"]["low"] < 0 < fault["row"]["high"]


def test_a_wrong_weight_is_named(
    capsys: pytest.CaptureFixture[str], script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(program: Program) -> Program:
        name = next(n for n in program.weights if "scores" in n)
        # All of them: some features may be zero.
        array: Any = np.array(program.weights[name], np.float32) + 1
        return replace(program, weights={**program.weights, name: array})

    scheduled(monkeypatch, wrong)
    fault = first_fault(capsys, script)
    assert fault["layer"] == "scores"
    assert fault["step"].startswith("packing of the weight 'scores")


def test_wrong_machine_code_is_named(
    capsys: pytest.CaptureFixture[str], script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVC_CACHE_DIR", "")

    def wrong(*arguments: Any) -> str:
        return kernel_function(*arguments).replace(" fdiv ", " fmul ")

    monkeypatch.setattr("convc.codegen.llvm.kernel_function", wrong)
    fault = first_fault(capsys, script)
    assert fault["layer"] == "scores"
    assert "div" in fault["operators"]
    assert fault["step"].startswith("code generation")


def test_a_wrong_import_rule_is_named(
    capsys: pytest.CaptureFixture[str], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(call: Call) -> str:
        return call.add(LeakyRelu(0.11), call[0])

    monkeypatch.setitem(RULES[""], "LeakyRelu", wrong)
    faults = found(capsys, path)["faults"]
    assert (faults[0]["who"], faults[0]["layer"]) == ("convc", "leaky")
    assert faults[0]["step"].startswith("import of LeakyRelu")


def test_a_wrong_peer_is_named(
    capsys: pytest.CaptureFixture[str], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = run_reference

    def wrong(model: Any, inputs: Mapping[str, Array], wide: bool = False) -> dict[str, Any]:
        values: dict[str, Any] = right(model, inputs, wide)
        return values if wide else values | {"mean": values["mean"] * np.float32(1.001)}

    monkeypatch.setattr(comparing, "run_reference", wrong)
    result = found(capsys, path)
    assert [(f["who"], f["layer"]) for f in result["faults"]] == [("reference", "mean")]


def test_outputs_may_be_numbers(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """An output of rank 0, and one whose rows were given and that data fill."""
    made = [node("ReduceSum", "x", "total", keepdims=0), node("NonZero", "x", "places")]
    model = model_of(made, {"x": f32(3, 4)}, ["total", "places"], {}, 17)
    onnx.save(model, tmp_path / "number.onnx")
    shape = ("--shape", "places=12")
    assert outcome(capsys, "diff", tmp_path / "number.onnx", *shape)[0] == 0
    code, _, err = outcome(capsys, "diff", tmp_path / "number.onnx", "--shape", "places=11")
    assert (code, len(err)) == (DataError.exit_code, 1)
    assert "these data need more than the model is compiled for: places: 11 rows at most" in err[0]
    smaller = tmp_path / "smaller.onnx"
    assert outcome(capsys, "optimize", tmp_path / "number.onnx", *shape, "-o", smaller)[0] == 0
    kinds = [n.op_type for n in onnx.load(smaller).graph.node]
    assert kinds == ["ReduceSum", "NonZero"]
