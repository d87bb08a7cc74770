"""Kernels of short vectors that stand close together are one, where the first may run later."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from convc.graph.interp import run_graph
from convc.graph.ir import Builder
from convc.graph.parser import parse_graph
from convc.lower.groups import MOST_NODES, group_nodes
from convc.lower.joining import join_short
from convc.lower.program import lower
from convc.ops.broadcasting import Add
from convc.program.interp import run_program
from convc.types import Dim, DType, TensorType


def outputs_of(text: str) -> list[tuple[str, ...]]:
    graph = parse_graph(text)
    return [g.outputs for g in join_short(graph, group_nodes(graph))]


STATISTICS = """
graph g(x: float32[N, 8], mean: float32[8], scale: float32[8]) -> (y, m, v, "next/mean", "next/scale") {
  m = reduce_mean(x) {axes=(0,)}
  moved = add(mean, m)
  "next/mean" = mul(moved, m)
  v = reduce_max(x) {axes=(0,)}
  r = sqrt(v)
  s = mul(r, scale)
  y = sub(x, s)
  d = reduce_sum(y) {axes=(0,)}
  "next/scale" = sub(scale, d)
}
"""


def test_vectors_across_a_reduction_are_one_kernel() -> None:
    assert outputs_of(STATISTICS) == [
        ("m",),
        ("v",),
        ("next/mean", "s"),
        ("y",),
        ("next/scale",),
    ]


def test_joined_kernels_compute_the_same() -> None:
    graph = parse_graph(STATISTICS)
    rng = np.random.default_rng(1)
    inputs = {
        "x": rng.random((5, 8), np.float32),
        "mean": rng.random(8, np.float32),
        "scale": rng.random(8, np.float32),
    }
    wanted: dict[str, Any] = dict(run_graph(graph, inputs))
    program = lower({"step": graph}, in_place=True)
    assert len(program.entries[0].steps) < len(graph.nodes)
    found: dict[str, Any] = dict(
        run_program(program, {n: a.copy() for n, a in inputs.items()}, {"N": 5}, "step")
    )
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name.removeprefix("next/")], array, rtol=1e-6)


def test_an_updates_result_is_summed_by_another_kernel() -> None:
    graph = parse_graph(
        """graph g(p: float32[4], rate: float32[]) -> (total, "next/p") {
          "next/p" = mul(p, rate)
          moved = add("next/p", rate)
          total = reduce_sum(moved) {axes=(0,)}
        }"""
    )
    inputs = {"p": np.array([1, 2, 3, 4], np.float32), "rate": np.array(0.5, np.float32)}
    found = run_program(lower({"step": graph}, in_place=True), inputs, {}, "step")
    assert dict(found)["total"] == 7


@pytest.mark.parametrize(
    ("first", "between", "together"),
    [
        ("mul(p, p)", "reduce_sum(x)", True),
        ("mul(p, p)", "reduce_sum(a)", False),  # which reads the first one's result
        ("mul(p, q)", "reduce_sum(x)", False),  # a state that is replaced between
    ],
)
def test_a_kernel_waits_where_nobody_needs_it(first: str, between: str, together: bool) -> None:
    found = outputs_of(
        f"""
        graph g(p: float32[8], q: float32[1], r: float32[1], x: float32[8]) -> (a, b, c, "next/q") {{
          a = {first}
          b = {between} {{axes=(0,)}}
          "next/q" = mul(q, r)
          c = mul(x, x)
        }}
        """
    )
    assert any({"a", "c"} <= set(outputs) for outputs in found) == together


def test_long_vectors_and_symbolic_ones_stay_apart() -> None:
    for shape in ("8192", "N"):
        text = f"graph g(p: float32[{shape}]) -> (a, b) {{ a = mul(p, p) b = exp(p) }}"
        assert len(outputs_of(text)) == 2
    assert len(outputs_of(text.replace("[N]", "[4096]"))) == 1


def test_long_chains_are_several_kernels() -> None:
    """Kernels of a thousand operations would be expressions too deep for Python."""
    builder = Builder("chain")
    x = y = builder.input("x", TensorType(DType.float32, (Dim.symbol("N"),)))
    for _ in range(1000):
        y = builder.add(Add(), y, x)
    graph = builder.finish([y])
    groups = group_nodes(graph)
    assert max(len(g.nodes) for g in groups) == MOST_NODES
    found = run_program(lower({"predict": graph}), {"x": np.ones(3, np.float32)}, {"N": 3})
    np.testing.assert_array_equal(found[y], np.full(3, 1001, np.float32))
