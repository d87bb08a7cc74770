"""Transposes move down past what doesn't mind them, and meet or stop where something does."""

from __future__ import annotations

import pytest

from convc.passes.hoist_transposes import HoistTransposes
from convc.passes.sink_transposes import SinkTransposes
from tests.passes.rewriting import nodes, operators, rewritten

FIRST, LAST = "{perm=(0, 3, 1, 2)}", "{perm=(0, 2, 3, 1)}"


def sunk(body: str, inputs: str = "x: float32[N, 4, 2, 3]", outputs: str = "y") -> list[str]:
    return nodes(rewritten(SinkTransposes(), f"graph g({inputs}) -> ({outputs}) {{ {body} }}"))


@pytest.mark.parametrize(
    ("step", "moved"),
    [
        ("b = softmax(a)", "softmax(x) {axis=1}"),
        ("b = concat(a, a)", "concat(x, x) {axis=1}"),
        ("b = pad(a) {pads=((0, 0), (1, 0), (2, 0), (0, 3))}", "pad(x) {pads=((0, 0), (0, 3), (1, 0), (2, 0))}"),
        ("b = reduce_max(a) {axes=(1, 2), keepdims=true}", "reduce_max(x) {axes=(2, 3), keepdims=true}"),
        ("b = cast(a) {dtype=int32}", "cast(x) {dtype=int32}"),
        ("weight c: float32[] = [2.0] b = mul(c, a)", "mul(c, x)"),
        ("weight c: float32[1, 4] = [1.0, 2.0, 3.0, 4.0] b = where(t, a, c)", None),
    ],
)  # fmt: skip
def test_operators_follow(step: str, moved: str | None) -> None:
    inputs = "x: float32[N, 4, 2, 3], t: bool[1, 1, 1, 1]"
    body = f"a = transpose(x) {LAST} {step} y = transpose(b) {FIRST}"
    found = sunk(body, inputs)
    assert found[-1] == f"y = {moved}" if moved else "where" in found[-1]
    assert not any("transpose" in node for node in found)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("reduce_mean(a) {axes=(1, 2)}", ["y = reduce_mean(x) {axes=(2, 3)}"]),
        ("arg_max(a)", ["y = arg_max(x) {axis=1}"]),
        ("reduce_sum(a) {axes=(0,)}", ["y_1 = reduce_sum(x) {axes=(0,)}", "y = transpose(y_1) {perm=(1, 2, 0)}"]),
    ],
)  # fmt: skip
def test_reductions_that_drop_axes_absorb_the_order(step: str, expected: list[str]) -> None:
    assert sunk(f"a = transpose(x) {LAST} y = {step}") == expected


def test_batch_norm_follows_with_its_statistics() -> None:
    c = "float32[4] = [1.0, 2.0, 3.0, 4.0]"
    body = f"weight c: {c} a = transpose(x) {LAST} b = batch_norm(a, c, c, c, c) {{axis=3}} y = transpose(b) {FIRST}"
    assert sunk(body) == ["y = batch_norm(x, c, c, c, c)"]


def test_residuals_from_an_input_use_its_transpose() -> None:
    body = f"""weight w: float32[4, 4, 1, 1] = [{", ".join(["1.0"] * 16)}]
      a = transpose(x) {FIRST} b = conv2d(a, w) c = transpose(b) {LAST} d = add(x, c) y = relu(d)"""
    assert sunk(body, "x: float32[N, 2, 3, 4]") == [
        f"a = transpose(x) {FIRST}",
        "b = conv2d(a, w)",
        "d = add(a, b)",
        "y_1 = relu(d)",
        f"y = transpose(y_1) {LAST}",
    ]


def test_squeeze_and_excitation_needs_reshapes_only() -> None:
    body = f"""a = transpose(x) {LAST} m = reduce_mean(a) {{axes=(1, 2)}} r = reshape(m) {{shape=(N, 1, 1, 4)}}
      s = sigmoid(r) p = mul(a, s) y = transpose(p) {FIRST}"""
    found = sunk(body)
    assert not any("transpose" in node for node in found)
    assert found[-1].startswith("y = mul(x, ")


def test_a_reshape_of_a_transposed_value_stops_it() -> None:
    body = f"a = transpose(x) {LAST} b = relu(a) y = reshape(b) {{shape=(N, 24)}}"
    assert sunk(body) == [
        "b = relu(x)",
        f"b_1 = transpose(b) {LAST}",
        "y = reshape(b_1) {shape=(N, 24)}",
    ]


def test_readers_in_the_other_order_share_one_transpose() -> None:
    body = f"""a = transpose(x) {LAST} b = relu(a) c = reshape(b) {{shape=(N, 24)}}
      d = reshape(b) {{shape=(N, 6, 4)}} y = neg(c) z = neg(d)"""
    assert sum("transpose" in node for node in sunk(body, outputs="y, z")) == 1


def test_a_graph_is_not_made_worse() -> None:
    body = f"""a = transpose(x) {LAST} b = relu(a) c = neg(a)
      y = reshape(b) {{shape=(N, 24)}} z = reshape(c) {{shape=(N, 24)}}"""
    assert sum("transpose" in node for node in sunk(body, outputs="y, z")) == 1


def test_operands_of_lower_rank_that_vary_stop_the_transpose() -> None:
    body = f"a = transpose(x) {LAST} b = mul(a, v) y = transpose(b) {FIRST}"
    assert operators_of(body, "x: float32[N, 4, 2, 3], v: float32[4]") == [
        "transpose",
        "mul",
        "transpose",
    ]


def operators_of(body: str, inputs: str) -> list[str]:
    return operators(rewritten(SinkTransposes(), f"graph g({inputs}) -> (y) {{ {body} }}"))


def test_hoisting_stops_where_something_else_reads() -> None:
    text = f"""graph g(x: float32[N, 2, 3, 4]) -> (y, z) {{
      a = relu(x) b = neg(a) y = transpose(b) {FIRST} z = exp(a) }}"""
    assert operators(rewritten(HoistTransposes(), text)) == ["relu", "neg", "transpose", "exp"]


def test_hoisting_leaves_cuts_before_the_transpose() -> None:
    text = f"""graph g(x: float32[N, 2, 3, 4]) -> (y) {{
      a = slice(x) {{starts=(0, 0, 0, 0), ends=(none, 1, none, none), steps=(1, 1, 1, 1)}}
      y = transpose(a) {FIRST} }}"""
    assert operators(rewritten(HoistTransposes(), text)) == ["slice", "transpose"]
