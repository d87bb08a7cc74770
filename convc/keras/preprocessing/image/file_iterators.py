"""Batches of transformed images, from files."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from collections.abc import Iterator as PythonIterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convc.errors import DataError, InputFileError
from convc.keras.engine.arguments import choice, refuse
from convc.keras.preprocessing.image.iterators import Augmenter, Iterator, Saving
from convc.keras.utils.images import INTERPOLATIONS, MODES, img_to_array, load_img

Array = NDArray[Any]
ENDINGS = ("png", "jpg", "jpeg", "bmp", "ppm", "tif", "tiff")
CHANNELS = {"grayscale": 1, "rgb": 3, "rgba": 4}


class FileIterator(Iterator):
    """Batches of image files: `filepaths[k]` with `labels[k]`, in the form that `class_mode` says."""

    filepaths: list[str]
    labels: Any
    sample_weight: Array | None = None
    class_indices: dict[str, int]

    def __init__(
        self,
        generator: Augmenter,
        target_size: Any,
        color_mode: str,
        class_mode: str | None,
        batch_size: int,
        shuffle: bool,
        seed: int | None,
        data_format: str | None,
        saving: tuple[str | None, str, str],
        interpolation: str,
        keep_aspect_ratio: bool,
    ) -> None:
        owner = type(self).__name__
        self.image_data_generator = generator
        self.data_format = data_format or generator.data_format
        self.dtype = generator.dtype
        if not isinstance(target_size, (tuple, list)) or len(target_size) != 2:
            refuse(owner, "target_size", "a tuple (height, width)", target_size)
        self.target_size = (int(target_size[0]), int(target_size[1]))
        self.color_mode = choice(owner, "color_mode", color_mode, MODES)
        self.interpolation = choice(owner, "interpolation", interpolation, INTERPOLATIONS)
        self.keep_aspect_ratio = keep_aspect_ratio
        self.class_mode = class_mode
        channels = (CHANNELS[self.color_mode],)
        last = self.data_format == "channels_last"
        self.image_shape = self.target_size + channels if last else channels + self.target_size
        self.saving = Saving(*saving, self.data_format)
        self.samples = len(self.filepaths)
        super().__init__(self.samples, batch_size, shuffle, seed)

    def transformed_batch(self, epoch: int, indices: Array) -> Any:
        """x, (x, y) or (x, y, sample_weight)."""
        images = np.empty((len(indices), *self.image_shape), self.dtype)
        for image, index in zip(images, indices, strict=True):
            image[...] = self._read(self.filepaths[index])
        images = self.image_data_generator.augmented(images, self.seed, epoch, indices)
        self.saving.save(images, epoch, indices)
        if self.class_mode is None:
            return images
        y = self._targets(images, indices)
        if self.sample_weight is None:
            return images, y
        return images, y, self.sample_weight[indices]

    def _read(self, path: str) -> Array:
        image = load_img(
            path, self.color_mode, self.target_size, self.interpolation, self.keep_aspect_ratio
        )
        return img_to_array(image, self.data_format, self.dtype)

    def _targets(self, images: Array, indices: Array) -> Any:
        match self.class_mode:
            case "input":
                return images.copy()
            case "multi_output":
                return [labels[indices] for labels in self.labels]
            case "raw":
                return self.labels[indices]
            case "categorical":
                rows = np.zeros((len(indices), len(self.class_indices)), self.dtype)
                for row, index in zip(rows, indices, strict=True):
                    row[self.labels[index]] = 1
                return rows
            case _:
                return np.array([self.labels[i] for i in indices], self.dtype)


def part_of(subset: str | None, generator: Augmenter, count: int) -> slice:
    """Which of `count` samples belong to "validation" (the first ones), "training" (the rest) or None (all)."""
    if subset is None:
        return slice(None)
    chosen = choice("flow", "subset", subset, ("training", "validation"))
    at = int(generator.validation_split * count)
    return slice(0, at) if chosen == "validation" else slice(at, count)


class DirectoryIterator(FileIterator):
    """Batches of the image files in a folder, which has a folder for each class."""

    def __init__(
        self,
        directory: str | os.PathLike[str],
        image_data_generator: Augmenter,
        target_size: tuple[int, int] = (256, 256),
        color_mode: str = "rgb",
        classes: Any = None,
        class_mode: str | None = "categorical",
        batch_size: int = 32,
        shuffle: bool = True,
        seed: int | None = None,
        data_format: str | None = None,
        save_to_dir: str | None = None,
        save_prefix: str = "",
        save_format: str = "png",
        follow_links: bool = False,
        subset: str | None = None,
        interpolation: str = "nearest",
        keep_aspect_ratio: bool = False,
    ) -> None:
        if class_mode is not None:
            known = ("categorical", "binary", "sparse", "input")
            class_mode = choice("flow_from_directory", "class_mode", class_mode, known)
        self.directory = Path(directory)
        if not self.directory.is_dir():
            raise InputFileError(f"flow_from_directory: no folder {self.directory}")
        found = sorted(p.name for p in self.directory.iterdir() if p.is_dir())
        names = list(classes) if classes else found
        self.num_classes = len(names)
        self.class_indices = {name: k for k, name in enumerate(names)}
        self.filenames: list[str] = []
        labels: list[int] = []
        for name, number in self.class_indices.items():
            files = list(image_files(self.directory / name, follow_links))
            files = files[part_of(subset, image_data_generator, len(files))]
            self.filenames += [os.path.relpath(f, self.directory) for f in files]
            labels += [number] * len(files)
        self.filepaths = [str(self.directory / f) for f in self.filenames]
        self.labels = self.classes = np.array(labels, np.int32)
        print(f"Found {len(self.filenames)} images belonging to {self.num_classes} classes.")
        super().__init__(
            image_data_generator, target_size, color_mode, class_mode, batch_size, shuffle, seed, data_format,
            (save_to_dir, save_prefix, save_format), interpolation, keep_aspect_ratio,
        )  # fmt: skip


def image_files(folder: Path, follow_links: bool = False) -> PythonIterator[str]:
    """The paths of image files in a folder and those below it, sorted."""
    for root, _, names in sorted(os.walk(folder, followlinks=follow_links), key=lambda x: x[0]):
        for name in sorted(names):
            if name.lower().rpartition(".")[2] in ENDINGS:
                yield os.path.join(root, name)


class DataFrameIterator(FileIterator):
    """Batches of the image files that a table names: a pandas DataFrame, or a dict of lists."""

    def __init__(
        self,
        dataframe: Any,
        directory: str | None,
        image_data_generator: Augmenter,
        x_col: str = "filename",
        y_col: Any = "class",
        weight_col: str | None = None,
        target_size: tuple[int, int] = (256, 256),
        color_mode: str = "rgb",
        classes: Any = None,
        class_mode: str | None = "categorical",
        batch_size: int = 32,
        shuffle: bool = True,
        seed: int | None = None,
        save_to_dir: str | None = None,
        save_prefix: str = "",
        save_format: str = "png",
        subset: str | None = None,
        interpolation: str = "nearest",
        validate_filenames: bool = True,
        keep_aspect_ratio: bool = False,
    ) -> None:
        known = ("binary", "categorical", "input", "multi_output", "raw", "sparse")
        if class_mode is not None:
            class_mode = choice("flow_from_dataframe", "class_mode", class_mode, known)
        self.directory = directory or ""
        names = [os.path.join(self.directory, str(f)) for f in column(dataframe, x_col)]
        rows = list(range(len(names)))
        if validate_filenames:
            rows = [k for k in rows if is_image(names[k])]
            if len(rows) < len(names):
                warnings.warn(
                    f"{len(names) - len(rows)} of {len(names)} files aren't images that exist: left out",
                    stacklevel=3,
                )
        if class_mode in ("binary", "categorical", "sparse"):
            labels = column(dataframe, y_col)
            expect_names(labels, class_mode, y_col)
            self.class_indices = class_numbers([labels[k] for k in rows], classes, class_mode)
            rows = [k for k in rows if self._known(labels[k])]
            rows = rows[part_of(subset, image_data_generator, len(rows))]
            self.labels = self.classes = [self._numbers(labels[k]) for k in rows]
        else:
            rows = rows[part_of(subset, image_data_generator, len(rows))]
            if class_mode == "raw":
                several = isinstance(y_col, (list, tuple))
                values = [column(dataframe, y) for y in (y_col if several else [y_col])]
                found = np.array([[v[k] for v in values] for k in rows])
                self.labels = found if several else found[:, 0]
            elif class_mode == "multi_output":
                if not isinstance(y_col, list):
                    refuse(
                        "flow_from_dataframe", "y_col", "a list of columns for multi_output", y_col
                    )
                self.labels = [np.array([column(dataframe, y)[k] for k in rows]) for y in y_col]
        if weight_col is not None:
            self.sample_weight = np.array([column(dataframe, weight_col)[k] for k in rows])
        self.filepaths = [names[k] for k in rows]
        self.filenames = [str(column(dataframe, x_col)[k]) for k in rows]
        kind = "validated" if validate_filenames else "non-validated"
        classes_named = getattr(self, "class_indices", None)
        belonging = f" belonging to {len(classes_named)} classes" if classes_named else ""
        print(f"Found {len(rows)} {kind} image filenames{belonging}.")
        super().__init__(
            image_data_generator, target_size, color_mode, class_mode, batch_size, shuffle, seed, None,
            (save_to_dir, save_prefix, save_format), interpolation, keep_aspect_ratio,
        )  # fmt: skip

    def _known(self, label: Any) -> bool:
        return any(name in self.class_indices for name in listed(label))

    def _numbers(self, label: Any) -> Any:
        numbers = [self.class_indices[n] for n in listed(label) if n in self.class_indices]
        return numbers if isinstance(label, (list, tuple)) else numbers[0]


def column(table: Any, name: str) -> list[Any]:
    """A column of a DataFrame or of a dict of lists."""
    try:
        return list(table[name])
    except (KeyError, TypeError):
        raise DataError(f"flow_from_dataframe: the table has no column {name!r}") from None


def expect_names(labels: list[Any], class_mode: str, y_col: Any) -> None:
    """Classes are named by strings; several for an image where there may be."""
    kinds = (str, list, tuple) if class_mode == "categorical" else (str,)
    for label in labels:
        if not isinstance(label, kinds):
            expected = "strings, lists or tuples" if class_mode == "categorical" else "strings"
            raise DataError(
                f"flow_from_dataframe: class_mode {class_mode!r} expects {expected} in column {y_col!r}; received "
                f"{label!r}: give class_mode='raw', or the column as str"
            )


def is_image(path: str) -> bool:
    return path.lower().rpartition(".")[2] in ENDINGS and os.path.isfile(path)


def listed(label: Any) -> Iterable[Any]:
    return label if isinstance(label, (list, tuple)) else (label,)


def class_numbers(labels: list[Any], classes: Any, class_mode: str) -> dict[str, int]:
    """The number of each class: in the order given, or sorted."""
    names = list(classes) if classes else sorted({n for label in labels for n in listed(label)})
    if class_mode == "binary" and len(names) != 2:
        refuse("flow_from_dataframe", "classes", "2 for class_mode 'binary'", names)
    return {name: k for k, name in enumerate(names)}
