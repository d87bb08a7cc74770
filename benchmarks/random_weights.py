"""Weights for networks that nobody trained: random, but such that activations keep their size from layer to layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from convc.graph.interp import bind_symbols, specialised
from convc.graph.ir import Array, Graph, Node
from convc.ops.conv import Conv2d
from convc.ops.matmul import MatMul
from convc.ops.norm import BatchNorm


def randomised(graph: Graph, inputs: Mapping[str, Array], seed: int = 0) -> Graph:
    """The graph with other weights of the same shapes.

    Kernels are normal with He et al.'s variance (2015), biases small. A batch norm's statistics are those of what
    reaches it for `inputs`, off by random factors; its gamma and beta are random, beta around 1: with betas around 0
    each pair of batch norm and ReLU multiplies every rounding error by 1.2 (Yang et al. 2019, A mean field theory of
    batch normalization), 10,000 times in fifty layers, and no float32 result is near the float64 one.
    """
    rng = np.random.default_rng(seed)
    symbols = bind_symbols(graph, inputs)
    weights = dict(graph.weights)
    values = dict(inputs)
    last = {n: k for k, node in enumerate(graph.nodes) for n in node.inputs}
    for k, node in enumerate(graph.nodes):
        for name in node.inputs:
            if name in weights:
                weights[name] = drawn(rng, node, name, values, weights[name])
        arrays = [values[n] if n in values else weights[n] for n in node.inputs]
        with np.errstate(all="ignore"):
            result = specialised(node.op, symbols, None).reference(*arrays)
        values[node.outputs[0]] = np.asarray(result)
        for name in (*node.inputs, *node.outputs):
            if last.get(name, k) == k and name not in graph.outputs:
                values.pop(name, None)
    return replace(graph, weights=weights)


def drawn(
    rng: np.random.Generator, node: Node, name: str, values: Mapping[str, Array], old: Array
) -> Array:
    """The new values of a weight by its place in a node; constants keep theirs."""
    place = node.inputs.index(name)
    match node.op:
        case Conv2d() if place == 1:
            return normal(rng, old, np.sqrt(2 / np.prod(old.shape[1:])))
        case MatMul() if place == 1:
            return normal(rng, old, np.sqrt(2 / old.shape[-2]))
        case BatchNorm(axis=axis):
            return statistic(rng, place, axis, values[node.inputs[0]], old)
        case _ if name.endswith("bias"):
            return normal(rng, old, 0.1)
        case _:
            return old


def normal(rng: np.random.Generator, like: Array, deviation: float) -> Array:
    values: Array = (rng.standard_normal(like.shape) * deviation).astype(like.dtype)
    return values


def statistic(rng: np.random.Generator, place: int, axis: int, x: Any, old: Array) -> Array:
    """Gamma, beta, mean or variance of a batch norm on x, by its place among the inputs."""
    others = tuple(d for d in range(x.ndim) if d != axis % x.ndim)
    size = old.shape
    match place:
        case 1:
            found = rng.uniform(0.5, 1.5, size)
        case 2:
            found = 1 + 0.3 * rng.standard_normal(size)
        case 3:
            found = x.mean(others) + 0.2 * x.std(others) * rng.standard_normal(size)
        case _:
            # A channel that hardly moves for these inputs must not be blown up for others.
            found = (x.var(others) + 0.1 * x.var() + 1e-3) * rng.uniform(0.5, 2, size)
    return np.asarray(found, old.dtype)
