"""Compact schedules: weights of awkward sizes aren't padded, and the numbers stay."""

from __future__ import annotations

import numpy as np
import pytest

from convc import driver
from convc.graph.interp import run_graph
from convc.graph.parser import parse_graph
from convc.schedule.program import COMPACT
from convc.types import DType

CASES = {
    "dense": ("float32[N, 70]", "float32[70, 10]", "mat_mul(x, w)"),
    "one column": ("float32[N, 70]", "float32[70, 1]", "mat_mul(x, w)"),
    "conv": ("float32[N, 5, 9, 7]", "float32[20, 5, 3, 3]", "conv2d(x, w) {padding=((1, 1), (1, 1))}"),
    "strided": ("float32[N, 5, 9, 7]", "float32[20, 5, 3, 3]", "conv2d(x, w) {stride=(2, 2)}"),
    "pointwise": ("float32[N, 40, 5, 7]", "float32[24, 40, 1, 1]", "conv2d(x, w)"),
    "grouped": ("float32[N, 6, 9, 7]", "float32[20, 3, 3, 3]", "conv2d(x, w) {groups=2}"),
    "depthwise": ("float32[N, 19, 9, 7]", "float32[19, 1, 3, 3]", "conv2d(x, w) {groups=19}"),
    "transposed": (
        "float32[N, 6, 5, 7]", "float32[6, 20, 3, 3]", "conv_transpose2d(x, w) {stride=(2, 2)}"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_awkward_weights_are_not_padded(case: tuple[str, str, str]) -> None:
    x_type, w_type, value = case
    text = f"graph g(x: {x_type}) -> (y) {{ weight w: {w_type}  a = {value}  y = relu(a) }}"
    random = np.random.default_rng(0)
    shape = [int(e) for e in w_type[8:-1].split(",")]
    graph = parse_graph(text, {"w": random.standard_normal(shape).astype(np.float32)})
    compiled = driver.compile(graph, options=driver.Options(optimize="size", verify=True))
    summary = compiled.compiled.summary
    assert summary.weight_bytes <= COMPACT * summary.raw_weight_bytes
    extents = [int(e) for e in x_type.partition(", ")[2][:-1].split(",")]
    x = random.standard_normal((3, *extents)).astype(np.float32)
    wanted = run_graph(graph, {"x": x}, dtype=DType.float64)["y"]
    np.testing.assert_allclose(compiled(x), wanted.astype(np.float64), atol=2e-5)
