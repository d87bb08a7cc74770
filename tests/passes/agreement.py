"""Compares graphs before and after a pass by their float64 results on random inputs."""

from __future__ import annotations

import numpy as np

from convc.graph.interp import run_graph
from convc.graph.ir import Array, Graph
from convc.types import DType, TensorType, evaluate

BATCH = 3


def random_array(type: TensorType, rng: np.random.Generator) -> Array:
    """Values around 0; integers in 0 … 9."""
    shape = [evaluate(e, {"N": BATCH}) for e in type.shape]
    if type.dtype is DType.bool:
        return rng.integers(0, 2, shape).astype(bool)
    if type.dtype.is_integer:
        return rng.integers(0, 10, shape).astype(type.dtype.numpy)
    return rng.standard_normal(shape)


def assert_agrees(
    before: Graph, after: Graph, seed: int = 0, rtol: float = 1e-5, atol: float = 1e-6
) -> None:
    """Both graphs have the same signature and, in float64, the same outputs.

    The tolerance is that of weights that a pass computed and rounded to float32.
    """
    assert (after.inputs, after.outputs) == (before.inputs, before.outputs)
    for name in (*before.inputs, *before.outputs):
        assert after.types[name] == before.types[name]
    rng = np.random.default_rng(seed)
    inputs = {n: random_array(before.types[n], rng) for n in before.inputs}
    expected = run_graph(before, inputs, DType.float64)
    found = run_graph(after, inputs, DType.float64)
    for name in before.outputs:
        pair = np.asarray(found[name], np.float64), np.asarray(expected[name], np.float64)
        np.testing.assert_allclose(*pair, rtol, atol, err_msg=name)
