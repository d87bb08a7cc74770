"""State in graphs: the next value of the input `p` is the output `next/p`, of the same type."""

from __future__ import annotations

from convc.errors import IRError
from convc.graph.ir import Graph

NEXT = "next/"


def next_values(graph: Graph) -> dict[str, str]:
    """The outputs that are the next values of inputs, by input; IRError where the types differ."""
    found = {}
    for output in graph.outputs:
        if not output.startswith(NEXT):
            continue
        name = output.removeprefix(NEXT)
        if name not in graph.inputs or graph.types[name] != graph.types[output]:
            raise IRError(
                f"{graph.name}: {output!r} is {graph.types[output]}, the next value of {name!r}, "
                f"which is {graph.types.get(name)}"
            )
        found[name] = output
    return found
