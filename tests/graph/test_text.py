"""Graph text: what prints, and that it reads back."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convc import ops  # noqa: F401  (registers the operators)
from convc.errors import IRError
from convc.graph.ir import Builder
from convc.graph.parser import parse_graph, parse_literal
from convc.graph.printer import print_graph, print_literal
from convc.ops.activations import LeakyRelu, Relu
from convc.ops.broadcasting import Add, Mul
from convc.ops.conv import Conv2d
from convc.ops.elementwise import Cast, Clip
from convc.ops.shape import Reshape
from convc.types import Dim, DType, TensorType

N = Dim.symbol("N")
TEXT = """\
graph main(x: float32[N, 2, 6, 6]) -> (relu, "out/1") {
  weight w: float32[3, 2, 3, 3]
  weight scale: float32[3, 1, 1] = [0.1, -2.5, 1e-10]
  weight one: int32[] = [1]
  conv2d = conv2d(x, w) {padding=((1, 1), (0, 0)), groups=1} from "conv/1"  # float32[N, 3, 6, 4]
  mul = mul(conv2d, scale)  # float32[N, 3, 6, 4]
  relu = relu(mul)  # float32[N, 3, 6, 4]
  "out/1" = reshape(relu) {shape=(N, 72)}  # float32[N, 72]
}
"""


def example(groups: bool) -> str:
    return (
        TEXT
        if groups
        else TEXT.replace(", groups=1", "").replace("  weight one: int32[] = [1]\n", "")
    )


def test_graph_prints_as_the_grammar_says() -> None:
    b = Builder("main")
    x = b.input("x", TensorType(DType.float32, (N, 2, 6, 6)))
    w = b.weight("w", np.ones((3, 2, 3, 3), np.float32))
    scale = b.weight("scale", np.array([0.1, -2.5, 1e-10], np.float32).reshape(3, 1, 1))
    b.layer = "conv/1"
    y = b.add(Conv2d(padding=((1, 1), (0, 0))), x, w)
    b.layer = ""
    y = b.add(Relu(), b.add(Mul(), y, scale))
    z = b.add(Reshape((N, 72)), y, name="out/1")
    assert print_graph(b.finish([y, z])) == example(groups=False)


def test_text_reads_back_with_given_and_inline_weights() -> None:
    w = np.arange(54, dtype=np.float32).reshape(3, 2, 3, 3)
    graph = parse_graph(example(groups=True), {"w": w})
    assert graph.weights["w"] is w
    assert graph.weights["scale"].shape == (3, 1, 1)
    assert (
        graph.weights["scale"].reshape(-1).tolist()
        == np.array([0.1, -2.5, 1e-10], np.float32).tolist()
    )
    assert graph.weights["one"].dtype == np.int32
    assert graph.nodes[0].layer == "conv/1"
    assert graph.nodes[0].op == Conv2d(padding=((1, 1), (0, 0)))
    assert graph.outputs == ("relu", "out/1")
    assert graph.types["out/1"] == TensorType(DType.float32, (N, 72))
    assert parse_graph(print_graph(graph), graph.weights) == graph


def test_unused_weights_survive_the_round_trip() -> None:
    text = "graph g(x: float32[2]) -> (x) { weight w: bool[2] = [true, false] }"
    graph = parse_graph(text)
    assert graph.weights["w"].tolist() == [True, False]
    assert parse_graph(print_graph(graph)) == graph


def test_a_value_may_be_called_weight() -> None:
    graph = parse_graph('graph g(weight: float32[2]) -> ("weight 2") { "weight 2" = relu(weight) }')
    assert parse_graph(print_graph(graph)) == graph
    named = parse_graph("graph g(x: float32[2]) -> (weight) { weight = relu(x) }")
    assert named.nodes[0].outputs == ("weight",)


@pytest.mark.parametrize("dtype", list(DType), ids=lambda d: d.value)
def test_inline_weights_keep_every_bit(dtype: DType) -> None:
    if dtype.is_float:
        rng = np.random.default_rng(0)
        special = [math.inf, -math.inf, 0.0, -0.0, 1 / 3, 1e-7]
        array = np.array([*special, *rng.normal(size=10)]).astype(dtype.numpy)
    elif dtype is DType.bool:
        array = np.array([True, False])
    else:
        limits = np.iinfo(dtype.numpy)
        array = np.array([limits.min, limits.max, 0, 7], dtype.numpy)
    b = Builder("g")
    w = b.weight("w", array)
    graph = b.finish([w])
    parsed = parse_graph(print_graph(graph))
    assert parsed.weights["w"].dtype == array.dtype
    assert parsed.weights["w"].tobytes() == array.tobytes()


def test_nan_weight_reads_back_as_nan() -> None:
    graph = parse_graph("graph g() -> (w) { weight w: float32[2] = [nan, 1.0] }")
    assert np.isnan(graph.weights["w"]).tolist() == [True, False]
    assert "[nan, 1.0]" in print_graph(graph)


def test_weights_of_more_than_16_elements_are_not_printed() -> None:
    b = Builder("g")
    names = [b.weight("a", np.zeros(16, np.int8)), b.weight("b", np.zeros(17, np.int8))]
    text = print_graph(b.finish(names))
    assert "a: int8[16] = [0, " in text
    assert "b: int8[17]\n" in text


def test_attributes_of_every_kind_read_back() -> None:
    b = Builder("g")
    x = b.input("x", TensorType(DType.float32, (N, 2 * N + 3)))
    for op in (
        LeakyRelu(1e-5),
        LeakyRelu(math.inf),
        Clip(-math.inf, None),
        Clip(None, 2),
        Cast(DType.bfloat16),
        Reshape((2 * N * N + 3 * N,)),
        Reshape((-1, N)),
    ):
        b.add(op, x)
    graph = b.finish([x])
    assert parse_graph(print_graph(graph)) == graph


literals = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.sampled_from(list(DType))
    | st.text() | st.builds(lambda a, b: a * N * N + b, st.integers(1, 9), st.integers(-9, 9)),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
)  # fmt: skip


@given(literals)
def test_every_literal_reads_back(value: object) -> None:
    found = parse_literal(print_literal(value))
    assert found == value
    assert repr(found) == repr(value)  # True is not 1


ERRORS = [
    ("grph g() -> () {}", "line 1, column 1: expected 'graph', got 'grph'"),
    ("graph g(x: float31[2]) -> (x) {}", "line 1, column 12: expected a dtype, got 'float31'"),
    ("graph g(x: float32[2]) -> (y) {}", "output 'y' is not defined"),
    ("graph g(x: float32[2], x: float32[2]) -> (x) {}", "value 'x' is defined twice"),
    ("graph g(x: float32[2]) -> (x) { y = relv(x) }", "column 37: unknown operator 'relv'"),
    ("graph g(x: float32[2]) -> (x) { y = relu(z) }", "undefined value 'z'"),
    ("graph g(x: float32[2]) -> (x) { y = relu(x, x) }", "positional arguments"),
    ("graph g(x: float32[2]) -> (x) { y, z = relu(x) }", "zip()"),
    (
        "graph g(x: float32[2]) -> (x) { y = exp(x) {base=2} }",
        "exp has no 'base', its attributes: none",
    ),
    ("graph g(x: int8[2]) -> (x) { y = exp(x) }", "exp: x expects a float dtype, got int8"),
    (
        "graph g() -> (w) { weight w: float32[2] }",
        "weight 'w' has neither values here nor an array",
    ),
    ("graph g() -> (w) { weight w: float32[2] = [1.0] }", "float32[2] expects 2 values, got 1"),
    ("graph g() -> (w) { weight w: int8[1] = [1.5] }", "expected int8 values, got 1.5"),
    ("graph g() -> () {} graph", "expected the end, got 'graph'"),
]


@pytest.mark.parametrize(("text", "message"), ERRORS, ids=[m for _, m in ERRORS])
def test_broken_text_is_an_error_with_its_place(text: str, message: str) -> None:
    with pytest.raises(IRError, match=re.escape(message)):
        parse_graph(text)


def test_a_weight_of_another_type_is_refused() -> None:
    with pytest.raises(IRError, match=re.escape("'w' expects float32[2], the array is float64[2]")):
        parse_graph("graph g() -> (w) { weight w: float32[2] }", {"w": np.zeros(2)})


def test_wide_values_of_an_attribute_do_not_hide_behind_defaults() -> None:
    b = Builder("g")
    x = b.input("x", TensorType(DType.float32, (2,)))
    text = print_graph(
        b.finish([b.add(Add(), b.add(LeakyRelu(0.01), x), b.add(LeakyRelu(0.02), x))])
    )
    assert "leaky_relu(x)  #" in text
    assert "leaky_relu(x) {alpha=0.02}" in text
