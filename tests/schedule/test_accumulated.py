"""Weight gradients of convolutions: tiles of taps and channels, the same numbers, the same bits for any threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from convc.driver import Compiled, Options, compile_graphs, host_target
from convc.graph.ir import Builder
from convc.loops.ir import INDEX, Const, For, walk
from convc.ops.broadcasting import Mul, Sub
from convc.ops.conv import Conv2dWeightGradient
from convc.ops.reduce import ReduceSum
from convc.ops.shape import Transpose
from convc.types import Dim, DType, TensorType
from tests.codegen.native import assert_same_bits

N = Dim.symbol("N")
FLOAT = DType.float32
CASES = {
    "3x3": (16, 9, 32, 3, 1, 1, 1),
    "strided": (8, 11, 16, 3, 2, 1, 1),
    "one channel": (1, 12, 32, 3, 1, 0, 1),
    "three channels": (3, 8, 64, 3, 1, 1, 1),
    "1x1": (24, 7, 48, 1, 1, 0, 1),
    "5x5": (8, 10, 16, 5, 1, 2, 1),
    "depthwise": (32, 9, 32, 3, 1, 1, 32),
    "few lanes": (5, 6, 24, 3, 1, 1, 1),
    "large map": (16, 96, 64, 1, 1, 0, 1),
}


def compiled(case: str) -> tuple[Compiled, Conv2dWeightGradient, int]:
    """p - the gradient of a weight p, of images with channels last."""
    channels, size, outputs, kernel, stride, pad, groups = CASES[case]
    op = Conv2dWeightGradient(
        (stride, stride), ((pad, pad), (pad, pad)), (1, 1), groups, (kernel, kernel)
    )
    extent = (size + 2 * pad - kernel) // stride + 1
    builder = Builder("gradient")
    x = builder.input("x", TensorType(FLOAT, (N, size, size, channels)))
    dy = builder.input("dy", TensorType(FLOAT, (N, extent, extent, outputs)))
    p = builder.input("p", TensorType(FLOAT, (outputs, channels // groups, kernel, kernel)))
    gradient = builder.add(op, *(builder.add(Transpose((0, 3, 1, 2)), value) for value in (x, dy)))
    graph = builder.finish([builder.add(Sub(), p, gradient, name="next/p")])
    options = Options("training", verify=True, in_place=True)
    return compile_graphs("gradient", {"step": graph}, host_target(), options), op, extent


def test_large_maps_are_summed_in_strips_of_rows() -> None:
    made, *_ = compiled("large map")
    (kernel,) = (k for k in made.program.kernels.values() if "weight" in dict(k.notes)["ops"])
    loops = {s.var: s.extent for s in walk(kernel.body) if isinstance(s, For)}
    assert loops["pi"] != Const(96, INDEX)
    assert "mi" not in loops


@pytest.mark.parametrize("case", CASES)
def test_the_gradient_is_summed_in_tiles(case: str) -> None:
    made, op, extent = compiled(case)
    channels, size, outputs, *_ = CASES[case]
    strategies = {
        dict(k.notes)["ops"]: dict(k.notes)["strategy"] for k in made.program.kernels.values()
    }
    assert strategies["conv2d_weight_gradient"] == "accumulated"
    rng = np.random.default_rng(3)
    for images in (1, 7):
        x: Any = rng.normal(size=(images, size, size, channels)).astype("f4")
        dy: Any = rng.normal(size=(images, extent, extent, outputs)).astype("f4")
        contexts = [made.artifact.model(threads).context() for threads in (1, 2, 3, 7)]
        for context in contexts:
            context.entries["step"]({"x": x, "dy": dy})
        found = contexts[0].get("p")
        wide = (a.transpose(0, 3, 1, 2).astype("f8") for a in (x, dy))
        wanted: Any = -op.reference(*wide)
        np.testing.assert_allclose(found, wanted, atol=2e-6 * np.abs(wanted).max() * extent)
        for context in contexts[1:]:
            assert_same_bits(context.get("p"), found)


@pytest.mark.parametrize("channels", [8, 10, 7])
def test_sums_whose_update_is_in_their_kernel(channels: int) -> None:
    """A scale's gradient over several axes, as of additive attention: the output can't hold parts of the sum."""
    builder = Builder("scale")
    x = builder.input("x", TensorType(FLOAT, (N, 6, 5, channels)))
    dy = builder.input("dy", TensorType(FLOAT, (N, 6, 5, 1)))
    p = builder.input("p", TensorType(FLOAT, (channels,)))
    gradient = builder.add(ReduceSum((0, 1, 2)), builder.add(Mul(), x, dy))
    graph = builder.finish([builder.add(Sub(), p, gradient, name="next/p")])
    options = Options("training", verify=True, in_place=True)
    made = compile_graphs("scale", {"step": graph}, host_target(), options)
    rng = np.random.default_rng(4)
    arrays: Any = [rng.normal(size=(9, 6, 5, k)).astype("f4") for k in (channels, 1)]
    context = made.artifact.model(2).context()
    context.entries["step"](dict(zip(("x", "dy"), arrays, strict=True)))
    wanted = -(arrays[0] * arrays[1].astype("f8")).sum((0, 1, 2))
    np.testing.assert_allclose(context.get("p"), wanted, atol=1e-4)
