"""Every operator's gradient against float64 finite differences, over the rows of cases.py; conventions at kinks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from convc.graph.interp import run_graph
from convc.graph.ir import Builder
from convc.graph.op import Op, no_gradient, unsupported_gradient
from convc.ops.activations import Elu, HardSigmoid, HardSwish, LeakyRelu, Relu, ThresholdedRelu
from convc.ops.broadcasting import Maximum, Minimum
from convc.ops.conv import Conv2d, ConvTranspose2d
from convc.ops.elementwise import Abs, Clip, StopGradient
from convc.ops.pool import MaxPool2d
from convc.ops.reduce import ReduceMax, ReduceMin, ReduceProd, ReduceSum
from convc.ops.volume import Conv3d, ConvTranspose3d
from convc.passes.gradient import gradient
from convc.types import DType, TensorType
from tests.ops.cases import CASES
from tests.ops.cases.case import Case
from tests.ops.differences import (
    assert_gradient_holds,
    differentiable_inputs,
    smooth_inputs,
    weighted_loss,
)

FLOATS = [
    c
    for c in CASES
    if differentiable_inputs(c) and any(t.dtype.is_float for t in c.op.infer(*c.types))
]
DIFFERENTIABLE = [
    c
    for c in FLOATS
    if type(c.op).gradient is not unsupported_gradient and not isinstance(c.op, StopGradient)
]
# Their values are too large for differences in float64 to say anything.
TOLERANCES = {"exp-wide": 1e-3}


def loss_inputs(case: Case) -> dict[str, Any]:
    rng = np.random.default_rng(5)
    inputs = {f"x{k}": a for k, a in enumerate(smooth_inputs(case))}
    for k, type in enumerate(case.op.infer(*case.in_dtype(DType.float64))):
        if type.dtype.is_float:
            shape: Any = type.evaluate(case.symbols).shape
            inputs[f"s{k}"] = np.asarray(rng.normal(size=shape))
    return inputs


@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=lambda c: c.name)
def test_gradient_is_the_limit_of_differences(case: Case) -> None:
    graph = weighted_loss(case, DType.float64)
    wrt = [f"x{k}" for k in differentiable_inputs(case)]
    assert_gradient_holds(graph, loss_inputs(case), wrt, TOLERANCES.get(case.name, 2e-6))


def kink(op: Op, points: list[float], *others: list[float]) -> list[list[float]]:
    """The gradients of an operator's operands at points where it has no derivative."""
    arrays = {f"x{k}": np.array(v) for k, v in enumerate((points, *others))}
    builder = Builder("kink")
    names = [builder.input(n, TensorType(DType.float64, a.shape)) for n, a in arrays.items()]
    y = builder.add(op, *names)
    axes = tuple(range(builder.types[y].rank))
    graph = builder.finish([builder.add(ReduceSum(axes), y, name="loss")])
    found = run_graph(gradient(graph, "loss", names), arrays)
    return [found[f"{n}_gradient"].tolist() for n in names]


@pytest.mark.parametrize(
    ("op", "points", "expected"),
    [
        (Relu(), [0.0], [0.0]),
        (Abs(), [0.0], [0.0]),
        (StopGradient(), [0.7], [0.0]),
        (Clip(-1.0, 1.0), [-1.0, 1.0, 1.5], [1.0, 1.0, 0.0]),
        (LeakyRelu(0.25), [0.0], [0.25]),
        (Elu(0.5), [0.0], [0.5]),
        (HardSigmoid(0.5, 0.5), [-1.0, 1.0], [0.0, 0.0]),
        (HardSwish(), [-3.0, 3.0], [0.0, 1.0]),
        (ThresholdedRelu(1.0), [1.0], [0.0]),
        (ReduceMax((0,)), [1.0, 3.0, 3.0], [0.0, 0.5, 0.5]),
        (ReduceMin((0,)), [3.0, 1.0, 1.0], [0.0, 0.5, 0.5]),
        (ReduceProd((0,)), [0.0, 3.0, 2.0], [6.0, 0.0, 0.0]),
        (ReduceProd((0,)), [0.0, 0.0, 2.0], [0.0, 0.0, 0.0]),
    ],
    ids=lambda v: v.mnemonic if isinstance(v, Op) else None,
)
def test_conventions_at_kinks(op: Op, points: list[float], expected: list[float]) -> None:
    assert kink(op, points) == [expected]


@pytest.mark.parametrize("op", [Maximum(), Minimum()], ids=lambda o: o.mnemonic)
def test_of_equal_operands_the_first_takes_the_gradient(op: Op) -> None:
    assert kink(op, [2.0], [2.0]) == [[1.0], [0.0]]


def test_the_first_maximum_of_a_window_takes_the_gradient() -> None:
    builder = Builder("pool")
    x = builder.input("x", TensorType(DType.float64, (1, 1, 3, 3)))
    y = builder.add(MaxPool2d((2, 2), (1, 1)), x)
    graph = builder.finish([builder.add(ReduceSum((0, 1, 2, 3)), y, name="loss")])
    value = np.array([[[[1.0, 5, 5], [5, 5, 0], [np.nan, 5, 5]]]])
    found = run_graph(gradient(graph, "loss", ["x"]), {"x": value})["x_gradient"]
    assert found[0, 0].tolist() == [[0, 2, 0], [0, 1, 0], [1, 0, 0]]


def test_operators_without_a_gradient_are_flat_or_not_of_floats() -> None:
    flat = [c for c in DIFFERENTIABLE if type(c.op).gradient is no_gradient]
    assert {c.op.mnemonic for c in flat} >= {"floor", "ceil", "round", "sign", "floor_div", "count"}


@pytest.mark.parametrize(
    "op",
    [Conv2d(), ConvTranspose2d(), Conv3d(), ConvTranspose3d()],
    ids=lambda o: o.mnemonic,
)
def test_no_images_give_filters_no_gradient(op: Op) -> None:
    rank = 3 if "3d" in op.mnemonic else 2
    builder = Builder("none")
    x = builder.input("x", TensorType(DType.float64, (0, 2, *(4,) * rank)))
    w = builder.input("w", TensorType(DType.float64, (2, 2, *(3,) * rank)))
    every = tuple(range(rank + 2))
    loss = builder.add(ReduceSum(every), builder.add(op, x, w), name="loss")
    graph = gradient(builder.finish([loss]), "loss", ["w"])
    weight = np.ones((2, 2, *(3,) * rank))
    found = run_graph(graph, {"x": np.zeros((0, 2, *(4,) * rank)), "w": weight})["w_gradient"]
    np.testing.assert_array_equal(found, np.zeros_like(weight))
