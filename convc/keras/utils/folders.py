"""Data sets out of folders of images, one folder per class."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convc.errors import InputFileError, UsageError
from convc.keras.backend import standardize_data_format
from convc.keras.engine.arguments import choice, positive, refuse
from convc.keras.engine.ordered import ordered_map
from convc.keras.ops.resampling import KERNELS, resampling
from convc.keras.utils.arrays import to_categorical
from convc.keras.utils.elements import as_values
from convc.keras.utils.images import MODES, img_to_array, load_img
from convc.keras.utils.sequence import EpochDataset
from convc.ops.resize import Resize2d

Array = NDArray[Any]
OWNER = "image_dataset_from_directory"
INTERPOLATIONS = ("nearest", *KERNELS, "area")
ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png")


def image_dataset_from_directory(
    directory: str | os.PathLike[str],
    labels: Any = "inferred",
    label_mode: str | None = "int",
    class_names: Any = None,
    color_mode: str = "rgb",
    batch_size: int | None = 32,
    image_size: tuple[int, int] = (256, 256),
    shuffle: bool = True,
    seed: int | None = None,
    validation_split: float | None = None,
    subset: str | None = None,
    interpolation: str = "bilinear",
    follow_links: bool = False,
    crop_to_aspect_ratio: bool = False,
    pad_to_aspect_ratio: bool = False,
    data_format: str | None = None,
    verbose: bool = True,
) -> Any:
    """The images below a folder in batches: floats from 0 to 255 of `image_size`, with labels.

    Classes are the names of its folders, sorted, or those of `class_names`; `label_mode` says how labels come: "int",
    "categorical" (rows with a single 1), "binary" (0 or 1 in a column) or None (none). With a `validation_split`,
    `subset` is "training" (the first files, as the seed shuffles them), "validation" or "both" (two of them). Without
    a batch size single images come. `interpolation` is "nearest", "bilinear", "bicubic", "lanczos3", "lanczos5" or
    "area".
    """
    root = Path(directory)
    if not root.is_dir():
        raise InputFileError(f"{OWNER}: no folder {root}")
    if label_mode is not None:
        choice(OWNER, "label_mode", label_mode, ("int", "categorical", "binary"))
    if crop_to_aspect_ratio and pad_to_aspect_ratio:
        raise UsageError(
            f"{OWNER}: only one of crop_to_aspect_ratio and pad_to_aspect_ratio can be True"
        )
    _check_split(validation_split, subset, shuffle, seed)
    paths, numbers, names = _indexed(root, labels, class_names, follow_links)
    if label_mode == "binary" and len(names) != 2:
        raise UsageError(f"{OWNER}: label_mode 'binary' expects 2 classes; received {len(names)}")
    key = int(np.random.randint(1 << 31)) if seed is None else seed
    order = np.random.RandomState(key).permutation(len(paths)) if shuffle else np.arange(len(paths))
    paths, numbers = [paths[k] for k in order], numbers[order]
    if labels is None:
        label_mode = None
    if verbose:
        belonging = "" if label_mode is None else f" belonging to {len(names)} classes"
        print(f"Found {len(paths)} files{belonging}.")
    held_out = int((validation_split or 0) * len(paths))
    at = len(paths) - held_out
    parts = {None: slice(None), "training": slice(0, at), "validation": slice(at, None)}
    wanted = ("training", "validation") if subset == "both" else (subset,)
    color_mode = choice(OWNER, "color_mode", color_mode, MODES)
    interpolation = choice(OWNER, "interpolation", interpolation, INTERPOLATIONS)
    data_format = standardize_data_format(data_format, OWNER)
    made = []
    for part in wanted:
        chosen = parts[part]
        if verbose and part is not None:
            print(f"Using {len(paths[chosen])} files for {part}.")
        made.append(
            ImageFolder(
                paths[chosen], numbers[chosen], names, label_mode,
                color_mode, batch_size, image_size, shuffle and part != "validation", key, interpolation,
                crop_to_aspect_ratio, pad_to_aspect_ratio, data_format,
            )
        )  # fmt: skip
    return tuple(made) if subset == "both" else made[0]


def _check_split(split: float | None, subset: str | None, shuffle: bool, seed: Any) -> None:
    if (split is None) != (subset is None):
        raise UsageError(f"{OWNER}: give both validation_split and subset, or neither")
    if split is None:
        return
    if not 0 < split < 1:
        refuse(OWNER, "validation_split", "a number between 0 and 1", split)
    choice(OWNER, "subset", subset, ("training", "validation", "both"))
    if shuffle and seed is None and subset != "both":
        raise UsageError(
            f"{OWNER}: a split of shuffled files needs a seed (or shuffle=False), so that the subsets don't overlap"
        )


def _indexed(
    root: Path, labels: Any, class_names: Any, follow_links: bool
) -> tuple[list[str], NDArray[np.int32], list[str]]:
    """The files' paths, their classes' numbers, and the classes' names."""
    if labels != "inferred":
        paths = sorted(_images(root, follow_links))
        given = np.zeros(len(paths), np.int32) if labels is None else np.asarray(labels, np.int32)
        if given.shape != (len(paths),):
            raise UsageError(
                f"{OWNER}: expected a label for each of {len(paths)} files; received {given.size}"
            )
        return (
            paths,
            given,
            [str(k) for k in sorted(set(given.tolist()))] if labels is not None else [],
        )
    found = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    names = list(class_names) if class_names else found
    if len(set(names)) < len(names) or not set(names) <= set(found):
        raise UsageError(
            f"{OWNER}: class_names must be among the folders {found}; received {names}"
        )
    paths, numbers = [], []
    for number, name in enumerate(names):
        files = sorted(_images(root / name, follow_links))
        paths += files
        numbers += [number] * len(files)
    if not paths:
        raise InputFileError(f"{root}: no images ({', '.join(ENDINGS)}) in its folders")
    return paths, np.array(numbers, np.int32), names


def _images(folder: Path, follow_links: bool) -> Iterator[str]:
    for root, _, files in os.walk(folder, followlinks=follow_links):
        yield from (os.path.join(root, f) for f in files if f.lower().endswith(ENDINGS))


class ImageFolder(EpochDataset):
    """Image files in batches. Iterating over it reads ahead, in another order each time if it shuffles."""

    def __init__(
        self,
        file_paths: list[str],
        labels: NDArray[np.int32],
        class_names: list[str],
        label_mode: str | None,
        color_mode: str,
        batch_size: int | None,
        image_size: Any,
        shuffle: bool,
        seed: int,
        interpolation: str,
        crop_to_aspect_ratio: bool,
        pad_to_aspect_ratio: bool,
        data_format: str,
    ) -> None:
        super().__init__(workers=2)
        self.file_paths, self.labels, self.class_names = file_paths, labels, class_names
        self.label_mode, self.color_mode = label_mode, color_mode
        self.batched = batch_size is not None
        self.batch_size = 1 if batch_size is None else positive(OWNER, "batch_size", batch_size)
        if not isinstance(image_size, (tuple, list)) or len(image_size) != 2:
            refuse(OWNER, "image_size", "a tuple (height, width)", image_size)
        self.image_size = (
            positive(OWNER, "image_size", image_size[0]),
            positive(OWNER, "image_size", image_size[1]),
        )
        self.shuffles, self.seed = shuffle, seed
        self.interpolation = interpolation
        self.crop, self.pad = crop_to_aspect_ratio, pad_to_aspect_ratio
        self.data_format = data_format

    def __len__(self) -> int:
        return math.ceil(len(self.file_paths) / self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        epoch = self.epoch
        ahead = min(self.max_queue_size, self.workers + 2)
        yield from ordered_map(
            lambda k: self.batch(epoch, k), range(len(self)), self.workers, ahead
        )
        self.on_epoch_end()

    def batch(self, epoch: int, index: int) -> Any:
        """The images of a batch, or (images, labels); without a batch size one of each."""
        order = np.arange(len(self.file_paths))
        if self.shuffles:
            order = np.random.default_rng([self.seed, epoch]).permutation(order)
        chosen = order[self.batch_size * index : self.batch_size * (index + 1)]
        images = np.stack([self._read(self.file_paths[k]) for k in chosen])
        labels = self._labels(self.labels[chosen])
        if not self.batched:
            images, labels = images[0], None if labels is None else labels[0]
        return as_values(images) if labels is None else (as_values(images), as_values(labels))

    def _labels(self, numbers: NDArray[np.int32]) -> Array | None:
        match self.label_mode:
            case None:
                return None
            case "int":
                return numbers
            case "binary":
                return numbers.astype(np.float32)[:, None]
            case _:
                return to_categorical(numbers, len(self.class_names))

    def _read(self, path: str) -> Array:
        image = img_to_array(load_img(path, self.color_mode), "channels_first", np.float32)
        (height, width), (high, wide) = image.shape[1:], self.image_size
        if self.crop:
            part = min(height, width * high // wide), min(width, height * wide // high)
            top, left = (height - part[0]) // 2, (width - part[1]) // 2
            image = image[:, top : top + part[0], left : left + part[1]]
        found = self._in_zeros(image) if self.pad else self._resized(image, self.image_size)
        return found if self.data_format == "channels_first" else found.transpose(1, 2, 0)

    def _in_zeros(self, image: Array) -> Array:
        """An image, channels first, as large as it fits into the size, in the middle of zeros."""
        (height, width), (high, wide) = image.shape[1:], self.image_size
        ratio = max(width / wide, height / high)
        inner = max(int(height / ratio), 1), max(int(width / ratio), 1)
        top, left = int((high - height / ratio) / 2), int((wide - width / ratio) / 2)
        found = np.zeros((len(image), high, wide), image.dtype)
        found[:, top : top + inner[0], left : left + inner[1]] = self._resized(image, inner)
        return found

    def _resized(self, image: Array, size: tuple[int, int]) -> Array:
        """An image, channels first, at a size."""
        if image.shape[1:] == size:
            return image
        if self.interpolation in ("bilinear", "nearest"):
            op = Resize2d(size=size, mode=self.interpolation)
            return np.asarray(op.reference(image[None])[0])
        down, along = (
            resampling(size, target, self.interpolation, False).astype(image.dtype)
            for size, target in zip(image.shape[1:], size, strict=True)
        )
        return np.asarray(down @ image @ along.T)
