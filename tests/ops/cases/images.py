"""Random numbers, augmentation and warps."""

from __future__ import annotations

from convc.ops.augment import (
    RandomAffine,
    RandomBrightness,
    RandomContrast,
    RandomCrop,
    RandomShear,
)
from convc.ops.noise import AlphaDropout, FreshSeed, GaussianDropout, GaussianNoise, SharedDropout
from convc.ops.random import DropoutMask, RandomBits
from convc.ops.warp import FILL_MODES, AffineWarp
from convc.ops.warp_gradients import AffineWarpGradient, AffineWarpMatrixGradient
from tests.ops.cases.case import Case, N, f16, f32, f64, u8, u32

RANDOM = [
    Case("random_bits", RandomBits((2, 3, 7)), (u32(2),), ((0, 2**32 - 1),)),
    Case("random_bits-numbers", RandomBits((33,)), (u32(2),), ((0, 2**32 - 1),)),
    Case("dropout_mask", DropoutMask(0.3, (3, 40)), (u32(2),), ((0, 2**32 - 1),)),
]

DRAWN = [
    Case(
        "random_affine", RandomAffine(flip=(True, False), rotation=(-0.1, 0.1)), (f32(N, 4, 5, 3),)
    ),
    Case("random_shear", RandomShear(width=(-0.3, 0.2)), (f32(N, 4, 5, 3),)),
    Case("fresh_seed", FreshSeed(), (u32(2),), ((0, 2**32 - 1),)),
    Case("gaussian_noise", GaussianNoise(0.5), (f32(N, 4, 5),)),
    Case("gaussian_dropout", GaussianDropout(0.2), (f32(N, 4, 5),)),
    Case("shared_dropout", SharedDropout(0.2, (0,)), (f32(N, 4, 5),)),
    Case("alpha_dropout", AlphaDropout(0.2, (0,)), (f32(N, 4, 5),)),
    Case("random_contrast", RandomContrast(factor=(0.5, 1.5)), (f32(N, 4, 5, 3),)),
    Case("random_brightness", RandomBrightness((2, 3), (-0.5, 0.5)), (f32(N, 3, 4, 5),)),
    Case("random_crop", RandomCrop(), (f32(N, 6, 7, 3), f32(N, 4, 5, 3))),
]

WARP = [
    *(
        Case(
            f"affine_warp-{mode}-{interpolation}",
            AffineWarp(interpolation=interpolation, fill_mode=mode, fill_value=0.5),
            (f32(N, 4, 5, 3), f64(N, 2, 3)),
        )
        for mode in FILL_MODES
        for interpolation in ("nearest", "bilinear")
    ),
    Case("affine_warp-small", AffineWarp(), (f32(N, 6, 5, 2), f64(N, 2, 3)), ((-3, 3), (-1, 1))),
    *(
        Case(
            f"affine_warp-inside-{interpolation}",
            AffineWarp(interpolation=interpolation, fill_mode="reflect"),
            (u8(N, 9, 8, 3), f64(N, 2, 3)),
            ((0, 255), (0.1, 0.6)),
        )
        for interpolation in ("nearest", "bilinear")
    ),
    Case("affine_warp-channels-first", AffineWarp((2, 3)), (f32(N, 2, 3, 5), f64(N, 2, 3))),
    Case("affine_warp-one-channel", AffineWarp(), (f32(N, 4, 5, 1), f64(N, 2, 3))),
    Case("affine_warp-one-pixel", AffineWarp(fill_mode="wrap"), (f32(N, 1, 1, 2), f64(N, 2, 3))),
    Case("affine_warp-uint8", AffineWarp(), (u8(N, 4, 5, 3), f32(N, 2, 3)), ((0, 255), (-3, 3))),
    Case("affine_warp-float16", AffineWarp(), (f16(N, 4, 5, 3), f64(N, 2, 3))),
    *(
        Case(
            f"affine_warp_gradient-{mode}-{interpolation}",
            AffineWarpGradient(interpolation=interpolation, fill_mode=mode),
            (f32(N, 4, 5, 3), f64(N, 2, 3)),
        )
        for mode in FILL_MODES
        for interpolation in ("nearest", "bilinear")
    ),
    Case(
        "affine_warp_gradient-channels-first",
        AffineWarpGradient((2, 3)),
        (f64(N, 2, 3, 5), f64(N, 2, 3)),
        ((-3, 3), (-1, 1)),
    ),
    *(
        Case(
            f"affine_warp_matrix_gradient-{mode}",
            AffineWarpMatrixGradient(fill_mode=mode, fill_value=0.5),
            (f32(N, 4, 5, 3), f32(N, 4, 5, 3), f64(N, 2, 3)),
            ((-3, 3), (-3, 3), (-1.5, 1.5)),
        )
        for mode in FILL_MODES
    ),
]
