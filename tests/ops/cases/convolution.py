"""Convolutions in two and three dimensions, their gradients, and Winograd's transforms."""

from __future__ import annotations

from convc.ops.conv import Conv2d, Conv2dWeightGradient, ConvTranspose2d
from convc.ops.volume import Conv3d, Conv3dWeightGradient, ConvTranspose3d
from convc.ops.winograd import WinogradInput, WinogradOutput
from convc.ops.winograd_training import (
    WinogradFilter,
    WinogradFilterGradient,
    WinogradGradientTiles,
    WinogradImage,
    WinogradSums,
    WinogradTiles,
)
from tests.ops.cases.case import Case, N, bf16, conv, f16, f32, f64, i8, u8

CONV = [
    conv("conv2d-1x1", Conv2d(), (N, 5, 7, 6), (9, 5, 1, 1)),
    conv("conv2d-1x1-padded", Conv2d(padding=((0, 1), (1, 0))), (N, 3, 4, 5), (2, 3, 1, 1)),
    conv("conv2d-1x1-stride", Conv2d(stride=(2, 2)), (N, 5, 7, 6), (4, 5, 1, 1)),
    conv("conv2d-3x3", Conv2d(), (N, 3, 9, 8), (5, 3, 3, 3)),
    conv("conv2d-3x3-same", Conv2d(padding=((1, 1), (1, 1))), (N, 3, 9, 8), (5, 3, 3, 3)),
    conv("conv2d-3x3-wide-channels", Conv2d(padding=((1, 1), (1, 1))), (1, 16, 9, 11), (33, 16, 3, 3)),
    conv("conv2d-stride", Conv2d((2, 3), ((0, 1), (1, 2))), (N, 3, 11, 10), (4, 3, 3, 5)),
    conv("conv2d-keras-same", Conv2d((2, 2), ((0, 1), (0, 1))), (N, 3, 8, 10), (4, 3, 3, 3)),
    conv("conv2d-unused-padding", Conv2d((2, 2), ((0, 1), (0, 1))), (N, 2, 7, 9), (4, 2, 3, 3)),
    conv("conv2d-7x7", Conv2d((2, 2), ((3, 3), (3, 3))), (2, 3, 15, 13), (4, 3, 7, 7)),
    conv("conv2d-dilated", Conv2d((1, 1), ((2, 2), (3, 0)), (2, 3)), (N, 3, 9, 11), (4, 3, 3, 3)),
    conv("conv2d-1x7", Conv2d(padding=((0, 0), (3, 3))), (N, 3, 4, 9), (4, 3, 1, 7)),
    conv("conv2d-groups", Conv2d((1, 2), ((1, 1), (1, 1)), groups=3), (N, 6, 5, 7), (9, 2, 3, 3)),
    conv("conv2d-groups-1-out", Conv2d(groups=3), (N, 6, 5, 7), (3, 2, 3, 3)),
    conv("conv2d-depthwise", Conv2d((1, 1), ((1, 1), (1, 1)), groups=5), (N, 5, 9, 7), (5, 1, 3, 3)),
    conv("conv2d-depthwise-stride", Conv2d((2, 2), ((0, 1), (0, 1)), groups=5), (N, 5, 8, 6), (5, 1, 3, 3)),
    conv("conv2d-depthwise-5x5", Conv2d((1, 1), ((2, 2), (2, 2)), groups=17), (1, 17, 9, 7), (17, 1, 5, 5)),
    conv("conv2d-depthwise-multiplier", Conv2d(groups=3), (N, 3, 5, 7), (6, 1, 3, 3)),
    conv("conv2d-depthwise-1x1", Conv2d(groups=3), (N, 3, 5, 7), (3, 1, 1, 1)),
    conv("conv2d-one-pixel", Conv2d(padding=((1, 1), (1, 1))), (1, 4, 1, 1), (3, 4, 3, 3)),
    Case("conv2d-float64", Conv2d(), (f64(N, 3, 5, 5), f64(2, 3, 3, 3))),
    Case("conv2d-float16", Conv2d(), (f16(N, 3, 5, 5), f16(2, 3, 3, 3))),
    Case("conv2d-bfloat16", Conv2d(), (bf16(N, 3, 5, 5), bf16(2, 3, 3, 3))),
    Case("conv2d-uint8-int8", Conv2d(padding=((1, 1), (1, 1))), (u8(N, 3, 5, 5), i8(2, 3, 3, 3)),
         ((0, 255), (-128, 127))),
    conv("conv_transpose2d", ConvTranspose2d(), (N, 3, 4, 5), (3, 2, 3, 3)),
    conv("conv_transpose2d-1x1", ConvTranspose2d(), (N, 3, 4, 5), (3, 2, 1, 1)),
    conv("conv_transpose2d-stride", ConvTranspose2d((2, 3)), (N, 3, 4, 5), (3, 2, 3, 3)),
    conv("conv_transpose2d-same", ConvTranspose2d((2, 2), ((0, 1), (0, 1))), (N, 3, 4, 5), (3, 2, 3, 3)),
    conv("conv_transpose2d-small-kernel", ConvTranspose2d((3, 3)), (N, 3, 4, 5), (3, 2, 2, 1)),
    conv("conv_transpose2d-padding", ConvTranspose2d((2, 2), ((1, 2), (2, 0))), (N, 3, 4, 5), (3, 2, 4, 4)),
    conv("conv_transpose2d-output-padding", ConvTranspose2d((2, 2), ((1, 1), (1, 1)), (1, 1)),
         (N, 3, 4, 5), (3, 2, 3, 3)),
    conv("conv_transpose2d-dilated", ConvTranspose2d((2, 2), ((1, 1), (2, 1)), (1, 0), (2, 3)),
         (N, 3, 4, 5), (3, 2, 3, 2)),
    conv("conv_transpose2d-groups", ConvTranspose2d((2, 1), ((1, 0), (1, 1)), groups=2),
         (N, 6, 4, 5), (6, 2, 3, 3)),
    conv("conv2d-nothing-but-padding", Conv2d((3, 3), ((2, 0), (2, 0))), (2, 5, 1, 1), (17, 5, 1, 1)),
    conv("conv_transpose2d-nothing-but-padding", ConvTranspose2d((2, 3), ((1, 0), (2, 1)), (0, 0), (1, 3)),
         (2, 5, 1, 1), (5, 17, 3, 2)),
    conv("conv_transpose2d-depthwise", ConvTranspose2d((2, 2), ((0, 1), (0, 1)), groups=3),
         (N, 3, 4, 5), (3, 1, 3, 3)),
]  # fmt: skip

CONV_GRADIENTS = [
    conv("conv2d_weight_gradient", Conv2dWeightGradient(kernel=(3, 2)), (N, 3, 5, 6), (N, 4, 3, 5)),
    conv("conv2d_weight_gradient-stride", Conv2dWeightGradient((2, 3), ((0, 1), (1, 2)), kernel=(3, 5)),
         (N, 3, 11, 10), (N, 4, 5, 3)),
    conv("conv2d_weight_gradient-dilated", Conv2dWeightGradient((1, 1), ((2, 2), (3, 0)), (2, 3), 1, (3, 3)),
         (N, 3, 9, 11), (N, 4, 9, 8)),
    conv("conv2d_weight_gradient-groups", Conv2dWeightGradient((1, 2), ((1, 1), (1, 1)), (1, 1), 3, (3, 3)),
         (N, 6, 5, 7), (N, 9, 5, 4)),
    conv("conv2d_weight_gradient-depthwise", Conv2dWeightGradient((1, 1), ((1, 1), (1, 1)), (1, 1), 5, (3, 3)),
         (2, 5, 5, 7), (2, 5, 5, 7)),
    conv("conv2d_weight_gradient-1x1", Conv2dWeightGradient(), (N, 3, 5, 4), (N, 2, 5, 4)),
    Case("conv2d_weight_gradient-bfloat16", Conv2dWeightGradient(kernel=(2, 2)),
         (bf16(N, 3, 5, 5), bf16(N, 2, 4, 4))),
]  # fmt: skip

VOLUME = [
    Case("conv3d", Conv3d(), (f32(N, 3, 4, 5, 6), f32(4, 3, 2, 3, 3))),
    Case(
        "conv3d-all",
        Conv3d((2, 1, 2), ((1, 0), (2, 1), (1, 1)), (1, 2, 1), 2),
        (f32(N, 4, 4, 5, 6), f32(6, 2, 2, 3, 3)),
    ),
    Case("conv3d-rest", Conv3d((2, 3, 2), ((0, 0),) * 3), (f32(N, 2, 4, 6, 5), f32(3, 2, 1, 2, 2))),
    Case("conv_transpose3d", ConvTranspose3d(), (f32(N, 3, 2, 3, 4), f32(3, 4, 2, 3, 3))),
    Case(
        "conv_transpose3d-stride",
        ConvTranspose3d((2, 3, 1), ((1, 0), (0, 1), (1, 1)), (1, 2, 0)),
        (f32(N, 2, 3, 2, 4), f32(2, 3, 3, 2, 3)),
    ),
    Case(
        "conv_transpose3d-groups",
        ConvTranspose3d((1, 2, 2), ((0, 1), (1, 1), (0, 0)), (0, 0, 0), (2, 1, 2), 2),
        (f32(N, 4, 3, 2, 2), f32(4, 3, 2, 3, 2)),
    ),
]

VOLUME_GRADIENTS = [
    Case(
        "conv3d_weight_gradient",
        Conv3dWeightGradient(kernel=(2, 3, 1)),
        (f32(N, 3, 4, 4, 3), f32(N, 2, 3, 2, 3)),
    ),
    Case(
        "conv3d_weight_gradient-all",
        Conv3dWeightGradient((2, 1, 2), ((1, 0), (2, 1), (1, 1)), (1, 2, 1), 2, (2, 3, 3)),
        (f32(N, 4, 4, 5, 6), f32(N, 6, 2, 4, 3)),
    ),
]

WINOGRAD = [
    Case("winograd_input", WinogradInput(), (f32(N, 5, 9, 11),)),
    Case("winograd_input-2", WinogradInput((2, 2), (3, 3), ((2, 0), (0, 1))), (f32(N, 3, 7, 6),)),
    Case("winograd_input-7", WinogradInput((1, 4), (1, 7), ((0, 0), (3, 3))), (f32(N, 3, 5, 9),)),
    Case("winograd_output", WinogradOutput((4, 4), (3, 3), 10, 7), (f32(N, 36, 3, 2, 5),)),
    Case("winograd_output-2", WinogradOutput((2, 2), (3, 3), 4, 5), (f32(2, 16, 2, 3, 7),)),
    Case("winograd_output-7", WinogradOutput((4, 1), (7, 1), 9, 3), (f32(N, 10, 3, 3, 5),)),
    Case("winograd_tiles", WinogradTiles(), (f32(N, 5, 9, 11),)),
    Case("winograd_tiles-2", WinogradTiles((2, 2), (5, 5), ((4, 4), (4, 4))), (f32(N, 3, 5, 6),)),
    Case("winograd_image", WinogradImage((4, 4), (3, 3), 10, 7), (f32(36, 18, 5),)),
    Case("winograd_image-one", WinogradImage((4, 4), (3, 3), 4, 3), (f32(36, N, 5),)),
    Case("winograd_image-2", WinogradImage((2, 2), (3, 3), 4, 5), (f32(16, 12, 7),)),
    Case("winograd_filter", WinogradFilter(), (f32(7, 5, 3, 3),)),
    Case("winograd_filter-flipped", WinogradFilter((2, 4), True), (f32(9, 4, 5, 3),)),
    Case("winograd_gradient_tiles", WinogradGradientTiles(), (f32(N, 5, 9, 11),)),
    Case("winograd_gradient_tiles-2", WinogradGradientTiles((2, 2), (5, 5)), (f32(N, 6, 4, 6),)),
    Case("winograd_sums", WinogradSums((3, 2)), (f32(9, 18, 5), f32(9, 18, 7))),
    Case("winograd_sums-one", WinogradSums(), (f32(4, N, 16), f32(4, N, 32))),
    Case("winograd_filter_gradient", WinogradFilterGradient(), (f32(36, 5, 7),)),
    Case("winograd_filter_gradient-2", WinogradFilterGradient((2, 4), (5, 3)), (f32(36, 6, 3),)),
]
