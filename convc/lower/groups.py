"""Which nodes become one kernel: a node and the pointwise nodes that only it feeds."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from convc.graph.form import Form
from convc.graph.ir import Graph, Node
from convc.graph.op import Op
from convc.graph.state import NEXT
from convc.graph.view import Part
from convc.loops.formula import Tensor
from convc.loops.ir import Cast, Const, Expr, Load, Reduce, Var
from convc.loops.walking import children, subexpressions
from convc.types import TensorType


@dataclass(frozen=True)
class Group:
    """Nodes that one kernel computes, in order. `kept` are outputs of others than the last that somebody reads."""

    nodes: tuple[Node, ...]
    kept: tuple[str, ...] = ()

    @property
    def output(self) -> str:
        """The last node's output."""
        return self.nodes[-1].outputs[0]

    @property
    def outputs(self) -> tuple[str, ...]:
        """What the kernel writes, the last node's output last."""
        return (*self.kept, self.output)

    @cached_property
    def inner(self) -> frozenset[str]:
        """Values that exist inside the kernel only."""
        return frozenset(o for n in self.nodes[:-1] for o in n.outputs).difference(self.kept)

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """The values that come from outside, each once, in order of first use."""
        inside = {o for n in self.nodes for o in n.outputs}
        return tuple(dict.fromkeys(i for n in self.nodes for i in n.inputs if i not in inside))

    @cached_property
    def wiring(self) -> tuple[tuple[Op, tuple[int, ...]], ...]:
        """The operators and where each operand comes from: an input of the group by position, or a node before."""
        places = {name: i for i, name in enumerate(self.inputs)}
        found = []
        for node in self.nodes:
            found.append((node.op, tuple(places[i] for i in node.inputs)))
            places.update({name: len(places) + i for i, name in enumerate(node.outputs)})
        return tuple(found)

    @property
    def kept_positions(self) -> tuple[int, ...]:
        """The nodes whose outputs are kept."""
        return tuple(i for i, n in enumerate(self.nodes) if n.outputs[0] in self.kept)

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(n.layer for n in self.nodes if n.layer))


MOST_NODES = 64
"""Of a group that another node may join: longer chains, of unrolled steps for one, are several kernels."""


def group_nodes(graph: Graph) -> list[Group]:
    """Partitions a graph's nodes, in an order in which the groups can run.

    A contraction that streams through an operand which pointwise nodes computed for it alone takes them in as its
    prologue. A pointwise node joins the group of the operand that was computed last, if nobody else reads that operand
    and the shapes agree, so that it becomes the epilogue of the kernel's store.

    The next value of a state is kept where a pointwise node goes on with it: what updates a parameter and its slots is
    one kernel.
    """
    consumers = graph.consumers()
    positions = {id(node): position for position, node in enumerate(graph.nodes)}
    open_groups: dict[str, list[Node]] = {}  # by the group's present output
    placed: dict[str, int] = {}
    order: dict[int, list[Node]] = {}  # by id, which is quicker to find again
    for position, node in enumerate(graph.nodes):
        joined = _group_to_join(graph, node, consumers, open_groups, placed)
        group = open_groups.pop(joined) if joined is not None else []
        if joined is not None:
            del order[id(group)]
        for name in _updates_to_join(graph, node, group, consumers, open_groups, placed):
            update = open_groups.pop(name)
            del order[id(update)]
            group = sorted([*update, *group], key=lambda n: positions[id(n)])
        group.append(node)
        order[id(group)] = group
        for output in node.outputs:
            placed[output] = position
        free = isinstance(graph.view(node), Part | None) and node.op.procedure is None
        if len(node.outputs) == 1 and free:
            open_groups[node.outputs[0]] = group
    return [Group(tuple(g), _kept(graph, g)) for g in order.values()]


def _kept(graph: Graph, nodes: list[Node]) -> tuple[str, ...]:
    return tuple(n.outputs[0] for n in nodes[:-1] if is_next(graph, n.outputs[0]))


def _updates_to_join(
    graph: Graph,
    node: Node,
    group: list[Node],
    consumers: Mapping[str, list[Node]],
    open_groups: Mapping[str, list[Node]],
    placed: Mapping[str, int],
) -> list[str]:
    """The further operands whose groups a node takes in, where it continues the update of a state.

    Nobody who reads them may have been placed before the node.
    """
    if len(node.outputs) != 1 or (group and not _all_pointwise(graph, group)):
        return []
    if not is_pointwise(node.op, tuple(graph.types[i] for i in node.inputs)):
        return []
    shape = graph.types[node.outputs[0]].shape
    found = [
        name
        for name in dict.fromkeys(node.inputs)
        if name in open_groups
        and graph.types[name].shape == shape
        and _all_pointwise(graph, open_groups[name])
        and (len(consumers[name]) == 1 or is_next(graph, name))
        and (name not in graph.outputs or is_next(graph, name))
        and not any(c.outputs[0] in placed for c in consumers[name] if c is not node)
    ]
    whole = [*group, node, *(n for name in found for n in open_groups[name])]
    return found if any(is_next(graph, n.outputs[0]) for n in whole) else []


def is_next(graph: Graph, name: str) -> bool:
    """True for the next value of a state."""
    return name.startswith(NEXT) and name in graph.outputs


def _group_to_join(
    graph: Graph,
    node: Node,
    consumers: Mapping[str, list[Node]],
    open_groups: Mapping[str, list[Node]],
    placed: Mapping[str, int],
) -> str | None:
    """The operand whose group a node can join."""
    types = tuple(graph.types[i] for i in node.inputs)
    if len(node.outputs) != 1:
        return None
    if not is_pointwise(node.op, types):
        return _prologue(graph, node, types, consumers, open_groups)
    shape = graph.types[node.outputs[0]].shape
    candidates = [
        name
        for name in dict.fromkeys(node.inputs)
        if name in open_groups
        and len(consumers[name]) == 1
        and name not in graph.outputs
        and graph.types[name].shape == shape
        and node.inputs.count(name) == 1
        and not _sums_images(graph, open_groups[name][0])
        and len(open_groups[name]) < MOST_NODES
    ]
    anchored = [c for c in candidates if not _all_pointwise(graph, open_groups[c])]
    return max(anchored or candidates, key=lambda c: placed[c], default=None)


def _prologue(
    graph: Graph,
    node: Node,
    types: tuple[TensorType, ...],
    consumers: Mapping[str, list[Node]],
    open_groups: Mapping[str, list[Node]],
) -> str | None:
    """The operand that pointwise nodes computed for a contraction alone, and no state's next value on the way."""
    for position, name in enumerate(node.inputs):
        if (
            name in open_groups
            and len(consumers[name]) == 1
            and node.inputs.count(name) == 1
            and name not in graph.outputs
            and _all_pointwise(graph, open_groups[name])
            and not any(is_next(graph, n.outputs[0]) for n in open_groups[name])
            and streams(node.op, types, position)
        ):
            return name
    return None


# A tile's input is staged if it is no deeper than this: some rows of it have to fit into a cache.
_DEEPEST_PROLOGUE = 2048


@functools.lru_cache(maxsize=4096)
def streams(op: Op, types: tuple[TensorType, ...], position: int) -> bool:
    """True if an operator is one sum over one short axis that reads each element of an operand once per output tile.

    That is a matrix product or a 1x1 convolution: every index of the operand is one variable.
    """
    if op.formula is None:
        return False
    (output,) = op.infer(*types)
    variables = tuple(Var(f"i{d}") for d in range(output.rank))
    expr = op.formula(*(_probe(n, t) for n, t in enumerate(types)))(*variables)
    if not isinstance(expr, Reduce) or expr.combiner != "sum" or len(expr.axes) != 1:
        return False
    depth = expr.axes[0][1]
    if not isinstance(depth, int) or depth > _DEEPEST_PROLOGUE:
        return False
    loads = [e for e in subexpressions(expr) if isinstance(e, Load) and e.buffer == str(position)]
    return len(loads) == 1 and all(_one_variable(i) for i in loads[0].index)


def _one_variable(expr: Expr) -> bool:
    return sum(isinstance(e, Var) for e in subexpressions(expr)) <= 1


def _all_pointwise(graph: Graph, nodes: list[Node]) -> bool:
    return all(is_pointwise(n.op, tuple(graph.types[i] for i in n.inputs)) for n in nodes)


def _sums_images(graph: Graph, node: Node) -> bool:
    """True for a contraction over all images, whose sums may be held in its output: nothing follows in the store.

    And for what only makes a filter's gradient of such sums: one kernel updates the filter and its slots behind it.
    """
    if Form.filter_gradient in node.op.forms.outputs:
        return True
    types = tuple(graph.types[i] for i in node.inputs)
    return is_sum_over_symbols(node.op, types)


@functools.lru_cache(maxsize=4096)
def is_sum_over_symbols(op: Op, types: tuple[TensorType, ...]) -> bool:
    """True if an operator is a sum of products over axes of which the first has a symbolic extent, and another hasn't.

    That is a convolution's weight gradient.
    """
    if op.formula is None or len(types) != 2:
        return False
    outputs = op.infer(*types)
    if len(outputs) != 1 or any(not isinstance(e, int) for e in outputs[0].shape):
        return False
    variables = tuple(Var(f"i{d}") for d in range(outputs[0].rank))
    expr = op.formula(*(_probe(n, t) for n, t in enumerate(types)))(*variables)
    while isinstance(expr, Cast):
        expr = expr.value
    return (
        isinstance(expr, Reduce)
        and expr.combiner == "sum"
        and len(expr.axes) > 2
        and not isinstance(expr.axes[0][1], int)
    )


@functools.lru_cache(maxsize=4096)
def is_pointwise(op: Op, types: tuple[TensorType, ...]) -> bool:
    """True if each output element needs only the operands' elements at its own (broadcast) index.

    Read off the formula: every operand is loaded at the output's variables or at 0.
    """
    if op.formula is None or op.view is not None or not types:
        return False
    outputs = op.infer(*types)
    if len(outputs) != 1:
        return False
    rank = outputs[0].rank
    variables = tuple(Var(f"i{d}") for d in range(rank))
    tensors = (_probe(n, t) for n, t in enumerate(types))
    expr = op.formula(*tensors)(*variables)
    for e in subexpressions(expr):
        if isinstance(e, Reduce):
            return False
        if isinstance(e, Load) and not _at_own_index(
            e, types[int(e.buffer)], outputs[0], variables
        ):
            return False
    return not _uses_index_as_data(expr)


def _probe(n: int, type: TensorType) -> Tensor:
    return Tensor(type.dtype, type.shape, lambda *at: Load(str(n), tuple(at), type.dtype))


def _at_own_index(
    load: Load, type: TensorType, output: TensorType, variables: tuple[Var, ...]
) -> bool:
    offset = output.rank - type.rank
    if offset < 0:
        return False
    for d, i in enumerate(load.index):
        if i == variables[d + offset] and type.shape[d] == output.shape[d + offset]:
            continue
        if isinstance(i, Const) and i.value == 0 and type.shape[d] == 1:
            continue
        return False
    return True


def _uses_index_as_data(expr: Expr) -> bool:
    """True if a variable stands outside of the loads' indices."""
    if isinstance(expr, (Load, Const)):
        return False
    return isinstance(expr, Var) or any(_uses_index_as_data(c) for c in children(expr))
