"""Filters that aren't constants, of a fixed batch: read side by side, by a copy where they lie the wrong way round."""

from __future__ import annotations

import numpy as np
import pytest

from convc import driver
from convc.graph.interp import run_graph
from convc.graph.ir import Builder, Graph
from convc.graph.op import Op
from convc.ops.base import numbers
from convc.ops.conv import Conv2d, ConvTranspose2d
from convc.ops.shape import Transpose
from convc.types import DType, TensorType


def with_given_filter(op: Op, shape: tuple[int, ...], pixels: int) -> Graph:
    """The operator on two images of 8 channels, its filter an input in ONNX' order, the result with channels last."""
    builder = Builder("given")
    x = builder.input("x", TensorType(DType.float32, (2, 8, pixels, pixels)))
    w = builder.input("w", TensorType(DType.float32, shape))
    return builder.finish([builder.add(Transpose((0, 2, 3, 1)), builder.add(op, x, w), name="y")])


@pytest.mark.parametrize(
    ("op", "shape"),
    [
        pytest.param(Conv2d(), (16, 8, 3, 3), id="conv2d"),
        pytest.param(ConvTranspose2d(), (8, 16, 3, 3), id="conv_transpose2d"),
    ],
)
def test_a_given_filter_is_copied_into_the_order_of_the_vectors(
    op: Op, shape: tuple[int, ...]
) -> None:
    graph = with_given_filter(op, shape, 9)
    options = driver.Options(recall=False)
    built = driver.compile_graphs("given", {"f": graph}, driver.host_target(), options)
    algorithms = {row.operators: row.algorithm for row in built.rows["f"]}
    assert algorithms[op.mnemonic] == "tiled"
    draws = np.random.default_rng(4)
    feeds = {
        n: draws.standard_normal(numbers(graph.types[n].shape), np.float32) for n in graph.inputs
    }
    found = built.artifact.model(2).context().entries["f"](*feeds.values())
    expected = run_graph(graph, feeds)["y"]
    assert np.allclose(found, expected, rtol=1e-5, atol=1e-4)


def test_a_filter_that_is_read_a_few_times_is_not_copied() -> None:
    graph = with_given_filter(Conv2d(), (16, 8, 3, 3), 4)  # 2 images of 2 x 2 outputs
    options = driver.Options(recall=False)
    built = driver.compile_graphs("given", {"f": graph}, driver.host_target(), options)
    assert not any(row.operators == "copy" and row.layout == "HWCN" for row in built.rows["f"])
