"""A fixed batch replaces the symbol everywhere: in inputs, in attributes, in what is inferred."""

from __future__ import annotations

import numpy as np

from convc.graph.interp import run_graph
from convc.graph.ir import Builder, Graph
from convc.graph.printer import print_graph
from convc.ops.elementwise import Neg
from convc.ops.shape import Reshape
from convc.passes.fix_batch import fix_batch
from convc.types import Dim, DType, TensorType

N = Dim.symbol("N")


def example() -> Graph:
    builder = Builder("f")
    x = builder.input("x", TensorType(DType.float32, (N, 4)))
    y = builder.add(Reshape((N, 2, 2)), x)
    return builder.finish([builder.add(Neg(), y)])


def test_the_symbol_is_gone() -> None:
    fixed = fix_batch(example(), {"N": 8})
    assert "N" not in print_graph(fixed)
    assert fixed.types[fixed.outputs[0]].shape == (8, 2, 2)


def test_the_values_stay() -> None:
    graph = example()
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    (before,) = run_graph(graph, {"x": x}).values()
    (after,) = run_graph(fix_batch(graph, {"N": 3}), {"x": x}).values()
    np.testing.assert_array_equal(before, after)
