"""Shapes, places that data say, orders, boxes and trees."""

from __future__ import annotations

from convc.ops.indexing import OneHot, ScatterAdd
from convc.ops.ordering import CumProd, CumSum, GatherElements, LastPosition, Rank
from convc.ops.reduce import Count
from convc.ops.resize import Resize2d
from convc.ops.shape import (
    Broadcast,
    Concat,
    DepthToSpace,
    Gather,
    Pad,
    Reshape,
    Slice,
    SpaceToDepth,
    Transpose,
)
from convc.ops.sorting import Leading, Order, Positions, Scatter
from convc.ops.suppression import NonMaxSuppression
from convc.ops.trees import TreeSums
from convc.types import DType, TensorType
from tests.ops.cases.case import Case, N, bf16, f16, f32, f64, i8, i32, i64, u8

SHAPE = [
    Case("transpose-channels", Transpose((0, 2, 3, 1)), (f32(N, 3, 5, 7),)),
    Case("transpose-matrix", Transpose((1, 0)), (f32(5, N),)),
    Case("transpose-rank0", Transpose(()), (f32(),)),
    Case("reshape-flatten", Reshape((N, 105)), (f32(N, 3, 5, 7),)),
    Case("reshape-rest", Reshape((N, -1)), (f32(N, 3, 5, 7),)),
    Case("reshape-batch-rest", Reshape((-1, 7)), (f32(N, 5, 7),)),
    Case("reshape-split", Reshape((N, 2, 3, 4)), (f32(N, 6, 4),)),
    Case("reshape-regroup", Reshape((4, 15, 2)), (f32(6, 4, 5),)),
    Case("reshape-ones", Reshape((1, N, 1, 5, 1)), (f32(N, 5),)),
    Case("reshape-no-ones", Reshape((N, 5)), (f32(1, N, 1, 5, 1),)),
    Case("reshape-scalar", Reshape(()), (f32(1, 1),)),
    Case("reshape-batch-product", Reshape((N * 5, 7)), (f32(N, 5, 7),)),
    Case("broadcast", Broadcast((N, 3, 5)), (f32(N, 1, 5),)),
    Case("broadcast-rank", Broadcast((4, 3, 5)), (f32(3, 1),)),
    Case("concat-channels", Concat(1), (f32(N, 3, 2, 4), f32(N, 1, 2, 4), f32(N, 5, 2, 4))),
    Case("concat-last", Concat(), (f32(N, 3), f32(N, 4))),
    Case("concat-one", Concat(1), (f32(N, 3),)),
    Case("concat-batch", Concat(0), (f32(N, 3), f32(2, 3))),
    Case(
        "slice-crop",
        Slice((None, None, 1, 2), (None, None, -1, 7), (1, 1, 1, 1)),
        (f32(N, 3, 6, 8),),
    ),
    Case("slice-steps", Slice((None, 1, -1), (None, None, None), (1, 2, -3)), (f32(N, 6, 8),)),
    Case("slice-reverse-batch", Slice((None, 0), (None, 2), (-1, 1)), (f32(N, 6),)),
    Case("slice-clamped", Slice((-100, 2), (100, 100), (1, 1)), (f32(4, 6),)),
    Case("pad-zeros", Pad(((0, 0), (0, 0), (1, 2), (3, 0))), (f32(N, 2, 4, 5),)),
    Case("pad-value", Pad(((1, 0), (0, 2)), value=-1.5), (f32(4, 5),)),
    Case("pad-batch", Pad(((1, 1), (0, 0))), (f32(N, 5),)),
    Case("pad-crop", Pad(((0, 0), (-1, 2), (2, -3))), (f32(N, 4, 6),)),
    Case("pad-reflect", Pad(((0, 0), (3, 2), (0, 4)), "reflect"), (f32(N, 4, 5),)),
    Case("pad-reflect-crop", Pad(((0, 0), (-1, 2), (2, -2)), "reflect"), (f32(N, 4, 5),)),
    Case("pad-edge", Pad(((0, 0), (3, 2), (0, 7)), "edge"), (f32(N, 4, 5),)),
    Case("pad-edge-crop", Pad(((0, 0), (-1, 2), (2, -2)), "edge"), (f32(N, 4, 5),)),
    Case("gather-rows", Gather(), (f32(9, 4), i64(N, 2)), ((-3, 3), (-9, 8))),
    Case("gather-columns", Gather(-1), (f32(N, 9), i32(4)), ((-3, 3), (-9, 8))),
    Case("gather-scalar", Gather(1), (f32(N, 9, 2), i64()), ((-3, 3), (0, 8))),
    Case("depth_to_space", DepthToSpace(2), (f32(N, 12, 3, 5),)),
    Case("depth_to_space-crd", DepthToSpace(3, "crd"), (f32(N, 18, 3, 2),)),
    Case("space_to_depth", SpaceToDepth(2), (f32(N, 3, 4, 6),)),
    Case("resize2d-nearest", Resize2d((2, 3)), (f32(N, 3, 4, 5),)),
    Case("resize2d-nearest-size", Resize2d(size=(7, 3)), (f32(N, 3, 4, 5),)),
    Case("resize2d-nearest-uint8", Resize2d((2, 2)), (u8(N, 3, 4, 5),)),
    Case("resize2d-bilinear", Resize2d((2, 3), mode="bilinear"), (f32(N, 3, 4, 5),)),
    Case("resize2d-bilinear-one-row", Resize2d((2, 1), mode="bilinear"), (f32(N, 3, 1, 5),)),
    Case("resize2d-bilinear-size", Resize2d(size=(7, 3), mode="bilinear"), (f32(N, 3, 4, 5),)),
    Case("resize2d-bilinear-float16", Resize2d((2, 2), mode="bilinear"), (f16(N, 3, 4, 5),)),
]

INDEXING = [
    Case("scatter_add-rows", ScatterAdd(0, 9), (f32(N, 2, 4), i64(N, 2)), ((-3, 3), (-9, 8))),
    Case("scatter_add-columns", ScatterAdd(-1, 9), (f32(N, 4), i32(4)), ((-3, 3), (-9, 8))),
    Case("scatter_add-scalar", ScatterAdd(1, 9), (f32(N, 2), i64()), ((-3, 3), (0, 8))),
    Case("one_hot", OneHot(5), (i32(N, 3),), ((-1, 5),)),
    Case("one_hot-uint8", OneHot(10), (u8(N),), ((0, 9),)),
    Case("count-batch", Count((0, 2)), (f32(N, 3, 5),)),
    Case("count-numbers", Count((1,)), (f64(N, 3, 5),)),
]  # fmt: skip

ORDERING = [
    Case("cum_sum", CumSum(1), (f32(N, 7, 2),)),
    Case("cum_sum-exclusive", CumSum(-1, exclusive=True), (f32(N, 7),)),
    Case("cum_sum-reverse", CumSum(0, reverse=True), (i32(5, N),)),
    Case("cum_sum-float16", CumSum(1, True, True), (f16(N, 7),)),
    Case("cum_prod", CumProd(1), (f32(N, 5, 2),), ((-2, 2),)),
    Case("cum_prod-exclusive-reverse", CumProd(0, True, True), (f64(5, N),), ((-2, 2),)),
    Case("rank", Rank(), (i32(N, 9),), ((-3, 3),)),
    Case("rank-descending", Rank(0, True), (f32(9, N),)),
    Case("rank-descending-ties", Rank(1, True), (i8(N, 9),), ((-2, 2),)),
    Case("last_position", LastPosition(1, 6), (i64(N, 9),), ((-2, 7),)),
    Case("gather_elements", GatherElements(1), (f32(N, 5, 2), i64(N, 3, 2)), ((-3, 3), (-5, 4))),
    Case("gather_elements-part", GatherElements(), (f32(5, 4), i32(3, 2)), ((-3, 3), (0, 4))),
]

SORTING = [
    Case("order", Order(1), (f32(N, 9),)),
    Case("order-descending", Order(-1, True), (f32(N, 2, 9),), ((-0.002, 0.002),)),
    Case("order-first-axis", Order(0), (f16(9, N),)),
    Case("order-bfloat16", Order(0, True), (bf16(9),)),
    Case("order-float64", Order(0), (f64(20),)),
    Case("order-int8", Order(1, True), (i8(N, 9),), ((-128, 127),)),
    Case("order-uint8", Order(1), (u8(N, 9),), ((0, 255),)),
    Case("order-int64", Order(0), (i64(30),), ((-5000, 5000),)),
    Case("order-bool", Order(0, True), (TensorType(DType.bool, (12,)),)),
    Case("order-long", Order(0), (i32(5000),), ((-(2**31), 2**31 - 1),)),
    Case("leading", Leading(1, 3), (f32(N, 9),)),
    Case("leading-ascending", Leading(-1, 9, False), (f32(N, 2, 9),), ((-0.002, 0.002),)),
    Case("leading-first-axis", Leading(0, 5), (f16(150, N),)),
    Case("leading-bfloat16", Leading(0, 4), (bf16(70),)),
    Case("leading-float64", Leading(0, 20), (f64(200),)),
    Case("leading-ties", Leading(1, 40), (i8(N, 700),), ((-2, 2),)),
    Case("leading-uint8", Leading(1, 3, False), (u8(N, 65),), ((0, 255),)),
    Case("leading-bool", Leading(0, 70), (TensorType(DType.bool, (1500,)),)),
    Case("positions", Positions(4), (TensorType(DType.bool, (9,)),)),
    Case("positions-fewer", Positions(9), (TensorType(DType.bool, (N,)),)),
    Case("scatter", Scatter(), (f32(7, 2), i64(9, 2), f32(9, 2)), ((-3, 3), (-1, 7), (-3, 3))),
    Case("scatter-rows", Scatter(), (i8(7, N), i64(9, 1), i8(9, N)), ((-3, 3), (-1, 7), (-3, 3))),
    *(
        Case(
            f"scatter-{reduction}",
            Scatter(reduction),
            (f32(5, 3), i64(9, 1), f32(9, 3)),
            ((-3, 3), (-1, 5), (-3, 3)),
        )
        for reduction in ("add", "mul", "max", "min")
    ),
]

SCALAR = f32()

DETECTION = [
    Case(
        f"non_max_suppression-{name}",
        NonMaxSuppression(rows, centered, filtered),
        (f32(2, 20, 4), f32(2, 3, 20), i64(), SCALAR, SCALAR),
        ((0, 3), (0, 1), (limit, limit), (overlap, overlap), (0.3, 0.3)),
    )
    for name, rows, centered, filtered, limit, overlap in (
        ("corners", 99, False, True, 20, 0.25),
        ("centers", 40, True, True, 20, 0.1),
        ("limited", 30, False, False, 3, 0.5),
        ("fewer", 5, False, True, 4, 0.0),
    )
]

# Nodes between which all ways are open: no trees, but each number is a position inside of every array.
FORESTS = [
    Case(
        f"tree_sums-{aggregate}-{dtype.value}",
        TreeSums(aggregate, tuple(range(4))),
        (
            TensorType(dtype, (N, 4)),
            i32(4, 6),
            TensorType(dtype, (4,)),
            i32(5, 2),
            i32(6),
            TensorType(dtype, (6,)),
            TensorType(dtype, (4,)),
        ),
        ((-3, 3), (0, 3), (-3, 3), (0, 3), (0, 3), (-3, 3), (-3, 3)),
    )
    for aggregate, dtype in (
        ("sum", DType.float32),
        ("min", DType.float64),
        ("max", DType.float32),
    )
]
