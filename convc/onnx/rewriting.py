"""ONNX models read to be written again: converted to an opset, inlined, with their metadata kept."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from convc_runtime import WriteError
from convc_runtime.writing import settle, write_whole
from onnx import AttributeProto, GraphProto, inliner, version_converter

from convc.errors import ConvcError, UnsupportedError, UsageError
from convc.graph.ir import Graph
from convc.onnx.carrying import Carried, import_carried
from convc.onnx.exporter import LARGEST_FILE, OLDEST_OPSET, export_graph
from convc.onnx.reading import read_model


@dataclass(frozen=True)
class Read:
    """A model as it was, and its graph for the exporter."""

    original: onnx.ModelProto
    carried: Carried
    opset: int
    bytes: int


def read_for_rewriting(
    path: str | os.PathLike[str], opset: int | None, shapes: Mapping[str, int | Sequence[int]]
) -> Read:
    """The model of a file at an opset (its own if that is one the exporter writes, else the exporter's oldest)."""
    path = Path(path)
    original = read_model(path)
    own = next((int(o.version) for o in original.opset_import if o.domain in ("", "ai.onnx")), 0)
    wanted = opset or max(own, OLDEST_OPSET)
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST_OPSET <= wanted <= newest:
        raise UsageError(
            f"--opset: expected a number from {OLDEST_OPSET} to {newest}, got {wanted}"
        )
    try:
        model = inlined(at_opset(original, own, wanted))
        carried = import_carried(model, path.parent, shapes)
    except ConvcError as error:
        error.args = (f"{path}: {error}",)
        raise
    beside = {external(t) for t in original.graph.initializer} - {""}
    size = path.stat().st_size + sum((path.parent / name).stat().st_size for name in beside)
    return Read(original, carried, wanted, size)


def external(tensor: onnx.TensorProto) -> str:
    """The file of a tensor's external data; empty where it has none."""
    found = {e.key: e.value for e in tensor.external_data}
    return str(found.get("location", ""))


def at_opset(model: onnx.ModelProto, own: int, wanted: int) -> onnx.ModelProto:
    if own == wanted:
        return model
    try:
        converted: onnx.ModelProto = version_converter.convert_version(model, wanted)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UnsupportedError(
            f"ONNX' version converter can't take it from opset {own} to {wanted}: {reason}"
        ) from error
    return converted


def inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the bodies of its own functions in their places."""
    if not model.functions:
        return model
    found: onnx.ModelProto = inliner.inline_local_functions(model)
    return found


def written_back(graph: Graph, read: Read) -> onnx.ModelProto:
    """The graph as a model with the original's words: names of dimensions, documentation, metadata."""
    labels = read.carried.symbols
    size = sum(array.nbytes for array in graph.weights.values())
    made = export_graph(graph, read.opset, labels, check=size <= LARGEST_FILE, scales=True)
    original = read.original
    made.graph.name = original.graph.name
    made.graph.doc_string = original.graph.doc_string
    made.doc_string, made.domain = original.doc_string, original.domain
    made.model_version = original.model_version
    made.metadata_props.extend(original.metadata_props)
    made.ir_version = max(made.ir_version, original.ir_version)
    documented = {i.name: i for i in (*original.graph.input, *original.graph.output)}
    for info in (*made.graph.input, *made.graph.output):
        if info.name in documented:
            info.doc_string = documented[info.name].doc_string
            info.metadata_props.extend(documented[info.name].metadata_props)
    return made


def save(model: onnx.ModelProto, path: Path) -> list[Path]:
    """Writes a model; past 2 GiB its weights go to a file beside it. Returns what was written.

    Files appear once they are whole. WriteError if they can't be written.
    """
    size = sum(len(t.raw_data) for t in model.graph.initializer)
    if size <= LARGEST_FILE - (1 << 20):
        onnx.checker.check_model(model, full_check=True)
        write_whole(path, model.SerializeToString())
        return [path]
    beside = path.with_suffix(".onnx.data")
    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            scratch = Path(folder) / path.name
            onnx.save(
                model,
                scratch,
                save_as_external_data=True,
                location=beside.name,
                size_threshold=1024,
            )
            onnx.checker.check_model(str(scratch))
            settle(scratch.with_name(beside.name), beside)
            settle(scratch, path)
    except OSError as error:
        raise WriteError(f"can't write {path}: {error.strerror or error}") from None
    return [path, beside]


def node_counts(model: onnx.ModelProto) -> Counter[str]:
    """Nodes by operator, those of subgraphs too."""
    found: Counter[str] = Counter()
    stack: list[GraphProto] = [model.graph]
    while stack:
        for node in stack.pop().node:
            found[node.op_type] += 1
            stack += [a.g for a in node.attribute if a.type == AttributeProto.GRAPH]
    return found
