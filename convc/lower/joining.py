"""Neighbours that compute short vectors become one kernel with several results.

A normalization computes a dozen vectors of its channels, forwards and backwards: statistics, scales, updates. A kernel
for each of them takes longer to compile than to run.
"""

from __future__ import annotations

from convc.graph.ir import Graph
from convc.graph.state import next_values
from convc.lower.groups import Group, is_pointwise
from convc.lower.order import state_read
from convc.types import Shape, size_of

MOST_ELEMENTS = 4096
"""Of a short vector: that it is in memory for a little longer doesn't matter."""

_MOST_RESULTS = 8
_MOST_BETWEEN = 4
"""Groups that one may be moved across to its partner."""


def join_short(graph: Graph, groups: list[Group]) -> list[Group]:
    """The groups in order, pointwise ones of one short shape joined where the first can wait until the second runs."""
    return _Joining(graph, groups).run()


class _Joining:
    def __init__(self, graph: Graph, groups: list[Group]) -> None:
        self.graph = graph
        self.groups = groups
        self.position = {id(node): n for n, node in enumerate(graph.nodes)}
        self.replaced = {value: name for name, value in next_values(graph).items()}
        reads = state_read(graph, groups)
        self.states = {id(g): names for g, names in zip(groups, reads, strict=True)}
        # By id, with the group, which thus is nobody else's.
        self.shapes: dict[int, tuple[Group, Shape | None]] = {}

    def run(self) -> list[Group]:
        order: list[Group] = []
        for group in self.groups:
            back = self.partner(order, group)
            order.append(self.joined(order.pop(-back), group) if back else group)
        return order

    def partner(self, order: list[Group], group: Group) -> int:
        """How far back the last of the groups is that can run together with a group; 0 if none can."""
        shape = self.short_shape(group)
        if shape is None:
            return 0
        for back in range(1, min(len(order), _MOST_BETWEEN + 1) + 1):
            first = order[-back]
            fits = len(first.outputs) + len(group.outputs) <= _MOST_RESULTS
            between = order[len(order) - back + 1 :]
            if fits and self.short_shape(first) == shape and self.can_wait(first, between):
                return back
        return 0

    def can_wait(self, first: Group, between: list[Group]) -> bool:
        """Whether nobody between reads a group's results, or replaces a state that it reads."""
        results, states = frozenset(first.outputs), self.states[id(first)]
        return all(
            results.isdisjoint(g.inputs)
            and states.isdisjoint(self.replaced.get(o, "") for o in g.outputs)
            for g in between
        )

    def joined(self, first: Group, second: Group) -> Group:
        unordered = {id(n): n for n in (*first.nodes, *second.nodes)}
        nodes = sorted(unordered.values(), key=lambda n: self.position[id(n)])
        results = {*first.outputs, *second.outputs}
        kept = (o for n in nodes[:-1] for o in n.outputs if o in results)
        group = Group(tuple(nodes), tuple(kept))
        self.shapes[id(group)] = (group, self.short_shape(second))
        self.states[id(group)] = self.states[id(first)] | self.states[id(second)]
        return group

    def short_shape(self, group: Group) -> Shape | None:
        """The shape of all that a pointwise group computes, if that is one short one."""
        if id(group) not in self.shapes:
            self.shapes[id(group)] = (group, self.found_shape(group))
        return self.shapes[id(group)][1]

    def found_shape(self, group: Group) -> Shape | None:
        shape = self.graph.types[group.output].shape
        size = size_of(shape)
        if not shape or not isinstance(size, int) or size > MOST_ELEMENTS:
            return None
        for node in group.nodes:
            types = tuple(self.graph.types[i] for i in node.inputs)
            if self.graph.types[node.outputs[0]].shape != shape or not is_pointwise(node.op, types):
                return None
        return shape
