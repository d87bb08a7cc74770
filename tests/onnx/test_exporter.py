"""Exported models mean what their graphs mean, by ONNX' own reference evaluator."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from convc.errors import UnsupportedError, UsageError
from convc.graph.interp import run_graph
from convc.graph.ir import Builder, Graph
from convc.graph.op import Op
from convc.onnx.exporter import export_graph
from convc.ops.conv import Conv2d
from convc.ops.elementwise import Expm1, Identity, Log1p, Neg
from convc.ops.norm import BatchNorm
from convc.ops.pool import AvgPool2d, MaxPool2d
from convc.ops.reduce import ReduceMax
from convc.ops.resize import Resize2dGradient
from convc.ops.shape import Broadcast, Pad, Reshape
from convc.types import Dim, DType, TensorType
from tests.ops.cases import CASES
from tests.ops.cases.case import Case, f32
from tests.ops.cases.convolution import WINOGRAD
from tests.ops.cases.elementwise import INTEGER
from tests.ops.cases.images import WARP
from tests.ops.cases.placing import FORESTS
from tests.ops.cases.windows import RESIZE_GRADIENTS

N = Dim.symbol("N")
NEEDS_OPSET_18 = {"resize2d-nearest-size", "resize2d-bilinear-size"}
NEEDS_OPSET_18 |= {
    "dropout_mask",
    "random_bits",
    "random_bits-numbers",
    "scatter-max",
    "scatter-min",
}
NEEDS_OPSET_18 |= {
    c.name for c in INTEGER if c.name.startswith(("bit_and", "bit_or", "bit_xor", "bit_not"))
}
NEEDS_OPSET_19 = {"avg_pool2d-dilated"}
# Grouped transposed convolutions fail in the evaluator, and its LogSoftmax takes the logarithm of 0.
BEYOND_THE_EVALUATOR = {
    "conv_transpose2d-groups",
    "conv_transpose3d-groups",
    "log_softmax-channels",
    "sparse_softmax_crossentropy-outside",
    "softmax_crossentropy-large",
}
# Our own parts of operators. Trees must be constants of the model: see test_trees_are_written_in_plain_operators.
NOT_IN_ONNX = {c.name for c in (*WARP, *WINOGRAD, *FORESTS, *RESIZE_GRADIENTS)}
NOT_IN_ONNX |= {c.name for c in CASES if c.name.startswith("max_pool2d_whole_gradient")}
# The evaluator's GatherElements wants dimensions of one size.
NOT_EVALUATED = {"gather_elements-part"}
IN_ONNX = [c for c in CASES if c.name not in NOT_IN_ONNX | NOT_EVALUATED]
REFUSED = [c for c in CASES if c.name in NOT_IN_ONNX]


def evaluated(model: onnx.ModelProto, inputs: dict[str, Any]) -> Any:
    outputs: Any = ReferenceEvaluator(model).run(None, inputs)
    return outputs[0]


def run_by_onnxruntime(model: onnx.ModelProto, inputs: dict[str, Any]) -> Any:
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=providers)
    arrays = {name: np.asarray(array) for name, array in inputs.items()}
    return session.run(None, arrays)[0]


def assert_same(found: Any, expected: Any) -> None:
    assert found.shape == expected.shape
    exact = not DType.of(expected.dtype).is_float
    tolerance = 0 if exact else 2e-2 if expected.dtype.itemsize == 2 else 1e-5
    wide: Any = expected.dtype if exact else np.float64
    np.testing.assert_allclose(found.astype(wide), expected.astype(wide), tolerance, tolerance)


def least_opset(case: Case) -> int:
    needs = {18: NEEDS_OPSET_18, 19: NEEDS_OPSET_19}
    return next((opset for opset, names in needs.items() if case.name in names), 17)


@pytest.mark.parametrize("case", IN_ONNX, ids=lambda c: c.name)
@pytest.mark.parametrize("opset", [17, 21])
def test_every_operator_means_the_same_in_onnx(case: Case, opset: int) -> None:
    if opset < least_opset(case):
        with pytest.raises(UnsupportedError, match=f"needs opset {least_opset(case)}"):
            export_graph(case.graph(), opset)
        return
    inputs = {f"x{k}": array for k, array in enumerate(case.arrays())}
    run = run_by_onnxruntime if case.name in BEYOND_THE_EVALUATOR else evaluated
    model = export_graph(case.graph(), opset)
    assert_same(run(model, inputs), run_graph(case.graph(), inputs)["y"])


@pytest.mark.parametrize("case", REFUSED, ids=lambda c: c.name)
def test_what_onnx_has_not_is_refused(case: Case) -> None:
    with pytest.raises(UnsupportedError, match=case.op.mnemonic):
        export_graph(case.graph())


@pytest.mark.parametrize("case", FORESTS, ids=lambda c: c.name)
def test_trees_are_written_in_plain_operators(case: Case) -> None:
    x, *tables = case.arrays()
    builder = Builder("forest")
    names = [builder.input("x0", case.types[0])]
    names += [builder.weight(f"t{k}", np.asarray(t)) for k, t in enumerate(tables)]
    graph = builder.finish((builder.add(case.op, *names, name="y"),))
    expected = run_graph(graph, {"x0": x})["y"]
    assert_same(evaluated(export_graph(graph, 17), {"x0": x}), expected)


@pytest.mark.parametrize("dtype", [DType.int32, DType.int64, DType.uint16])
@pytest.mark.parametrize("groups", [1, 2])
def test_integers_of_any_size_are_convolved(dtype: DType, groups: int) -> None:
    builder = Builder("integers")
    x = builder.input("x", TensorType(dtype, (N, 4, 7, 6)))
    w = builder.input("w", TensorType(dtype, (6, 4 // groups, 3, 2)))
    op = Conv2d(stride=(2, 1), padding=((1, 0), (0, 2)), dilation=(1, 2), groups=groups)
    graph = builder.finish((builder.add(op, x, w, name="y"),))
    rng = np.random.default_rng(0)
    low = 0 if dtype is DType.uint16 else -5000
    arrays = {
        "x": rng.integers(low, 5000, (3, 4, 7, 6)).astype(dtype.numpy),
        "w": rng.integers(low, 5000, (6, 4 // groups, 3, 2)).astype(dtype.numpy),
    }
    assert_same(evaluated(export_graph(graph, 17), arrays), run_graph(graph, arrays)["y"])


def small_network() -> Graph:
    """A convolution, a batch norm and a flattening, on a symbolic batch."""
    rng = np.random.default_rng(0)
    builder = Builder("small")
    image = builder.input("image", f32(N, 3, 6, 6))
    builder.layer = "first"
    kernel = builder.weight("kernel", rng.normal(size=(4, 3, 3, 3)).astype(np.float32))
    y = builder.add(Conv2d(padding=((1, 1), (1, 1))), image, kernel, name="features")
    vectors = [builder.weight(n, rng.uniform(0.5, 2, 4).astype(np.float32))
               for n in ("gamma", "beta", "mean", "variance")]  # fmt: skip
    y = builder.add(BatchNorm(), y, *vectors, name="normal")
    return builder.finish((builder.add(Reshape((N, -1)), y, name="flat"),))


def test_names_symbols_and_layers_are_kept() -> None:
    model = export_graph(small_network())
    graph = model.graph
    assert [n.output[0] for n in graph.node] == ["features", "normal", "flat"]
    assert {n.doc_string for n in graph.node} == {"first"}
    assert {t.name for t in graph.initializer} >= {"kernel", "gamma", "beta", "mean", "variance"}
    dims = graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in dims] == ["N", 3, 6, 6]
    assert (model.opset_import[0].version, model.producer_name) == (17, "convc")


@pytest.mark.parametrize("batch", [1, 3])
def test_a_network_runs_with_any_batch(batch: int) -> None:
    graph = small_network()
    inputs = {"image": np.random.default_rng(1).normal(size=(batch, 3, 6, 6)).astype(np.float32)}
    assert_same(evaluated(export_graph(graph), inputs), run_graph(graph, inputs)["flat"])


def test_an_input_may_be_an_output() -> None:
    builder = Builder("same")
    x = builder.input("x", f32(N, 3))
    y = builder.add(Identity(), x, name="y")
    array = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(
        evaluated(export_graph(builder.finish((y,))), {"x": array}), array
    )


def test_all_problems_are_listed_at_once() -> None:
    builder = Builder("odd")
    x = builder.input("x", f32(N, 3, 8, 10))
    u = builder.input("u", TensorType(DType.uint64, (N,)))
    builder.layer = "find"
    first = builder.add(Resize2dGradient((4, 5), "nearest", (2, 2)), x, name="first")
    builder.layer = "turn"
    turned = builder.add(Neg(), u, name="turned")
    with pytest.raises(UnsupportedError) as caught:
        export_graph(builder.finish((first, turned)))
    message = str(caught.value)
    assert "\n" not in message
    assert "layer 'find', resize2d_gradient" in message
    assert "layer 'turn', neg" in message
    assert "takes no uint64" in message


def test_a_symbolic_extent_can_not_be_made_of_one() -> None:
    case = Case("broadcast-batch", Broadcast((N, 3)), (f32(1, 3),))
    with pytest.raises(UnsupportedError, match="symbolic extent N"):
        export_graph(case.graph())


@pytest.mark.parametrize("opset", [16, 99])
def test_an_opset_outside_the_range_is_refused(opset: int) -> None:
    with pytest.raises(UsageError, match=f"expected a number from 17 to .*, got {opset}"):
        export_graph(small_network(), opset)


@pytest.mark.parametrize("values", [[0.0, 1e-9, -1e-9, 0.3, -1.0, 5e8, np.inf]])
def test_composites_hold_at_the_edges(values: list[float]) -> None:
    x = np.array(values, np.float32)
    for op in (Log1p(), Expm1()):
        graph = Case("edge", op, (f32(len(values)),)).graph()
        with np.errstate(all="ignore"):
            found = evaluated(export_graph(graph), {"x0": x})
            np.testing.assert_allclose(found, op.reference(x), rtol=1e-6)


def padded(pool: Op, shape: tuple[int, ...] = (1, 2, 5, 6), dtype: DType = DType.float32) -> Graph:
    """A pool of an image with zeros around it."""
    builder = Builder("padded")
    x = builder.input("x", TensorType(dtype, shape))
    wide = builder.add(Pad(((0, 0), (0, 0), (2, 0), (1, 2)), "constant", 0.0), x, name="wide")
    return builder.finish((builder.add(pool, wide, name="y"),))


MAX, INCLUDED = MaxPool2d((2, 3), (1, 2)), AvgPool2d((2, 3), (1, 1), count_include_pad=True)
AFTER_PADS: dict[str, tuple[Op, DType]] = {
    "max": (MAX, DType.float32),
    "max-double": (MAX, DType.float64),
    "max-int8": (MAX, DType.int8),
    "max-uint8": (MAX, DType.uint8),
    "max-padded": (MaxPool2d((2, 2), (1, 1), ((1, 1), (0, 1))), DType.float32),
    "max-padded-int8": (MaxPool2d((2, 2), (1, 1), ((1, 1), (0, 1))), DType.int8),
    "mean": (INCLUDED, DType.float32),
    "mean-padded": (replace(INCLUDED, padding=((1, 1), (0, 2))), DType.float32),
}


@pytest.mark.parametrize("name", AFTER_PADS)
@pytest.mark.parametrize("opset", [17, 18, 21])
def test_a_pad_before_a_pool_keeps_its_zeros(name: str, opset: int) -> None:
    """ONNX Runtime moves a Pad into a pool's pads, which take no part in maxima and may not be as wide as a window."""
    pool, dtype = AFTER_PADS[name]
    graph = padded(pool, dtype=dtype)
    low = 0 if dtype is DType.uint8 else -100
    x = np.random.default_rng(4).integers(low, -1 if low else 100, (1, 2, 5, 6)).astype(dtype.numpy)
    model = export_graph(graph, opset)
    assert_same(run_by_onnxruntime(model, {"x": x}), run_graph(graph, {"x": x})["y"])


def test_a_mean_without_its_pads_after_a_pad_needs_opset_18() -> None:
    pool = AvgPool2d((2, 2), (1, 1), ((1, 1), (1, 1)), count_include_pad=False)
    with pytest.raises(UnsupportedError, match="needs opset 18"):
        export_graph(padded(pool), 17)
    graph = padded(pool)
    x = np.random.default_rng(4).standard_normal((1, 2, 5, 6)).astype(np.float32)
    assert_same(
        run_by_onnxruntime(export_graph(graph, 18), {"x": x}), run_graph(graph, {"x": x})["y"]
    )


def test_an_output_that_goes_on_unchanged_keeps_its_name() -> None:
    """A rule that makes nothing (a dropout, a pad of nothing) gives the value before it, which keeps its own name."""
    builder = Builder("kept")
    x = builder.input("x", f32(2, 3))
    first = builder.add(Neg(), x, name="first")
    second = builder.add(Pad(((0, 0), (0, 0)), "reflect"), first, name="second")
    model = export_graph(builder.finish((first, second)))
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    found = ReferenceEvaluator(model).run(["first", "second"], {"x": array})
    np.testing.assert_array_equal(found, [-array, -array])


def test_images_of_doubles_are_reduced_in_the_words_that_runtimes_have_for_them() -> None:
    """ONNX Runtime has its global pools in float32 alone."""
    for dtype, kind in ((DType.float64, "ReduceMax"), (DType.float32, "GlobalMaxPool")):
        case = Case("image", ReduceMax((2, 3), True), (TensorType(dtype, (1, 2, 3, 4)),))
        assert [n.op_type for n in export_graph(case.graph()).graph.node] == [kind]
