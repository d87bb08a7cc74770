"""`model.export`: the model as an ONNX file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import convc
from convc.errors import UnsupportedError, UsageError
from convc.graph.ir import Builder, Graph
from convc.keras.engine.naming import nearest
from convc.keras.engine.tensor import BATCH
from convc.keras.tree import flatten
from convc.ops.elementwise import Cast
from convc.passes.fix_batch import fix_batch
from convc.passes.rewriter import renamed_all
from convc.passes.training_mode import SEED_INPUT
from convc.types import DType, TensorType

FORMATS = ("tf_saved_model", "onnx", "openvino", "litert", "torch")
"""Keras'."""
OPSET = 17
OPSET_OF_DRAWS = 18
"""The first with the operators that random numbers are made of."""
OPTIONS = ("opset_version",)


def export(
    model: Any,
    filepath: str | Path,
    format: str,
    verbose: bool | None,
    input_signature: Any,
    options: Mapping[str, Any],
) -> None:
    """Writes a model to a file in one of Keras' formats: ONNX. Says where unless `verbose` is False.

    UsageError for a format that Keras doesn't know, a signature that doesn't fit the model, or an unknown option;
    UnsupportedError for Keras' other formats.
    """
    where = f"model {model.name!r}: export({str(filepath)!r}, format={format!r})"
    if format not in FORMATS:
        raise UsageError(f"{where}: expected format='onnx'{nearest(format, FORMATS)}")
    if format != "onnx":
        raise UnsupportedError(
            f"{where} isn't supported: format='onnx' writes a file for ONNX Runtime and other programs, "
            f"`convc compile` a native .cvc or a C library of a script or a saved .keras file"
        )
    for name in options:
        if name not in OPTIONS:
            raise UsageError(f"{where} has no option {name!r}; it takes {', '.join(OPTIONS)}")
    graph = graph_for(model, input_signature)
    least = OPSET_OF_DRAWS if SEED_INPUT in graph.inputs else OPSET
    convc.onnx_files.export(graph, Path(filepath), options.get("opset_version") or least, "model")
    if verbose is not False:
        print(f"Saved artifact at '{filepath}'.")


def graph_for(model: Any, signature: Any = None) -> Graph:
    """The graph of `predict` for inputs as a signature says; for any batch, and as the model is, without one."""
    if signature is None:
        graph: Graph = model.graph_of_variables()[0]
        return graph
    names = list(model.input_names)
    specs = specs_of(model.name, names, signature)
    shapes = {n: tuple(s.shape) for n, s in specs.items()}
    batches = {shape[0] for shape in shapes.values() if shape and shape[0] is not None}
    if len(batches) > 1:
        raise UsageError(
            f"model {model.name!r}: export: input_signature: expected one batch size; received "
            f"{', '.join(map(str, sorted(batches)))}"
        )
    known = {t.name: t.shape for t in model.inputs}
    for (name, shape), own in zip(shapes.items(), known.values(), strict=True):
        fits = len(shape) == len(own) and all(
            o is None or g in (o, None) for o, g in zip(own, shape, strict=True)
        )
        if not fits:
            raise UsageError(
                f"model {model.name!r}: export: input_signature of {name!r}: expected a shape like {own}; "
                f"received {shape}"
            )
    sizes = {n: (BATCH, *s[1:]) for n, s in shapes.items() if None not in s[1:]}
    graph = model.graph_of_variables(sizes=sizes if model.has_open_sizes else None)[0]
    if batches:
        graph = fix_batch(graph, {"N": int(batches.pop())})
    return renamed(graph, specs)


def specs_of(owner: str, names: Sequence[str], signature: Any) -> dict[str, Any]:
    """What the signature says of each input, by the model's name of it."""
    if isinstance(signature, (list, tuple)) and len(signature) == 1:
        signature = signature[0]
    if isinstance(signature, Mapping) and set(signature) == set(names):
        return {name: signature[name] for name in names}
    found = [signature] if hasattr(signature, "shape") else flatten(signature)
    if len(found) != len(names) or not all(getattr(s, "shape", None) is not None for s in found):
        raise UsageError(
            f"model {owner!r}: export: input_signature: expected an InputSpec with a shape for each of the inputs "
            f"{', '.join(names)}; received {signature!r}"
        )
    return dict(zip(names, found, strict=True))


def renamed(graph: Graph, specs: Mapping[str, Any]) -> Graph:
    """The graph with inputs of the names and dtypes that the specs have; casts where a dtype isn't the model's."""
    builder = Builder(graph.name, dict(graph.weights), reserved=graph.types)
    names: dict[str, str] = {}
    for name in graph.inputs:
        type = graph.types[name]
        wanted = str(getattr(specs.get(name), "name", None) or name)
        dtype = getattr(specs.get(name), "dtype", None)
        kind = type.dtype if dtype is None else DType.of(getattr(dtype, "name", dtype))
        names[name] = builder.input(wanted, TensorType(kind, type.shape))
        if kind is not type.dtype:
            cast = builder.fresh(f"{wanted}/cast")
            names[name] = builder.add(Cast(type.dtype), wanted, name=cast)
    for node in graph.nodes:
        builder.emit(renamed_all(node, names))
    return builder.finish(tuple(names.get(o, o) for o in graph.outputs))
