"""Other runtimes on an ONNX model, with every value that they compute on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import (
    AttributeProto,
    GraphProto,
    NodeProto,
    TensorProto,
    helper,
    numpy_helper,
    version_converter,
)
from onnx.reference import ReferenceEvaluator

from convc.errors import ConvcError, UnsupportedError, UsageError
from convc.graph.ir import Array

NARROW = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)


class PeerError(ConvcError):
    """Another runtime that refuses a model."""

    exit_code = UnsupportedError.exit_code


def run_reference(
    model: onnx.ModelProto, inputs: Mapping[str, Array], wide: bool = False
) -> dict[str, Array]:
    """Every array that ONNX' reference evaluator computes; with `wide`, all floats in float64.

    A model of an opset that it lacks an operator of is converted to the newest first.
    """
    if wide:
        model = widened(model)
        inputs = {n: a.astype(np.float64) if is_float(a) else a for n, a in inputs.items()}
    try:
        with np.errstate(all="ignore"):
            found: Any = evaluator_of(model).run(None, dict(inputs), intermediate=True)
    except Exception as error:
        raise PeerError(f"the reference evaluator: {' '.join(str(error).split())}") from error
    return {n: np.asarray(a) for n, a in found.items() if isinstance(a, np.ndarray | np.generic)}


def evaluator_of(model: onnx.ModelProto) -> ReferenceEvaluator:
    newest = onnx.defs.onnx_opset_version()
    try:
        return ReferenceEvaluator(model)
    except Exception as error:
        if "No implementation" not in str(error):
            raise
        return ReferenceEvaluator(version_converter.convert_version(model, newest))


def run_onnxruntime(
    model: onnx.ModelProto,
    inputs: Mapping[str, Array],
    names: Sequence[str] = (),
    optimized: bool = True,
) -> dict[str, Array]:
    """The outputs of a model in ONNX Runtime, and the values `names`, which are made outputs.

    Values that are outputs keep the runtime's optimizer from fusing across them.
    """
    try:
        import onnxruntime
    except ImportError:
        raise UsageError(
            "--against onnxruntime needs it installed: pip install 'convc[bench]'"
        ) from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimized else level.ORT_DISABLE_ALL
    try:
        text = exposing(model, names).SerializeToString()
        session = onnxruntime.InferenceSession(text, options, ["CPUExecutionProvider"])
        wanted = [o.name for o in session.get_outputs()]
        results = session.run(wanted, dict(inputs))
    except Exception as error:
        raise PeerError(f"onnxruntime: {' '.join(str(error).split())}") from error
    return {n: a for n, a in zip(wanted, results, strict=True) if isinstance(a, np.ndarray)}


def exposing(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """The model with more of its values as outputs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    there = {o.name for o in copy.graph.output}
    copy.graph.output.extend(
        helper.make_empty_tensor_value_info(n) for n in names if n not in there
    )
    return copy


def is_float(array: Array) -> bool:
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"


# ---------------------------------------------------------------- the same model in float64


def widened(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with float64 in place of every narrower float."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    _widen_graph(copy.graph)
    for function in copy.functions:
        for node in function.node:
            _widen_node(node)
    return copy


def _widen_graph(graph: GraphProto) -> None:
    for info in (*graph.input, *graph.output):
        type = info.type.tensor_type
        if type.elem_type in NARROW:
            type.elem_type = TensorProto.DOUBLE
    del graph.value_info[:]
    for tensor in graph.initializer:
        _widen_tensor(tensor)
    for node in graph.node:
        _widen_node(node)


def _widen_node(node: NodeProto) -> None:
    for attribute in node.attribute:
        match attribute.type:
            case AttributeProto.TENSOR:
                _widen_tensor(attribute.t)
            case AttributeProto.GRAPH:
                _widen_graph(attribute.g)
            case AttributeProto.INT if attribute.name in ("to", "dtype", "output_dtype"):
                if attribute.i in NARROW:
                    attribute.i = TensorProto.DOUBLE
            case AttributeProto.FLOAT if node.op_type == "Constant":
                value = np.array(attribute.f, np.float64)
                attribute.CopyFrom(helper.make_attribute("value", numpy_helper.from_array(value)))
            case AttributeProto.FLOATS if node.op_type == "Constant":
                value = np.array(attribute.floats, np.float64)
                attribute.CopyFrom(helper.make_attribute("value", numpy_helper.from_array(value)))
    plain = node.op_type == "ConstantOfShape" and not node.attribute
    if plain:
        zero: Any = numpy_helper.from_array(np.zeros(1, np.float64))
        node.attribute.append(helper.make_attribute("value", zero))


def _widen_tensor(tensor: TensorProto) -> None:
    if tensor.data_type in NARROW:
        array = np.asarray(numpy_helper.to_array(tensor)).astype(np.float64)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
