"""What functions on images have in common: a batch of images (rank 4), or a single one (rank 3), in either format."""

from __future__ import annotations

from typing import Any

from convc.errors import ModelError
from convc.keras import backend
from convc.keras.engine.naming import user_line
from convc.keras.engine.tensor import KerasTensor, as_tensor, transpose
from convc.keras.ops import shaping


def batched(owner: str, images: Any, data_format: Any) -> tuple[KerasTensor, bool, bool]:
    """Images as (batch, rows, columns, channels), whether they came so, and whether they were one only."""
    x = as_tensor(images)
    last = backend.standardize_data_format(data_format, owner) == "channels_last"
    if x.type.rank not in (3, 4):
        raise ModelError(
            f"{user_line()}: {owner}: expected an image (rank 3) or a batch of images (rank 4); "
            f"received shape {x.shape}"
        )
    single = x.type.rank == 3
    x = shaping.expand_dims(x, 0) if single else x
    return (x if last else transpose(x, (0, 2, 3, 1))), last, single


def back(x: KerasTensor, last: bool, single: bool) -> KerasTensor:
    """Such a batch as it came."""
    x = x if last else transpose(x, (0, 3, 1, 2))
    return shaping.squeeze(x, 0) if single else x


def sides(owner: str, x: KerasTensor) -> tuple[int, int]:
    """Rows and columns of a batch, which must be known."""
    rows, columns = x.type.shape[1:3]
    if not isinstance(rows, int) or not isinstance(columns, int):
        raise ModelError(f"{user_line()}: {owner}: rows and columns of {x.shape} must be known")
    return rows, columns


def expect_colours(owner: str, x: KerasTensor) -> None:
    if x.type.shape[3] != 3:
        raise ModelError(
            f"{user_line()}: {owner}: expected 3 channels, red, green and blue; received shape {x.shape}"
        )
