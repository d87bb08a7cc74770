"""Images: random transformations in compiled kernels, and files."""

from convc.keras.preprocessing.image.file_iterators import DataFrameIterator, DirectoryIterator
from convc.keras.preprocessing.image.functions import (
    apply_affine_transform,
    apply_brightness_shift,
    apply_channel_shift,
    random_brightness,
    random_channel_shift,
    random_rotation,
    random_shear,
    random_shift,
    random_zoom,
)
from convc.keras.preprocessing.image.generator import ImageDataGenerator
from convc.keras.preprocessing.image.iterators import Iterator, NumpyArrayIterator
from convc.keras.utils.images import array_to_img, img_to_array, load_img, save_img

__all__ = [
    "DataFrameIterator", "DirectoryIterator", "ImageDataGenerator", "Iterator", "NumpyArrayIterator",
    "apply_affine_transform", "apply_brightness_shift", "apply_channel_shift", "array_to_img", "img_to_array",
    "load_img", "random_brightness", "random_channel_shift", "random_rotation", "random_shear", "random_shift",
    "random_zoom", "save_img",
]  # fmt: skip
