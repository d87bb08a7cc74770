"""Where a data set's files lie, and what they must hold."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convc.errors import InputFileError
from convc.keras.utils.files import cache_folder, checksum, download

Bytes = NDArray[np.uint8]
Split = tuple[Bytes, Bytes]
"""Images and labels."""


def dataset_folder() -> Path:
    """`datasets` in the cache folder."""
    return cache_folder() / "datasets"


def dataset_file(target: Path, url: str, file_hash: str) -> Path:
    """The file, downloaded and checked if it isn't there.

    One that is there with another checksum than the published file's (SHA-256 or MD5) is somebody's own: it is used,
    with a warning.
    """
    if not target.is_file():
        download(url, target, file_hash)
    elif checksum(target, "sha256" if len(file_hash) == 64 else "md5") != file_hash:
        warnings.warn(
            f"{target} is not the published file {url} (checksum {file_hash}): used as it is",
            stacklevel=4,
        )
    return target


def checked(path: Path, name: str, array: Any, *shape: int | None) -> Bytes:
    """The array as uint8, if it holds integers of 0..255 in that shape (None: any extent)."""
    kind = getattr(array, "dtype", np.dtype(object))
    given = getattr(array, "shape", ())
    if kind.kind not in "ui" or len(given) != len(shape) or any(
        s not in (None, g) for s, g in zip(shape, given, strict=True)
    ):  # fmt: skip
        wanted = ", ".join("any" if s is None else str(s) for s in shape)
        raise InputFileError(
            f"{path}: expected {name} of integers of shape ({wanted}), got {kind} {given}"
        )
    if array.size and (array.min() < 0 or array.max() > 255):
        raise InputFileError(f"{path}: expected {name} from 0 to 255")
    return np.asarray(array, np.uint8)


def same_length(path: Path, images: Bytes, labels: Bytes) -> Split:
    """Both, if there is a label for each image."""
    if len(images) != len(labels):
        raise InputFileError(f"{path}: {len(images)} images, but {len(labels)} labels")
    return images, labels
