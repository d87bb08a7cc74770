"""Long sums are made of parts: their errors don't grow with the number of terms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from convc.driver import Options, compile_graphs, host_target
from convc.graph.ir import Builder
from convc.graph.op import Op
from convc.ops.reduce import ReduceMax, ReduceMean, ReduceSum
from convc.types import Dim, DType, TensorType
from tests.codegen.native import assert_same_bits

N = Dim.symbol("N")
FLOAT = DType.float32


def run(op: Op, shape: tuple[Any, ...], x: Any) -> Any:
    """The operator's result: that of one thread, which two and three have the bits of."""
    builder = Builder("sums")
    value = builder.input("x", TensorType(FLOAT, shape))
    graph = builder.finish([builder.add(op, value, name="y")])
    made = compile_graphs("sums", {"run": graph}, host_target(), Options(verify=True))
    alone, *others = (np.asarray(made.artifact.model(threads)(x)) for threads in (1, 2, 3))
    for other in others:
        assert_same_bits(other, alone)
    return alone


@pytest.mark.parametrize("make", [ReduceSum, ReduceMean])
@pytest.mark.parametrize(
    ("shape", "images", "axes"),
    [
        ((N, 31, 33, 16), 20, (0, 1, 2)),
        ((N, 31, 33, 5), 20, (0, 1, 2)),
        ((N, 16), 20_000, (0,)),
        ((N,), 20_001, (0,)),
        ((20_003, 3), None, (0,)),
    ],
    ids=str,
)
def test_the_error_stays_that_of_short_sums(
    make: Callable[..., Op], shape: tuple[Any, ...], images: int | None, axes: tuple[int, ...]
) -> None:
    """Terms near 1, whose sum in one chain rounds off 1e-5 of itself and more."""
    size: tuple[Any, ...] = tuple(images if n is N else n for n in shape)
    x = np.random.default_rng(5).uniform(0.5, 1.5, size).astype("f4")
    wanted = x.astype("f8").sum(axes) if make is ReduceSum else x.astype("f8").mean(axes)
    error = np.abs(run(make(axes), shape, x) / wanted - 1).max()
    assert error < 1.5e-6, f"{error:.1e}"


def test_what_is_no_sum_stays() -> None:
    x = np.random.default_rng(6).normal(size=(1000, 3)).astype("f4")
    np.testing.assert_array_equal(run(ReduceMax((0,)), (N, 3), x), x.max(0))
