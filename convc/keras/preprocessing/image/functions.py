"""Transformations of one image by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from convc.errors import DataError, UnsupportedError
from convc.keras.engine.arguments import choice, refuse
from convc.keras.preprocessing.image.parameters import matrices
from convc.keras.preprocessing.warping import Changes, changed, warped
from convc.ops.warp import AffineWarp
from convc.types import DType

Array = NDArray[Any]
FILL_MODES = ("constant", "nearest", "reflect", "wrap")


def warp_of(
    owner: str,
    axes: tuple[int, int],
    fill_mode: str,
    cval: float,
    order: int,
    dtype: DType = DType.float32,
) -> AffineWarp:
    """The operator for Keras' arguments; orders of interpolation above 1 (splines) are refused."""
    mode = choice(owner, "fill_mode", fill_mode, FILL_MODES)
    if order not in (0, 1):
        raise UnsupportedError(
            f"{owner}: interpolation order {order!r} isn't supported; expected 0 (nearest) or 1 (bilinear)"
        )
    return AffineWarp(axes, ("nearest", "bilinear")[order], mode, float(cval), dtype)


def apply_affine_transform(
    x: Any,
    theta: float = 0,
    tx: float = 0,
    ty: float = 0,
    shear: float = 0,
    zx: float = 1,
    zy: float = 1,
    row_axis: int = 1,
    col_axis: int = 2,
    channel_axis: int = 0,
    fill_mode: str = "nearest",
    cval: float = 0.0,
    order: int = 1,
) -> Array:
    """The image of rank 3 turned by theta and sheared (degrees), moved (pixels) and zoomed around its centre."""
    image = np.asarray(x)
    if image.ndim != 3:
        raise DataError(
            f"apply_affine_transform: expected an image of rank 3, got shape {image.shape}"
        )
    axes = (row_axis + 1, col_axis + 1)
    if axes not in ((1, 2), (2, 3)) or channel_axis + 1 != 6 - sum(axes):
        refuse(
            "apply_affine_transform", "row_axis, col_axis, channel_axis", "0, 1, 2 or 1, 2, 0",
            (row_axis, col_axis, channel_axis),
        )  # fmt: skip
    parameters = {"theta": theta, "tx": tx, "ty": ty, "shear": shear, "zx": zx, "zy": zy}
    if (theta, tx, ty, shear, zx, zy) == (0, 0, 0, 0, 1, 1):
        return image
    batch = {k: np.array([v], np.float64) for k, v in parameters.items()}
    maps = matrices(batch, image.shape[row_axis], image.shape[col_axis])
    op = warp_of("apply_affine_transform", axes, fill_mode, cval, order)
    result: Array = warped(image[None], maps, op)[0]
    return result.astype(image.dtype, copy=False)


def apply_channel_shift(x: Any, intensity: float, channel_axis: int = 0) -> Array:
    """The image plus a number, clipped to its own least and largest value."""
    image = np.asarray(x)
    floats = image if image.dtype.kind == "f" else image.astype(np.float64)
    flat = floats.reshape(1, 1, 1, -1)
    return changed(flat, Changes(None, shifted=True), np.array([intensity])).reshape(image.shape)


def apply_brightness_shift(x: Any, brightness: float, scale: bool = True) -> Array:
    """The image [height, width, channels] times a factor, as bytes; float32."""
    image = np.asarray(x, np.float32)
    how = Changes(None, lit=True, stretched=scale)
    return np.asarray(changed(image[None], how, np.array([brightness]))[0])


def random_rotation(
    x: Any,
    rg: float,
    row_axis: int = 1,
    col_axis: int = 2,
    channel_axis: int = 0,
    fill_mode: str = "nearest",
    cval: float = 0.0,
    interpolation_order: int = 1,
) -> Array:
    """The image turned by up to `rg` degrees (numpy's global generator draws)."""
    theta = np.random.uniform(-rg, rg)
    return apply_affine_transform(
        x, theta=theta, row_axis=row_axis, col_axis=col_axis, channel_axis=channel_axis, fill_mode=fill_mode,
        cval=cval, order=interpolation_order,
    )  # fmt: skip


def random_shift(
    x: Any,
    wrg: float,
    hrg: float,
    row_axis: int = 1,
    col_axis: int = 2,
    channel_axis: int = 0,
    fill_mode: str = "nearest",
    cval: float = 0.0,
    interpolation_order: int = 1,
) -> Array:
    """The image moved by up to the shares `wrg` and `hrg` of its width and height."""
    tx = np.random.uniform(-hrg, hrg) * np.shape(x)[row_axis]
    ty = np.random.uniform(-wrg, wrg) * np.shape(x)[col_axis]
    return apply_affine_transform(
        x, tx=tx, ty=ty, row_axis=row_axis, col_axis=col_axis, channel_axis=channel_axis, fill_mode=fill_mode,
        cval=cval, order=interpolation_order,
    )  # fmt: skip


def random_shear(
    x: Any,
    intensity: float,
    row_axis: int = 1,
    col_axis: int = 2,
    channel_axis: int = 0,
    fill_mode: str = "nearest",
    cval: float = 0.0,
    interpolation_order: int = 1,
) -> Array:
    """The image sheared by up to `intensity` degrees."""
    shear = np.random.uniform(-intensity, intensity)
    return apply_affine_transform(
        x, shear=shear, row_axis=row_axis, col_axis=col_axis, channel_axis=channel_axis, fill_mode=fill_mode,
        cval=cval, order=interpolation_order,
    )  # fmt: skip


def random_zoom(
    x: Any,
    zoom_range: tuple[float, float],
    row_axis: int = 1,
    col_axis: int = 2,
    channel_axis: int = 0,
    fill_mode: str = "nearest",
    cval: float = 0.0,
    interpolation_order: int = 1,
) -> Array:
    """The image zoomed by two factors from a range, for rows and for columns."""
    low, high = _pair("random_zoom", "zoom_range", zoom_range)
    zx, zy = (1, 1) if low == high == 1 else np.random.uniform(low, high, 2)
    return apply_affine_transform(
        x, zx=zx, zy=zy, row_axis=row_axis, col_axis=col_axis, channel_axis=channel_axis, fill_mode=fill_mode,
        cval=cval, order=interpolation_order,
    )  # fmt: skip


def random_channel_shift(x: Any, intensity_range: float, channel_axis: int = 0) -> Array:
    """The image plus a number of up to `intensity_range`, clipped to its own range."""
    intensity = np.random.uniform(-intensity_range, intensity_range)
    return apply_channel_shift(x, intensity, channel_axis)


def random_brightness(x: Any, brightness_range: tuple[float, float], scale: bool = True) -> Array:
    """The image times a factor from a range, as bytes."""
    low, high = _pair("random_brightness", "brightness_range", brightness_range)
    return apply_brightness_shift(x, np.random.uniform(low, high), scale)


def _pair(owner: str, argument: str, value: Any) -> tuple[float, float]:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        refuse(owner, argument, "a tuple or list of two floats", value)
    return value[0], value[1]
