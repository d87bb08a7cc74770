"""Models that `convc optimize` has written: valid, smaller, and the same numbers by ONNX' reference evaluator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from convc.errors import UsageError
from tests.cli.test_main import outcome
from tests.onnx.models import model_of, node

RNG = np.random.default_rng(3)


def f32(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


def optimized(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], model: onnx.ModelProto, *arguments: str
) -> onnx.ModelProto:
    """The model that optimize writes for one, checked."""
    onnx.save(model, tmp_path / "in.onnx")
    code, out, err = outcome(
        capsys, "optimize", tmp_path / "in.onnx", "-o", tmp_path / "out.onnx", *arguments
    )
    assert (code, err) == (0, []), err
    assert "nodes to" in out
    onnx.checker.check_model(str(tmp_path / "out.onnx"), full_check=True)
    return onnx.load(tmp_path / "out.onnx")


def kinds(model: onnx.ModelProto) -> list[str]:
    return [n.op_type for n in model.graph.node]


def assert_same(a: onnx.ModelProto, b: onnx.ModelProto, inputs: dict[str, Any]) -> None:
    for x, y in zip(
        ReferenceEvaluator(a).run(None, inputs),
        ReferenceEvaluator(b).run(None, inputs),
        strict=True,
    ):
        np.testing.assert_allclose(y, x, rtol=1e-4, atol=1e-5)


def test_convolution_norm_and_dead_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = [
        node("Conv", "x w", "c", pads=[1, 1, 1, 1]),
        node("BatchNormalization", "c s b m v", "n"),
        node("Identity", "n", "i"),
        node("Add", "half half", "one"),
        node("Mul", "i one", "scaled"),
        node("Relu", "scaled", "y"),
        node("Exp", "c", "unused"),
    ]
    weights = {"w": f32(4, 3, 3, 3), "s": f32(4), "b": f32(4), "m": f32(4), "v": np.abs(f32(4)) + 1}
    weights["half"] = np.array(0.5, np.float32)
    model = model_of(nodes, {"x": (np.float32, ["batch", 3, 6, 6])}, ["y"], weights, 17)
    model.metadata_props.add(key="author", value="somebody")
    model.graph.doc_string = "a small network"
    made = optimized(tmp_path, capsys, model)
    assert kinds(made) == ["Conv", "Relu"]
    assert len(made.graph.node[0].input) == 3
    assert made.graph.node[0].name == "c"
    assert made.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert (made.metadata_props[0].key, made.graph.doc_string) == ("author", "a small network")
    assert_same(model, made, {"x": f32(2, 3, 6, 6)})


def test_a_lone_norm_stays_one_node(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = [
        node("Relu", "x", "r"),
        node("BatchNormalization", "r s b m v", "n"),
        node("Sigmoid", "n", "y"),
    ]
    weights = {"s": f32(4), "b": f32(4), "m": f32(4), "v": np.abs(f32(4)) + 1}
    model = model_of(nodes, {"x": (np.float32, [2, 4, 5, 5])}, ["y"], weights, 17)
    made = optimized(tmp_path, capsys, model)
    assert kinds(made) == ["Relu", "BatchNormalization", "Sigmoid"]
    assert_same(model, made, {"x": f32(2, 4, 5, 5)})


def test_a_transpose_before_a_flatten_goes_into_the_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = [
        node("Relu", "x", "r"),
        node("Transpose", "r", "t", perm=[0, 2, 3, 1]),
        node("Flatten", "t", "f"),
        node("MatMul", "f w", "p"),
        node("Add", "p b", "y"),
    ]
    model = model_of(
        nodes, {"x": (np.float32, ["n", 2, 3, 4])}, ["y"], {"w": f32(24, 5), "b": f32(5)}, 17
    )
    made = optimized(tmp_path, capsys, model)
    assert kinds(made) == ["Relu", "Reshape", "Gemm"]
    assert_same(model, made, {"x": f32(3, 2, 3, 4)})


def test_what_convc_has_no_better_word_for_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = {"w": f32(1, 12, 4), "r": f32(1, 12, 3), "p": np.array([], np.float32)}
    weights["scales"] = np.array([1, 1, 2.5], np.float32)
    nodes = [
        node("Mul", "x x", "xx"),
        node("LSTM", "xx w r", "h _ _", hidden_size=3),
        node("Squeeze", "h one", "hs"),
        node("Resize", "hs p scales", "y", mode="cubic"),
    ]
    nodes[1].output[:] = ["h"]
    weights["one"] = np.array([1], np.int64)
    model = model_of(nodes, {"x": (np.float32, [5, 2, 4])}, ["y"], weights, 18)
    made = optimized(tmp_path, capsys, model)
    assert [k for k in kinds(made) if k in ("LSTM", "Resize")] == ["LSTM", "Resize"]
    assert len(kinds(made)) == 4
    assert_same(model, made, {"x": f32(5, 2, 4)})


def test_operators_that_convc_does_not_have_stay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = [node("Sub", "x zero", "s"), node("Unique", "s", "y", sorted=1)]
    model = model_of(nodes, {"x": (np.float32, [7])}, ["y"], {"zero": np.array(0, np.float32)}, 17)
    made = optimized(tmp_path, capsys, model)
    assert "Unique" in kinds(made)
    assert_same(model, made, {"x": np.array([3, 1, 3, 2, 1, 1, 9], np.float32)})


def branch(name: str, *nodes: onnx.NodeProto) -> onnx.GraphProto:
    out = helper.make_tensor_value_info(nodes[-1].output[0], onnx.TensorProto.FLOAT, None)
    return helper.make_graph(list(nodes), name, [], [out])


def test_branches_keep_what_they_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    then = branch("then", node("Mul", "h w", "t"))
    other = branch("else", node("Neg", "h", "e"))
    nodes = [
        node("Identity", "x", "i"),
        node("Relu", "i", "h"),
        node("If", "c", "z", then_branch=then, else_branch=other),
        node("Add", "z h", "y"),
    ]
    inputs = {"x": (np.float32, [2, 3]), "c": (np.bool_, [])}
    model = model_of(nodes, inputs, ["y"], {"w": f32(3)}, 17)
    made = optimized(tmp_path, capsys, model)
    assert kinds(made) == ["Relu", "If", "Add"]
    for condition in (True, False):
        assert_same(model, made, {"x": f32(2, 3), "c": np.array(condition)})


def test_shapes_that_the_run_knows_are_computed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = [
        node("Shape", "x", "shape"),
        node("Gather", "shape zero", "n"),
        node("Gather", "shape two", "w"),
        node("Concat", "n w minus", "new", axis=0),
        node("Transpose", "x", "t", perm=[0, 2, 1]),
        node("Reshape", "t new", "y"),
    ]
    weights = {"zero": [0], "two": [2], "minus": [-1]}
    arrays = {n: np.array(v, np.int64) for n, v in weights.items()}
    model = model_of(nodes, {"x": (np.float32, ["n", 4, "w"])}, ["y"], arrays, 17)
    made = optimized(tmp_path, capsys, model)
    assert len(kinds(made)) <= len(kinds(model))
    assert_same(model, made, {"x": f32(3, 4, 5)})


def test_the_opset_is_converted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = [node("ReduceMean", "x", "m", axes=[1], keepdims=1), node("Sub", "x m", "y")]
    model = model_of(nodes, {"x": (np.float32, [2, 5])}, ["y"], {}, 13)
    assert optimized(tmp_path, capsys, model).opset_import[0].version == 17
    made = optimized(tmp_path, capsys, model, "--opset", "20")
    assert made.opset_import[0].version == 20
    assert_same(model, made, {"x": f32(2, 5)})
    code, _, err = outcome(
        capsys, "optimize", tmp_path / "in.onnx", "-o", tmp_path / "o.onnx", "--opset", "3"
    )
    assert code == UsageError.exit_code
    assert "--opset: expected a number from 17" in err[-1]


def test_json_counts_nodes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = model_of(
        [node("Identity", "x", "a"), node("Relu", "a", "y")],
        {"x": (np.float32, [2])},
        ["y"],
        {},
        17,
    )
    onnx.save(model, tmp_path / "in.onnx")
    code, out, _ = outcome(
        capsys, "optimize", tmp_path / "in.onnx", "-o", tmp_path / "o.onnx", "--json"
    )
    assert code == 0
    facts = json.loads(out)
    assert facts["nodes"] == [2, 1]
    assert facts["operators"]["Identity"] == [1, 0]


def test_functions_of_the_model_are_inlined(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    function = helper.make_function(
        "own", "Twice", ["a"], ["b"], [node("Add", "a a", "b")], [helper.make_opsetid("", 17)]
    )
    model = model_of(
        [helper.make_node("Twice", ["x"], ["y"], domain="own")],
        {"x": (np.float32, [2])},
        ["y"],
        {},
        17,
    )
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("own", 1))
    made = optimized(tmp_path, capsys, model)
    assert kinds(made) == ["Add"]
    assert not made.functions


def test_external_data_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    w = f32(6, 6)
    model = model_of([node("MatMul", "x w")], {"x": (np.float32, ["n", 6])}, ["y"], {"w": w}, 17)
    onnx.save(
        model, tmp_path / "e.onnx", save_as_external_data=True, location="e.data", size_threshold=0
    )
    code, _, err = outcome(capsys, "optimize", tmp_path / "e.onnx", "-o", tmp_path / "o.onnx")
    assert (code, err) == (0, [])
    np.testing.assert_array_equal(
        numpy_helper.to_array(onnx.load(tmp_path / "o.onnx").graph.initializer[0]), w
    )


def test_a_pad_before_an_average_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """ONNX Runtime's Pad_Fusion would leave the zeros out where count_include_pad is 0."""
    nodes = [
        node("Relu", "x", "r"),
        node("Pad", "r pads", "p"),
        node("AveragePool", "p", "y", kernel_shape=[2, 2], strides=[2, 2]),
    ]
    pads = np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64)
    model = model_of(nodes, {"x": (np.float32, [1, 2, 6, 6])}, ["y"], {"pads": pads}, 17)
    made = optimized(tmp_path, capsys, model)
    (pool,) = [n for n in made.graph.node if n.op_type == "AveragePool"]
    assert {a.name: a.i for a in pool.attribute}["count_include_pad"] == 1
    assert_same(model, made, {"x": f32(1, 2, 6, 6)})


@pytest.mark.parametrize("opset", [18, 21])
def test_a_pad_before_a_maximum_is_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], opset: int
) -> None:
    """ONNX Runtime's Pad_Fusion would leave the zeros out, which are above all else here."""
    onnxruntime = pytest.importorskip("onnxruntime")
    nodes = [
        node("Abs", "x", "a"),
        node("Neg", "a", "n"),
        node("Pad", "n pads", "p"),
        node("MaxPool", "p", "y", kernel_shape=[2, 2], strides=[2, 2]),
    ]
    pads = np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64)
    model = model_of(nodes, {"x": (np.float32, [1, 2, 6, 6])}, ["y"], {"pads": pads}, opset)
    made = optimized(tmp_path, capsys, model)
    session = onnxruntime.InferenceSession(made.SerializeToString())
    x = f32(1, 2, 6, 6)
    expected: Any = ReferenceEvaluator(model).run(None, {"x": x})
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], expected[0])
