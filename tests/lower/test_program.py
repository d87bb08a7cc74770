"""Graphs at the corners of what can be lowered, natively and with a poisoned workspace, against numpy in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from convc_runtime import InputError

from convc.graph.interp import run_graph
from convc.graph.ir import Builder, Graph
from convc.graph.parser import parse_graph
from convc.lower.program import lower
from convc.ops.activations import Relu
from convc.ops.broadcasting import Sub
from convc.ops.conv import Conv2d
from convc.ops.elementwise import Exp
from convc.ops.matmul import MatMul
from convc.ops.reduce import ReduceMean, ReduceSum
from convc.ops.shape import Concat
from convc.program.interp import run_program
from convc.types import Dim, DType, Extent, TensorType, evaluate, symbols_of
from tests.codegen.native import RUNNABLE, Native

N, M = Dim.symbol("N"), Dim.symbol("M")
SAME = Conv2d(padding=((1, 1), (1, 1)))
CASES: list[Callable[[Builder], list[str]]] = []


def case(build: Callable[[Builder], list[str]]) -> Callable[[Builder], list[str]]:
    CASES.append(build)
    return build


def tensor(*shape: Extent) -> TensorType:
    return TensorType(DType.float32, shape)


def weight(builder: Builder, *shape: int) -> str:
    rng = np.random.default_rng(len(builder.types))
    return builder.weight("w", (rng.integers(-32, 33, shape) / 32).astype(np.float32))


@case
def a_value_named_as_a_bordered_copy(b: Builder) -> list[str]:
    x = b.input("x", tensor(N, 3, 6, 6))
    other = b.add(Exp(), x, name="x.padded")
    y = b.add(SAME, x, weight(b, 4, 3, 3, 3))
    z = b.add(SAME, other, weight(b, 4, 3, 3, 3))
    return [b.add(Sub(), z, y), b.add(ReduceMean((2, 3)), other)]


@case
def a_weight_beside_a_batch(b: Builder) -> list[str]:
    x = b.input("x", tensor(N, 6))
    row = weight(b, 1, 6)
    return [b.add(Concat(0), row, b.add(Relu(), x), row)]


@case
def a_weight_beside_values(b: Builder) -> list[str]:
    x = b.input("x", tensor(2, 6))
    w = weight(b, 2, 6)
    return [b.add(Concat(1), w, x, x, w)]


@case
def a_weight_that_is_an_image(b: Builder) -> list[str]:
    filters = b.input("x", tensor(5, 3, 3, 3))
    return [b.add(SAME, weight(b, 1, 3, 6, 6), b.add(Relu(), filters))]


@case
def values_without_elements(b: Builder) -> list[str]:
    x = b.input("x", tensor(N, 0))
    y = b.input("y", tensor(N, 3))
    empty = b.add(Relu(), x)
    return [b.add(Concat(1), y, empty), b.add(ReduceSum((1,)), empty), empty]


@case
def an_extent_of_two_symbols(b: Builder) -> list[str]:
    x, y = b.input("x", tensor(N, 8)), b.input("y", tensor(M, 8))
    rows = b.add(Concat(0), b.add(Relu(), x), b.add(Relu(), y))
    z = b.add(MatMul(), rows, weight(b, 8, 5))
    return [b.add(MatMul(), z, weight(b, 5, 3)), b.add(ReduceSum((0,)), z)]


@pytest.mark.parametrize("build", CASES, ids=lambda c: c.__name__)
def test_corners(build: Callable[[Builder], list[str]]) -> None:
    builder = Builder("g")
    graph = builder.finish(build(builder))
    model = Native.of({"predict": graph}, RUNNABLE[-1]).model(2)
    for symbols in ({"N": 1, "M": 40}, {"N": 40, "M": 1}, {"N": 3, "M": 2}):
        check(model.entries["predict"], graph, symbols)


def check(entry: Any, graph: Graph, symbols: Mapping[str, int]) -> None:
    """One run with whatever the workspace holds, one on bytes that are NaN: the same, and near numpy."""
    rng = np.random.default_rng(3)
    inputs = {n: shaped(rng, graph.types[n], symbols) for n in graph.inputs}
    oracle: Mapping[str, Any] = run_graph(graph, inputs, DType.float64)
    for _ in range(2):
        outputs = [np.full_like(shaped(rng, graph.types[n], symbols), 77) for n in graph.outputs]
        entry(inputs, out=outputs)
        for actual, expected in zip(outputs, oracle.values(), strict=True):
            limit = 4e-6 * max(1.0, np.abs(expected).max(initial=0))
            np.testing.assert_allclose(actual, expected, rtol=0, atol=limit)
        for context in entry._idle:
            context.workspace[...] = 0xFF


def shaped(rng: Any, type: TensorType, symbols: Mapping[str, int]) -> Any:
    shape = tuple(evaluate(e, symbols) for e in type.shape)
    return (rng.integers(-64, 65, shape) / 32).astype(type.dtype.numpy)


def test_entries_need_what_their_own_symbols_say() -> None:
    of_rows, of_both, of_none = Builder("a"), Builder("b"), Builder("c")
    a = of_rows.add(Relu(), of_rows.input("x", tensor(N, 8)))
    x, y = of_both.input("x", tensor(N, 8)), of_both.input("y", tensor(M, 8))
    b = of_both.add(Concat(0), of_both.add(Exp(), x), of_both.add(Exp(), y))
    c = of_none.add(Exp(), of_none.input("x", tensor(5, 8)))
    builders = {"a": (of_rows, a), "b": (of_both, b), "c": (of_none, c)}
    graphs = {
        entry: builder.finish([builder.add(MatMul(), value, weight(builder, 8, 3))])
        for entry, (builder, value) in builders.items()
    }
    native = Native.of(graphs, RUNNABLE[-1])
    model = native.model(2)
    for entry, graph in graphs.items():
        check(model.entries[entry], graph, {"N": 2, "M": 7})
    workspaces = [native.program.workspace(e) for e in native.program.entries]
    assert [symbols_of([w]) for w in workspaces] == [{"N"}, {"N", "M"}, set()]


def test_a_batch_of_nothing_has_no_sum() -> None:
    builder = Builder("g")
    x = builder.input("x", tensor(N, 3))
    graph = builder.finish([builder.add(Relu(), x), builder.add(ReduceSum((0,)), x)])
    model = Native.of({"predict": graph}, RUNNABLE[-1]).model(1)
    with pytest.raises(InputError, match=r"reduce_sum of shape \(3,\) needs a batch of at least 1"):
        model(np.zeros((0, 3), np.float32))


def test_an_image_smaller_than_the_filters_is_refused() -> None:
    builder = Builder("g")
    x = builder.add(Conv2d(), builder.input("x", tensor(1, 3, N, M)), weight(builder, 4, 3, 5, 5))
    graph = builder.finish([builder.add(Conv2d(), x, weight(builder, 4, 4, 3, 3))])
    model = Native.of({"predict": graph}, RUNNABLE[-1]).model(1)
    check(model.entries["predict"], graph, {"N": 9, "M": 7})
    with pytest.raises(
        InputError, match=r"too small: output conv2d_1 would have shape \(1, 4, -1, 3\)"
    ):
        model(np.zeros((1, 3, 5, 9), np.float32))


def test_kernels_of_zeros_of_other_signs_are_two() -> None:
    graph = parse_graph(
        """
        graph g(x: float32[2], y: float32[2]) -> (a, b) {
          a = pad(x) {pads=((1, 0),), value=0.0}
          b = pad(y) {pads=((1, 0),), value=-0.0}
        }
        """
    )
    ones = np.ones(2, np.float32)
    found = dict(run_program(lower({"g": graph}), {"x": ones, "y": ones}, {}, "g"))
    assert [bool(np.signbit(found[name][0])) for name in ("a", "b")] == [False, True]
