"""Every formula as the plainest kernel, run by the loop interpreter, against the reference."""

from __future__ import annotations

import numpy as np
import pytest

from convc.loops.formula import tensor_of
from convc.loops.interp import run_kernel
from convc.loops.ir import Buffer, Role
from convc.loops.verify import verify_kernel
from convc.lower.nest import naive_kernel
from convc.types import evaluate
from tests.ops.cases import CASES
from tests.ops.cases.case import Case
from tests.ops.test_every_operator import assert_close, reference


@pytest.mark.parametrize("case", [c for c in CASES if c.op.formula], ids=lambda c: c.name)
def test_naive_kernel_agrees_with_the_reference(case: Case) -> None:
    (type,) = case.op.infer(*case.types)
    inputs = [Buffer(f"x{k}", t.dtype, t.shape, role=Role.in_) for k, t in enumerate(case.types)]
    output = Buffer("y", type.dtype, type.shape, role=Role.out)
    assert case.op.formula is not None
    kernel = naive_kernel("k", inputs, output, case.op.formula(*map(tensor_of, inputs)))
    verify_kernel(kernel)
    arrays = case.arrays()
    y = np.zeros(tuple(evaluate(e, case.symbols) for e in type.shape), type.dtype.numpy)
    memory = {f"x{k}": a for k, a in enumerate(arrays)} | {"y": y}
    with np.errstate(all="ignore"):
        run_kernel(kernel, memory, case.symbols)
    assert_close(memory["y"], reference(case, arrays), type.dtype)
