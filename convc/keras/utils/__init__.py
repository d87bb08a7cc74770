"""Helpers around models and data."""

from convc.keras.backend import clear_session
from convc.keras.saving import get_custom_objects, register_keras_serializable
from convc.keras.utils.arrays import normalize, to_categorical
from convc.keras.utils.files import get_file
from convc.keras.utils.seeding import set_random_seed
from convc.keras.utils.sequence import PyDataset, Sequence

__all__ = [
    "PyDataset", "Sequence", "clear_session", "get_custom_objects", "get_file", "normalize",
    "register_keras_serializable", "set_random_seed", "to_categorical",
]  # fmt: skip
