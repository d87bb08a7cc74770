"""ONNX nodes that a rewriting import carries along as they are, for the exporter to write back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from onnx import AttributeProto, GraphProto, NodeProto, helper
from onnx.reference import ReferenceEvaluator

from convc.graph.op import Op, unsupported_gradient
from convc.types import DType, Extent, TensorType


@dataclass(frozen=True)
class Foreign(Op):
    """An ONNX node. Its inputs are those that `node` names, in order, each once, and what its subgraphs read.

    `node` is a serialized NodeProto; `names` are the node's words for the inputs, `made` those for the outputs.
    `serial` tells nodes apart that may give other results though they are alike.
    """

    mnemonic: ClassVar[str] = "onnx_node"

    node: bytes = b""
    names: tuple[str, ...] = ()
    made: tuple[str, ...] = ()
    types: tuple[TensorType, ...] = ()
    opset: int = 0
    serial: int = 0
    gradient = unsupported_gradient

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        return self.types

    def reference(self, *arrays: Any) -> Any:
        proto = self.proto()
        opsets = [helper.make_opsetid(proto.domain, self.opset)]
        inputs = [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for n, a in zip(self.names, arrays, strict=True)
        ]
        outputs = [helper.make_empty_tensor_value_info(o) for o in self.made]
        model = helper.make_model(
            helper.make_graph([proto], "node", inputs, outputs), opset_imports=opsets
        )
        found: Any = ReferenceEvaluator(model).run(None, dict(zip(self.names, arrays, strict=True)))
        return tuple(map(np.asarray, found))

    def proto(self) -> NodeProto:
        proto = NodeProto()
        proto.ParseFromString(self.node)
        return proto

    def renamed(self, inputs: tuple[str, ...], outputs: tuple[str, ...], name: str) -> NodeProto:
        """The node on values of the graph that is written."""
        proto = self.proto()
        names = dict(zip(self.names, inputs, strict=True))
        made = dict(zip(self.made, outputs, strict=True))
        new_inputs = [names.get(i, i) for i in proto.input]
        new_outputs = [made.get(o, "") for o in proto.output]
        del proto.input[:], proto.output[:]
        proto.input.extend(new_inputs)
        proto.output.extend(new_outputs)
        proto.name = name
        for attribute in proto.attribute:
            if attribute.type == AttributeProto.GRAPH:
                _rename(attribute.g, names)
        return proto


@dataclass(frozen=True)
class Dimensions(Op):
    """A vector of dimensions, int64: numbers and polynomials of the graph's symbols."""

    mnemonic: ClassVar[str] = "dimensions"

    values: tuple[Extent, ...] = ()
    scalar: bool = False
    dtype: DType = DType.int64
    gradient = unsupported_gradient

    def infer(self) -> tuple[TensorType, ...]:
        return (TensorType(self.dtype, () if self.scalar else (len(self.values),)),)

    def reference(self) -> Any:
        array = np.array(self.values, self.dtype.numpy)
        return array.reshape(()) if self.scalar else array


def read_outside(node: NodeProto) -> list[str]:
    """What a node's subgraphs read from around it."""
    found: dict[str, None] = {}
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            found |= dict.fromkeys(_free(attribute.g))
    return list(found)


def _free(graph: GraphProto) -> list[str]:
    own = {i.name for i in graph.input} | {t.name for t in graph.initializer}
    found: dict[str, None] = {}
    for node in graph.node:
        found |= dict.fromkeys(n for n in [*node.input, *read_outside(node)] if n and n not in own)
        own.update(node.output)
    return [*found, *(o.name for o in graph.output if o.name not in own)]


def _rename(graph: GraphProto, names: Mapping[str, str]) -> None:
    """Gives what a subgraph reads from outside its new names, and what it defines itself names that are free."""
    inner = {
        i: f"{i}_inner"
        for i in [
            *(v.name for v in graph.input),
            *(t.name for t in graph.initializer),
            *(o for n in graph.node for o in n.output if o),
        ]
        if i in names.values()
    }
    every = {**names, **inner}
    for item in (*graph.input, *graph.output, *graph.initializer):
        item.name = every.get(item.name, item.name)
    del graph.value_info[:]
    for node in graph.node:
        inputs = [every.get(i, i) for i in node.input]
        outputs = [inner.get(o, o) for o in node.output]
        del node.input[:], node.output[:]
        node.input.extend(inputs)
        node.output.extend(outputs)
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                _rename(attribute.g, every)
