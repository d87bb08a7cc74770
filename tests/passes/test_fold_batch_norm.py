"""Scales and shifts go into weights exactly where that keeps the function."""

from __future__ import annotations

import numpy as np
import pytest

from convc.graph.parser import parse_graph
from convc.passes.fold_batch_norm import FoldBatchNorm
from tests.passes.rewriting import nodes, operators, rewritten

STATISTICS = """
  weight gamma: float32[2] = [2.0, -1.5]
  weight beta: float32[2] = [0.5, 1.0]
  weight mean: float32[2] = [1.0, 3.0]
  weight variance: float32[2] = [3.0, 0.25]
"""
W = "weight w: float32[2, 2, 1, 1] = [1.0, 2.0, 3.0, 4.0]"
W3 = "weight w: float32[2, 1, 1, 3] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]"
BN = "batch_norm({}, gamma, beta, mean, variance) {{axis={}}}"


def folded(body: str, outputs: str = "y", shape: str = "N, 2, 3, 4") -> list[str]:
    text = f"graph g(x: float32[{shape}]) -> ({outputs}) {{ {STATISTICS} {body} }}"
    return operators(rewritten(FoldBatchNorm(), text))


@pytest.mark.parametrize(
    "linear",
    [
        f"{W} c = conv2d(x, w)",
        f"{W3} c = conv2d(x, w) {{padding=((0, 0), (1, 1)), groups=2}}",
        f"{W} c = conv_transpose2d(x, w) {{stride=(2, 2)}}",
        f"{W3} c = conv_transpose2d(x, w) {{groups=2}}",
    ],
)
def test_batch_norm_goes_into_the_convolution_before_it(linear: str) -> None:
    found = folded(f"{linear} y = {BN.format('c', 1)}")
    assert found == [linear.split("=")[2].split("(")[0].strip(), "add"]


def test_batch_norm_goes_into_the_product_before_it() -> None:
    text = f"""graph g(x: float32[N, 3]) -> (y) {{ {STATISTICS}
      weight w: float32[3, 2] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
      weight b: float32[2] = [0.5, -0.5]
      c = mat_mul(x, w) d = add(c, b) y = {BN.format("d", 1)} }}"""
    after = rewritten(FoldBatchNorm(), text)
    assert operators(after) == ["mat_mul", "add"]
    assert after.types[after.nodes[1].inputs[1]].shape == (2,)


def test_bias_batch_norm_and_scale_become_one_bias() -> None:
    body = f"""{W} weight b: float32[2, 1, 1] = [1.0, -1.0] weight s: float32[1] = [0.5]
      c = conv2d(x, w) d = add(b, c) e = {BN.format("d", 1)} y = mul(e, s)"""
    assert folded(body) == ["conv2d", "add"]


@pytest.mark.parametrize("op", ["sub(b, c)", "sub(c, b)", "div(c, b)", "mul(b, c)", "add(c, b)"])
def test_arithmetic_with_constants_goes_into_the_convolution(op: str) -> None:
    body = f"{W} weight b: float32[2, 1, 1] = [1.5, -1.0] c = conv2d(x, w) y = {op}"
    assert folded(body) == ["conv2d", *(["add"] if op[:3] in ("sub", "add") else [])]


def test_a_quotient_by_the_convolution_stays() -> None:
    body = f"{W} weight b: float32[2, 1, 1] = [1.5, -1.0] c = conv2d(x, w) y = div(b, c)"
    assert folded(body) == ["conv2d", "div"]


def test_a_convolution_that_something_else_reads_keeps_its_weights() -> None:
    body = f"{W} c = conv2d(x, w) d = {BN.format('c', 1)} y = add(c, d)"
    assert folded(body) == ["conv2d", "mul", "add", "add"]
    body = f"{W} c = conv2d(x, w) y = {BN.format('c', 1)}"
    assert folded(body, "y, c") == ["conv2d", "mul", "add"]


@pytest.mark.parametrize("between", ["relu(c)", "max_pool2d(c) {kernel=(2, 2)}"])
def test_negative_scales_stay_behind_what_they_do_not_commute_with(between: str) -> None:
    body = f"{W} c = conv2d(x, w) d = {between} y = {BN.format('d', 1)}"
    assert folded(body) == ["conv2d", between.split("(")[0], "mul", "add"]


def test_batch_norm_before_a_convolution_without_padding_goes_into_it() -> None:
    body = f"{W} a = relu(x) b = {BN.format('a', 1)} y = conv2d(b, w)"
    assert folded(body) == ["relu", "conv2d", "add"]


def test_shift_before_padding_stays() -> None:
    body = f"{W} b = {BN.format('x', 1)} y = conv2d(b, w) {{padding=((1, 1), (1, 1))}}"
    assert folded(body) == ["mul", "add", "conv2d"]
    body = f"{W} weight s: float32[2, 1, 1] = [2.0, 3.0] b = mul(x, s) y = conv2d(b, w) {{padding=((1, 1), (1, 1))}}"
    assert folded(body) == ["conv2d"]


def test_grouped_convolution_takes_scale_and_shift_of_its_own_channels() -> None:
    assert folded(f"{W3} b = {BN.format('x', 1)} y = conv2d(b, w) {{groups=2}}") == [
        "conv2d",
        "add",
    ]


def test_transposed_convolution_takes_a_scale_but_no_shift_from_before() -> None:
    assert folded(f"{W} b = {BN.format('x', 1)} y = conv_transpose2d(b, w)") == [
        "mul",
        "add",
        "conv_transpose2d",
    ]
    body = f"{W} weight s: float32[2, 1, 1] = [2.0, 3.0] b = mul(x, s) y = conv_transpose2d(b, w)"
    assert folded(body) == ["conv_transpose2d"]


def test_convolution_between_two_batch_norms() -> None:
    body = f"{W} b = {BN.format('x', 1)} c = conv2d(b, w) y = {BN.format('c', 1)}"
    assert folded(body) == ["conv2d", "add"]


def test_constants_along_other_axes_stay() -> None:
    body = f"{W} weight s: float32[4] = [1.0, 2.0, 3.0, 4.0] c = conv2d(x, w) y = mul(c, s)"
    assert folded(body) == ["conv2d", "mul"]
    body = "weight s: float32[4] = [1.0, 2.0, 3.0, 4.0] weight t: float32[3, 1] = [1.0, 2.0, 3.0]"
    assert folded(f"{body} c = mul(x, s) y = mul(c, t)") == ["mul", "mul"]


def test_constants_that_enlarge_their_operand_stay() -> None:
    weights = "weight s: float32[2, 1, 1] = [1.0, 2.0] weight w: float32[1, 1, 1, 1] = [3.0]"
    body = f"{weights} c = conv2d(x, w) y = mul(c, s)"
    assert folded(body, shape="N, 1, 3, 4") == ["conv2d", "mul"]


def test_statistics_that_are_computed_are_left_to_the_decomposition() -> None:
    text = f"""graph g(x: float32[N, 2], m: float32[2]) -> (y) {{ {STATISTICS}
      y = batch_norm(x, gamma, beta, m, variance) {{axis=1}} }}"""
    assert operators(rewritten(FoldBatchNorm(), text)) == ["batch_norm"]


def test_integers_are_left_alone() -> None:
    text = "graph g(x: int32[N, 2]) -> (y) { weight s: int32[1] = [3] a = mul(x, s) y = add(a, s) }"
    assert nodes(rewritten(FoldBatchNorm(), text)) == ["a = mul(x, s)", "y = add(a, s)"]


def test_folded_weights_are_the_rounded_product() -> None:
    text = f"graph g(x: float32[N, 2, 3, 4]) -> (y) {{ {STATISTICS} {W} c = conv2d(x, w) y = {BN.format('c', 1)} }}"
    after = rewritten(FoldBatchNorm(), text)
    scale = np.array([2.0, -1.5]) / np.sqrt(np.array([3.0, 0.25]) + 1e-3)
    expected = np.array([[1.0, 2.0], [3.0, 4.0]]) * scale[:, None]
    found = after.weights[after.nodes[0].inputs[1]]
    np.testing.assert_allclose(found.reshape(2, 2).astype(np.float64), expected, rtol=2e-7)
    assert found.dtype == np.float32


def test_factors_of_16_bit_weights_are_not_rounded_first() -> None:
    body = "weight w: bfloat16[1, 1] = [1.015625] weight a: bfloat16[1] = [3.0] m = mat_mul(x, w) y = div(m, a)"
    after = FoldBatchNorm()(parse_graph(f"graph g(x: bfloat16[N, 1]) -> (y) {{ {body} }}"))
    assert operators(after) == ["mat_mul"]
    assert float(after.weights[after.nodes[0].inputs[1]][0, 0]) == 0.337890625
