"""What the two CIFAR sets share: the archive's place in the cache folder, and its pickled batches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from convc.errors import InputFileError
from convc.keras.backend import image_data_format
from convc.keras.datasets.cache import Bytes, Split, checked, dataset_file, dataset_folder
from convc.keras.datasets.plain_pickle import read_plain_pickle
from convc.keras.utils.archives import extract_archive

MOST_BYTES = 512 << 20
"""Of an unpacked archive: both are 180 MB."""


@dataclass(frozen=True)
class Source:
    """An archive with one folder, `name`."""

    name: str
    url: str
    sha256: str

    def folder(self) -> Path:
        """The unpacked folder: where Keras 3 or Keras 2 left it, or else unpacked from the archive.

        The archive is looked for under the names that the two give it, and downloaded if there is none.
        """
        datasets = dataset_folder()
        unpacked = datasets / f"{self.name}-target"
        for folder in (unpacked / self.name, datasets / self.name):
            if folder.is_dir():
                return folder
        archive = datasets / f"{self.name}-target_archive"
        known = (archive, datasets / f"{self.name}.tar.gz", datasets / Path(self.url).name)
        found = next((path for path in known if path.is_file()), archive)
        dataset_file(found, self.url, self.sha256)
        extract_archive(found, unpacked, "tar", MOST_BYTES)
        if not (unpacked / self.name).is_dir():
            raise InputFileError(f"{found}: expected an archive with the folder {self.name}")
        return unpacked / self.name


def read_batch(path: Path, label_key: str) -> tuple[Bytes, Bytes]:
    """The images uint8[n, 3, 32, 32] and the labels uint8[n] of a pickled batch."""
    batch = read_plain_pickle(path)
    for key in ("data", label_key):
        if key not in batch:
            raise InputFileError(f"{path}: expected a batch with {key!r}, got {', '.join(batch)}")
    images = checked(path, "data", batch["data"], None, 3 * 32 * 32).reshape(-1, 3, 32, 32)
    labels = batch[label_key]
    if not isinstance(labels, list) or len(labels) != len(images):
        raise InputFileError(f"{path}: expected a list of {len(images)} {label_key}")
    if not all(type(label) is int for label in labels):
        raise InputFileError(f"{path}: expected {label_key} of integers")
    return images, checked(path, label_key, np.array(labels, np.int64), len(images))


def as_split(images: Bytes, labels: Bytes) -> Split:
    """As `load_data` returns them: in the image data format, labels as a column."""
    if image_data_format() == "channels_last":
        images = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    return images, labels.reshape(-1, 1)
