"""Small ONNX models for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from convc.graph.ir import Array


def model_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Array | tuple[Any, Sequence[int | str]]],
    outputs: Sequence[str] = ("y",),
    weights: Mapping[str, Array] | None = None,
    opset: int = 21,
) -> onnx.ModelProto:
    """A model of nodes. An input is an array of its type, or its dtype and its dimensions."""
    infos = []
    for name, given in inputs.items():
        dtype, shape = given if isinstance(given, tuple) else (given.dtype, given.shape)
        code = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        infos.append(helper.make_tensor_value_info(name, code, shape))
    graph = helper.make_graph(
        list(nodes),
        "test",
        infos,
        [helper.make_empty_tensor_value_info(o) for o in outputs],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in (weights or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(
        graph, opset_imports=opsets, ir_version=helper.find_min_ir_version_for(opsets)
    )


def node(kind: str, inputs: str, outputs: str = "y", **attributes: Any) -> onnx.NodeProto:
    """A node on values named in one text; `_` leaves an input out."""
    names = ["" if n == "_" else n for n in inputs.split()]
    return helper.make_node(kind, names, outputs.split(), name=outputs.split()[0], **attributes)
