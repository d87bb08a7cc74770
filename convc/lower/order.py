"""The order in which a training step runs: updates of state as early as their operands allow.

A gradient is then read while it is in a cache, and its memory is free again before the next one is computed.
"""

from __future__ import annotations

from convc.graph.ir import Graph
from convc.graph.state import next_values
from convc.lower.groups import Group, is_pointwise


def updates_early(graph: Graph, groups: list[Group]) -> list[Group]:
    """The groups with each update of a state right behind its last operand, and all who read the value it replaces."""
    successors = next_values(graph)
    replaced = {value: name for name, value in successors.items()}
    nodes = _updating(graph, set(replaced))
    waiting = {id(g): g for g in groups if _ends_in(g, nodes)}
    updates = set(waiting)
    read = {id(g): reads for g, reads in zip(groups, state_read(graph, groups), strict=True)}
    left: dict[str, set[int]] = {name: set() for name in successors}
    for reader, states in read.items():
        for name in left.keys() & states:
            left[name].add(reader)
    given = {*graph.inputs, *graph.weights}
    lacking = {i: set(g.inputs) - given for i, g in waiting.items()}
    takers: dict[str, list[int]] = {}
    for i, names in lacking.items():
        for name in names:
            takers.setdefault(name, []).append(i)
    places = {i: place for place, i in enumerate(waiting)}
    able = {i for i, names in lacking.items() if not names}
    order: list[Group] = []

    def run(group: Group) -> None:
        order.append(group)
        for name in (o for n in group.nodes for o in n.outputs):
            for i in takers.get(name, ()):
                lacking[i].discard(name)
                if not lacking[i]:
                    able.add(i)
        for name in left.keys() & read[id(group)]:
            left[name].discard(id(group))

    def free(i: int) -> bool:
        states = (replaced[o] for o in waiting[i].outputs if o in replaced)
        return all(left[name] <= {i} for name in states)

    for group in groups:
        if id(group) in updates:
            continue
        run(group)
        while (found := min(filter(free, able), key=places.__getitem__, default=None)) is not None:
            able.remove(found)
            run(waiting.pop(found))
    # Those that are left wait for one another: their old values are copied.
    for group in waiting.values():
        run(group)
    return order


def _ends_in(group: Group, nodes: set[int]) -> bool:
    """True if all that a group gives are values of some nodes: a gradient may be computed on the way."""
    outputs = set(group.outputs)
    return all(id(n) in nodes for n in group.nodes if not outputs.isdisjoint(n.outputs))


def state_read(graph: Graph, groups: list[Group]) -> list[frozenset[str]]:
    """The inputs of the graph that each group reads, itself or through views."""
    shown = {name: frozenset((name,)) for name in graph.inputs}
    result = []
    for group in groups:
        found = frozenset[str]().union(*(shown.get(i, frozenset()) for i in group.inputs))
        result.append(found)
        if len(group.nodes) == 1 and graph.view(group.nodes[0]) is not None:
            shown |= dict.fromkeys(group.nodes[0].outputs, found)
    return result


def _updating(graph: Graph, next_names: set[str]) -> set[int]:
    """The nodes (by id) of updates: pointwise on values of constant shapes, and only next values depend on them.

    The gradients themselves stay where they are.
    """
    results = set(graph.outputs) - next_names
    found: set[int] = set()
    consumers = graph.consumers()
    for node in reversed(graph.nodes):
        shapes = [graph.types[name].shape for name in node.outputs]
        if any(not isinstance(e, int) for shape in shapes for e in shape):
            continue
        if node.op.view is None and not is_pointwise(
            node.op, tuple(graph.types[i] for i in node.inputs)
        ):
            continue
        if results.isdisjoint(node.outputs) and all(
            id(c) in found for name in node.outputs for c in consumers[name]
        ):
            found.add(id(node))
    return found
