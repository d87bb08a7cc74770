"""Cheap pointwise values that are computed again wherever they are read, instead of once into memory.

In a training step that is what a normalisation centres, the mask of an activation, the square of what is summed up: one
operation or two, against a pass over memory to write them and one for each reader.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable

from convc.graph.ir import Graph, Node
from convc.graph.op import Op
from convc.loops.formula import Tensor
from convc.loops.ir import Binary, Call, Expr, Load, Reduce, Var
from convc.loops.walking import subexpressions
from convc.lower.groups import Group, is_pointwise
from convc.types import TensorType, symbols_of

# Large operands that a value may be computed of, where several kernels read it.
_MOST_OPERANDS = 1

# Operations in a value that is computed again.
_MOST_NODES = 4

_EXPENSIVE = ("/", "%", "//")
_CHEAP_FUNCTIONS = ("fma", "abs", "min", "max")


def inline_cheap(graph: Graph, groups: list[Group]) -> list[Group]:
    """The groups without those whose value all readers compute for themselves.

    A reader is a pointwise node, or a reduction that meets each element once.
    """
    position = {id(node): n for n, node in enumerate(graph.nodes)}
    result = {g.output: g for g in groups}
    read_by: defaultdict[str, dict[str, None]] = defaultdict(dict)  # outputs of the readers
    for group in groups:
        for name in group.inputs:
            read_by[name][group.output] = None
    for group in groups:
        current = result[group.output]
        readers = [r for o in read_by[group.output] if group.output in (r := result[o]).inputs]
        if not readers or not _is_cheap(graph, current, len(readers)):
            continue
        if not all(_can_compute(graph, reader, group.output) for reader in readers):
            continue
        merged = {r.output: _joined(current, r, lambda n: position[id(n)]) for r in readers}
        if not all(_knows_its_symbols(graph, g) for g in merged.values()):
            continue
        result |= merged
        del result[current.output]
        for name in current.inputs:
            read_by[name].pop(current.output, None)
        for reader in merged.values():
            for name in reader.inputs:
                read_by[name][reader.output] = None
    return list(result.values())


def _joined(first: Group, second: Group, position: Callable[[Node], int]) -> Group:
    nodes = {id(n): n for n in (*first.nodes, *second.nodes)}
    return Group(tuple(sorted(nodes.values(), key=position)), second.kept)


def _knows_its_symbols(graph: Graph, group: Group) -> bool:
    """True if each symbol of its values' shapes is in one of its operands or results: a kernel learns it from these."""
    names = {o for node in group.nodes for o in node.outputs}
    inside, outside = (
        symbols_of(e for name in part for e in graph.types[name].shape)
        for part in (names, {*group.inputs, *group.outputs})
    )
    return inside <= outside


def _is_cheap(graph: Graph, group: Group, readers: int) -> bool:
    if group.kept or group.output in graph.outputs or len(group.nodes) > _MOST_NODES:
        return False
    if not all(_is_simple(n.op, _types(graph, n)) for n in group.nodes):
        return False
    shape = graph.types[group.output].shape
    if all(isinstance(e, int) for e in shape):
        return False
    large = [i for i in group.inputs if graph.types[i].shape == shape]
    return len(large) <= _MOST_OPERANDS or readers == 1


def own_nest(group: Group) -> Node | None:
    """The node of a group that writes its loops itself, if there is one: the others are applied to what it stores."""
    return next((n for n in group.nodes if n.op.loops is not None and n.op.formula is None), None)


def _types(graph: Graph, node: Node) -> tuple[TensorType, ...]:
    return tuple(graph.types[i] for i in node.inputs)


def _can_compute(graph: Graph, reader: Group, name: str) -> bool:
    """Whether a group may compute one of its inputs itself."""
    nest = own_nest(reader)
    if any(len(n.outputs) != 1 or (n.op.formula is None and n is not nest) for n in reader.nodes):
        return False
    if nest is not None and (name in nest.inputs or reader.kept):
        return False
    shape = graph.types[name].shape
    for node in reader.nodes:
        if name not in node.inputs:
            continue
        types = _types(graph, node)
        if is_pointwise(node.op, types):
            if graph.types[node.outputs[0]].shape != shape:
                return False
        elif not all(meets_once(node.op, types, p) for p, i in enumerate(node.inputs) if i == name):
            return False
    return True


@functools.lru_cache(maxsize=4096)
def _is_simple(op: Op, types: tuple[TensorType, ...]) -> bool:
    """True for a pointwise operator of a few instructions."""
    if not is_pointwise(op, types):
        return False
    return not any(
        (isinstance(e, Call) and e.function not in _CHEAP_FUNCTIONS)
        or (isinstance(e, Binary) and e.op in _EXPENSIVE and e.dtype.is_float)
        for e in subexpressions(_expression(op, types))
    )


@functools.lru_cache(maxsize=4096)
def meets_once(op: Op, types: tuple[TensorType, ...], position: int) -> bool:
    """True if an operator is one reduction that reads each element of an operand once: a sum or mean over axes."""
    if op.formula is None or op.view is not None or len(op.infer(*types)) != 1:
        return False
    expr = _expression(op, types)
    if sum(isinstance(e, Reduce) for e in subexpressions(expr)) != 1:
        return False
    loads = [e for e in subexpressions(expr) if isinstance(e, Load) and e.buffer == str(position)]
    if len(set(loads)) != 1:
        return False
    (index,) = {load.index for load in loads}
    return all(isinstance(i, Var) for i in index) and len(set(index)) == len(index)


def _expression(op: Op, types: tuple[TensorType, ...]) -> Expr:
    """The operator's formula at variables, with its operands as buffers by their positions."""
    assert op.formula is not None
    (output,) = op.infer(*types)
    variables = tuple(Var(f"i{d}") for d in range(output.rank))
    expr: Expr = op.formula(*(_probe(n, t) for n, t in enumerate(types)))(*variables)
    return expr


def _probe(n: int, type: TensorType) -> Tensor:
    return Tensor(type.dtype, type.shape, lambda *at: Load(str(n), tuple(at), type.dtype))
