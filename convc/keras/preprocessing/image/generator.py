"""ImageDataGenerator: random transformations of images, batch by batch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convc.errors import DataError
from convc.keras.backend import floatx, standardize_data_format
from convc.keras.engine.arguments import refuse
from convc.keras.preprocessing.image.file_iterators import DataFrameIterator, DirectoryIterator
from convc.keras.preprocessing.image.functions import warp_of
from convc.keras.preprocessing.image.intensity import Standardization
from convc.keras.preprocessing.image.iterators import NumpyArrayIterator
from convc.keras.preprocessing.image.parameters import Plan, Ranges, matrices, planned
from convc.keras.preprocessing.warping import Changes, changed
from convc.types import DType

Array = NDArray[Any]
OWNER = "ImageDataGenerator"
PARAMETERS = ("theta", "tx", "ty", "shear", "zx", "zy", "flip_horizontal", "flip_vertical")
AT_REST = {
    "theta": 0,
    "tx": 0,
    "ty": 0,
    "shear": 0,
    "zx": 1,
    "zy": 1,
    "flip_horizontal": 0,
    "flip_vertical": 0,
}


class ImageDataGenerator:
    """Batches of images, each turned, moved, sheared, zoomed, flipped and recoloured at random, then standardized.

    Arguments, defaults and what is done with each parameter are Keras'. In `flow…`, what is drawn for an image depends
    on the seed, the epoch and the image's index, never on batches or threads.
    """

    def __init__(
        self,
        featurewise_center: bool = False,
        samplewise_center: bool = False,
        featurewise_std_normalization: bool = False,
        samplewise_std_normalization: bool = False,
        zca_whitening: bool = False,
        zca_epsilon: float = 1e-6,
        rotation_range: float = 0,
        width_shift_range: Any = 0.0,
        height_shift_range: Any = 0.0,
        brightness_range: Any = None,
        shear_range: float = 0.0,
        zoom_range: Any = 0.0,
        channel_shift_range: float = 0.0,
        fill_mode: str = "nearest",
        cval: float = 0.0,
        horizontal_flip: bool = False,
        vertical_flip: bool = False,
        rescale: float | None = None,
        preprocessing_function: Callable[[Array], Array] | None = None,
        data_format: str | None = None,
        validation_split: float = 0.0,
        interpolation_order: int = 1,
        dtype: Any = None,
    ) -> None:
        self.data_format = standardize_data_format(data_format, OWNER)
        first = self.data_format == "channels_first"
        self.channel_axis, self.row_axis, self.col_axis = (1, 2, 3) if first else (3, 1, 2)
        self.dtype = dtype or floatx()
        self.preprocessing_function = preprocessing_function
        if validation_split and not 0 < validation_split < 1:
            refuse(OWNER, "validation_split", "a number between 0 and 1", validation_split)
        self.validation_split = validation_split
        self.ranges = Ranges(
            rotation_range,
            height_shift_range,
            width_shift_range,
            shear_range,
            _zoom(zoom_range),
            channel_shift_range,
            _brightness(brightness_range),
            bool(horizontal_flip),
            bool(vertical_flip),
        )
        self.fill_mode, self.cval, self.interpolation_order = fill_mode, cval, interpolation_order
        axes = (self.row_axis, self.col_axis)
        self._warp = warp_of(
            OWNER, axes, fill_mode, cval, interpolation_order, DType.of(self.dtype)
        )
        self.statistics = standardization(
            rescale, featurewise_center, featurewise_std_normalization, samplewise_center,
            samplewise_std_normalization, zca_whitening, zca_epsilon,
        )  # fmt: skip

    @property
    def mean(self) -> Array | None:
        """What `fit` measured, per channel."""
        return self.statistics.mean

    @property
    def std(self) -> Array | None:
        return self.statistics.std

    @property
    def zca_whitening_matrix(self) -> Array | None:
        return self.statistics.whitening

    # ------------------------------------------------------------ whole batches

    def augmented(self, images: Array, seed: int, epoch: int, indices: Array) -> Array:
        """images[n, …], of those indices in the data set, transformed as the epoch draws it, and standardized."""
        return self.applied(images, self.planned(images.shape, seed, epoch, indices))

    def planned(self, shape: Sequence[int], seed: int, epoch: int, indices: Array) -> Plan | None:
        """What an epoch does to the images of those indices, of that shape [n, …]; None if nothing is drawn."""
        height, width = shape[self.row_axis], shape[self.col_axis]
        if not self.ranges.changes:
            return None
        return planned(self.ranges, seed, epoch, indices, height, width)

    def applied(self, images: Array, plan: Plan | None) -> Array:
        """A new batch: images[n, …] as a plan changes them, standardized."""
        changed = np.array(images, self.dtype) if plan is None else self.transformed(images, plan)
        return self.standardized(changed)

    def transformed(self, images: Array, plan: Plan) -> Array:
        """A new batch with a plan for as many images applied."""
        named = (plan.parameters.get(n) for n in ("channel_shift_intensity", "brightness"))
        given = [plan.maps, *named]
        warp, shifted, lit = (p is not None for p in given)
        if not (warp or shifted or lit):
            return np.array(images, self.dtype)
        how = Changes(
            self._warp if warp else None, shifted, lit, self.channel_axis, dtype=self._warp.dtype
        )
        result = changed(images, how, *(p for p in given if p is not None))
        return result.astype(self.dtype, copy=False)

    def standardized(self, images: Array) -> Array:
        """Each image of a batch standardized, in place where it can be."""
        if self.preprocessing_function is not None:
            images = np.stack(
                [np.asarray(self.preprocessing_function(x), self.dtype) for x in images]
            )
        return self.statistics.apply(images, (1, 2, 3))

    # ------------------------------------------------------------ single images

    def standardize(self, x: Array) -> Array:
        """Standardizes an image, or a batch as if it were one, in place where it can be."""
        if self.preprocessing_function is not None:
            x = self.preprocessing_function(x)
        return self.statistics.apply(x, None)

    def get_random_transform(self, img_shape: Any, seed: int | None = None) -> dict[str, Any]:
        """Parameters for one image; numpy's global generator draws, in Keras' order."""
        if seed is not None:
            np.random.seed(seed)
        ranges, random = self.ranges, np.random
        theta = random.uniform(-ranges.rotation, ranges.rotation) if ranges.rotation else 0
        tx = _random_shift(ranges.height_shift, img_shape[self.row_axis - 1])
        ty = _random_shift(ranges.width_shift, img_shape[self.col_axis - 1])
        shear = random.uniform(-ranges.shear, ranges.shear) if ranges.shear else 0
        zx, zy = (1, 1) if ranges.zoom == (1, 1) else random.uniform(*ranges.zoom, 2)
        horizontal = (random.random() < 0.5) * ranges.horizontal_flip
        vertical = (random.random() < 0.5) * ranges.vertical_flip
        radius = ranges.channel_shift
        shift = random.uniform(-radius, radius) if radius else None
        brightness = None if ranges.brightness is None else random.uniform(*ranges.brightness)
        return {
            "theta": theta, "tx": tx, "ty": ty, "shear": shear, "zx": zx, "zy": zy,
            "flip_horizontal": horizontal, "flip_vertical": vertical, "channel_shift_intensity": shift,
            "brightness": brightness,
        }  # fmt: skip

    def apply_transform(self, x: Any, transform_parameters: Mapping[str, Any]) -> Array:
        """One image under such parameters; those that are missing change nothing."""
        image = np.asarray(x)
        if image.ndim != 3:
            raise DataError(f"{OWNER}: expected an image of rank 3, got shape {image.shape}")
        known = {**AT_REST, **{k: v for k, v in transform_parameters.items() if v is not None}}
        batch = {k: np.array([v], np.float64) for k, v in known.items()}
        moves = any(known[k] != AT_REST[k] for k in PARAMETERS)
        height, width = image.shape[self.row_axis - 1], image.shape[self.col_axis - 1]
        plan = Plan(matrices(batch, height, width) if moves else None, batch)
        return np.asarray(self.transformed(image[None], plan)[0])

    def random_transform(self, x: Any, seed: int | None = None) -> Array:
        """One image, transformed at random."""
        return self.apply_transform(x, self.get_random_transform(np.shape(x), seed))

    # ------------------------------------------------------------ data sets

    def fit(self, x: Any, augment: bool = False, rounds: int = 1, seed: int | None = None) -> None:
        """Measures what featurewise standardization and whitening need on images [n, …].

        With `augment` on `rounds` randomly transformed copies of each.
        """
        images = np.array(x, self.dtype)
        if images.ndim != 4:
            raise DataError(f"{OWNER}.fit: expected images of rank 4, got shape {images.shape}")
        _check_channels(images, self.channel_axis)
        if seed is not None:
            np.random.seed(seed)
        if self.statistics.rescale:
            images *= self.statistics.rescale
        if augment:
            copies = [self.random_transform(image) for _ in range(rounds) for image in images]
            images = np.stack(copies).astype(self.dtype)
        self.statistics.fit(images, (0, self.row_axis, self.col_axis))

    def flow(
        self,
        x: Any,
        y: Any = None,
        batch_size: int = 32,
        shuffle: bool = True,
        sample_weight: Any = None,
        seed: int | None = None,
        save_to_dir: str | None = None,
        save_prefix: str = "",
        save_format: str = "png",
        ignore_class_split: bool = False,
        subset: str | None = None,
    ) -> NumpyArrayIterator:
        """Batches of an array x[n, …] (or of (x, [others])), with their rows of y and of the weights."""
        if np.ndim(x[0] if isinstance(x, tuple) else x) == 4:
            _check_channels(np.asarray(x[0] if isinstance(x, tuple) else x), self.channel_axis)
        return NumpyArrayIterator(
            x, y, self, batch_size, shuffle, sample_weight, seed, None, save_to_dir, save_prefix, save_format, subset,
            ignore_class_split,
        )  # fmt: skip

    def flow_from_directory(
        self,
        directory: str,
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
        follow_links: bool = False,
        subset: str | None = None,
        interpolation: str = "nearest",
        keep_aspect_ratio: bool = False,
    ) -> DirectoryIterator:
        """Batches of the image files in a folder with one folder per class."""
        return DirectoryIterator(
            directory, self, target_size, color_mode, classes, class_mode, batch_size, shuffle, seed, None,
            save_to_dir, save_prefix, save_format, follow_links, subset, interpolation, keep_aspect_ratio,
        )  # fmt: skip

    def flow_from_dataframe(
        self,
        dataframe: Any,
        directory: str | None = None,
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
    ) -> DataFrameIterator:
        """Batches of the image files that a table's column names, relative to a folder, with other columns as targets.

        The table is a pandas DataFrame, or a dict of lists.
        """
        return DataFrameIterator(
            dataframe, directory, self, x_col, y_col, weight_col, target_size, color_mode, classes, class_mode,
            batch_size, shuffle, seed, save_to_dir, save_prefix, save_format, subset, interpolation,
            validate_filenames,
        )  # fmt: skip


def standardization(
    rescale: float | None,
    featurewise_center: bool,
    featurewise_std: bool,
    samplewise_center: bool,
    samplewise_std: bool,
    zca_whitening: bool,
    zca_epsilon: float,
) -> Standardization:
    """What Keras makes of the arguments: whitening goes before division, and both centre first, with a warning."""
    if zca_whitening and featurewise_std:
        _overridden("zca_whitening", "featurewise_std_normalization")
        featurewise_std = False
    for given, what in (
        (zca_whitening, "zca_whitening"),
        (featurewise_std, "featurewise_std_normalization"),
    ):
        if given and not featurewise_center:
            _overridden(what, "featurewise_center")
            featurewise_center = True
    if samplewise_std and not samplewise_center:
        _overridden("samplewise_std_normalization", "samplewise_center")
        samplewise_center = True
    return Standardization(
        rescale,
        bool(samplewise_center),
        bool(samplewise_std),
        bool(featurewise_center),
        bool(featurewise_std),
        bool(zca_whitening),
        zca_epsilon,
    )


def _zoom(value: Any) -> tuple[float, float]:
    if isinstance(value, (int, float)):
        return 1 - value, 1 + value
    if len(value) != 2 or not all(isinstance(v, (int, float)) for v in value):
        refuse(OWNER, "zoom_range", "a float or a tuple or list of two floats", value)
    return value[0], value[1]


def _brightness(value: Any) -> tuple[float, float] | None:
    if value is None:
        return None
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        refuse(OWNER, "brightness_range", "a tuple or list of two floats", value)
    return value[0], value[1]


def _random_shift(shift: Any, extent: int) -> Any:
    """A float is a radius; an integer k stands for 0, …, k - 1 and a list for its own numbers, with either sign."""
    if not np.any(shift):
        return 0
    try:
        found = np.random.choice(shift)
        found *= np.random.choice([-1, 1])
    except ValueError:
        found = np.random.uniform(-shift, shift)
    return found * extent if np.max(shift) < 1 else found


def _overridden(what: str, other: str) -> None:
    warnings.warn(
        f"This ImageDataGenerator specifies `{what}`, which overrides setting of `{other}`.",
        stacklevel=4,
    )


def _check_channels(images: Array, axis: int) -> None:
    if images.shape[axis] not in (1, 3, 4):
        warnings.warn(
            f"{OWNER}: expected images of 1, 3 or 4 channels on axis {axis}; got shape {images.shape}",
            stacklevel=3,
        )
