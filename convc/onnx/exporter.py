"""Inference graphs as ONNX models."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, defs, helper

from convc import __version__
from convc.errors import ConvcError, IRError, UnsupportedError, UsageError
from convc.graph.ir import Array, Builder, Graph, Node, type_of
from convc.onnx.export_rules import RULES
from convc.types import DType, Extent, TensorType

OLDEST_OPSET = 17
LARGEST_FILE = (1 << 31) - 1

CODES: dict[DType, int] = {
    DType.float64: TensorProto.DOUBLE,
    DType.float32: TensorProto.FLOAT,
    DType.bfloat16: TensorProto.BFLOAT16,
    DType.float16: TensorProto.FLOAT16,
    DType.int64: TensorProto.INT64,
    DType.int32: TensorProto.INT32,
    DType.int16: TensorProto.INT16,
    DType.int8: TensorProto.INT8,
    DType.uint64: TensorProto.UINT64,
    DType.uint32: TensorProto.UINT32,
    DType.uint16: TensorProto.UINT16,
    DType.uint8: TensorProto.UINT8,
    DType.bool: TensorProto.BOOL,
}
"""ONNX' number of each element type."""

SCHEMA_NAMES = {"float": DType.float32, "double": DType.float64}
"""Where an operator schema's `tensor(...)` says another word than we do."""


def export_graph(graph: Graph, opset: int = 17) -> onnx.ModelProto:
    """The graph as a checked ONNX model: value names are kept, weights are initializers, symbols are `dim_param`s.

    Tensors are logical, so convolutions are NCHW. UnsupportedError lists every node that ONNX has no operator for at
    this opset, or none of its dtype.
    """
    newest = defs.onnx_opset_version()
    if not OLDEST_OPSET <= opset <= newest:
        raise UsageError(f"opset: expected a number from {OLDEST_OPSET} to {newest}, got {opset}")
    size = sum(array.nbytes for array in graph.weights.values())
    if size > LARGEST_FILE:
        raise UnsupportedError(
            f"{graph.name}: an ONNX model holds weights of 2 GiB at most, got {size / 2**30:.1f} GiB"
        )
    emitter = Emitter(graph, opset)
    emitter.run()
    model = emitter.model()
    onnx.checker.check_model(model, full_check=True)
    return model


class Emitter:
    """Collects the ONNX nodes and constants of a graph. Rules call it to emit one node."""

    def __init__(self, graph: Graph, opset: int) -> None:
        self.graph = graph
        self.opset = opset
        self.types: dict[str, TensorType] = dict(graph.types)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Array] = dict(graph.weights)
        self.problems: list[str] = []
        self._dtypes: dict[str, DType] = {n: t.dtype for n, t in graph.types.items()}
        self._counts: dict[str, int] = {}
        self._base = ""
        self._layer = ""

    def __call__(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Emits an ONNX operator of one output and returns the output's name. An input "" is left out."""
        schema = defs.get_schema(kind, max_inclusive_version=self.opset, domain="")
        dtype = self._result(schema, inputs, attributes)
        name = self.fresh(self._base)
        self._dtypes[name] = dtype
        given = {k: v for k, v in attributes.items() if v is not None}
        node = helper.make_node(kind, inputs, [name], name=name, doc_string=self._layer, **given)
        self.nodes.append(node)
        return name

    def constant(self, array: Any, base: str = "constant") -> str:
        """Adds a constant tensor and returns its name."""
        name = self.fresh(base)
        self.constants[name] = np.asarray(array)
        self._dtypes[name] = type_of(self.constants[name]).dtype
        return name

    def integers(self, values: Iterable[Any], base: str) -> str:
        """A constant vector of int64."""
        return self.constant(np.array([int(v) for v in values], np.int64), base)

    def scalar(self, value: float, like: str) -> str:
        """A constant of rank 0 in the dtype of a value."""
        return self.constant(np.array(value, self._dtypes[like].numpy))

    def cast(self, value: str, dtype: DType) -> str:
        """The value in a dtype, itself where it has it."""
        return value if self._dtypes[value] is dtype else self("Cast", value, to=CODES[dtype])

    def fresh(self, base: str) -> str:
        """A name that isn't taken yet."""
        name = base
        while name in self._dtypes:
            self._counts[base] = self._counts.get(base, 0) + 1
            name = f"{base}_{self._counts[base]}"
        return name

    def run(self) -> None:
        """Emits all nodes; UnsupportedError lists those that could not be."""
        for node in self.graph.nodes:
            before = len(self.nodes)
            try:
                self.emit(node)
            except ConvcError as error:
                del self.nodes[before:]
                where = f"layer {node.layer!r}, " if node.layer else ""
                self.problems.append(f"{where}{node.op} at {node.outputs[0]!r}: {error}")
        if self.problems:
            raise UnsupportedError(
                f"{self.graph.name} has no ONNX form at opset {self.opset}: "
                + "; ".join(self.problems)
            )

    def emit(self, node: Node) -> None:
        """Emits one node of the graph, as operators of its decomposition where no rule says it."""
        self._base, self._layer = node.outputs[0], node.layer
        rule = RULES.get(type(node.op))
        value = rule(self, node.op, *node.inputs) if rule else None
        if value is not None:
            self._define(node.outputs[0], value)
        elif node.op.decompose is not None:
            self._expand(node)
        else:
            raise UnsupportedError("ONNX has no such operator")

    def _define(self, name: str, value: str) -> None:
        """Gives the value that the last node made its name in the graph; copies any other value."""
        if not self.nodes or self.nodes[-1].output[0] != value:
            value = self("Identity", value)
        if self._dtypes[value] is not self.types[name].dtype:
            raise IRError(f"exported as {self._dtypes[value].value}, is {self.types[name]}")
        self.nodes[-1].output[0] = self.nodes[-1].name = name
        del self._dtypes[value]
        self._dtypes[name] = self.types[name].dtype

    def _expand(self, node: Node) -> None:
        """Emits the operators that an operator is made of."""
        assert node.op.decompose is not None
        builder = Builder(node.outputs[0])
        for name in dict.fromkeys(node.inputs):
            builder.input(name, self.types[name])
        inner = builder.finish(node.op.decompose(builder, *node.inputs))
        names = {name: name for name in inner.inputs} | dict(
            zip(inner.outputs, node.outputs, strict=True)
        )
        for name, array in inner.weights.items():
            names[name] = self.constant(array, f"{node.outputs[0]}_{name}")
            self.types[names[name]] = type_of(array)
        for part in inner.nodes:
            for name in part.outputs:
                if name not in names:
                    names[name] = self.fresh(f"{node.outputs[0]}_{name}")
                    self.types[names[name]] = inner.types[name]
                    self._dtypes[names[name]] = inner.types[name].dtype
            inputs, outputs = (tuple(names[n] for n in ns) for ns in (part.inputs, part.outputs))
            self.emit(Node(part.op, inputs, outputs, node.layer))

    def _result(
        self, schema: defs.OpSchema, inputs: tuple[str, ...], attributes: dict[str, Any]
    ) -> DType:
        """The output's dtype by the operator's schema; UnsupportedError where an input's dtype isn't in it."""
        by_variable: dict[str, DType] = {}
        for k, name in enumerate(inputs):
            formal = schema.inputs[min(k, len(schema.inputs) - 1)]
            if not name:
                continue
            dtype = self._dtypes[name]
            if dtype not in allowed(formal):
                raise UnsupportedError(
                    f"ONNX' {schema.name} at opset {self.opset} takes no {dtype.value}"
                )
            by_variable[formal.type_str] = dtype
        if "to" in attributes:
            return next(d for d, code in CODES.items() if code == attributes["to"])
        output = schema.outputs[0]
        only = allowed(output)
        return by_variable.get(output.type_str) or next(iter(only))

    def model(self) -> onnx.ModelProto:
        """The model of what was emitted."""
        graph = self.graph
        inner = [n for n in graph.types if n not in {*graph.inputs, *graph.outputs, *graph.weights}]
        used = {name for node in self.nodes for name in node.input} | {*graph.outputs}
        onnx_graph = helper.make_graph(
            self.nodes,
            graph.name,
            [self._info(n) for n in graph.inputs],
            [self._info(n) for n in graph.outputs],
            [tensor(n, a) for n, a in self.constants.items() if n in used],
            value_info=[self._info(n) for n in inner],
        )
        opsets = [helper.make_opsetid("", self.opset)]
        return helper.make_model(
            onnx_graph,
            opset_imports=opsets,
            ir_version=helper.find_min_ir_version_for(opsets),
            producer_name="convc",
            producer_version=__version__,
        )

    def _info(self, name: str) -> onnx.ValueInfoProto:
        type = self.types[name]
        shape = [onnx_dimension(e) for e in type.shape]
        return helper.make_tensor_value_info(name, CODES[type.dtype], shape)


def allowed(formal: defs.OpSchema.FormalParameter) -> set[DType]:
    """Our dtypes among those that a schema allows for an input or output."""
    words = {t.removeprefix("tensor(").removesuffix(")") for t in formal.types}
    own = {d.value for d in DType}
    return {SCHEMA_NAMES.get(w) or DType(w) for w in words if w in own or w in SCHEMA_NAMES}


def onnx_dimension(extent: Extent) -> int | str:
    """A number, or the text of a symbolic extent."""
    return extent if isinstance(extent, int) else str(extent)


def tensor(name: str, array: Array) -> TensorProto:
    """An array as an initializer."""
    return TensorProto(
        name=name,
        data_type=CODES[type_of(array).dtype],
        dims=array.shape,
        raw_data=np.ascontiguousarray(array).tobytes(),
    )
