"""Runs passes over a graph in the order that a pipeline lists."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

from convc.errors import ConvcError, IRError
from convc.graph.ir import Graph
from convc.graph.printer import print_graph
from convc.graph.verify import verify_graph

Trace = Callable[[str, Graph], None]


class Pass(Protocol):
    """A rewrite graph -> graph: a frozen dataclass whose fields are its options."""

    name: ClassVar[str]

    def __call__(self, graph: Graph) -> Graph: ...


class PassError(IRError):
    """A pass that raised, or whose graph breaks a rule. A note carries the graph that it was given."""


@dataclass(frozen=True)
class Pipeline:
    """Passes in order, each with the reason why it stands where it stands."""

    name: str
    steps: tuple[tuple[Pass, str], ...]

    def run(self, graph: Graph, trace: Trace | None = None, verify: bool = False) -> Graph:
        """The graph after all passes.

        `trace` meets the name and the result of each pass; `verify` checks the graph before the first and after
        each. PassError names the pass that failed and those before it; a ConvcError of the user's model passes.
        """
        if verify:
            verify_graph(graph)
        done: list[str] = []
        for run, _ in self.steps:
            try:
                result = run(graph)
                if verify:
                    verify_graph(result)
            except Exception as error:
                if isinstance(error, ConvcError) and not isinstance(error, IRError):
                    error.add_note(failure(run.name, done, graph))
                    raise
                raise named(error, run.name, done, graph) from error
            graph = result
            done.append(run.name)
            if trace:
                trace(run.name, graph)
        return graph


def failure(name: str, done: list[str], graph: Graph) -> str:
    """Which pass failed on which graph, after which others."""
    before = f"after {', '.join(done)}" if done else "the first pass"
    return f"pass {name} failed on graph {graph.name} ({before})"


def named(error: Exception, name: str, done: list[str], graph: Graph) -> PassError:
    """The error to raise for a pass that raised `error`."""
    reason = f"{type(error).__name__}: {error}"
    found = PassError(f"{failure(name, done, graph)}: {reason}")
    found.add_note(f"the graph before the pass:\n{print_graph(graph)}")
    return found
