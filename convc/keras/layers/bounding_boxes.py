"""Bounding boxes of images: arrays (batch, boxes, 4) in one of Keras' formats, with labels (batch, boxes, …)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convc.errors import DataError

Array = NDArray[Any]
Sides = tuple[int, int]

FORMATS = (
    "xyxy", "yxyx", "xywh", "center_xywh", "center_yxhw", "rel_xyxy", "rel_yxyx", "rel_xywh", "rel_center_xywh",
)  # fmt: skip
"""x and y of two corners, a corner and the size, or the centre and the size; "rel": in shares of the image."""
NOTHING = -1
"""The label of a box that isn't one."""


def to_corners(boxes: Array, format: str, sides: Sides) -> Array:
    """Boxes of a format as left, top, right and bottom in pixels of images with those rows and columns."""
    name = format.removeprefix("rel_")
    a, b, c, d = np.moveaxis(np.asarray(boxes, np.float32), -1, 0)
    if name in ("yxyx", "center_yxhw"):
        a, b, c, d = b, a, d, c
    if name.startswith("center"):
        a, b, c, d = a - c / 2, b - d / 2, a + c / 2, b + d / 2
    elif name == "xywh":
        c, d = a + c, b + d
    found = np.stack([a, b, c, d], -1)
    return found * _scale(sides) if format.startswith("rel_") else found


def from_corners(corners: Array, format: str, sides: Sides) -> Array:
    """Such boxes in a format."""
    name = format.removeprefix("rel_")
    given = corners / _scale(sides) if format.startswith("rel_") else corners
    left, top, right, bottom = np.moveaxis(given, -1, 0)
    wide, high = right - left, bottom - top
    match name:
        case "yxyx":
            parts = [top, left, bottom, right]
        case "xywh":
            parts = [left, top, wide, high]
        case "center_xywh":
            parts = [left + wide / 2, top + high / 2, wide, high]
        case "center_yxhw":
            parts = [top + high / 2, left + wide / 2, high, wide]
        case _:
            parts = [left, top, right, bottom]
    return np.stack(parts, -1).astype(np.float32)


def _scale(sides: Sides) -> Array:
    return np.array([sides[1], sides[0]] * 2, np.float32)


def clipped(corners: Array, labels: Array, sides: Sides) -> tuple[Array, Array]:
    """Boxes cut off at the image's border; those of which nothing is left have the label -1."""
    found = np.clip(corners, 0, _scale(sides))
    area = (found[..., 2] - found[..., 0]) * (found[..., 3] - found[..., 1])
    there = (area > 0).reshape(area.shape + (1,) * (labels.ndim - area.ndim))
    return found, np.where(there, labels, np.array(NOTHING, labels.dtype))


def in_part(corners: Array, start: Sides, part: Sides, size: Sides) -> Array:
    """Boxes in the part of an image that begins at row and column `start`, which is brought to a size."""
    (top, left), (high, wide) = start, part
    scale = np.array([size[1] / wide, size[0] / high] * 2)
    moved: Array = (corners - np.array([left, top] * 2)) * scale
    return moved.astype(np.float32)


def hull(points: Array) -> Array:
    """The smallest boxes around points (…, count, 2) of x and y."""
    return np.concatenate([points.min(-2), points.max(-2)], -1).astype(np.float32)


def points(corners: Array) -> Array:
    """The four corners (…, 4, 2) of boxes, as x and y."""
    return np.stack([corners[..., [k, m]] for k in (0, 2) for m in (1, 3)], -2)


def dense(owner: str, given: Any) -> tuple[Array, Array]:
    """Boxes and labels of a dict as arrays; lists of different lengths are filled up with boxes of label -1."""
    if not isinstance(given, Mapping) or not {"boxes", "labels"} <= set(given):
        raise DataError(
            f"{owner}: expected bounding_boxes to be a dict with the keys 'boxes' and 'labels'; received {given!r}"
        )
    boxes, labels = given["boxes"], given["labels"]
    ragged = isinstance(boxes, (list, tuple)) and len({len(b) for b in boxes}) > 1
    if ragged:
        most = max(len(b) for b in boxes)
        boxes = [[*map(list, b), *[[0.0] * 4] * (most - len(b))] for b in boxes]
        labels = [[*row, *[NOTHING] * (most - len(row))] for row in labels]
    found, names = np.array(boxes, np.float32), np.array(labels)
    if found.ndim not in (2, 3) or found.shape[-1] != 4:
        raise DataError(
            f"{owner}: expected bounding_boxes['boxes'] of shape (batch, boxes, 4) or (boxes, 4); received shape "
            f"{found.shape}"
        )
    if names.shape[: found.ndim - 1] != found.shape[:-1]:
        raise DataError(
            f"{owner}: expected bounding_boxes['labels'] of shape {found.shape[:-1]}, a label for each box; received "
            f"shape {names.shape}"
        )
    return found, names
