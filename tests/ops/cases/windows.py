"""Pooling, its gradients and those of resizing."""

from __future__ import annotations

from convc.ops.pool import (
    AvgPool2d,
    AvgPool2dGradient,
    MaxPool2d,
    MaxPool2dGradient,
    MaxPool2dPosition,
    MaxPool2dWholeGradient,
)
from convc.ops.resize import Resize2dGradient
from tests.ops.cases.case import Case, N, bf16, f16, f32, i32, u8

POOL = [
    Case("max_pool2d", MaxPool2d(), (f32(N, 3, 8, 7),)),
    Case("max_pool2d-padded", MaxPool2d((3, 3), (2, 2), ((1, 1), (0, 1))), (f32(N, 3, 9, 8),)),
    Case("max_pool2d-overlap", MaxPool2d((3, 2), (1, 2)), (f32(N, 3, 9, 8),)),
    Case("max_pool2d-dilated", MaxPool2d((2, 3), (1, 2), ((1, 0), (2, 2)), (2, 2)), (f32(N, 3, 9, 8),)),
    Case("max_pool2d-1x1", MaxPool2d((1, 1), (2, 2)), (f32(N, 3, 5, 6),)),
    Case("max_pool2d-uint8", MaxPool2d((3, 3), (2, 2), ((1, 1), (1, 1))), (u8(N, 3, 9, 8),), ((0, 255),)),
    Case("max_pool2d-bfloat16", MaxPool2d(), (bf16(N, 3, 8, 7),)),
    Case("avg_pool2d", AvgPool2d(), (f32(N, 3, 8, 7),)),
    Case("avg_pool2d-padded", AvgPool2d((3, 3), (2, 2), ((1, 1), (0, 1))), (f32(N, 3, 9, 8),)),
    Case("avg_pool2d-same", AvgPool2d((3, 3), (1, 1), ((1, 1), (1, 1))), (f32(N, 3, 5, 6),)),
    Case("avg_pool2d-one-sided", AvgPool2d((2, 3), (1, 1), ((0, 1), (0, 0))), (f32(N, 3, 5, 6),)),
    Case("avg_pool2d-count-padding", AvgPool2d((3, 3), (2, 2), ((1, 1), (0, 1)), count_include_pad=True),
         (f32(N, 3, 9, 8),)),
    Case("avg_pool2d-dilated", AvgPool2d((2, 3), (1, 2), ((1, 1), (3, 2)), (2, 3)), (f32(N, 3, 9, 9),)),
    Case("avg_pool2d-float16", AvgPool2d((3, 3), (1, 1), ((1, 1), (1, 1))), (f16(N, 3, 5, 6),)),
]  # fmt: skip

POOL_GRADIENTS = [
    Case("max_pool2d_whole_gradient", MaxPool2dWholeGradient(),
         (f32(N, 3, 4, 6), f32(N, 3, 2, 3), f32(N, 3, 2, 3))),
    Case("max_pool2d_whole_gradient-3", MaxPool2dWholeGradient((3, 1)),
         (f32(N, 3, 6, 4), f32(N, 3, 2, 4), f32(N, 3, 2, 4))),
    Case("max_pool2d_position", MaxPool2dPosition(), (f32(N, 3, 4, 6), f32(N, 3, 2, 3))),
    Case("max_pool2d_position-padded", MaxPool2dPosition((3, 3), (2, 2), ((1, 1), (0, 1))),
         (i32(N, 3, 9, 8), i32(N, 3, 5, 4)), ((-1, 1), (-1, 1))),
    Case("max_pool2d_gradient", MaxPool2dGradient(size=(5, 6)), (f32(N, 3, 2, 3), i32(N, 3, 2, 3)),
         ((-3, 3), (0, 3))),
    Case("max_pool2d_gradient-gaps", MaxPool2dGradient((1, 2), (2, 3), ((0, 0), (1, 0)), size=(5, 9)),
         (f32(N, 3, 3, 3), i32(N, 3, 3, 3)), ((-3, 3), (0, 1))),
    Case("max_pool2d_gradient-padded", MaxPool2dGradient((3, 3), (2, 2), ((1, 1), (0, 1)), size=(9, 8)),
         (f32(N, 3, 5, 4), i32(N, 3, 5, 4)), ((-3, 3), (0, 8))),
    Case("max_pool2d_gradient-dilated",
         MaxPool2dGradient((2, 3), (1, 2), ((1, 0), (2, 2)), (2, 2), (9, 8)),
         (f32(N, 3, 8, 4), i32(N, 3, 8, 4)), ((-3, 3), (0, 5))),
    Case("avg_pool2d_gradient", AvgPool2dGradient(size=(5, 6)), (f32(N, 3, 2, 3),)),
    Case("avg_pool2d_gradient-padded", AvgPool2dGradient((3, 3), (2, 2), ((1, 1), (0, 1)), size=(9, 8)),
         (f32(N, 3, 5, 4),)),
    Case("avg_pool2d_gradient-count-padding",
         AvgPool2dGradient((3, 3), (2, 2), ((1, 1), (0, 1)), size=(9, 8), count_include_pad=True),
         (f32(N, 3, 5, 4),)),
]  # fmt: skip

RESIZE_GRADIENTS = [
    Case("resize2d_gradient-nearest", Resize2dGradient((4, 5), scale=(2, 3)), (f32(N, 3, 8, 15),)),
    Case("resize2d_gradient-nearest-size", Resize2dGradient((4, 5)), (f32(N, 3, 7, 3),)),
    Case("resize2d_gradient-bilinear", Resize2dGradient((4, 5), "bilinear", (2, 3)), (f32(N, 3, 8, 15),)),
    Case("resize2d_gradient-bilinear-size", Resize2dGradient((4, 5), "bilinear"), (f32(N, 3, 7, 3),)),
]  # fmt: skip
