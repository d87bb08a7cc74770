"""Winograd's algorithm where it wins: which convolutions change, and that the numbers stay."""

from __future__ import annotations

import numpy as np
import pytest

from convc.graph.interp import run_graph
from convc.graph.ir import Builder, Graph
from convc.ops.base import Pair
from convc.ops.conv import Conv2d
from convc.ops.winograd import array_of, matrices
from convc.passes.choose_algorithm import TILES, ChooseAlgorithm
from convc.types import Dim, DType, TensorType

N = Dim.symbol("N")


def convolution(
    inputs: int, outputs: int, height: int, width: int, op: Conv2d, kernel: Pair = (3, 3)
) -> Graph:
    rng = np.random.default_rng(0)
    builder = Builder("conv")
    x = builder.input("x", TensorType(DType.float32, (N, inputs, height, width)))
    scale = np.sqrt(op.groups / (inputs * kernel[0] * kernel[1]))
    shape = (outputs, inputs // op.groups, *kernel)
    w = builder.weight("w", (rng.standard_normal(shape) * scale).astype(np.float32))
    return builder.finish((builder.add(op, x, w, name="y"),))


def names(graph: Graph) -> list[str]:
    return [node.op.mnemonic for node in graph.nodes]


SAME = ((1, 1), (1, 1))


@pytest.mark.parametrize(
    ("shape", "op", "kernel"),
    [
        ((64, 48, 12, 16), Conv2d(padding=SAME), (3, 3)),
        ((40, 64, 13, 17), Conv2d(padding=SAME), (3, 3)),
        ((64, 64, 11, 9), Conv2d(), (3, 3)),
        ((64, 64, 10, 15), Conv2d(padding=((2, 0), (0, 1))), (3, 3)),
        ((512, 512, 7, 7), Conv2d(padding=SAME), (3, 3)),
        ((128, 128, 12, 17), Conv2d(padding=((0, 0), (3, 3))), (1, 7)),
        ((128, 128, 17, 12), Conv2d(padding=((3, 3), (0, 0))), (7, 1)),
    ],
)
def test_wide_convolutions_change_and_keep_their_numbers(
    shape: tuple[int, int, int, int], op: Conv2d, kernel: Pair
) -> None:
    graph = convolution(*shape, op, kernel)
    chosen = ChooseAlgorithm()(graph)
    assert names(chosen) == ["winograd_input", "mat_mul", "winograd_output"]
    assert chosen.outputs == graph.outputs
    x = np.random.default_rng(1).standard_normal((2, *shape[:1], *shape[2:])).astype(np.float32)
    for dtype, bound in ((DType.float64, 1e-6), (DType.float32, 2e-5)):
        want = run_graph(graph, {"x": x}, dtype=DType.float64)["y"]
        got = run_graph(chosen, {"x": x}, dtype=dtype)["y"]
        np.testing.assert_allclose(got, want, rtol=0, atol=bound * float(np.abs(want).max()))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shape", "op", "kernel"),
    [
        ((3, 64, 56, 56), Conv2d(padding=SAME), (3, 3)),
        ((64, 64, 28, 28), Conv2d(stride=(2, 2), padding=SAME), (3, 3)),
        ((64, 64, 28, 28), Conv2d(dilation=(2, 2)), (3, 3)),
        ((64, 64, 28, 28), Conv2d(padding=SAME, groups=64), (3, 3)),
        ((64, 64, 28, 28), Conv2d(), (1, 1)),
        ((64, 64, 28, 28), Conv2d(), (5, 5)),
    ],
)
def test_what_winograd_cannot_do_or_would_not_win_stays(
    shape: tuple[int, int, int, int], op: Conv2d, kernel: Pair
) -> None:
    graph = convolution(*shape, op, kernel)
    assert ChooseAlgorithm()(graph) is graph


LINES = sorted(
    {pair for kernel, tiles in TILES.items() for t in tiles for pair in zip(t, kernel, strict=True)}
)


@pytest.mark.parametrize(("tile", "taps"), LINES)
def test_the_matrices_filter_exactly(tile: int, taps: int) -> None:
    """y = A^T ((G g) * (B^T d)) is the correlation, for every filter and input of the basis."""
    a, g, b = (array_of(m) for m in matrices(tile, taps))
    size = tile + taps - 1
    for tap in range(taps):
        for place in range(size):
            filter_, signal = np.eye(taps)[tap], np.eye(size)[place]
            want = [signal[i : i + taps] @ filter_ for i in range(tile)]
            np.testing.assert_allclose(a @ ((g @ filter_) * (b @ signal)), want, atol=1e-12)


def test_an_image_of_any_size_stays() -> None:
    builder = Builder("conv")
    x = builder.input("x", TensorType(DType.float32, (1, 64, Dim.symbol("H"), Dim.symbol("W"))))
    w = builder.weight("w", np.ones((64, 64, 3, 3), np.float32))
    graph = builder.finish((builder.add(Conv2d(padding=SAME), x, w),))
    assert names(ChooseAlgorithm()(graph)) == ["conv2d"]


@pytest.mark.parametrize("kernel", list(TILES))
def test_transformed_filters_may_be_limited_to_the_filters_size(kernel: Pair) -> None:
    graph = convolution(64, 64, 16, 16, Conv2d(), kernel)
    assert ChooseAlgorithm(growth=1.0)(graph) is graph
    assert ChooseAlgorithm(growth=4.0)(graph) is not graph
