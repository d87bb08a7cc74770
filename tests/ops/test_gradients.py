"""Every operator's gradient against float64 finite differences, over the rows of cases.py."""

from __future__ import annotations

import numpy as np
import pytest

from convc.graph.op import unsupported_gradient
from convc.types import DType
from tests.ops.cases import CASES, Case
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
DIFFERENTIABLE = [c for c in FLOATS if type(c.op).gradient is not unsupported_gradient]
# Their values are too large for differences in float64 to say anything.
TOLERANCES = {"exp-wide": 1e-3}


def loss_inputs(case: Case) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    rng = np.random.default_rng(5)
    inputs = {f"x{k}": a for k, a in enumerate(smooth_inputs(case))}
    for k, type in enumerate(case.op.infer(*case.in_dtype(DType.float64))):
        if type.dtype.is_float:
            shape = type.evaluate(case.symbols).shape
            inputs[f"s{k}"] = np.asarray(rng.normal(size=shape))  # type: ignore[arg-type]
    return inputs


@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=lambda c: c.name)
def test_gradient_is_the_limit_of_differences(case: Case) -> None:
    graph = weighted_loss(case, DType.float64)
    wrt = [f"x{k}" for k in differentiable_inputs(case)]
    assert_gradient_holds(graph, loss_inputs(case), wrt, TOLERANCES.get(case.name, 2e-6))
