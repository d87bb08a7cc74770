"""Helpers around models and data."""

from convc.keras.backend import clear_session
from convc.keras.callbacks.progbar import Progbar
from convc.keras.saving import get_custom_objects, register_keras_serializable
from convc.keras.utils.arrays import normalize, to_categorical
from convc.keras.utils.devices import multi_gpu_model
from convc.keras.utils.files import get_file
from convc.keras.utils.folders import image_dataset_from_directory
from convc.keras.utils.images import array_to_img, img_to_array, load_img, save_img
from convc.keras.utils.padding import pad_sequences
from convc.keras.utils.seeding import set_random_seed
from convc.keras.utils.sequence import PyDataset, Sequence

__all__ = [
    "Progbar", "PyDataset", "Sequence", "array_to_img", "clear_session", "get_custom_objects", "get_file",
    "image_dataset_from_directory", "img_to_array", "load_img", "multi_gpu_model", "normalize",
    "pad_sequences", "register_keras_serializable", "save_img", "set_random_seed", "to_categorical",
]  # fmt: skip
