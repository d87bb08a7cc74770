"""An import for writing ONNX again: what convc would say in more nodes than the model does is carried as it is.

So a graph for any runtime keeps its LSTM, its Resize and its Loop, and operators that convc doesn't have at all;
convolutions, products, normalizations and arithmetic become convc's own, for its passes to fold and fuse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import NodeProto, shape_inference

from convc.errors import UnsupportedError
from convc.graph.ir import Graph, Node
from convc.onnx.bodies import resolved
from convc.onnx.export_rules import RULES as SAYABLE
from convc.onnx.foreign import Dimensions, Foreign, read_outside
from convc.onnx.importer import ModelImporter
from convc.onnx.importers.call import Many, Packed, Rejected, Symbolic
from convc.onnx.scope import Broken, Scope
from convc.types import Dim, TensorType

MOST_NODES = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2}
"""Nodes that may stand for one of the model's: the exporter makes one of a product and its bias. Others: 1."""

DRAWN = {
    "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli",
}  # fmt: skip
"""Operators whose results are for a run to draw, though convc has an import of its own for them."""

RANDOM = {*DRAWN, "Dropout"}
"""Operators that may give other results each time: two alike are two."""


@dataclass(frozen=True)
class Carried:
    """A graph for the exporter, and the model's own words for its symbols."""

    graph: Graph
    symbols: dict[str, str]


def import_carried(
    model: onnx.ModelProto, folder: Path | None, shapes: Mapping[str, int | Sequence[int]]
) -> Carried:
    """The graph of a model that is to be written again. Errors as import_model's, for what no type is known of."""
    importer = _Carrier(model, folder, shapes, {})
    graph = importer.run(model.graph.name)
    return Carried(graph, importer.signature.labels)


class _Carrier(ModelImporter):
    def __init__(
        self,
        model: onnx.ModelProto,
        folder: Path | None,
        shapes: Mapping[str, int | Sequence[int]],
        values: Mapping[str, Any],
    ) -> None:
        super().__init__(model, folder, shapes, values)
        self.inferred = inferred_types(model)

    def require(self, text: str, held: str) -> None:
        """Other runtimes give as many rows as data have: nothing is required."""

    def as_output(self, value: Any) -> Any:
        return self.dimensions(value) if isinstance(value, Symbolic) else value

    def results_of(
        self, node: NodeProto, values: list[Any], scope: Scope, where: str
    ) -> Sequence[Any]:
        known_if = node.op_type == "If" and isinstance(values[0], str) and self.known(values[0])
        if has_bodies(node) and not known_if or node.op_type in DRAWN:
            types = self.types_of(node, scope)
            if types is not None:
                return self.carry(node, types, scope)
        before = len(self.builder.nodes), len(self.builder.types), len(self.builder.weights)
        problems, needed = len(self.problems), dict(self.needed)
        results = super().results_of(node, values, scope, where)
        broken = any(isinstance(r, Broken) for r in results)
        if not broken and (known_if or self.is_as_short(node, before[0], results)):
            return results
        types = self.types_of(node, scope) if broken else self.types_made(node, results)
        if types is None:
            return results
        self.roll_back(*before)
        del self.problems[problems:]
        self.needed = needed
        try:
            return self.carry(node, types, scope)
        except Rejected as error:
            self.problems.append(f"{where}: {error}")
            return [Broken()] * len(node.output)

    def is_as_short(self, node: NodeProto, before: int, results: Sequence[Any]) -> bool:
        """Whether a node became no more nodes of the run than it was, all of which ONNX has."""
        if (node.domain, node.op_type) in self.functions:
            return True  # its nodes have been looked at one by one
        self.values.scan()
        live = [n for n in self.builder.nodes[before:] if n.outputs[0] in self.values.live]
        sayable = all(isinstance(n.op, Foreign | Dimensions) or type(n.op) in SAYABLE for n in live)
        return sayable and len(live) <= MOST_NODES.get(node.op_type, 1)

    def roll_back(self, nodes: int, types: int, weights: int) -> None:
        """Takes back what was added last."""
        builder = self.builder
        del builder.nodes[nodes:]
        self.values.forget(nodes)
        for table, count in ((builder.types, types), (builder.weights, weights)):
            while len(table) > count:
                table.popitem()

    def types_made(self, node: NodeProto, results: Sequence[Any]) -> list[TensorType] | None:
        """The types of what a rule made; None where that isn't only tensors."""
        wanted = [results[k] if k < len(results) else None for k, o in enumerate(node.output) if o]
        if not all(isinstance(r, str) for r in wanted):
            return None
        return [self.builder.types[str(r)] for r in wanted]

    def types_of(self, node: NodeProto, scope: Scope) -> list[TensorType] | None:
        """The types that ONNX infers; None where it doesn't know one."""
        if scope is not self.top:
            return None
        types = [
            self.signature.inferred(o, self.inferred.get(o), self.legal(o))
            for o in node.output
            if o
        ]
        return None if any(t is None for t in types) else [t for t in types if t is not None]

    def carry(self, node: NodeProto, types: list[TensorType], scope: Scope) -> list[Any]:
        """Emits the node as it is."""
        proto = resolved(node, scope)
        names = list(dict.fromkeys(n for n in [*node.input, *read_outside(node)] if n))
        found = {n: self.as_input(scope.find(n)) for n in names}
        absent = [n for n in names if found[n] is None]
        if absent:  # an optional input of a function that its call leaves out
            copy = NodeProto()
            copy.CopyFrom(proto)
            given = ["" if n in absent else n for n in proto.input]
            del copy.input[:]
            copy.input.extend(given)
            proto = copy
        names = [n for n in names if n not in absent]
        made = [o for o in node.output if o]
        serial = len(self.builder.nodes) if node.op_type in RANDOM else 0
        domain = "" if node.domain == "ai.onnx" else node.domain
        op = Foreign(
            proto.SerializeToString(), tuple(names), tuple(made), tuple(types), scope.opsets.get(domain, 1), serial
        )  # fmt: skip
        outputs = []
        for o in made:  # taken names first: a node has all its outputs at once
            outputs.append(self.builder.fresh(self.legal(o)))
            if outputs.count(outputs[-1]) > 1:
                outputs[-1] = self.builder.fresh(f"{outputs[-1]}_{len(outputs)}")
        layer = node.name or self.builder.layer or node.op_type
        inputs = tuple(str(found[n]) for n in names)
        self.builder.emit(Node(op, inputs, tuple(outputs), layer))
        self.values.scan()
        self.values.live.update(outputs)
        by_name = dict(zip(made, outputs, strict=True))
        return [by_name.get(o) for o in node.output]

    def as_input(self, value: Any) -> str | None:
        if isinstance(value, Symbolic):
            return self.dimensions(value)
        if isinstance(value, Many | Broken | Packed):
            raise Rejected("takes a sequence, or an element type that convc carries in bytes")
        return None if value is None else str(value)

    def dimensions(self, value: Symbolic) -> str:
        if value.values.ndim > 1:
            raise UnsupportedError("a matrix of dimensions")
        extents = tuple(e if isinstance(e, Dim) else int(e) for e in value.values.reshape(-1))
        op = Dimensions(extents, value.values.ndim == 0, value.dtype)
        name = self.builder.add(op, name="dimensions")
        self.values.scan()
        self.values.live.add(name)
        return name


def has_bodies(node: NodeProto) -> bool:
    return any(a.type == onnx.AttributeProto.GRAPH for a in node.attribute)


def inferred_types(model: onnx.ModelProto) -> dict[str, Any]:
    """The tensor types that ONNX infers for a model's values."""
    try:
        graph = shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception:  # it raises what its C++ raises, for models past 2 GiB too
        graph = model.graph
    infos = (*graph.value_info, *graph.output)
    return {i.name: i.type.tensor_type for i in infos if i.type.HasField("tensor_type")}
