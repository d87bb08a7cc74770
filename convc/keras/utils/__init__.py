"""Helpers around models and data."""

from typing import Any

from convc.keras.backend import clear_session, floatx
from convc.keras.callbacks.progbar import Progbar
from convc.keras.engine.sources import get_source_inputs
from convc.keras.engine.tensor import KerasTensor
from convc.keras.saving import (
    CustomObjectScope,
    custom_object_scope,
    deserialize_keras_object,
    get_custom_objects,
    get_registered_name,
    get_registered_object,
    register_keras_serializable,
    serialize_keras_object,
)
from convc.keras.utils.arrays import normalize, to_categorical
from convc.keras.utils.datasets import (
    split_dataset,
    text_dataset_from_directory,
    timeseries_dataset_from_array,
)
from convc.keras.utils.devices import multi_gpu_model
from convc.keras.utils.drawing import model_to_dot, plot_model
from convc.keras.utils.feature_space import FeatureSpace
from convc.keras.utils.files import get_file
from convc.keras.utils.folders import image_dataset_from_directory
from convc.keras.utils.images import array_to_img, img_to_array, load_img, save_img
from convc.keras.utils.padding import pad_sequences
from convc.keras.utils.seeding import set_random_seed
from convc.keras.utils.sequence import (
    PyDataset,
    Sequence,
    pack_x_y_sample_weight,
    unpack_x_y_sample_weight,
)
from convc.types import DType


def is_keras_tensor(x: Any) -> bool:
    """Whether it is a tensor of a model that is being made."""
    return isinstance(x, KerasTensor)


def standardize_dtype(dtype: Any) -> str:
    """The name of a dtype; the default float for None."""
    return floatx() if dtype is None else DType.of(dtype).value


__all__ = [
    "CustomObjectScope", "FeatureSpace", "Progbar", "PyDataset", "Sequence", "array_to_img", "clear_session",
    "custom_object_scope", "deserialize_keras_object", "get_custom_objects", "get_file", "get_registered_name",
    "get_registered_object", "get_source_inputs", "image_dataset_from_directory", "img_to_array", "is_keras_tensor",
    "load_img", "model_to_dot", "multi_gpu_model", "normalize", "pack_x_y_sample_weight", "pad_sequences",
    "plot_model", "register_keras_serializable", "save_img", "serialize_keras_object", "set_random_seed",
    "split_dataset", "standardize_dtype", "text_dataset_from_directory", "timeseries_dataset_from_array",
    "to_categorical", "unpack_x_y_sample_weight",
]  # fmt: skip
