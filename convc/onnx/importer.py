"""ONNX models as graphs.

Every node goes through one rule of `convc.onnx.importers`; an operator without a rule whose definition has a function
body goes through that. What a shape depends on is computed here, on integers that may mention symbols.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import FunctionProto, GraphProto, NodeProto, defs

from convc.errors import ConvcError, InputFileError, UnsupportedError
from convc.graph.ir import Array, Builder, Graph, Node
from convc.graph.op import OpError
from convc.onnx.bodies import body_of, resolved, type_proto
from convc.onnx.importers import RULES
from convc.onnx.importers.call import Call, Many, Packed, Rejected, Symbolic, ValueNeeded
from convc.onnx.importers.narrow import MOVES, moved
from convc.onnx.importers.symbols import SYMBOLIC_RULES
from convc.onnx.known import Known
from convc.onnx.narrow import NARROW
from convc.onnx.reading import LARGEST, array_of, attributes_of, check_names, read_model
from convc.onnx.scope import Broken, Depth, Incomplete, Scope, Subgraph
from convc.onnx.signature import Signature, leading_symbol
from convc.ops.elementwise import Identity
from convc.program.ir import REQUIRE
from convc.types import Dim, size_of, symbols_of

OLDEST_OPSET = 1
MOST_ADDED = 20_000
"""Nodes that function bodies and loops may add to those of the file."""


def import_model(
    model: str | os.PathLike[str] | onnx.ModelProto,
    shapes: Mapping[str, int | Sequence[int]] | None = None,
    values: Mapping[str, Array] | None = None,
) -> Graph:
    """The graph of an ONNX model, from a file or in memory.

    `shapes` gives numbers for named dimensions, whole shapes for inputs, or the number of rows of an output of
    NonMaxSuppression, NonZero or Compress, which data decide: rows beyond those found are -1 (of Compress, zeros). A
    first dimension that all inputs share becomes the symbol N, other named ones symbols of their names. `values` has
    inputs that shapes may depend on: they stay inputs, but the graph is right for these values alone.

    InputFileError for a damaged file; UnsupportedError lists every node that convc has no form for.
    """
    return import_parts(model, shapes, values)[0]


def import_parts(
    model: str | os.PathLike[str] | onnx.ModelProto,
    shapes: Mapping[str, int | Sequence[Any]] | None = None,
    values: Mapping[str, Array] | None = None,
) -> tuple[Graph, dict[str, tuple[str, ...]]]:
    """As import_model, with the outputs that are sequences: the names of their tensors among the graph's outputs.

    An input that is a sequence has a shape per tensor in `shapes` and is inputs `name.0`, `name.1`, … of the graph.
    """
    imported = import_traced(model, shapes, values)
    return imported.graph, imported.sequences


@dataclass(frozen=True)
class Imported:
    """A graph, the outputs that are sequences, and which of the graph's values each of the ONNX model's became."""

    graph: Graph
    sequences: dict[str, tuple[str, ...]]
    names: dict[str, str]


def one_line(message: str) -> str:
    """A message with the line ends and control characters that names in it may have written out."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in message)


def import_traced(
    model: str | os.PathLike[str] | onnx.ModelProto,
    shapes: Mapping[str, int | Sequence[Any]] | None = None,
    values: Mapping[str, Array] | None = None,
) -> Imported:
    """As import_parts, with the names of values."""
    if isinstance(model, onnx.ModelProto):
        return ModelImporter(model, None, shapes or {}, values or {}).imported(model.graph.name)
    path = Path(model)
    proto = read_model(path)
    try:
        return ModelImporter(proto, path.parent, shapes or {}, values or {}).imported(path.stem)
    except ConvcError as error:
        message = one_line(str(error))
        error.args = (message if message.startswith(str(path)) else f"{path}: {message}",)
        raise


def problems_of(
    path: str | os.PathLike[str], shapes: Mapping[str, int | Sequence[int]] | None = None
) -> list[str]:
    """Everything in a file that can't be imported, a line each. InputFileError for a damaged file."""
    try:
        import_model(path, shapes)
    except Incomplete as error:
        return list(error.problems)
    except UnsupportedError as error:
        return [str(error)]
    return []


class OnnxModel:
    """An ONNX file as a model with one entry graph."""

    def __init__(
        self, path: str | os.PathLike[str], shapes: Mapping[str, int | Sequence[int]] | None = None
    ) -> None:
        self.path = Path(path)
        self.shapes = dict(shapes or {})
        self.name = self.path.stem

    def graphs(self) -> dict[str, Graph]:
        """The graph under the name "predict"; errors as import_model's."""
        return {"predict": import_model(self.path, self.shapes)}


class ModelImporter:
    """One import of a model: `run` gives the graph, or raises what `problems` lists."""

    def __init__(
        self,
        model: onnx.ModelProto,
        folder: Path | None,
        shapes: Mapping[str, int | Sequence[int]],
        values: Mapping[str, Array],
    ) -> None:
        self.model = model
        self.folder = folder
        self.shapes = shapes
        self.builder = Builder("model")
        self.values = Known(self.builder, values)
        self.signature = Signature(self.builder, shapes, None)
        self.functions = {(f.domain, f.name): f for f in model.functions}
        self.opsets = {o.domain.replace("ai.onnx", "") if o.domain == "ai.onnx" else o.domain:
                       int(o.version) for o in model.opset_import}  # fmt: skip
        self.problems: list[str] = []
        self.needed: dict[str, None] = {}
        self.requirements: list[str] = []
        self.sequences: dict[str, tuple[str, ...]] = {}
        self.names: dict[str, str] = {}
        self.deeper = Depth()
        self.top = Scope({})
        self.count = 0
        self.reserved: set[str] = set()

    # ------------------------------------------------------------ the whole model

    def imported(self, name: str) -> Imported:
        return Imported(self.run(name), self.sequences, self.names)

    def run(self, name: str) -> Graph:
        graph = self.model.graph
        check_names(self.model)
        self.check_opsets()
        self.builder.name = name or "model"
        self.builder.reserved = self.reserved = {o.name for o in graph.output}
        scope = self.top = Scope({}, opsets=self.opsets)
        self.read_initializers(graph, scope)
        self.read_inputs(graph, scope)
        self.run_nodes(graph.node, scope)
        self.names = {name: v for name, v in scope.values.items() if isinstance(v, str)}
        outputs = self.read_outputs(graph, scope)
        if self.problems:
            self.refuse()
        return self.builder.finish((*outputs, *self.requirements))

    def refuse(self) -> None:
        raise Incomplete(tuple(dict.fromkeys(self.problems)), tuple(self.needed))

    def check_opsets(self) -> None:
        newest = defs.onnx_opset_version()
        version = self.opsets.get("", newest)
        if not OLDEST_OPSET <= version <= newest:
            raise UnsupportedError(
                f"opset {version} is not supported: expected {OLDEST_OPSET} to {newest}"
            )

    def read_initializers(self, graph: GraphProto, scope: Scope) -> None:
        if graph.sparse_initializer:
            self.problems.append("sparse initializers are not supported")
        for tensor in graph.initializer:
            if tensor.name in scope.values:
                raise InputFileError(f"initializer {tensor.name!r} is defined twice")
            try:
                value = self.builder.weight(self.legal(tensor.name), self.array(tensor))
                kind = NARROW.get(tensor.data_type)
                scope.values[tensor.name] = value if kind is None else Packed(value, kind)
            except UnsupportedError as error:
                self.problems.append(f"initializer {tensor.name!r}: {error}")
                scope.values[tensor.name] = Broken()

    def array(self, tensor: onnx.TensorProto) -> Array:
        return array_of(tensor, self.folder)

    def read_inputs(self, graph: GraphProto, scope: Scope) -> None:
        inputs = [i for i in graph.input if i.name not in scope.values]
        signature = self.signature = Signature(self.builder, self.shapes, leading_symbol(inputs))
        for info in inputs:
            if info.name in scope.values:
                raise InputFileError(f"input {info.name!r} is defined twice")
            try:
                scope.values[info.name] = signature.read_input(info)
            except UnsupportedError as error:
                self.problems.append(f"input {info.name!r}: {error}")
                scope.values[info.name] = Broken()
        signature.check_used(graph)

    def read_outputs(self, graph: GraphProto, scope: Scope) -> list[str]:
        """Gives the outputs their names."""
        outputs: list[str] = []
        for info in graph.output:
            value = self.as_output(scope.find(info.name))
            if isinstance(value, Broken):
                continue
            if isinstance(value, Packed):
                value = value.value
            if isinstance(value, Many):
                outputs += self.read_sequence(info.name, value)
                continue
            if isinstance(value, Symbolic) or value is None:
                self.problems.append(f"output {info.name!r} is a dimension that is a symbol")
                continue
            if info.name in outputs:
                raise InputFileError(f"output {info.name!r} is listed twice")
            if value != info.name:
                name = info.name
                if name in self.builder.types:
                    raise InputFileError(f"value {name!r} is defined twice")
                self.builder.emit(Node(Identity(), (value,), (name,)))
            else:
                name = self.copied(value)
            outputs.append(name)
        return outputs

    def as_output(self, value: Any) -> Any:
        """What an output of the model is made of."""
        return value

    def read_sequence(self, name: str, value: Many) -> tuple[str, ...]:
        """Gives the tensors of an output their names."""
        names = tuple(f"{name}.{k}" for k in range(len(value.values)))
        for inner, outer in zip(value.values, names, strict=True):
            self.builder.emit(Node(Identity(), (inner,), (outer,)))
        self.sequences[name] = names
        return names

    def copied(self, value: str) -> str:
        """An output that is an input or a weight of the same name can't be both."""
        if value in self.builder.inputs or value in self.builder.weights:
            return self.builder.add(Identity(), value, name=f"{value}_copy")
        return value

    # ------------------------------------------------------------ nodes

    def run_nodes(self, nodes: Sequence[NodeProto], scope: Scope) -> None:
        for position, node in enumerate(nodes):
            self.count += 1
            if self.count > len(self.model.graph.node) + MOST_ADDED:
                raise UnsupportedError(f"more than {MOST_ADDED} nodes of bodies, expanded")
            where = f"node {node.name or position!r} ({node.op_type})"
            try:
                values = [scope.find(n) if n else None for n in node.input]
            except InputFileError as error:
                raise InputFileError(f"{where}: {error}") from None
            while values and values[-1] is None:
                values.pop()
            results = self.results_of(node, values, scope, where)
            self.define(node, results, scope, where)

    def define(self, node: NodeProto, results: Sequence[Any], scope: Scope, where: str) -> None:
        for k, name in enumerate(node.output):
            if not name:
                continue
            if name in scope.values:
                raise InputFileError(f"{where}: value {name!r} is defined twice")
            result = results[k] if k < len(results) else None
            if result is None:
                self.problems.append(f"{where}: output {k} is not supported")
                result = Broken()
            scope.values[name] = result

    def results_of(
        self, node: NodeProto, values: list[Any], scope: Scope, where: str
    ) -> Sequence[Any]:
        """The values of a node's outputs; Broken ones where it can't be imported."""
        broken = [Broken()] * len(node.output)
        if any(isinstance(v, Broken) for v in values):
            return broken
        domain = "" if node.domain == "ai.onnx" else node.domain
        opset = scope.opsets.get(domain, 0)
        outer = self.builder.layer
        self.builder.layer = node.name or outer or node.op_type
        before = len(self.builder.nodes)
        try:
            result = self.apply(node, domain, opset, values, scope)
        except InputFileError as error:
            raise InputFileError(f"{where}: {error}") from None
        except (Rejected, OpError, UnsupportedError) as error:
            if isinstance(error, ValueNeeded):
                self.needed[error.name] = None
            types = ", ".join(self.describe(v) for v in values)
            hint = self.sizes_hint(values) if isinstance(error, OpError) else ""
            self.problems.append(f"{where} at opset {opset} on ({types}): {error}{hint}")
            return broken
        except (
            ValueError,
            TypeError,
            KeyError,
            IndexError,
            ArithmeticError,
            AttributeError,
            MemoryError,
        ) as error:
            # An attribute of a wrong kind or length: rules read them as the specification says they are.
            problem = " ".join(str(error).split()) or type(error).__name__
            raise InputFileError(f"{where}: attributes or inputs do not fit: {problem}") from error
        finally:
            self.builder.layer = outer
        for added in self.builder.nodes[before:]:
            self.check_sizes(added, where)
        return result if isinstance(result, tuple) else (result,)

    def check_sizes(self, node: Node, where: str) -> None:
        for name in node.outputs:
            size = size_of(self.builder.types[name].shape)
            if isinstance(size, int) and size > LARGEST:
                shape = list(self.builder.types[name].shape)
                raise InputFileError(f"{where} makes a tensor of impossible dimensions {shape}")

    def sizes_hint(self, values: Sequence[Any]) -> str:
        """What may help where an operator doesn't fit and dimensions of its inputs are symbols."""
        types = [self.builder.types[v] for v in values if isinstance(v, str)]
        symbols = symbols_of(e for type in types for e in type.shape)
        labels = [label for s, label in self.signature.labels.items() if s in symbols - {"N"}]
        shown = " ".join(f"--shape {label}=…" for label in labels)
        return f"; it may fit for given sizes: {shown}" if shown else ""

    def describe(self, value: Any) -> str:
        if isinstance(value, str):
            return str(self.builder.types[value])
        if isinstance(value, Many):
            return f"{len(value.values)} tensors"
        if isinstance(value, Packed):
            shape = self.builder.types[value.value].shape
            return f"{value.kind.name}[{', '.join(map(str, shape))}]"
        return "" if value is None else "dimensions"

    def apply(
        self, node: NodeProto, domain: str, opset: int, values: list[Any], scope: Scope
    ) -> Any:
        own = self.functions.get((node.domain, node.op_type))
        if own is not None:
            return self.call_function(own, node, values, scope)
        attributes = self.attributes(node, scope)
        if domain not in RULES:
            raise UnsupportedError(f"operators of the domain {domain!r} are not supported")
        if domain == "" and not opset:
            raise InputFileError("the model imports no opset of ai.onnx")
        base = self.legal(next((o for o in node.output if o), node.op_type))
        call = Call(self, node.op_type, opset, values, attributes, node.output, base)
        if any(isinstance(v, Symbolic) for v in values) or node.op_type in ("Shape", "Size"):
            result = self.symbolic(call)
            if result is not None:
                return result
        rule = RULES[domain].get(node.op_type)
        if rule is not None and values and isinstance(values[0], Packed) and moves(node, domain):
            return moved(rule, call)
        if rule is not None:
            return rule(call)
        return self.expand(node, domain, opset, values, scope)

    def attributes(self, node: NodeProto, scope: Scope) -> dict[str, Any]:
        """The node's attributes; those that refer to the function's are looked up there."""
        found: dict[str, Any] = {}
        for attribute in node.attribute:
            if attribute.ref_attr_name:
                if attribute.ref_attr_name in scope.attributes:
                    found[attribute.name] = scope.attributes[attribute.ref_attr_name]
                continue
            value = attributes_of(attribute)
            found[attribute.name] = (
                Subgraph(value, scope) if isinstance(value, GraphProto) else value
            )
        return found

    def legal(self, name: str) -> str:
        """A value name for our text format, which isn't one of the model's outputs."""
        legal = re.sub(r"[^A-Za-z0-9_]", "_", name) or "value"
        legal = legal if legal[0].isalpha() or legal[0] == "_" else f"_{legal}"
        return f"{legal}_value" if legal in self.reserved else legal

    # ------------------------------------------------------------ functions and subgraphs

    def expand(
        self, node: NodeProto, domain: str, opset: int, values: list[Any], scope: Scope
    ) -> Any:
        """A node through the function body of its operator's definition."""
        types = [type_proto(self.builder, v) for v in values]
        body, defaults = body_of(resolved(node, scope), domain, opset, types)
        return self.call_function(body, node, values, scope, defaults)

    def call_function(
        self,
        body: FunctionProto,
        node: NodeProto,
        values: list[Any],
        scope: Scope,
        defaults: Mapping[str, Any] | None = None,
    ) -> Any:
        """A function's body on a node's inputs."""
        attributes = {a.name: attributes_of(a) for a in body.attribute_proto}
        attributes |= dict(defaults or {}) | self.attributes(node, scope)
        if len(values) > len(body.input):
            raise InputFileError(f"{len(values)} inputs, but the function takes {len(body.input)}")
        padded = [*values, *[None] * (len(body.input) - len(values))]
        opsets = {"": defs.onnx_opset_version()} | dict(scope.opsets)
        opsets |= {
            ("" if o.domain == "ai.onnx" else o.domain): int(o.version) for o in body.opset_import
        }
        inner = Scope(dict(zip(body.input, padded, strict=True)), None, opsets, attributes)
        before = len(self.problems)
        with self.deeper:
            self.run_nodes(body.node, inner)
        if len(self.problems) > before:
            return tuple(Broken() for _ in body.output)
        wanted = [k for k, o in enumerate(node.output) if o]
        return tuple(inner.find(o) if k in wanted else None for k, o in enumerate(body.output))

    def subgraph(self, graph: Any, inputs: Sequence[Any]) -> list[Any]:
        """The outputs of a subgraph (of If, Loop or Scan) on values."""
        if not isinstance(graph, Subgraph):
            raise InputFileError("a body is missing, or isn't a graph")
        proto = graph.proto
        if len(inputs) > len(proto.input):
            raise InputFileError(f"{len(inputs)} inputs, but the body takes {len(proto.input)}")
        names = [i.name for i in proto.input]
        outer = graph.scope
        inner = Scope(dict(zip(names, inputs, strict=False)), outer, outer.opsets, outer.attributes)
        before = len(self.problems)
        with self.deeper:
            self.read_initializers(proto, inner)
            self.run_nodes(proto.node, inner)
            results = [inner.find(o.name) for o in proto.output]
        if len(self.problems) > before or any(isinstance(r, Broken) for r in results):
            raise Rejected("its body can't be imported")
        return results

    # ------------------------------------------------------------ what is known at import

    def symbolic(self, call: Call) -> Any:
        """A node that computes with dimensions; None if it has to be computed at run time."""
        rule = SYMBOLIC_RULES.get(call.kind)
        if rule is None:
            return None
        arrays: list[Any] = []
        dtype = None
        for value in call.values:
            if isinstance(value, Symbolic):
                arrays.append(value.values)
                dtype = dtype or value.dtype
            elif not isinstance(value, str) or call.kind in ("Shape", "Size"):
                arrays.append(None)
            elif self.known(value):
                array = self.evaluate(value)
                arrays.append(array.astype(object) if array.dtype.kind in "iu" else array)
            else:
                return None
        result = rule(call, arrays)
        if result is None:
            return None
        many = result if isinstance(result, tuple) else (result,)
        return tuple(r if isinstance(r, str) else self.settled(call, r) for r in many)

    def settled(self, call: Call, result: Symbolic) -> str | Symbolic:
        """Dimensions that turned out to be plain numbers become a constant."""
        if any(isinstance(e, Dim) for e in result.values.reshape(-1)):
            return result
        return call.constant(result.values.astype(result.dtype.numpy))

    def known(self, name: str) -> bool:
        """Whether a value follows from weights (and the given inputs) alone."""
        return self.values.has(name)

    def named(self, name: str) -> object:
        """What a name of the model's graph stands for by now."""
        return self.top.find(name)

    def rows(self, name: str) -> int | None:
        """The rows that `shapes` gives to an output whose number of rows data decide."""
        given = self.shapes.get(name)
        if isinstance(given, Sequence):
            raise Rejected(f"expected the number of rows of {name!r}, got the shape {list(given)}")
        return given

    def require(self, text: str, held: str) -> None:
        """Makes runs fail where the bool `held` is false; `text` is what messages say."""
        name = self.builder.fresh(f"{REQUIRE}{text}")
        self.requirements.append(self.builder.add(Identity(), held, name=name))

    def evaluate(self, name: str) -> Array:
        """A value, computed at import; ValueNeeded if an input decides it."""
        return self.values.evaluate(name)


def moves(node: NodeProto, domain: str) -> bool:
    return domain == "" and node.op_type in MOVES


__all__ = ["Incomplete", "OnnxModel", "import_model", "import_parts", "problems_of"]
