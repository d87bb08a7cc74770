"""The order of a step's calls: less memory alive, the same bits, and nothing passes what it depends on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convc.graph.ir import Graph
from convc.graph.parser import parse_graph
from convc.lower.program import lower
from convc.passes.pipelines import PIPELINES
from convc.plan.in_place import reuse_in_place
from convc.plan.memory import lower_bound, plan_memory
from convc.plan.recompute import recompute
from convc.plan.reorder import Uses, shorten_lifetimes
from convc.program.interp import run_program
from convc.program.ir import Program
from convc.program.verify import verify_program
from convc.schedule.program import schedule
from convc.target import TARGETS
from convc.types import evaluate
from tests.passes.random_graphs import RandomGraph

TARGET = TARGETS["x86-64-avx2"]

WIDE_FIRST = """
graph g(x: float32[N, 64]) -> (y) {
  weight v: float32[64, 2048]
  weight w: float32[64, 2048]
  a = mat_mul(x, v)
  b = mat_mul(x, w)
  p = reduce_sum(a) {axes=(1,), keepdims=true}
  q = reduce_sum(b) {axes=(1,), keepdims=true}
  y = add(p, q)
}
"""
"""Both wide values live at once, as it is written."""

TWO_READERS = """
graph g(t: float32[N, 1024]) -> (y) {
  weight u: float32[1024, 1024]
  weight v: float32[1024, 2048]
  weight w: float32[2048, 512]
  x = mat_mul(t, u)
  a = mat_mul(x, v)
  kept = mat_mul(a, w)
  b = mat_mul(x, v2)
  p = reduce_sum(b) {axes=(1,), keepdims=true}
  m = mul(kept, p)
  y = reduce_sum(m) {axes=(1,), keepdims=true}
}
""".replace("  weight w", "  weight v2: float32[1024, 2048]\n  weight w")
"""Whoever reads x last has it beside its own values: better the one that leaves much behind."""


def graph(text: str, shapes: Mapping[str, tuple[int, ...]]) -> Graph:
    random = np.random.default_rng(3)
    return parse_graph(text, {n: random.normal(size=s).astype("f4") for n, s in shapes.items()})


def wide_first() -> Graph:
    return graph(WIDE_FIRST, {"v": (64, 2048), "w": (64, 2048)})


def two_readers() -> Graph:
    shapes = {"u": (1024, 1024), "v": (1024, 2048), "v2": (1024, 2048), "w": (2048, 512)}
    return graph(TWO_READERS, shapes)


def scheduled(graph: Graph) -> Program:
    return schedule(lower({"predict": graph}), TARGET)


def least(program: Program, batch: int = 32) -> int:
    (entry,) = program.entries
    uses = Uses.of(program, entry)
    order = range(len(entry.steps))
    assert evaluate(lower_bound(program), {"N": batch}) >= uses.peak(order, order)
    return uses.peak(order, order)


@pytest.mark.parametrize(
    ("made", "wanted"),
    [(wide_first, 2048), (two_readers, 1024 + 2048)],
    ids=["calls", "blocks"],
)
def test_the_peak_falls(made: Callable[[], Graph], wanted: int) -> None:
    program = scheduled(made())
    found = shorten_lifetimes(program)
    assert least(found) == 32 * 4 * wanted < least(program)
    assert sorted(map(repr, found.entries[0].steps)) == sorted(map(repr, program.entries[0].steps))


def test_an_order_that_is_good_stays() -> None:
    program = shorten_lifetimes(scheduled(wide_first()))
    assert shorten_lifetimes(program) == program


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), steps=st.integers(3, 14))
def test_random_graphs_keep_their_bits(seed: int, steps: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("convc.plan.reorder._LEAST", 1)
        patch.setattr("convc.plan.recompute._SHARE", 1.0)
        whole = PIPELINES["exact"].run(RandomGraph(seed).grown(steps))
        plain = scheduled(whole)
        changed = plan_memory(reuse_in_place(shorten_lifetimes(recompute(plain))))
    verify_program(changed)
    x = np.random.default_rng(seed).normal(size=sizes(whole, 2)).astype("f4")
    want, found = (run_program(p, {"x": x}, {"N": 2}) for p in (plain, changed))
    for name, array in want.items():
        np.testing.assert_array_equal(found[name], array)


def sizes(graph: Graph, batch: int) -> Sequence[int]:
    return [e if isinstance(e, int) else batch for e in graph.types["x"].shape]
