"""Where a step first met a NaN or an infinity: a check pass through the layers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from convc.graph.ir import Graph
from convc.keras.engine.tensor import Array
from convc.passes.training_mode import with_inputs

CHECK = "check"


def report(run: Any, feeds: dict[str, Array]) -> str:
    """One line on the latest step of a run: the array, the weight or the layer that was first not finite.

    The pass takes the weights that the step began with, and moving statistics where training takes a batch's.
    """
    step = run.iterations
    for name, array in feeds.items():
        rows = bad_rows(array)
        if len(rows):
            return f"step {step}: {name!r} has {kind(array)} in {rows_text(rows)} of the batch"
    sizes = run.sizes_of(run.types_of(feeds))
    graph, weights = run.model.graph_of_variables(sizes=sizes)
    values = {n: run.before(n) for n in weights if n in run.changing}
    for name, array in values.items():
        if not np.isfinite(array).all():
            return f"step {step}: the weight {name!r} has {kind(array)} before the step"
    inputs = {n: np.asarray(feeds[n], graph.types[n].dtype.numpy) for n in graph.inputs}
    graph = layer_outputs(with_inputs(graph, list(values)))
    run.session.define(CHECK, graph)
    found = run.session.step(CHECK, {**inputs, **values})
    run.session.forget(CHECK)
    layers = {o: node.layer for node in graph.nodes for o in node.outputs}
    for name, array in zip(graph.outputs, found, strict=True):
        if not np.isfinite(array).all():
            rows = bad_rows(array)
            return f"step {step}: layer {layers[name] or name!r} gave {kind(array)} in {rows_text(rows)} of the batch"
    return f"step {step}: all layers gave finite values; the loss or its gradient did not"


def layer_outputs(graph: Graph) -> Graph:
    """The graph whose outputs are the last float value of each layer, in order."""
    last: dict[str, str] = {}
    for node in graph.nodes:
        for output in node.outputs:
            if graph.types[output].dtype.is_float:
                last.pop(node.layer, None)
                last[node.layer] = output
    return replace(graph, outputs=tuple(last.values()))


def bad_rows(array: Array) -> Array:
    """The positions along the first axis that have a NaN or an infinity."""
    if array.dtype.kind != "f" or not array.ndim:
        return np.zeros(0, np.int64)
    return np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))


def kind(array: Array) -> str:
    return "NaN" if np.isnan(array).any() else "an infinity"


def rows_text(rows: Array) -> str:
    shown = ", ".join(str(int(r)) for r in rows[:5])
    return f"row{'s' if len(rows) > 1 else ''} {shown}{', …' if len(rows) > 5 else ''}"
