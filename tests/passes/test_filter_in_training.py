"""Winograd's algorithm in training steps: which convolutions and gradients change, and that the numbers stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from convc import driver
from convc.graph.interp import run_graph
from convc.graph.ir import Builder, Graph
from convc.graph.op import Op
from convc.ops.base import Pair, numbers
from convc.ops.conv import Conv2d, Conv2dWeightGradient, ConvTranspose2d
from convc.passes.filter_in_training import FilterInTraining
from convc.types import Dim, DType, TensorType

N = Dim.symbol("N")
SAME, ODD = ((1, 1), (1, 1)), ((2, 0), (0, 1))
FORWARD = ["winograd_tiles", "winograd_filter", "mat_mul", "winograd_image"]
INPUT = ["winograd_tiles", "transpose", *FORWARD[1:]]
FILTER = ["winograd_tiles", "winograd_gradient_tiles", "winograd_sums", "winograd_filter_gradient"]


def graph_of(op: Op, channels: int, outputs: int, size: Pair, kernel: int) -> Graph:
    """A node of a convolution of images of that size, or of one of its gradients."""
    padding = op.attributes["padding"]
    out = [s + sum(p) - kernel + 1 for s, p in zip(size, padding, strict=True)]
    x, dy = (N, channels, *size), (N, outputs, *out)
    w = (outputs, channels, kernel, kernel)
    builder = Builder("step")
    shapes = {Conv2d: (x, w), ConvTranspose2d: (dy, w), Conv2dWeightGradient: (x, dy)}[type(op)]
    names = [
        builder.input(n, TensorType(DType.float32, s)) for n, s in zip("ab", shapes, strict=True)
    ]
    return builder.finish((builder.add(op, *names, name="y"),))


def names(graph: Graph) -> list[str]:
    return [node.op.mnemonic for node in graph.nodes]


def arrays(graph: Graph, images: int) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    shapes = {n: numbers(graph.types[n].evaluate({"N": images}).shape) for n in graph.inputs}
    return {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}


@pytest.mark.parametrize("channels", [(48, 40), (64, 96)])
@pytest.mark.parametrize(
    ("padding", "size", "kernel", "tile"),
    [
        (SAME, (12, 16), 3, None),
        (ODD, (13, 9), 3, None),
        (((0, 0), (0, 0)), (11, 10), 3, (2, 2)),
        (((0, 0), (0, 0)), (12, 12), 5, None),
        (((2, 2), (1, 2)), (9, 7), 5, (2, 2)),
    ],
)
@pytest.mark.parametrize("kind", ["forward", "input", "filter"])
def test_convolutions_and_gradients_change_and_keep_their_numbers(
    kind: str, padding: Any, size: Pair, kernel: int, tile: Pair | None, channels: Pair
) -> None:
    op, expected = {
        "forward": (Conv2d(padding=padding), FORWARD),
        "input": (ConvTranspose2d(padding=padding), INPUT),
        "filter": (Conv2dWeightGradient(padding=padding, kernel=(kernel, kernel)), FILTER),
    }[kind]
    graph = graph_of(op, *channels, size, kernel)
    chosen = FilterInTraining(forced=tile)(graph)
    assert names(chosen) == expected
    assert chosen.types["y"] == graph.types["y"]
    given = arrays(graph, 3)
    want: Any = run_graph(graph, given, dtype=DType.float64)["y"]
    for dtype, bound in ((DType.float64, 1e-12), (DType.float32, 5e-5)):
        got = run_graph(chosen, given, dtype=dtype)["y"]
        np.testing.assert_allclose(got, want, rtol=0, atol=bound * np.abs(want).max())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "op",
    [
        Conv2d(padding=SAME),
        ConvTranspose2d(padding=SAME),
        Conv2dWeightGradient(padding=SAME, kernel=(3, 3)),
    ],
    ids=["forward", "input", "filter"],
)
def test_large_filters_are_made_in_parts_with_the_same_bits(
    op: Op, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = graph_of(op, 48, 96, (8, 8), 3)
    whole = FilterInTraining(forced=(4, 4))(graph)
    monkeypatch.setattr("convc.passes.filter_in_training._LARGEST", 200_000)  # of 663,552
    parts = FilterInTraining(forced=(4, 4))(graph)
    made = "winograd_sums" if isinstance(op, Conv2dWeightGradient) else "winograd_filter"
    assert (names(whole).count(made), names(parts).count(made)) == (1, 4)
    assert parts.types["y"] == graph.types["y"]
    given = arrays(graph, 3)
    results = []
    for chosen in (whole, parts):
        options = driver.Options("training", recall=False, verify=True)
        graphs = {"step": chosen}
        compiled = driver.compile_graphs("parts", graphs, driver.host_target(), options)
        results.append(compiled.artifact.model(2)(given))
        operators = {dict(k.notes)["ops"] for k in compiled.program.kernels.values()}
        assert operators.isdisjoint({"concat", "slice"})  # parts are where they belong
    np.testing.assert_array_equal(results[0], results[1])


@pytest.mark.parametrize("op", [Conv2d(padding=SAME), ConvTranspose2d(padding=SAME)])
def test_large_images_have_products_of_their_own(op: Op) -> None:
    graph = graph_of(op, 32, 64, (24, 25), 3)
    chosen = FilterInTraining()(graph)
    assert [n for n in names(chosen) if n != "transpose"] == [
        "winograd_filter", "winograd_input", "reshape", "mat_mul", "winograd_output",
    ]  # fmt: skip
    given = arrays(graph, 2)
    want: Any = run_graph(graph, given, dtype=DType.float64)["y"]
    got = run_graph(chosen, given, dtype=DType.float64)["y"]
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-12 * np.abs(want).max())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("op", "channels", "size", "kernel"),
    [
        (Conv2d(padding=SAME), (3, 64), (32, 32), 3),
        (Conv2dWeightGradient(kernel=(3, 3)), (1, 32), (28, 28), 3),
        (Conv2d(), (64, 64), (5, 5), 3),
        (Conv2d(), (64, 64), (28, 28), 1),
        (ConvTranspose2d(padding=((3, 0), (0, 0))), (64, 64), (9, 9), 3),
    ],
)
def test_what_winograd_cannot_do_or_would_not_win_stays(
    op: Op, channels: Pair, size: Pair, kernel: int
) -> None:
    graph = graph_of(op, *channels, size, kernel)
    assert FilterInTraining()(graph) is graph


@pytest.mark.parametrize("op", [Conv2d((2, 2)), Conv2d(dilation=(2, 2)), Conv2d(groups=2)])
def test_strides_dilations_and_groups_stay(op: Conv2d) -> None:
    builder = Builder("step")
    x = builder.input("x", TensorType(DType.float32, (N, 64, 17, 17)))
    w = builder.input("w", TensorType(DType.float32, (64, 64 // op.groups, 3, 3)))
    graph = builder.finish((builder.add(op, x, w),))
    assert FilterInTraining()(graph) is graph


def test_float64_stays() -> None:
    builder = Builder("step")
    x = builder.input("x", TensorType(DType.float64, (N, 64, 16, 16)))
    w = builder.input("w", TensorType(DType.float64, (64, 64, 3, 3)))
    graph = builder.finish((builder.add(Conv2d(padding=SAME), x, w),))
    assert FilterInTraining()(graph) is graph
