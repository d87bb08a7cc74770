"""Images have their channels last in memory, however their dimensions are named; matrices are row-major."""

from __future__ import annotations

import numpy as np

from convc.graph.ir import Builder
from convc.lower.orders import CHANNELS_LAST, ROW_MAJOR, orders_of
from convc.lower.program import lower
from convc.ops.activations import Gelu
from convc.ops.broadcasting import Add
from convc.ops.conv import Conv2d
from convc.ops.matmul import MatMul
from convc.ops.reduce import ReduceMean
from convc.ops.shape import Reshape, Transpose
from convc.types import Dim, DType, TensorType

N = Dim.symbol("N")


def weight(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def test_the_sum_of_a_transposed_image_and_a_product_lies_as_the_image() -> None:
    """ConvNeXt: a depthwise convolution, dense layers on its transpose, and the sum that the next one reads."""
    b = Builder("block")
    b.input("x", TensorType(DType.float32, (N, 32, 8, 8)))
    image = b.add(
        Conv2d(padding=((3, 3), (3, 3)), groups=32), "x", b.weight("d", weight(32, 1, 7, 7))
    )
    turned = b.add(Transpose((0, 2, 3, 1)), image)
    wide = b.add(Gelu(), b.add(MatMul(), turned, b.weight("w", weight(32, 64))))
    narrow = b.add(MatMul(), wide, b.weight("v", weight(64, 32)))
    total = b.add(Add(), turned, narrow)
    again = b.add(Transpose((0, 3, 1, 2)), total)
    mean = b.add(ReduceMean((1,), True), again)
    last = b.add(Conv2d(), again, b.weight("k", weight(4, 32, 1, 1)))
    orders = orders_of(b.finish([last, mean]))
    assert {orders[n] for n in ("x", image, again, mean, last)} == {CHANNELS_LAST}
    assert {orders[n] for n in (turned, total, narrow)} == {ROW_MAJOR}


def test_heads_of_attention_are_no_channels() -> None:
    """A vision transformer: patches come from a convolution, queries and keys have rank 4 too."""
    b = Builder("attention")
    b.input("x", TensorType(DType.float32, (N, 3, 32, 32)))
    patches = b.add(Conv2d((8, 8)), "x", b.weight("p", weight(12, 3, 8, 8)))
    tokens = b.add(Transpose((0, 2, 1)), b.add(Reshape((N, 12, 16)), patches))
    heads = b.add(Transpose((0, 2, 1, 3)), b.add(Reshape((N, 16, 3, 4)), tokens))
    keys = b.add(Transpose((0, 1, 3, 2)), heads)
    scores = b.add(MatMul(), heads, keys)
    orders = orders_of(b.finish([scores]))
    assert orders[patches] == CHANNELS_LAST
    assert orders[heads] == orders[scores] == ROW_MAJOR


def regions(rows: int, kept: str) -> set[str]:
    """The regions of a product of `rows` rows with the transpose of what is computed."""
    b = Builder("scores")
    b.input("q", TensorType(DType.float32, (N, rows, 16)))
    b.input("k", TensorType(DType.float32, (N, 40, 16)))
    keys = b.add(Gelu(), "k")
    turned = b.add(Transpose((0, 2, 1)), keys, name=kept)
    return {r.name for r in lower({"predict": b.finish([b.add(MatMul(), "q", turned)])}).regions}


def test_a_transposed_factor_of_many_rows_is_copied() -> None:
    assert "turned" in regions(32, "turned")
    assert "turned" not in regions(2, "turned")
