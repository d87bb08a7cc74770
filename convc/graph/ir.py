"""The graph (layer) IR: nodes apply operators to named values. It knows what an operator is, not which ones exist.

    graph    = "graph" NAME "(" { value "," } ")" "->" "(" { NAME "," } ")" "{" { weight } { node } "}"
    value    = NAME ":" type                                   type = DTYPE "[" { extent "," } "]"
    weight   = "weight" value [ "=" "[" { number "," } "]" ]   a constant array: inline if small, else beside the text
    node     = { NAME "," } "=" OPERATOR "(" { NAME "," } ")" [ "{" { NAME "=" literal "," } "}" ] [ "from" STRING ]

Shapes are logical: convolutions are NCHW with OIHW weights, whatever the memory layout. Graphs are rebuilt, never
mutated. Nodes stand in an order in which every value is defined before its use.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from convc.frozen import frozen
from convc.graph.op import Op, OpError
from convc.graph.view import View
from convc.types import DType, TensorType

Array = NDArray[np.generic]


@frozen
class Node:
    """One application of an operator. `layer` is the user's layer that it came from, for tables and errors."""

    op: Op
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    layer: str = ""


@dataclass(frozen=True)
class Graph:
    """A function of named inputs. `types` has the type of every value; `weights` the constant arrays."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    types: Mapping[str, TensorType]
    weights: Mapping[str, Array] = field(default_factory=dict, compare=False)

    def producers(self) -> dict[str, Node]:
        """The node that defines each computed value."""
        return {name: node for node in self.nodes for name in node.outputs}

    def consumers(self) -> dict[str, list[Node]]:
        """The nodes that read each value, in order."""
        found: dict[str, list[Node]] = {name: [] for name in self.types}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                found[name].append(node)
        return found

    def view(self, node: Node) -> View | None:
        """How a node's output can be its inputs' memory, if its operator knows a way."""
        return node.op.view(*(self.types[i] for i in node.inputs)) if node.op.view else None

    def rebuilt(self, nodes: Iterable[Node], outputs: Iterable[str] | None = None) -> Graph:
        """The same graph over other nodes: types are inferred again, unused weights dropped."""
        builder = Builder(self.name, dict(self.weights))
        for name in self.inputs:
            builder.input(name, self.types[name])
        for node in nodes:
            builder.emit(node)
        return builder.finish(tuple(outputs) if outputs is not None else self.outputs)


class Builder:
    """Builds a graph node by node; every value's type is inferred as it appears.

    Names in `reserved` are left to nodes that are still to come.
    """

    def __init__(
        self,
        name: str,
        weights: dict[str, Array] | None = None,
        reserved: Container[str] = (),
    ) -> None:
        self.name = name
        self.reserved = reserved
        self.inputs: list[str] = []
        self.nodes: list[Node] = []
        self.weights: dict[str, Array] = dict(weights or {})
        self.types: dict[str, TensorType] = {n: type_of(a) for n, a in self.weights.items()}
        self.layer = ""
        self._counts: dict[str, int] = {}

    def input(self, name: str, type: TensorType) -> str:
        self._define(name, type)
        self.inputs.append(name)
        return name

    def weight(self, name: str, array: Array) -> str:
        """Adds a constant array under a free name made from `name`."""
        name = self.fresh(name)
        self.weights[name] = array
        self._define(name, type_of(array))
        return name

    def add(self, op: Op, *inputs: str, name: str | None = None) -> str:
        """Applies an operator of one output and returns the value's name."""
        return self.add_all(op, *inputs, name=name)[0]

    def add_all(self, op: Op, *inputs: str, name: str | None = None) -> tuple[str, ...]:
        """Applies an operator and returns the names of its outputs."""
        types = op.infer(*(self.types[i] for i in inputs))
        first = self.fresh(name or op.mnemonic)
        outputs = (first, *(self.fresh(f"{first}_{n}") for n in range(1, len(types))))
        self.emit(Node(op, inputs, outputs, self.layer), types)
        return outputs

    def emit(self, node: Node, types: tuple[TensorType, ...] | None = None) -> None:
        """Adds a whole node, whose outputs must be new names; `types` are theirs, where the caller knows them."""
        types = self._inferred(node) if types is None else types
        for name, type in zip(node.outputs, types, strict=True):
            self._define(name, type)
        self.nodes.append(node)

    def _inferred(self, node: Node) -> tuple[TensorType, ...]:
        missing = [i for i in node.inputs if i not in self.types]
        if missing:
            raise OpError(f"{node.layer or node.op.mnemonic}: undefined value {missing[0]!r}")
        try:
            return node.op.infer(*(self.types[i] for i in node.inputs))
        except OpError as error:
            where = f"layer {node.layer!r}: " if node.layer and node.layer not in str(error) else ""
            raise OpError(f"{where}{error}") from None

    def fresh(self, base: str) -> str:
        """A value name that isn't taken yet."""
        name = base
        while name in self.types or name in self.reserved:
            self._counts[base] = self._counts.get(base, 0) + 1
            name = f"{base}_{self._counts[base]}"
        return name

    def finish(self, outputs: Iterable[str]) -> Graph:
        used = {i for node in self.nodes for i in node.inputs} | set(outputs)
        weights = {n: a for n, a in self.weights.items() if n in used}
        types = {n: t for n, t in self.types.items() if n in weights or n not in self.weights}
        return Graph(
            self.name, tuple(self.inputs), tuple(outputs), tuple(self.nodes), types, weights
        )

    def _define(self, name: str, type: TensorType) -> None:
        if name in self.types and name not in self.weights:
            raise OpError(f"value {name!r} is defined twice")
        self.types[name] = type


def type_of(array: Array) -> TensorType:
    """The tensor type of an array."""
    return TensorType(DType.of(array.dtype), tuple(array.shape))


def renamed(node: Node, names: Mapping[str, str]) -> Node:
    """The node with its inputs renamed."""
    inputs = tuple([names.get(i, i) for i in node.inputs])
    return node if inputs == node.inputs else replace(node, inputs=inputs)
