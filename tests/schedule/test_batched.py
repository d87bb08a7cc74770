"""Winograd's products in training: tasks of a few taps, the same numbers and the same bits for any threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from convc.driver import Compiled, Options, compile_graphs, host_target
from convc.graph.ir import Builder, Graph
from convc.loops.ir import For, LoopKind
from convc.ops.broadcasting import Sub
from convc.ops.conv import Conv2d, Conv2dWeightGradient, ConvTranspose2d
from convc.ops.shape import Transpose
from convc.types import Dim, DType, TensorType
from tests.codegen.native import assert_same_bits

N = Dim.symbol("N")
SIZES = {
    "3x3": (48, 64, 12, 3, 1),
    "5x5": (32, 48, 12, 5, 0),
    "few rows": (128, 96, 4, 3, 1),
    "large": (32, 64, 24, 3, 1),
}


def step_of(channels: int, outputs: int, size: int, kernel: int, pad: int) -> tuple[Graph, int]:
    """A convolution of images with channels last, the gradient of its input, and the update of its filter."""
    padding = ((pad, pad), (pad, pad))
    out = size + 2 * pad - kernel + 1
    builder = Builder("step")
    x = builder.input("x", TensorType(DType.float32, (N, size, size, channels)))
    dy = builder.input("dy", TensorType(DType.float32, (N, out, out, outputs)))
    p = builder.input("p", TensorType(DType.float32, (outputs, channels, kernel, kernel)))
    x, dy = (builder.add(Transpose((0, 3, 1, 2)), v) for v in (x, dy))
    y = builder.add(Conv2d(padding=padding), x, p)
    dx = builder.add(ConvTranspose2d(padding=padding), dy, p)
    dw = builder.add(Conv2dWeightGradient(padding=padding, kernel=(kernel, kernel)), x, dy)
    results = [
        *(builder.add(Transpose((0, 2, 3, 1)), v, name=n) for n, v in (("y", y), ("dx", dx))),
        builder.add(Sub(), p, dw, name="next/p"),
    ]
    return builder.finish(results), out


def compiled(size: str) -> tuple[Compiled, Graph, int]:
    graph, out = step_of(*SIZES[size])
    options = Options("training", verify=True, in_place=True, recall=False)
    return compile_graphs("step", {"step": graph}, host_target(), options), graph, out


@pytest.mark.parametrize("case", SIZES)
def test_the_step_is_the_formulas_and_the_same_for_any_threads(case: str) -> None:
    made, graph, out = compiled(case)
    channels, outputs, size, kernel, _ = SIZES[case]
    rng = np.random.default_rng(3)
    p: Any = rng.normal(size=(outputs, channels, kernel, kernel)).astype("f4")
    for images in (1, 13):
        x: Any = rng.normal(size=(images, size, size, channels)).astype("f4")
        dy: Any = rng.normal(size=(images, out, out, outputs)).astype("f4")
        found = []
        for threads in (1, 2, 3, 7):
            context = made.artifact.model(threads).context()
            context.set("p", p)
            y, dx = context.entries["step"]({"x": x, "dy": dy})
            found.append({"y": y, "dx": dx, "next/p": context.get("p")})
        for name, wanted in formulas(graph, x, dy, p).items():
            bound = 3e-5 * float(np.abs(wanted).max())
            np.testing.assert_allclose(found[0][name], wanted, rtol=0, atol=bound)
            for other in found[1:]:
                assert_same_bits(other[name], found[0][name])


def formulas(graph: Graph, *arrays: Any) -> dict[str, Any]:
    """The outputs in float64."""
    x, dy, p = (a.astype("f8") for a in arrays)
    x, dy = x.transpose(0, 3, 1, 2), dy.transpose(0, 3, 1, 2)
    ops = {type(n.op): n.op for n in graph.nodes}
    y, dx = ops[Conv2d].reference(x, p), ops[ConvTranspose2d].reference(dy, p)
    dw = ops[Conv2dWeightGradient].reference(x, dy)
    return {"y": y.transpose(0, 2, 3, 1), "dx": dx.transpose(0, 2, 3, 1), "next/p": p - dw}


def test_products_go_through_blocks_of_rows_inside_tasks_of_taps() -> None:
    made, _, _ = compiled("3x3")
    kernels = {dict(k.notes)["ops"]: k for k in made.program.kernels.values()}
    strategies = {ops: dict(k.notes)["strategy"] for ops, k in kernels.items()}
    assert strategies["mat_mul"] == "tiled"
    assert strategies["winograd_sums"] == "accumulated"
    for ops in ("winograd_tiles", "winograd_filter", "winograd_image", "winograd_gradient_tiles"):
        assert strategies[ops] == "pointwise", ops
    for ops in ("mat_mul", "winograd_sums"):
        tasks, *_ = loops_of(kernels[ops].body)
        assert tasks == ("tb", LoopKind.parallel)


def loops_of(block: Any) -> list[tuple[str, LoopKind]]:
    """The loops at a body's beginning, outermost first."""
    found = []
    while block and isinstance(block[0], For):
        found.append((block[0].var, block[0].kind))
        block = block[0].body
    return found
