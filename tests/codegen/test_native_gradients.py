"""Gradient graphs as machine code: the interpreter's bits, near float64, the same bits for any number of threads."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

from convc.graph.interp import run_graph
from convc.graph.ir import Graph
from convc.passes.decompose import Decompose
from convc.passes.eliminate_common_subexpressions import EliminateCommonSubexpressions
from convc.passes.gradient import gradient
from convc.passes.simplify_shapes import SimplifyShapes
from convc.types import DType, symbols_of
from tests.codegen.native import RUNNABLE, Native, assert_same_bits, call
from tests.ops.cases import CASES
from tests.ops.cases.case import Case
from tests.ops.differences import differentiable_inputs, smooth_inputs, weighted_loss
from tests.passes.test_gradient import PARAMETERS, network, network_inputs

TARGET = RUNNABLE[-1]
ROWS = {
    "gelu", "clip", "pow-both", "maximum-channel", "conv2d-stride", "conv2d-keras-same", "conv2d-groups",
    "conv2d-depthwise-stride", "conv2d-unused-padding", "conv_transpose2d-dilated", "mat_mul-shared",
    "mat_mul-broadcast", "max_pool2d-padded", "max_pool2d", "avg_pool2d-padded", "avg_pool2d-dilated",
    "reduce_prod", "reduce_max-pixels", "reduce_mean-batch", "softmax", "layer_norm-swapped",
    "batch_norm", "batch_norm_training", "concat-channels", "slice-steps", "pad-reflect-crop", "pad-edge",
    "gather-columns", "resize2d-bilinear", "depth_to_space-crd", "sparse_softmax_crossentropy",
    "sigmoid_crossentropy-wide",
}  # fmt: skip
CHECKED = [c for c in CASES if c.name in ROWS]


def entry_of(case: Case) -> str:
    return "".join(c if c.isalnum() else "_" for c in case.name)


def differentiated(graph: Graph, wrt: list[str]) -> Graph:
    """A gradient graph as a compilation makes it ready for lowering."""
    (loss,) = graph.outputs
    graph = Decompose()(gradient(graph, loss, wrt))
    return SimplifyShapes()(EliminateCommonSubexpressions()(graph))


def graph_of(case: Case) -> Graph:
    return differentiated(
        weighted_loss(case, DType.float32), [f"x{k}" for k in differentiable_inputs(case)]
    )


def is_symbolic(case: Case) -> bool:
    return any(symbols_of(t.shape) for t in case.types)


@functools.cache
def native(symbolic: bool) -> Native:
    """The rows with a symbolic batch, or those without: a model binds its symbols in every call."""
    rows = [c for c in CHECKED if is_symbolic(c) is symbolic]
    return Native.of({entry_of(c): graph_of(c) for c in rows}, TARGET)


def inputs_of(case: Case) -> dict[str, Any]:
    rng = np.random.default_rng(9)
    graph = weighted_loss(case, DType.float32)
    arrays = {f"x{k}": a for k, a in enumerate(smooth_inputs(case))}
    for name in graph.inputs:
        if name not in arrays:
            shape: Any = graph.types[name].evaluate(case.symbols).shape
            arrays[name] = rng.normal(size=shape)
    return {n: np.asarray(a).astype(graph.types[n].dtype.numpy) for n, a in arrays.items()}


def assert_near(actual: Any, expected: Any, tolerance: float = 2e-5) -> None:
    largest = np.abs(expected).max(initial=0.1)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * largest)


@pytest.mark.parametrize("case", CHECKED, ids=lambda c: c.name)
def test_native_gradients_are_the_interpreters(case: Case) -> None:
    entry, inputs = entry_of(case), inputs_of(case)
    compiled = native(is_symbolic(case))
    symbols = {s: case.symbols[s] for s in compiled.program.symbols}
    actual = call(compiled.model(), entry, inputs)
    for a, exact in zip(actual, compiled.interpret(entry, inputs, symbols), strict=True):
        assert_same_bits(a, exact)
    oracle = list(run_graph(graph_of(case), inputs, DType.float64).values())
    for a, b in zip(actual[1:], oracle[1:], strict=True):  # the loss is a sum that cancels
        assert_near(a, b)


def test_all_rows_are_there() -> None:
    assert {c.name for c in CHECKED} == ROWS


@pytest.mark.parametrize("dtype", [DType.float32, DType.float64], ids=lambda d: d.value)
def test_native_network_gradients(dtype: DType) -> None:
    graph = differentiated(network(dtype), [*PARAMETERS])
    inputs = network_inputs(dtype, batch=5)
    compiled = Native.of({"step": graph}, TARGET)
    results = [call(compiled.model(threads), "step", inputs) for threads in (1, 2, 3, 7)]
    oracle = run_graph(graph, inputs, DType.float64).values()
    for a, b in zip(results[0], oracle, strict=True):
        assert_near(a, b, 1e-13 if dtype is DType.float64 else 2e-5)
    for result in results[1:]:
        for a, b in zip(result, results[0], strict=True):
            assert_same_bits(a, b)
