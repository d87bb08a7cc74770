"""Each rule of the simplifying passes applies where it holds and not elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from convc.graph.parser import parse_graph
from convc.passes.eliminate_common_subexpressions import EliminateCommonSubexpressions
from convc.passes.fold_constants import FoldConstants
from convc.passes.fold_padding import FoldPadding
from convc.passes.simplify_algebra import SimplifyAlgebra
from convc.passes.simplify_shapes import SimplifyShapes
from tests.passes.rewriting import nodes, operators, rewritten

ZERO, ONE = "weight c: float32[1] = [0.0]", "weight c: float32[1] = [1.0]"


def graph(body: str, type: str = "float32[N, 2, 3, 3]") -> str:
    return f"graph g(x: {type}) -> (y) {{ {body} }}"


@pytest.mark.parametrize(
    "step",
    [
        f"{ZERO} b = add(a, c)", f"{ZERO} b = add(c, a)", f"{ZERO} b = sub(a, c)", f"{ONE} b = mul(c, a)",
        f"{ONE} b = div(a, c)", f"{ONE} b = pow(a, c)", "b = cast(a) {dtype=float32}", "b = identity(a)",
        "n = neg(a) b = neg(n)", "b = dropout(a)",
    ],
)  # fmt: skip
def test_steps_that_do_nothing_go(step: str) -> None:
    after = rewritten(SimplifyAlgebra(), graph(f"a = exp(x) {step} y = tanh(b)"))
    assert operators(after) == ["exp", "tanh"]


@pytest.mark.parametrize(
    "step",
    [
        f"{ZERO} y = sub(c, x)", f"{ZERO} y = mul(c, x)", f"{ONE} y = div(c, x)", f"{ONE} y = add(c, x)",
        "y = cast(x) {dtype=float16}", "weight c: float32[2, 1, 2, 1, 1] = [0.0, 0.0, 0.0, 0.0] y = add(x, c)",
        "weight c: float32[1] = [3.0] y = div(x, c)",
    ],
)  # fmt: skip
def test_steps_that_do_something_stay(step: str) -> None:
    after = rewritten(SimplifyAlgebra(), graph(step))
    assert [n.split(" = ")[1] for n in nodes(after)] == [step.split("y = ")[1]]


@pytest.mark.parametrize(
    ("first", "second", "merged"),
    [
        ("relu(x)", "relu(a)", "relu(x)"),
        ("relu(x)", "clip(a) {max=6.0}", "clip(x) {min=0.0, max=6.0}"),
        ("clip(x) {min=-1.0, max=1.0}", "relu(a)", "clip(x) {min=0.0, max=1.0}"),
        ("clip(x) {min=2.0, max=5.0}", "clip(a) {min=0.0, max=1.0}", "clip(x) {min=1.0, max=1.0}"),
        ("clip(x) {min=-1.0}", "clip(a) {min=0.0}", "relu(x)"),
    ],
)
def test_limits_merge(first: str, second: str, merged: str) -> None:
    after = rewritten(SimplifyAlgebra(), graph(f"a = {first} y = {second}"))
    assert nodes(after) == [f"y = {merged}"]


def test_quotients_by_numbers_without_an_exact_reciprocal_stay() -> None:
    tiny = float(np.float32(2.0**-127))
    for numbers in ("3.0, 2.0", f"{tiny!r}, 1.0", "0.0, 1.0", "inf, 1.0"):
        text = graph(f"weight c: float32[2] = [{numbers}] y = div(x, c)", "float32[N, 2]")
        assert operators(SimplifyAlgebra()(rewritten(SimplifyShapes(), text))) == ["div"]


@pytest.mark.parametrize(
    "body",
    [
        "y = pad(x) {pads=((0, 0), (0, 0), (1, 0), (0, 0)), value=1.0}",
        "y = slice(x) {starts=(none, none, none, none), ends=(none, none, none, none), steps=(-1, 1, 1, 1)}",
        "y = transpose(x) {perm=(0, 1, 3, 2)}",
        "y = concat(x, x)",
    ],
)
def test_movements_that_move_stay(body: str) -> None:
    assert len(rewritten(SimplifyShapes(), graph(body)).nodes) == 1


def test_pads_of_one_value_merge_and_others_do_not() -> None:
    pad = "pad({}) {{pads=((0, 0), (0, 0), (1, 0), (0, 0)), value={}}}"
    same = rewritten(
        SimplifyShapes(), graph(f"a = {pad.format('x', 1.0)} y = {pad.format('a', 1.0)}")
    )
    assert nodes(same) == ["y = pad(x) {pads=((0, 0), (0, 0), (2, 0), (0, 0)), value=1.0}"]
    other = rewritten(
        SimplifyShapes(), graph(f"a = {pad.format('x', 1.0)} y = {pad.format('a', 2.0)}")
    )
    assert len(other.nodes) == 2


def test_reduction_reshaped_to_keep_its_axes_keeps_them() -> None:
    body = "a = reduce_mean(x) {axes=(2, 3)} y = reshape(a) {shape=(N, 2, 1, 1)}"
    assert nodes(rewritten(SimplifyShapes(), graph(body))) == [
        "y = reduce_mean(x) {axes=(2, 3), keepdims=true}"
    ]


PAD = "pad({}) {{pads=((0, 0), (0, 0), (1, 1), (1, 0))}}"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (f"a = {PAD.format('x')} y = max_pool2d(a)", ["pad", "max_pool2d"]),
        (f"r = relu(x) a = {PAD.format('r')} y = max_pool2d(a)", ["relu", "max_pool2d"]),
        (
            f"r = relu(x) a = {PAD.format('r')} y = max_pool2d(a) {{kernel=(1, 1)}}",
            ["relu", "pad", "max_pool2d"],
        ),
        (f"a = {PAD.format('x')} y = avg_pool2d(a)", ["avg_pool2d"]),
        (
            f"a = {PAD.format('x')} y = avg_pool2d(a) {{padding=((0, 1), (0, 0))}}",
            ["pad", "avg_pool2d"],
        ),
        (
            "a = pad(x) {pads=((0, 0), (1, 0), (1, 1), (0, 0))} y = avg_pool2d(a)",
            ["pad", "avg_pool2d"],
        ),
        (
            "a = pad(x) {pads=((0, 0), (0, 0), (1, 1), (1, 1)), value=2.0} y = avg_pool2d(a)",
            ["pad", "avg_pool2d"],
        ),
        (
            'a = pad(x) {pads=((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge"} y = avg_pool2d(a)',
            ["pad", "avg_pool2d"],
        ),
    ],
)
def test_pads_go_into_windows_that_see_zeros_alike(body: str, expected: list[str]) -> None:
    assert operators(rewritten(FoldPadding(), graph(body))) == expected


def test_broadcasts_of_small_constants_stay_computed() -> None:
    body = "weight c: float32[1] = [2.0] b = broadcast(c) {shape=(65536,)} y = mul(x, b)"
    assert operators(rewritten(FoldConstants(), graph(body, "float32[N, 65536]"))) == [
        "broadcast",
        "mul",
    ]


def test_constants_are_computed_in_the_type_that_they_have() -> None:
    body = "weight c: float32[2] = [0.1, 3.0] a = exp(c) b = cast(a) {dtype=float16} y = mul(x, b)"
    after = FoldConstants()(parse_graph(graph(body, "float16[N, 2]")))
    expected = np.exp(np.array([0.1, 3.0], np.float32).astype(np.float64)).astype(np.float32)
    np.testing.assert_array_equal(
        np.asarray(after.weights["b"], np.float64), expected.astype(np.float16).astype(np.float64)
    )


def test_attributes_that_only_compare_equal_keep_nodes_apart() -> None:
    pad = "pad(x) {{pads=((1, 0),), value={}}}"
    body = f"a = {pad.format('0.0')} b = {pad.format('-0.0')} y = sub(a, b)"
    after = rewritten(EliminateCommonSubexpressions(), graph(body, "float32[3]"))
    assert operators(after) == ["pad", "pad", "sub"]


def test_operands_of_a_difference_keep_their_order() -> None:
    body = "p = exp(x) a = sub(x, p) b = sub(p, x) y = mul(a, b)"
    after = rewritten(EliminateCommonSubexpressions(), graph(body))
    assert operators(after) == ["exp", "sub", "sub", "mul"]
