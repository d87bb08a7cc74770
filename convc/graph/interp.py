"""Evaluates a graph with its operators' numpy references: slow, plain, and in float64 the oracle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np

from convc.errors import DataError
from convc.graph.ir import Array, Graph
from convc.graph.op import Op
from convc.types import Dim, DType, TensorType, symbols_of


def run_graph(
    graph: Graph,
    inputs: Mapping[str, Array],
    dtype: DType | None = None,
    keep: bool = False,
) -> dict[str, Array]:
    """The outputs of a graph by name; with `keep`, every value.

    With a float `dtype`, all float inputs, weights and conversions are of that dtype instead of their own.
    DataError where an input is missing or its shape or dtype doesn't fit.
    """
    symbols = bind_symbols(graph, inputs)
    values = {n: as_run(np.asarray(inputs[n]), dtype) for n in graph.inputs}
    for name in graph.inputs:
        check_dtype(name, values[name], graph.types[name], dtype)
    values |= {n: as_run(a, dtype) for n, a in graph.weights.items()}
    last = {n: k for k, node in enumerate(graph.nodes) for n in node.inputs}
    for k, node in enumerate(graph.nodes):
        arrays = [values[n] for n in node.inputs]
        with np.errstate(all="ignore"):
            result = specialised(node.op, symbols, dtype).reference(*arrays)
        results = result if isinstance(result, tuple) else (result,)
        values |= {n: np.asarray(a) for n, a in zip(node.outputs, results, strict=True)}
        if not keep:
            for name in {*node.inputs, *node.outputs} - {*graph.outputs}:
                if last.get(name, k) == k:
                    del values[name]
    return values if keep else {n: values[n] for n in graph.outputs}


def bind_symbols(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, int]:
    """The symbols' values that the inputs' shapes give; DataError where the shapes don't fit."""
    symbols: dict[str, int] = {}
    for name in graph.inputs:
        if name not in inputs:
            raise DataError(f"input {name!r} of {graph.types[name]} is missing")
        shape, type = np.shape(inputs[name]), graph.types[name]
        if len(shape) != type.rank:
            raise DataError(f"input {name!r} expects {type}, got shape {list(shape)}")
        for number, extent in zip(shape, type.shape, strict=True):
            if isinstance(extent, Dim) and extent == Dim.symbol(str(extent)):
                symbols.setdefault(str(extent), number)
    for name in graph.inputs:
        shape, type = np.shape(inputs[name]), graph.types[name]
        unbound = symbols_of(type.shape) - symbols.keys()
        if unbound or type.evaluate(symbols).shape != shape:
            raise DataError(f"input {name!r} expects {type}, got shape {list(shape)}")
    unknown = [n for n in inputs if n not in graph.inputs]
    if unknown:
        expected = ", ".join(graph.inputs)
        raise DataError(f"unknown input {unknown[0]!r}: expected {expected}")
    return symbols


def check_dtype(name: str, array: Array, type: TensorType, dtype: DType | None) -> None:
    expected = dtype if dtype and type.dtype.is_float else type.dtype
    if DType.of(array.dtype) is not expected:
        raise DataError(f"input {name!r} expects dtype {type.dtype.value}, got {array.dtype.name}")


def as_run(array: Array, dtype: DType | None) -> Array:
    """The array, a float one in the dtype of the run."""
    is_float = DType.of(array.dtype).is_float
    return array.astype(dtype.numpy) if dtype and is_float else array


def specialised(op: Op, symbols: Mapping[str, int], dtype: DType | None) -> Op:
    """The operator with numbers for symbols and the run's dtype for float dtypes in its attributes."""

    def value(attribute: Any) -> Any:
        match attribute:
            case Dim():
                return attribute.evaluate(symbols)
            case DType():
                return dtype if dtype and attribute.is_float else attribute
            case tuple():
                return tuple(map(value, attribute))
            case _:
                return attribute

    changed = {f.name: value(getattr(op, f.name)) for f in fields(op)}
    return replace(op, **changed) if changed else op
