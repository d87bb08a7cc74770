"""Pipelines run passes in order, tell each result, and name what failed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

from convc.errors import UnsupportedError
from convc.graph.ir import Graph
from convc.graph.parser import parse_graph
from convc.passes.eliminate_dead_code import EliminateDeadCode
from convc.passes.manager import PassError, Pipeline
from convc.passes.pipelines import PIPELINES
from convc.passes.simplify_algebra import SimplifyAlgebra

TEXT = "graph g(x: float32[N, 4]) -> (y) { a = identity(x) y = relu(a) }"


@dataclass(frozen=True)
class Raise:
    name: ClassVar[str] = "raise"
    error: Exception

    def __call__(self, graph: Graph) -> Graph:
        raise self.error


@dataclass(frozen=True)
class LoseNodes:
    name: ClassVar[str] = "lose-nodes"

    def __call__(self, graph: Graph) -> Graph:
        return replace(graph, nodes=graph.nodes[1:])


def test_trace_meets_each_result_in_order() -> None:
    seen: list[tuple[str, int]] = []
    steps = ((EliminateDeadCode(), "first"), (SimplifyAlgebra(), "then"))
    result = Pipeline("p", steps).run(
        parse_graph(TEXT), lambda n, g: seen.append((n, len(g.nodes)))
    )
    assert seen == [("eliminate-dead-code", 2), ("simplify-algebra", 1)]
    assert len(result.nodes) == 1


def test_failing_pass_is_named_with_those_before_it() -> None:
    steps = ((EliminateDeadCode(), ""), (SimplifyAlgebra(), ""), (Raise(KeyError("q")), ""))
    with pytest.raises(PassError, match=r"pass raise failed on graph g") as caught:
        Pipeline("p", steps).run(parse_graph(TEXT))
    assert "eliminate-dead-code, simplify-algebra" in str(caught.value)
    assert "KeyError: 'q'" in str(caught.value)
    assert "y = relu(x)" in caught.value.__notes__[0]


def test_errors_about_the_model_keep_their_kind() -> None:
    with pytest.raises(UnsupportedError, match="no such thing") as caught:
        Pipeline("p", ((Raise(UnsupportedError("no such thing")), ""),)).run(parse_graph(TEXT))
    assert caught.value.__notes__ == ["pass raise failed on graph g (the first pass)"]


def test_verification_finds_a_pass_that_breaks_the_graph() -> None:
    pipeline = Pipeline("p", ((LoseNodes(), ""),))
    assert len(pipeline.run(parse_graph(TEXT)).nodes) == 1
    with pytest.raises(PassError, match=r"lose-nodes.*'a' is used before it is defined"):
        pipeline.run(parse_graph(TEXT), verify=True)


@pytest.mark.parametrize("name", PIPELINES)
def test_every_step_has_a_reason_and_a_kebab_case_name(name: str) -> None:
    for run, reason in PIPELINES[name].steps:
        assert reason
        assert "\n" not in reason
        assert run.name == run.name.lower().replace("_", "-")
