"""Properties that hold of every pass and pipeline, on random graphs."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convc.graph.parser import parse_graph
from convc.graph.printer import print_graph
from convc.graph.verify import verify_graph
from convc.passes.manager import Pass
from convc.passes.pipelines import PIPELINES
from convc.passes.sink_transposes import count_transposes
from tests.passes.agreement import assert_agrees
from tests.passes.random_graphs import RandomGraph

PASSES: dict[str, Pass] = {run.name: run for p in PIPELINES.values() for run, _ in p.steps}


@pytest.mark.parametrize("name", PASSES)
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), steps=st.integers(1, 14))
def test_pass_keeps_the_function(name: str, seed: int, steps: int) -> None:
    before = RandomGraph(seed).grown(steps)
    after = PASSES[name](before)
    verify_graph(after)
    assert_agrees(before, after, seed, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", PIPELINES)
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), steps=st.integers(1, 14))
def test_pipeline_keeps_the_function(name: str, seed: int, steps: int) -> None:
    before = RandomGraph(seed).grown(steps)
    after = PIPELINES[name].run(before, verify=True)
    assert_agrees(before, after, seed, rtol=1e-4, atol=1e-4)
    assert all(n.op.formula or n.op.loops for n in after.nodes)
    weights = dict(after.weights)
    assert print_graph(parse_graph(print_graph(after), weights)) == print_graph(after)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), steps=st.integers(1, 14))
def test_sinking_never_adds_transposes(seed: int, steps: int) -> None:
    before = RandomGraph(seed).grown(steps)
    after = PASSES["sink-transposes"](before)
    assert count_transposes(after) <= count_transposes(before)
    hoisted = PASSES["hoist-transposes"](after)
    assert count_transposes(hoisted) <= count_transposes(after)
