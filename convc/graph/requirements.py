"""What must hold of a run's data: the output `require/text` is a bool that says whether it does.

A model has them where somebody fixed what data decide, such as the number of rows of NonZero. They are no results: a
compiled entry keeps them to itself, and fails where one is false.
"""

from __future__ import annotations

from dataclasses import replace

from convc.graph.ir import Graph
from convc.program.ir import REQUIRE


def results_of(graph: Graph) -> tuple[str, ...]:
    """The graph's outputs without its requirements."""
    return tuple(name for name in graph.outputs if not name.startswith(REQUIRE))


def without_requirements(graph: Graph) -> Graph:
    """The same graph, whatever its data are; what only the requirements need is dead."""
    return replace(graph, outputs=results_of(graph))
