"""Every pass does to the graph before it in its docstring what the docstring says."""

from __future__ import annotations

import inspect
import re
import textwrap

import pytest

from convc.graph.parser import parse_graph
from convc.graph.printer import print_graph
from convc.graph.verify import verify_graph
from convc.passes.manager import Pass
from convc.passes.pipelines import PIPELINES
from tests.passes.agreement import assert_agrees

PASSES = {run.name: run for p in PIPELINES.values() for run, _ in p.steps}
SECTION = re.compile(r"^(before|after):\n((?:    .*\n?|\n)*)", re.MULTILINE)


def examples(run: Pass) -> list[tuple[str, str]]:
    """The pairs (before, after) of a pass' docstring."""
    return examples_of(type(run))


def examples_of(documented: object) -> list[tuple[str, str]]:
    """The pairs (before, after) of a docstring."""
    text = inspect.getdoc(documented) or ""
    sections = [(m[1], textwrap.dedent(m[2])) for m in SECTION.finditer(text)]
    befores = [t for word, t in sections if word == "before"]
    afters = [t for word, t in sections if word == "after"]
    return list(zip(befores, afters, strict=True))


@pytest.mark.parametrize("name", PASSES)
def test_docstring_example_holds(name: str) -> None:
    import convc.ops  # noqa: F401

    pairs = examples(PASSES[name])
    assert pairs, f"{name} has no example"
    for before, after in pairs:
        graph = parse_graph(before)
        result = PASSES[name](graph)
        verify_graph(result)
        assert print_graph(result) == print_graph(parse_graph(after))
        assert_agrees(graph, result)


@pytest.mark.parametrize("name", PASSES)
def test_second_run_changes_nothing(name: str) -> None:
    for before, _ in examples(PASSES[name]):
        once = PASSES[name](parse_graph(before))
        assert PASSES[name](once) == once
