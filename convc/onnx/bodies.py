"""Operators of ONNX that have no rule: the function bodies of their definitions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onnx import FunctionProto, NodeProto, TypeProto, defs, helper

from convc.errors import UnsupportedError
from convc.graph.ir import Builder
from convc.onnx.exporter import CODES
from convc.onnx.importers.call import Many, Packed, Symbolic
from convc.onnx.reading import attributes_of
from convc.onnx.scope import Scope
from convc.types import TensorType


def body_of(
    node: NodeProto, domain: str, opset: int, types: Sequence[bytes]
) -> tuple[FunctionProto, dict[str, Any]]:
    """The function body of a node's operator at an opset, and the defaults of its attributes.

    `types` are the serialized types of its inputs. UnsupportedError where there is no such operator, or no body.
    """
    try:
        schema: Any = defs.get_schema(node.op_type, max(opset, 1), domain)
    except defs.SchemaError:
        raise UnsupportedError(
            f"there is no operator {node.op_type} in opset {opset} of {domain or 'ai.onnx'}"
        ) from None
    if schema.has_context_dependent_function:
        versions = schema.context_dependent_function_opset_versions
        version = max((v for v in versions if v <= opset), default=max(versions))
        text = schema.get_context_dependent_function_with_opset_version(
            version, node.SerializeToString(), list(types)
        )
    elif schema.has_function:
        versions = schema.function_opset_versions
        version = max((v for v in versions if v <= opset), default=max(versions))
        text = schema.get_function_with_opset_version(version)
    else:
        raise UnsupportedError(f"operator {node.op_type} is not supported")
    body = FunctionProto()
    body.ParseFromString(text if isinstance(text, bytes) else text.SerializeToString())
    defaults = {
        name: attributes_of(a.default_value)
        for name, a in schema.attributes.items()
        if a.default_value.name
    }
    return body, defaults


def type_proto(builder: Builder, value: Any) -> bytes:
    """The serialized ONNX type of a value of the import."""
    if value is None:
        return bytes(TypeProto().SerializeToString())
    if isinstance(value, Many):
        sequence = TypeProto()
        if value.values:
            element = type_proto(builder, value.values[0])
            sequence.sequence_type.elem_type.ParseFromString(element)
        return bytes(sequence.SerializeToString())
    if isinstance(value, Packed):
        extents = [e if isinstance(e, int) else str(e) for e in builder.types[value.value].shape]
        packed = helper.make_tensor_type_proto(value.kind.code, extents)
        return bytes(packed.SerializeToString())
    if isinstance(value, Symbolic):
        type = TensorType(value.dtype, value.values.shape)
    else:
        type = builder.types[value]
    shape = [e if isinstance(e, int) else str(e) for e in type.shape]
    return bytes(helper.make_tensor_type_proto(CODES[type.dtype], shape).SerializeToString())


def resolved(node: NodeProto, scope: Scope) -> NodeProto:
    """The node with the attributes that refer to a function's in their places."""
    if not any(a.ref_attr_name for a in node.attribute):
        return node
    copy = NodeProto()
    copy.CopyFrom(node)
    del copy.attribute[:]
    for attribute in node.attribute:
        if not attribute.ref_attr_name:
            copy.attribute.append(attribute)
        elif attribute.ref_attr_name in scope.attributes:
            value = scope.attributes[attribute.ref_attr_name]
            copy.attribute.append(helper.make_attribute(attribute.name, value))
    return copy
