"""Evaluates a model's graph by the operators' numpy references."""

from typing import Any

import numpy as np

from convc import keras
from convc.graph.interp import run_graph


def run(model: Any, *arrays: Any) -> Any:
    """The output array of a model's "predict" graph, or a list of them."""
    graph = model.graphs()["predict"]
    outputs = run_graph(graph, dict(zip(graph.inputs, map(np.asarray, arrays), strict=True)))
    found = [outputs[name] for name in graph.outputs]
    return found[0] if len(found) == 1 else found


def run_layer(layer: Any, *arrays: Any) -> Any:
    """A layer's output for arrays whose first axis is the batch."""
    inputs = [keras.Input(a.shape[1:], dtype=str(a.dtype)) for a in arrays]
    outputs = layer(inputs if len(inputs) > 1 else inputs[0])
    return run(keras.Model(inputs, outputs), *arrays)


def randomized(model: Any, seed: int = 0) -> Any:
    """The model with random statistics, scales and biases; kernels keep their initial values, which suit their size."""
    random = np.random.default_rng(seed)
    weights = []
    for weight in model.weights:
        values = random.standard_normal(weight.shape) * 0.5
        if "kernel" in weight.name:
            values = weight.value
        if "variance" in weight.name or "gamma" in weight.name:
            values = np.abs(values) + 0.5
        weights.append(values)
    model.set_weights(weights)
    return model
