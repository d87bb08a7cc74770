"""Imported models, compiled, against ONNX' own reference evaluator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from convc import driver
from convc.errors import InputFileError, UnsupportedError, UsageError
from convc.onnx.backend import CompiledRep
from convc.onnx.exporter import export_graph
from convc.onnx.importer import import_model, problems_of
from convc.types import Dim
from tests.onnx.models import model_of, node

RNG = np.random.default_rng(7)
N = Dim.symbol("N")


def f32(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


def positive(*shape: int) -> Any:
    return np.abs(f32(*shape)) + np.float32(0.5)


def i64(*values: int) -> Any:
    return np.array(values, np.int64)


X4 = f32(2, 4, 7, 6)
IMAGE = {"x": X4}
CASES: dict[str, tuple[list[onnx.NodeProto], dict[str, Any], dict[str, Any], int]] = {
    "add-broadcast": ([node("Add", "x b")], {"x": X4, "b": f32(6)}, {}, 21),
    "div-int": (
        [node("Div", "a b")],
        {"a": np.array([7, -7, 9], np.int32), "b": np.array([2, 2, -4], np.int32)}, {}, 14,
    ),
    "mod": ([node("Mod", "a b")], {"a": np.array([7, -7, 9], np.int64), "b": np.array([3, 3, -4], np.int64)}, {}, 13),
    "pow": ([node("Pow", "a b")], {"a": positive(2, 3), "b": f32(3)}, {}, 15),
    "pow-square": ([node("Pow", "x p")], IMAGE, {"p": np.float32(2)}, 15),
    "clip-6": ([node("Clip", "x", min=-0.5, max=0.5)], IMAGE, {}, 6),
    "clip-13": ([node("Clip", "x low high")], IMAGE, {"low": np.float32(-0.5), "high": np.float32(0.5)}, 13),
    "prelu": ([node("PRelu", "x s")], IMAGE, {"s": positive(4, 1, 1)}, 16),
    "gelu-tanh": ([node("Gelu", "x", approximate="tanh")], IMAGE, {}, 20),
    "where": ([node("Greater", "x z", "c"), node("Where", "c x z")], IMAGE, {"z": np.float32(0.2)}, 16),
    "conv": (
        [node("Conv", "x w b", pads=[1, 0, 2, 1], strides=[2, 1], group=2)],
        IMAGE, {"w": f32(6, 2, 3, 3), "b": f32(6)}, 11,
    ),
    "conv-same-lower": (
        [node("Conv", "x w", auto_pad="SAME_LOWER", strides=[2, 2])],
        IMAGE, {"w": f32(3, 4, 3, 2)}, 11,
    ),
    "conv1d": ([node("Conv", "x w", pads=[2, 1], dilations=[2])], {"x": f32(2, 3, 9)}, {"w": f32(4, 3, 3)}, 11),
    "conv3d": ([node("Conv", "x w", pads=[1] * 6)], {"x": f32(1, 2, 4, 5, 3)}, {"w": f32(3, 2, 3, 2, 2)}, 11),
    "conv-transpose": (
        [node("ConvTranspose", "x w b", strides=[2, 3], pads=[1, 0, 0, 1], output_padding=[1, 0])],
        IMAGE, {"w": f32(4, 3, 3, 3), "b": f32(3)}, 11,
    ),
    "conv-transpose-3d": (
        [node("ConvTranspose", "x w", strides=[2, 1, 2], pads=[1, 0, 0, 0, 1, 0])],
        {"x": f32(1, 2, 3, 4, 2)}, {"w": f32(2, 3, 3, 2, 2)}, 11,
    ),
    "max-pool-ceil": ([node("MaxPool", "x", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)], IMAGE, {}, 12),
    "average-pool-pads": (
        [node("AveragePool", "x", kernel_shape=[3, 2], pads=[1, 1, 1, 0], count_include_pad=1)], IMAGE, {}, 19,
    ),
    "average-pool-excluding": ([node("AveragePool", "x", kernel_shape=[3, 2], pads=[1, 1, 1, 0])], IMAGE, {}, 19),
    "global-average": ([node("GlobalAveragePool", "x")], IMAGE, {}, 1),
    "batch-norm": (
        [node("BatchNormalization", "x g b m v")], IMAGE,
        {"g": f32(4), "b": f32(4), "m": f32(4), "v": positive(4)}, 15,
    ),
    "instance-norm": ([node("InstanceNormalization", "x g b")], IMAGE, {"g": f32(4), "b": f32(4)}, 6),
    "layer-norm": ([node("LayerNormalization", "x g b", axis=2)], IMAGE, {"g": f32(7, 6), "b": f32(7, 6)}, 17),
    "group-norm": ([node("GroupNormalization", "x g b", num_groups=2)], IMAGE, {"g": f32(4), "b": f32(4)}, 21),
    "lrn": ([node("LRN", "x", size=3, alpha=0.1)], {"x": f32(4, 4, 3, 2)}, {}, 13),
    "gemm": (
        [node("Gemm", "a b c", alpha=0.5, beta=2.0, transA=1, transB=1)],
        {"a": f32(3, 5)}, {"b": f32(4, 3), "c": f32(4)}, 13,
    ),
    "matmul-vector": ([node("MatMul", "a b")], {"a": f32(2, 3, 4), "b": f32(4)}, {}, 13),
    "einsum": ([node("Einsum", "a b", equation="bij,bjk->bki")], {"a": f32(2, 3, 4), "b": f32(2, 4, 5)}, {}, 12),
    "einsum-diagonal": ([node("Einsum", "a", equation="...ii->...i")], {"a": f32(2, 3, 3)}, {}, 12),
    "reduce-mean-13": ([node("ReduceMean", "x", axes=[1, 3], keepdims=0)], IMAGE, {}, 13),
    "reduce-log-sum-exp": ([node("ReduceLogSumExp", "x a")], IMAGE, {"a": i64(-1)}, 18),
    "reduce-noop": ([node("ReduceSum", "x _", noop_with_empty_axes=1)], IMAGE, {}, 13),
    "arg-min-last": ([node("ArgMin", "x", axis=2, select_last_index=1)], {"x": np.round(X4)}, {}, 13),
    "softmax-13": ([node("Softmax", "x", axis=2)], IMAGE, {}, 13),
    "hardmax": ([node("Hardmax", "x", axis=1)], IMAGE, {}, 13),
    "slice": (
        [node("Slice", "x s e a t")],
        IMAGE, {"s": i64(-1, 1), "e": i64(-100, 6), "a": i64(2, 3), "t": i64(-2, 2)}, 13,
    ),
    "slice-empty": ([node("Slice", "x s e a")], IMAGE, {"s": i64(3), "e": i64(2), "a": i64(2)}, 13),
    "split": ([node("Split", "x", "y z", axis=2, num_outputs=2)], IMAGE, {}, 18),
    "pad-edge": ([node("Pad", "x p", mode="edge")], IMAGE, {"p": i64(0, 0, 2, 1, 0, 0, 0, 3)}, 18),
    "pad-wrap": ([node("Pad", "x p", mode="wrap")], IMAGE, {"p": i64(0, 0, 2, 1, 0, 0, 0, 3)}, 19),
    "tile": ([node("Tile", "x r")], IMAGE, {"r": i64(1, 2, 1, 3)}, 13),
    "expand": ([node("Expand", "x s")], {"x": f32(3, 1)}, {"s": i64(2, 1, 4)}, 13),
    "gather-negative": ([node("Gather", "x k", axis=2)], IMAGE, {"k": i64(-1, 0, 3)}, 13),
    "gather-elements": (
        [node("GatherElements", "a k", axis=1)],
        {"a": f32(2, 4), "k": np.array([[0, -1], [2, 1]])}, {}, 13,
    ),
    "gather-nd": (
        [node("GatherND", "a k", batch_dims=1)],
        {"a": f32(2, 3, 4), "k": np.array([[[1]], [[-1]]])}, {}, 13,
    ),
    "scatter-elements": (
        [node("ScatterElements", "a k u", axis=1, reduction="add")],
        {"a": f32(2, 5), "k": np.array([[1, 1, -1], [0, 2, 0]]), "u": f32(2, 3)}, {}, 18,
    ),
    "scatter-nd": (
        [node("ScatterND", "a k u")], {"a": f32(4, 3), "k": np.array([[1], [3]]), "u": f32(2, 3)}, {}, 18,
    ),
    "top-k": ([node("TopK", "a k", "y z", axis=0, largest=0)], {"a": np.round(f32(7, 3) * 2)}, {"k": i64(3)}, 11),
    "cum-sum": ([node("CumSum", "a d", exclusive=1, reverse=1)], {"a": f32(3, 5)}, {"d": np.int64(1)}, 14),
    "one-hot": (
        [node("OneHot", "k d v", axis=0)],
        {"k": i64(1, -1, 5)}, {"d": np.int64(4), "v": np.array([0.5, 2.0], np.float32)}, 11,
    ),
    "trilu": ([node("Trilu", "a", upper=0)], {"a": f32(4, 5)}, {}, 14),
    "resize-linear": (
        [node("Resize", "x _ s", mode="linear")], IMAGE, {"s": np.array([1, 1, 1.6, 0.7], np.float32)}, 19,
    ),
    "resize-double": (
        [node("Resize", "x _ s", coordinate_transformation_mode="asymmetric", nearest_mode="floor")],
        IMAGE, {"s": np.array([1, 1, 2, 2], np.float32)}, 19,
    ),
    "resize-cubic": ([node("Resize", "x _ _ n", mode="cubic")], IMAGE, {"n": i64(2, 4, 10, 9)}, 19),
    "depth-to-space": ([node("DepthToSpace", "x", blocksize=2, mode="CRD")], IMAGE, {}, 13),
    "quantize": (
        [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z")],
        IMAGE, {"s": np.float32(0.05), "z": np.int8(3)}, 21,
    ),
    "lstm": (
        [node("LSTM", "x w r b", "y h c", hidden_size=3, direction="bidirectional")],
        {"x": f32(4, 2, 5)}, {"w": f32(2, 12, 5), "r": f32(2, 12, 3), "b": f32(2, 24)}, 14,
    ),
    "gru": (
        [node("GRU", "x w r b", "y h", hidden_size=3, linear_before_reset=1)],
        {"x": f32(4, 2, 5)}, {"w": f32(1, 9, 5), "r": f32(1, 9, 3), "b": f32(1, 18)}, 14,
    ),
    "gru-reset-first": (
        [node("GRU", "x w r b", "y h", hidden_size=3, direction="reverse")],
        {"x": f32(4, 2, 5)}, {"w": f32(1, 9, 5), "r": f32(1, 9, 3), "b": f32(1, 18)}, 14,
    ),
    "rnn-states": (
        [node("RNN", "x w r _ _ s", "y h", hidden_size=3)],
        {"x": f32(4, 2, 5), "s": f32(1, 2, 3)}, {"w": f32(1, 3, 5), "r": f32(1, 3, 3)}, 14,
    ),
    "lstm-states": (
        [node("LSTM", "x w r b _ s t", "y h c", hidden_size=3, layout=0)],
        {"x": f32(4, 2, 5), "s": f32(1, 2, 3), "t": f32(1, 2, 3)},
        {"w": f32(1, 12, 5), "r": f32(1, 12, 3), "b": f32(1, 24)}, 14,
    ),
    "flatten-by-shape": (
        [
            node("Shape", "x", "s"), node("Gather", "s zero", "n"), node("Unsqueeze", "n front", "m"),
            node("Concat", "m rest", "t", axis=0), node("Reshape", "x t"),
        ],
        IMAGE, {"zero": np.int64(0), "front": i64(0), "rest": i64(-1)}, 13,
    ),
}  # fmt: skip


def compiled(model: onnx.ModelProto, arrays: dict[str, Any]) -> tuple[Any, ...]:
    return CompiledRep(model, threads=1, strict=True).run(arrays)


def assert_agree(got: tuple[Any, ...], expected: Any) -> None:
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_a_model_agrees_with_the_reference_evaluator(name: str) -> None:
    nodes, inputs, weights, opset = CASES[name]
    model = model_of(nodes, inputs, list(nodes[-1].output), weights, opset)
    assert_agree(compiled(model, inputs), ReferenceEvaluator(model).run(None, inputs))


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(("kind", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_sequences_of_different_lengths_are_as_each_alone(
    kind: str, gates: int, direction: str
) -> None:
    ways, outputs = 2 if direction == "bidirectional" else 1, "y h c" if kind == "LSTM" else "y h"
    weights = {
        "w": f32(ways, gates * 3, 5),
        "r": f32(ways, gates * 3, 3),
        "b": f32(ways, gates * 6),
    }
    attributes = {"hidden_size": 3, "direction": direction}
    attributes |= {"linear_before_reset": 1} if kind == "GRU" else {}
    x, lengths = f32(6, 4, 5), np.array([3, 6, 1, 5], np.int32)

    def model(operands: str, inputs: dict[str, Any]) -> onnx.ModelProto:
        return model_of(
            [node(kind, operands, outputs, **attributes)], inputs, outputs.split(), weights
        )

    whole = model("x w r b l", {"x": x, "l": lengths})
    assert f"{kind.lower()}_loop" in {n.op.mnemonic for n in import_model(whole).nodes}
    y, *lasts = compiled(whole, {"x": x, "l": lengths})
    for row, length in enumerate(lengths):
        given = {"x": x[:length, row : row + 1]}
        first, *others = ReferenceEvaluator(model("x w r b", given)).run(None, given)
        assert_agree((y[:length, :, row : row + 1],), [first])
        assert not y[length:, :, row].any()
        assert_agree(tuple(last[:, row : row + 1] for last in lasts), others)


def test_softmax_takes_all_dimensions_from_the_axis_on_until_opset_12() -> None:
    model = model_of([node("Softmax", "x", axis=2)], IMAGE, opset=11)
    powers = np.exp(X4 - X4.max(axis=(2, 3), keepdims=True))
    expected = powers / powers.sum(axis=(2, 3), keepdims=True)
    np.testing.assert_allclose(compiled(model, IMAGE)[0], expected, rtol=1e-5)


def test_upsample_repeats_pixels_at_opset_7() -> None:
    model = model_of([node("Upsample", "x", scales=[1.0, 1.0, 2.0, 3.0])], IMAGE, opset=7)
    np.testing.assert_array_equal(compiled(model, IMAGE)[0], X4.repeat(2, 2).repeat(3, 3))


# ---------------------------------------------------------------- dimensions


def test_a_named_first_dimension_is_the_batch() -> None:
    nodes, _, weights, opset = CASES["flatten-by-shape"]
    model = model_of(nodes, {"x": (np.float32, ["batch", 4, 7, 6])}, ["y"], weights, opset)
    graph = import_model(model)
    assert graph.types["x"].shape == (N, 4, 7, 6)
    assert graph.types["y"].shape == (N, 168)
    run = driver.compile(graph, threads=1)
    for n in (1, 3):
        x = f32(n, 4, 7, 6)
        np.testing.assert_array_equal(run(x), x.reshape(n, 168))


def test_a_dimension_gets_its_number_by_name() -> None:
    model = model_of([node("Relu", "x")], {"x": (np.float32, ["batch", "width"])})
    assert import_model(model, {"width": 5}).types["y"].shape == (N, 5)
    assert import_model(model, {"x": (2, 3)}).types["y"].shape == (2, 3)
    with pytest.raises(UsageError, match="no dimension or input is called 'height'"):
        import_model(model, {"height": 5})


def test_several_named_dimensions_stay_symbols() -> None:
    model = model_of([node("Relu", "x")], {"x": (np.float32, ["batch", 3, "height", "width"])})
    shape = import_model(model).types["y"].shape
    assert shape == (N, 3, Dim.symbol("height"), Dim.symbol("width"))


def test_arithmetic_on_a_symbolic_shape_is_folded() -> None:
    nodes = [
        node("Shape", "x", "s"), node("Slice", "s zero one", "n"), node("Mul", "n two", "m"),
        node("Concat", "m three", "t", axis=0), node("Reshape", "x t"),
    ]  # fmt: skip
    weights = {"zero": i64(0), "one": i64(1), "two": i64(2), "three": i64(3)}
    graph = import_model(model_of(nodes, {"x": (np.float32, ["n", 6])}, ["y"], weights))
    assert graph.types["y"].shape == (N * 2, 3)
    assert [n.op.mnemonic for n in graph.nodes] == ["reshape", "identity"]


def test_a_shape_from_an_input_is_read_and_the_data_is_not() -> None:
    x, shape = f32(2, 6), i64(3, 4)
    model = model_of(
        [
            node("Reshape", "x s"),
        ],
        {"x": x, "s": shape},
    )
    with pytest.raises(UnsupportedError, match="needs the value of the input 's'"):
        import_model(model)
    rep = CompiledRep(model, threads=1, strict=True)
    for wanted in (shape, i64(12, 1)):
        (y,) = rep.run({"x": x, "s": wanted})
        np.testing.assert_array_equal(y, x.reshape(wanted))
    assert rep.read == ("s",)


def test_an_output_folded_from_an_input_s_value_is_refused_when_strict() -> None:
    model = model_of([node("ConstantOfShape", "s")], {"s": i64(2, 3)})
    with pytest.raises(UnsupportedError, match="folded at compile time"):
        compiled(model, {"s": i64(2, 3)})


# ---------------------------------------------------------------- bodies


def test_an_operator_without_a_rule_goes_through_its_function_body() -> None:
    x = f32(3, 4)
    model = model_of(
        [node("SoftmaxCrossEntropyLoss", "x k", reduction="none")],
        {"x": x, "k": i64(0, 3, 1)}, opset=13,
    )  # fmt: skip
    inputs = {"x": x, "k": i64(0, 3, 1)}
    assert_agree(compiled(model, inputs), ReferenceEvaluator(model).run(None, inputs))


def test_a_function_of_the_model_is_expanded_with_its_attributes() -> None:
    inner = helper.make_node("LeakyRelu", ["a"], ["b"])
    inner.attribute.append(
        onnx.AttributeProto(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT)
    )
    opsets = [helper.make_opsetid("", 16)]
    function = helper.make_function("own", "Leaky", ["a"], ["b"], [inner], opsets, ["slope"])
    call = helper.make_node("Leaky", ["x"], ["y"], domain="own", slope=0.25)
    model = model_of([call], {"x": X4}, opset=16)
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("own", 1))
    (y,) = compiled(model, {"x": X4})
    np.testing.assert_allclose(y, np.where(X4 < 0, X4 * np.float32(0.25), X4), rtol=1e-6)


def test_a_loop_of_known_length_is_unrolled() -> None:
    body = helper.make_graph(
        [node("Add", "a x", "b"), node("Identity", "c", "d"), node("Identity", "b", "e")],
        "body",
        [helper.make_empty_tensor_value_info(n) for n in ("i", "c", "a")],
        [helper.make_empty_tensor_value_info(n) for n in ("d", "b", "e")],
    )
    loop = helper.make_node("Loop", ["count", "", "x"], ["y", "z"], body=body)
    x = f32(2, 3)
    weights: dict[str, Any] = {"count": np.int64(3)}
    cond = helper.make_node("Loop", ["count", "true", "x"], ["y", "z"], body=body)
    for n in (loop, cond):
        model = model_of([n], {"x": x}, ["y", "z"], weights | {"true": np.array(True)})
        y, z = compiled(model, {"x": x})
        np.testing.assert_allclose(y, 4 * x, rtol=1e-6)
        np.testing.assert_allclose(z, np.stack([2 * x, 3 * x, 4 * x]), rtol=1e-6)


def test_both_branches_of_an_if_are_computed_where_the_run_decides() -> None:
    def branch(kind: str) -> onnx.GraphProto:
        return helper.make_graph(
            [node(kind, "x", "r")], kind, [], [helper.make_empty_tensor_value_info("r")]
        )

    chosen = helper.make_node(
        "If", ["c"], ["y"], then_branch=branch("Neg"), else_branch=branch("Exp")
    )
    x = f32(3)
    model = model_of([chosen], {"x": x, "c": np.array(True)})
    rep = CompiledRep(model, threads=1, strict=True)
    np.testing.assert_allclose(rep.run({"x": x, "c": np.array(True)})[0].astype(float), -x)
    np.testing.assert_allclose(
        rep.run({"x": x, "c": np.array(False)})[0].astype(float), np.exp(x), rtol=1e-6
    )
    assert rep.read == ()


def test_sequences_of_known_length_are_resolved() -> None:
    x = f32(4, 3)
    nodes = [
        node("SplitToSequence", "x sizes", "s"), node("SequenceAt", "s last", "a"),
        node("SequenceInsert", "s a first", "t"), node("ConcatFromSequence", "t", "y", axis=0),
    ]  # fmt: skip
    weights: dict[str, Any] = {"sizes": i64(1, 3), "last": np.int64(-1), "first": np.int64(0)}
    (y,) = compiled(model_of(nodes, {"x": x}, ["y"], weights), {"x": x})
    np.testing.assert_array_equal(y, np.concatenate([x[1:], x]))


# ---------------------------------------------------------------- files


def test_external_data_is_read_from_the_model_s_folder(tmp_path: Path) -> None:
    w = f32(6, 5)
    model = model_of([node("MatMul", "x w")], {"x": (np.float32, ["n", 6])}, ["y"], {"w": w})
    path = tmp_path / "m.onnx"
    onnx.save(model, path, save_as_external_data=True, location="m.bin", size_threshold=0)
    graph = import_model(path)
    assert graph.name == "m"
    x = f32(2, 6)
    np.testing.assert_allclose(driver.compile(graph, threads=1)(x), x @ w, rtol=1e-5, atol=1e-6)


def test_what_is_exported_comes_back(tmp_path: Path) -> None:
    nodes = [
        node("Conv", "x w b", "c", pads=[1] * 4), node("Relu", "c", "r"),
        node("GlobalAveragePool", "r", "p"), node("Flatten", "p", "f"), node("Softmax", "f"),
    ]  # fmt: skip
    weights = {"w": f32(5, 4, 3, 3), "b": f32(5)}
    first = import_model(model_of(nodes, {"x": (np.float32, ["n", 4, 7, 6])}, ["y"], weights, 17))
    again = import_model(export_graph(first))
    assert again.types["y"] == first.types["y"]
    a, b = (driver.compile(g, threads=1)(X4) for g in (first, again))
    np.testing.assert_array_equal(a, b)


def test_all_problems_are_listed_at_once(tmp_path: Path) -> None:
    nodes = [
        node("StringNormalizer", "s", "t"), node("NonMaxSuppression", "x x", "u"),
        node("Multinomial", "x", "v"), node("Relu", "x"),
    ]  # fmt: skip
    model = model_of(nodes, {"x": (np.float32, [1, 4, 4])})
    model.graph.input.append(helper.make_tensor_value_info("s", onnx.TensorProto.STRING, [2]))
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    problems = problems_of(path)
    assert len(problems) == 3
    assert problems[0] == "input 's': element type string is not supported"
    assert (
        "node 'u' (NonMaxSuppression) at opset 21 on (float32[1, 4, 4], float32[1, 4, 4])"
        in problems[1]
    )
    with pytest.raises(UnsupportedError, match=r"3 problems: .*Multinomial"):
        import_model(path)


def test_initializers_of_16_bits_keep_their_values() -> None:
    w = np.array([1.5, -2.0, 3.25], np.float16)
    model = model_of([node("Add", "x w")], {"x": w}, ["y"], {"w": w})
    np.testing.assert_array_equal(compiled(model, {"x": w})[0], w + w)


def test_a_tensor_that_is_too_short_is_refused() -> None:
    model = model_of([node("Add", "x w")], {"x": f32(3)}, ["y"], {"w": f32(3)})
    model.graph.initializer[0].raw_data = b"1234"
    with pytest.raises(
        InputFileError, match=r"tensor 'w' says \[3\] of float32, 12 bytes, but has 4"
    ):
        import_model(model)
