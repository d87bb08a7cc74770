"""Rebuilding a graph node by node: kept nodes keep names and types, replaced values lead on to others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from convc.graph.ir import Array, Builder, Graph, Node, renamed, type_of
from convc.graph.op import Op
from convc.ops.differentiation import live
from convc.ops.elementwise import Identity
from convc.types import TensorType


class Rewriter(Builder):
    """A builder over an old graph. A pass walks the old nodes in order and keeps or replaces each.

    The graph's inputs and outputs keep their names; nodes and weights that nothing reads are dropped.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph.name, dict(graph.weights))
        self.graph = graph
        self.producer: dict[str, Node] = {}
        self._names: dict[str, str] = {}
        for name in graph.inputs:
            self.input(name, graph.types[name])
        self.uses = Counter(i for node in graph.nodes for i in node.inputs)
        self.uses.update(graph.outputs)

    def resolve(self, node: Node) -> Node:
        """The node, reading the values that replaced its inputs."""
        return renamed(node, self._names) if self._names else node

    def name_of(self, old: str) -> str:
        """The new value that stands for an old one."""
        return self._names.get(old, old)

    def keep(self, node: Node) -> None:
        """Emits an old node. Its types are inferred again only if those of its inputs changed."""
        new = self.resolve(node)
        types, old = self.types, self.graph.types
        pairs = zip(new.inputs, node.inputs, strict=True)
        if all(types[a] is old[b] or types[a] == old[b] for a, b in pairs):
            for name in new.outputs:
                self._define(name, old[name])
            self.nodes.append(new)
            self._record(new)
        else:
            self.emit(new)

    def emit(self, node: Node, types: tuple[TensorType, ...] | None = None) -> None:
        super().emit(node, types)
        self._record(node)

    def replace(self, old: str, new: str) -> None:
        """Lets every later reader of `old` read `new`."""
        if old != new:
            self._names[old] = new

    def constant(self, old: str, array: Array) -> None:
        """Turns a computed value of the old graph into a weight of the same name."""
        self.weights[old] = array
        self.types[old] = type_of(array)

    def array(self, name: str) -> Array | None:
        """The array of a value that is a weight."""
        return self.weights.get(name)

    def apply(self, op: Op, inputs: tuple[str, ...], node: Node) -> None:
        """Emits an operator in the place of an old node: it defines the node's outputs."""
        self.emit(Node(op, inputs, node.outputs, node.layer))

    def fresh(self, base: str) -> str:
        """A value name that neither the old nor the new graph has."""
        name = base
        while name in self.types or name in self.graph.types:
            self._counts[base] = self._counts.get(base, 0) + 1
            name = f"{base}_{self._counts[base]}"
        return name

    def done(self) -> Graph:
        """The new graph; the old one if nothing changed."""
        self._restore_names()
        old = self.graph
        nodes = live(self.nodes, old.outputs)
        read = {i for node in nodes for i in node.inputs} | {*old.outputs}
        if tuple(nodes) == old.nodes and read.issuperset(old.weights):
            return old
        weights = {n: a for n, a in self.weights.items() if n in read}
        defined = {*old.inputs, *weights, *(n for node in nodes for n in node.outputs)}
        types = {n: t for n, t in self.types.items() if n in defined}
        return Graph(old.name, old.inputs, old.outputs, tuple(nodes), types, weights)

    def _record(self, node: Node) -> None:
        for name in node.outputs:
            self.producer[name] = node

    def _restore_names(self) -> None:
        """Gives new values the names that they replace; an output that stands for another value copies it."""
        names: dict[str, str] = {}
        for old in dict.fromkeys((*self.graph.outputs, *self._names)):
            if old in self.types:
                continue
            new, is_output = self.name_of(old), old in self.graph.outputs
            free = new in self.producer and new not in self.graph.outputs and new not in names
            if free and (is_output or new not in self.graph.types):
                names[new] = old
            elif is_output:
                self.nodes.append(Node(Identity(), (new,), (old,)))
                self.types[old] = self.types[new]
        if names:
            self.nodes = [renamed_all(node, names) for node in self.nodes]
            self.types = {names.get(n, n): t for n, t in self.types.items()}


def renamed_all(node: Node, names: Mapping[str, str]) -> Node:
    """The node with its inputs and outputs renamed."""
    outputs = tuple([names.get(o, o) for o in node.outputs])
    node = renamed(node, names)
    return node if outputs == node.outputs else replace(node, outputs=outputs)
