"""Functions and layers on images, and what becomes of samples' bounding boxes and masks, written for either Keras.

A case is a function of the package that gives an array. `make_images.py` keeps what Keras computes. Layers that draw
have ranges of a single number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Case = Callable[[Any], Any]
CASES: dict[str, Case] = {}

RANDOM = np.random.default_rng(7)
BYTES = RANDOM.integers(0, 256, (3, 9, 12, 3), np.uint8)
FLOATS = (BYTES / 255).astype(np.float32)
LARGE = RANDOM.uniform(0, 1, (2, 17, 21, 3)).astype(np.float32)
NOISY = np.clip(LARGE + RANDOM.normal(0, 0.1, LARGE.shape), 0, 1).astype(np.float32)
VOLUMES = RANDOM.uniform(0, 1, (2, 4, 5, 6, 2)).astype(np.float32)
MASKS = RANDOM.integers(0, 7, (3, 9, 12, 1)).astype(np.float32)
MAPS = np.array(
    [[1, 0.113, -1.27, -0.217, 1.109, 0.72, 0, 0], [0.913, -0.311, 2.09, 0.221, 0.807, -1.71, 0, 0],
     [-1, 0, 11, 0, 1, 0.4, 0, 0]],
    np.float32,
)  # fmt: skip
PLACES = RANDOM.uniform(-14, 24, (2, 4, 5)).astype(np.float32)
CORNERS = np.tile(np.array([[0, 0], [11, 0], [0, 8], [11, 8]], np.float32), (3, 1, 1))
MOVED = CORNERS + RANDOM.uniform(-2, 2, CORNERS.shape).astype(np.float32)
BOXES = np.tile(np.array([[1.5, 2, 6, 7], [0, 0, 12, 9], [8, 1, 11.5, 4]], np.float32), (3, 1, 1))


def first(x: Any) -> Any:
    """With channels first."""
    return np.ascontiguousarray(np.moveaxis(x, -1, -3))


def case(name: str, function: Case) -> None:
    CASES[name] = function


def image(name: str, function: str, *args: Any, **kwargs: Any) -> None:
    """A case of `ops.image`."""
    case(name, lambda k: getattr(k.ops.image, function)(*args, **kwargs))


def layer(name: str, kind: str, x: Any, /, **kwargs: Any) -> None:
    """A case of a layer called on an array."""
    case(name, lambda k: getattr(k.layers, kind)(**kwargs)(x))


def sample(kind: str, format: str = "xyxy", masks: bool = True, **kwargs: Any) -> None:
    """Cases of the boxes, their labels and the masks of a sample."""

    def part(k: Any, *keys: str) -> Any:
        made = getattr(k.layers, kind)(bounding_box_format=format, **kwargs)
        data = {
            "images": FLOATS, "segmentation_masks": MASKS,
            "bounding_boxes": {"boxes": BOXES / (12 if format.startswith("rel") else 1), "labels": np.ones((3, 3))},
        }  # fmt: skip
        found = made(data)
        for key in keys:
            found = found[key]
        return found

    arguments = ",".join(f"{k}={v}" for k, v in kwargs.items())
    parts = [("bounding_boxes", "boxes"), ("bounding_boxes", "labels"), ("segmentation_masks",)]
    for keys in parts if masks else parts[:2]:
        case(
            f"{kind}({arguments}) {format} {keys[-1]}",
            lambda k, keys=keys: part(k, *keys),  # type: ignore[misc]
        )


for method in ("nearest", "bilinear", "lanczos3", "area"):
    for size in ((5, 7), (13, 20)):
        image(f"resize {method} {size}", "resize", FLOATS, size, method)
image("resize antialias", "resize", FLOATS, (5, 7), antialias=True)
image("resize bytes", "resize", BYTES, (10, 24))
for size in ((13, 6), (10, 10), (4, 16)):
    for how in ("crop", "pad"):
        image(f"resize {how} {size}", "resize", FLOATS, size, **{f"{how}_to_aspect_ratio": True})
        layer(f"Resizing {how} {size}", "Resizing", first(FLOATS), height=size[0], width=size[1],
              data_format="channels_first", **{f"{how}_to_aspect_ratio": True})  # fmt: skip
    layer(f"CenterCrop {size}", "CenterCrop", BYTES[0], height=size[0], width=size[1])
layer("Resizing bytes", "Resizing", BYTES, height=10, width=24, interpolation="lanczos5")
for mode in ("constant", "nearest", "wrap"):
    for order in (0, 1):
        image(
            f"map {mode} {order}", "map_coordinates", FLOATS[0, :, :, 0], PLACES, order, mode, 0.25
        )
for mode in ("constant", "nearest", "reflect"):
    for how in ("nearest", "bilinear"):
        image(f"affine {mode} {how}", "affine_transform", FLOATS, MAPS, how, mode, 0.3)
image("affine one", "affine_transform", first(FLOATS[0]), MAPS[0], data_format="channels_first")
image("perspective", "perspective_transform", FLOATS, CORNERS, MOVED, "bilinear", 0.2)
image("perspective one", "perspective_transform", FLOATS[1], CORNERS[1], MOVED[1], "nearest")
image("patches 3d", "extract_patches_3d", VOLUMES, (2, 3, 2), (1, 2, 3), 1, "same")
image("patches 3d apart", "extract_patches_3d", VOLUMES, 2, 1, 2)
for method in ("linear", "cubic", "lanczos3"):
    image(f"scale {method}", "scale_and_translate", FLOATS, (3, 7, 10, 3), np.array([0.7, 1.3], np.float32),
          np.array([0.4, -1.2], np.float32), (1, 2), method)  # fmt: skip
image("scale alias", "scale_and_translate", FLOATS, (3, 4, 9, 3), np.array([0.4, 0.8], np.float32),
      np.array([0.0, 0.5], np.float32), (1, 2), "linear", False)  # fmt: skip
image("sobel", "sobel_edges", FLOATS)
image("sobel first", "sobel_edges", first(FLOATS), "channels_first")
image("ssim", "ssim", LARGE, NOISY)
image("ssim one", "ssim", LARGE[0] * 255, NOISY[0] * 255, 255, 7, 1.0, 0.02, 0.04)
image("blur", "gaussian_blur", FLOATS, (5, 3), (0.5, 2.0))
for factor in (0.1, -0.23):
    for mode in ("reflect", "constant", "nearest"):
        layer(
            f"RandomRotation {factor} {mode}",
            "RandomRotation",
            BYTES,
            factor=(factor, factor),
            fill_mode=mode,
        )
layer("RandomTranslation", "RandomTranslation", BYTES, height_factor=(0.2, 0.2), width_factor=(-0.3, -0.3),
      fill_mode="constant", fill_value=7.0)  # fmt: skip
layer("RandomZoom", "RandomZoom", first(BYTES), height_factor=(0.2, 0.2), width_factor=(-0.3, -0.3),
      data_format="channels_first")  # fmt: skip
layer("RandomBrightness", "RandomBrightness", FLOATS, factor=(0.3, 0.3), value_range=(0, 1))
layer("RandomColorDegeneration", "RandomColorDegeneration", BYTES, factor=(0.3, 0.3))
layer("RandomSaturation", "RandomSaturation", FLOATS, factor=(0.4, 0.4), value_range=(0, 1))
layer("RandomHue", "RandomHue", FLOATS, factor=(1.0, 1.0), value_range=(0, 1))
layer("RandomSharpness", "RandomSharpness", BYTES, factor=(0.8, 0.8))
layer("RandomInvert", "RandomInvert", BYTES, factor=(1.0, 1.0))
layer("RandomPosterization", "RandomPosterization", BYTES, factor=(3, 3))
layer(
    "RandomGaussianBlur",
    "RandomGaussianBlur",
    BYTES,
    factor=(1.0, 1.0),
    kernel_size=(3, 5),
    sigma=(0.7, 0.7),
)
layer("Solarization", "Solarization", BYTES)
layer("AutoContrast", "AutoContrast", BYTES)
layer("Equalization", "Equalization", BYTES, bins=64)
layer("Equalization floats", "Equalization", FLOATS, value_range=(0, 1))
layer(
    "CLAHE",
    "ContrastLimitedAdaptiveHistogramEqualization",
    BYTES.astype(np.float32),
    tile_grid_size=(2, 3),
)
layer(
    "CLAHE floats",
    "ContrastLimitedAdaptiveHistogramEqualization",
    LARGE,
    value_range=(0, 1),
    clip_limit=1.5,
)
FORMATS = ("xyxy", "yxyx", "xywh", "center_xywh", "center_yxhw")
for format in (*FORMATS, "rel_xyxy", "rel_yxyx", "rel_xywh", "rel_center_xywh"):
    sample("CenterCrop", format, height=5, width=6)
sample("CenterCrop", masks=False, height=12, width=10)
sample("Resizing", height=18, width=18)
sample("Resizing", height=9, width=8, crop_to_aspect_ratio=True)
sample("Resizing", height=12, width=24, pad_to_aspect_ratio=True)
sample(
    "RandomTranslation", height_factor=(0.2, 0.2), width_factor=(-0.3, -0.3), fill_mode="constant"
)
sample("RandomRotation", factor=(0.1, 0.1), fill_mode="constant")
sample("RandomZoom", height_factor=(0.2, 0.2), width_factor=(-0.3, -0.3), fill_mode="constant")
sample("MaxNumBoundingBoxes", max_number=2)
sample("MaxNumBoundingBoxes", max_number=5)
