"""Gradients against central finite differences in float64, along random directions."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from convc.graph.interp import run_graph
from convc.graph.ir import Builder, Graph
from convc.graph.op import Op
from convc.graph.verify import verify_graph
from convc.ops.broadcasting import Add, Mul
from convc.ops.elementwise import Cast
from convc.ops.reduce import ReduceSum
from convc.passes.gradient import gradient
from convc.types import DType, TensorType
from tests.ops.cases.case import Case

STEP = 1e-6


def differentiable_inputs(case: Case) -> list[int]:
    return [k for k, t in enumerate(case.types) if t.dtype.is_float and k not in case.drawn]


def in_dtype(op: Op, dtype: DType) -> Op:
    """The operator with another float dtype in its attributes."""
    changed = {
        f.name: dtype
        for f in fields(op)
        if isinstance(value := getattr(op, f.name), DType) and value.is_float
    }
    return replace(op, **changed) if changed else op


def weighted_loss(case: Case, dtype: DType) -> Graph:
    """The sum of the case's outputs, each element times its own weight: inputs x0, x1, …, s0, s1, …"""
    builder = Builder(case.name)
    types = case.in_dtype(dtype)
    names = [builder.input(f"x{k}", t) for k, t in enumerate(types)]
    terms = []
    for k, y in enumerate(builder.add_all(in_dtype(case.op, dtype), *names)):
        type = builder.types[y]
        if not type.dtype.is_float:
            continue
        factor = builder.input(f"s{k}", TensorType(type.dtype, type.shape))
        product = builder.add(Mul(), y, factor)
        terms.append(builder.add(ReduceSum(tuple(range(type.rank))), product))
    total = terms[0]
    for term in terms[1:]:
        total = builder.add(Add(), total, term)
    return builder.finish([builder.add(Cast(dtype), total, name="loss")])


def smooth_inputs(case: Case) -> list[Any]:
    """The case's inputs in float64, off the grid on which kinks and ties lie, and inside their ranges."""
    rng = np.random.default_rng(zlib.crc32(case.name.encode()))
    found = []
    for k, array in enumerate(case.arrays(case.in_dtype(DType.float64))):
        if array.dtype == np.float64:
            low, high = case.ranges[k] if case.ranges else (-3.0, 3.0)
            jitter = rng.uniform(0.2, 0.8, array.shape) / 1024
            middle = (low + high) / 2
            array = middle + (array - middle) * 0.99 + jitter * min(1, high - low)
        found.append(np.asarray(array))
    return found


def assert_gradient_holds(
    graph: Graph, inputs: Mapping[str, Any], wrt: Sequence[str], tolerance: float = 2e-6
) -> None:
    """The gradient graph's directional derivatives are those of the loss (`graph`'s only output)."""
    (loss,) = graph.outputs
    whole = gradient(graph, loss, wrt)
    verify_graph(whole)
    outputs = whole.outputs[1:]
    assert [whole.types[o] for o in outputs] == [graph.types[w] for w in wrt]
    result = run_graph(whole, inputs)
    rng = np.random.default_rng(7)
    for name, output in zip(wrt, outputs, strict=True):
        direction = rng.normal(size=inputs[name].shape)
        expected = difference(graph, inputs, name, direction)
        actual = float(np.sum(result[output] * direction))
        # The sum's rounding in the two runs is part of the difference.
        noise = 1e-15 * abs(float(result[loss].reshape(()))) / STEP
        scale = max(1.0, abs(expected), float(np.linalg.norm(result[output])))
        assert abs(actual - expected) <= tolerance * scale + 20 * noise, (name, actual, expected)


def difference(graph: Graph, inputs: Mapping[str, Any], name: str, direction: Any) -> float:
    """The loss's derivative along a direction of one input."""
    values = []
    for sign in (1, -1):
        moved = {**inputs, name: inputs[name] + sign * STEP * direction}
        (loss,) = run_graph(graph, moved).values()
        values.append(float(loss.reshape(())))
    return (values[0] - values[1]) / (2 * STEP)
