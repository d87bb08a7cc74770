"""The positions of a max pooling's maxima: several outputs side by side, the same numbers for any threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from convc.driver import Compiled, Options, compile_graphs, host_target
from convc.graph.ir import Builder
from convc.ops.broadcasting import Greater, Where
from convc.ops.pool import MaxPool2d, MaxPool2dGradient, MaxPool2dPosition
from convc.ops.shape import Transpose
from convc.types import Dim, DType, TensorType
from tests.codegen.native import assert_same_bits

FLOAT = DType.float32
CHANNELS, HEIGHT, WIDTH = 24, 8, 14
POOLINGS = {
    "2x2": MaxPool2dPosition(),
    "padded": MaxPool2dPosition((3, 3), (2, 2), ((1, 1), (0, 1))),
}


@pytest.mark.parametrize("pooling", POOLINGS.values(), ids=POOLINGS)
def test_positions_are_the_reference_s_for_any_threads(pooling: MaxPool2dPosition) -> None:
    compiled = _compiled(pooling)
    if not any(sum(p) for p in pooling.padding):
        assert _rows(compiled) > 1  # a condition that reads is no guard of what is read
    rng = np.random.default_rng(7)
    x = rng.integers(-2, 3, size=(5, HEIGHT, WIDTH, CHANNELS)).astype("f4")  # many equal maxima
    x[1, 2, 3, :4] = np.nan
    nchw = x.transpose(0, 3, 1, 2)
    pooled = _max_pool(pooling).reference(nchw)
    wanted: Any = pooling.reference(nchw, pooled).transpose(0, 2, 3, 1)
    for threads in (1, 2, 3, 7):
        found: Any = compiled.artifact.model(threads).context().entries["step"]({"x": x})
        assert_same_bits(found, np.ascontiguousarray(wanted))


def test_a_gradient_goes_to_the_first_maximum_for_any_threads() -> None:
    """Windows that cover the images: x, y and dy are read at once, and a relu's mask beside them."""
    builder = Builder("gradient")
    type = TensorType(FLOAT, (Dim.symbol("N"), HEIGHT, WIDTH, CHANNELS))
    x, dy = (
        builder.add(Transpose((0, 3, 1, 2)), builder.input(name, t))
        for name, t in (
            ("x", type),
            ("dy", TensorType(FLOAT, (type.shape[0], HEIGHT // 2, WIDTH // 2, CHANNELS))),
        )
    )
    y = builder.add(MaxPool2d(), x)
    (dx,) = MaxPool2d().gradient(builder, (x,), (y,), (dy,))
    assert dx is not None
    zero = builder.weight("zero", np.zeros((), "f4"))
    masked = builder.add(Where(), builder.add(Greater(), x, zero), dx, zero)
    graph = builder.finish([builder.add(Transpose((0, 2, 3, 1)), masked, name="dx")])
    compiled = compile_graphs("g", {"step": graph}, host_target(), Options("training", verify=True))
    kernels = [dict(k.notes)["ops"] for k in compiled.program.kernels.values()]
    assert not any("position" in ops for ops in kernels)
    rng = np.random.default_rng(7)
    images = rng.integers(-2, 3, size=(5, HEIGHT, WIDTH, CHANNELS)).astype("f4")
    images[1, 2, 3, :4] = np.nan
    slopes = rng.normal(size=(5, HEIGHT // 2, WIDTH // 2, CHANNELS)).astype("f4")
    nchw = images.transpose(0, 3, 1, 2)
    position = MaxPool2dPosition().reference(nchw, MaxPool2d().reference(nchw))
    back = MaxPool2dGradient(size=(HEIGHT, WIDTH)).reference(slopes.transpose(0, 3, 1, 2), position)
    wanted = np.where(nchw > 0, back, np.float32(0)).transpose(0, 2, 3, 1)
    for threads in (1, 2, 3, 7):
        model = compiled.artifact.model(threads)
        found: Any = model.context().entries["step"]({"x": images, "dy": slopes})
        assert_same_bits(found, np.ascontiguousarray(wanted))


def _rows(compiled: Compiled) -> int:
    """How many neighbouring positions the kernel finds at a time."""
    (notes,) = (
        n
        for n in (dict(k.notes) for k in compiled.program.kernels.values())
        if "max_pool2d_position" in n["ops"]
    )
    assert notes["strategy"] == "lanes"
    return int(notes["tile"].split("x")[0])


def _max_pool(pooling: MaxPool2dPosition) -> MaxPool2d:
    return MaxPool2d(pooling.kernel, pooling.stride, pooling.padding, pooling.dilation)


def _compiled(pooling: MaxPool2dPosition) -> Compiled:
    builder = Builder("positions")
    x = builder.input("x", TensorType(FLOAT, (Dim.symbol("N"), HEIGHT, WIDTH, CHANNELS)))
    nchw = builder.add(Transpose((0, 3, 1, 2)), x)
    pooled = builder.add(_max_pool(pooling), nchw)
    position = builder.add(pooling, nchw, pooled)
    graph = builder.finish([builder.add(Transpose((0, 2, 3, 1)), position, name="p")])
    options = Options("training", verify=True)
    return compile_graphs("positions", {"step": graph}, host_target(), options)
