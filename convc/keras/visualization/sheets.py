"""Maps as one picture: a labelled grid, each map stretched to all greys (extra `convc[image]`)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convc.errors import DataError
from convc.keras.utils.images import draw_on, pillow

Array = NDArray[Any]

LABEL = 12
"""Pixels for a line of text above each map and above the sheet."""
GAP = 4
LEAST = 40
"""Maps smaller than that are enlarged by a whole number, without smoothing."""
PAPER, INK = 32, 224


def sheet(maps: Any, title: str = "", columns: int | None = None) -> Any:
    """A grid of maps as an image of Pillow.

    `maps` is [count, height, width], or [count, height, width, 3] for colours. Each map runs from black (its least
    value) to white (its largest) by itself; one that is the same everywhere is black, values that aren't finite are
    too. Above each stands its number, above all the title.
    """
    array = np.asarray(maps)
    if array.ndim not in (3, 4) or array.shape[3:] not in ((), (3,)) or 0 in array.shape:
        raise DataError(
            f"sheet: expected maps of shape (count, height, width) or (count, height, width, 3); "
            f"received {array.shape}"
        )
    count, height, width = array.shape[:3]
    columns = min(count, columns or columns_for(count, height, width))
    zoom = max(1, math.ceil(LEAST / max(height, width)))
    cell_height, cell_width = max(height * zoom, 1) + LABEL + GAP, max(width * zoom, LEAST) + GAP
    rows = -(-count // columns)
    image_module = pillow()
    page = image_module.new(
        "RGB", (columns * cell_width + GAP, rows * cell_height + LABEL + GAP), (PAPER,) * 3
    )
    draw = draw_on(page)
    draw.text((GAP, 0), plain(title), fill=(INK,) * 3)
    for number, one in enumerate(array):
        top = LABEL + GAP + number // columns * cell_height
        left = GAP + number % columns * cell_width
        draw.text((left, top - 1), str(number), fill=(INK,) * 3)
        picture = np.kron(grey(one), np.ones((zoom, zoom, *[1] * (one.ndim - 2)), np.uint8))
        page.paste(image_module.fromarray(picture), (left, top + LABEL))
    return page


def columns_for(count: int, height: int, width: int) -> int:
    """As many maps beside one another as make the sheet about square."""
    return max(1, math.ceil(math.sqrt(count * max(height, 1) / max(width, 1))))


def grey(one: Array) -> NDArray[np.uint8]:
    """A map's values as bytes, from its least (0) to its largest (255)."""
    values = np.where(np.isfinite(one), one, np.nan).astype(np.float64)
    if np.isnan(values).all():
        return np.zeros(values.shape, np.uint8)
    least, largest = np.nanmin(values), np.nanmax(values)
    span = largest - least
    scaled = (values - least) / span * 255 if span > 0 else np.zeros_like(values)
    return np.rint(np.nan_to_num(scaled)).astype(np.uint8)


def plain(text: str) -> str:
    """What Pillow's own font has: anything else is a question mark."""
    return text.encode("latin-1", "replace").decode("latin-1")
