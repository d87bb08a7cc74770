"""Names for users' own classes, as Keras scripts register them; models, objects and weights in files."""

from typing import Any

from convc.keras.engine.loading import load_model, problems_of
from convc.keras.engine.registry import (
    custom_object_scope,
    get_custom_objects,
    get_registered_object,
    register_keras_serializable,
    registered_name,
)
from convc.keras.engine.saving import save_model
from convc.keras.engine.serialization import deserialize_keras_object, serialize_keras_object


def save_weights(model: Any, filepath: Any, overwrite: bool = True, **others: Any) -> None:
    """Writes all weights of a model to a .weights.h5 file."""
    model.save_weights(filepath, overwrite=overwrite, **others)


def load_weights(model: Any, filepath: Any, skip_mismatch: bool = False, **others: Any) -> None:
    """Reads all weights of a model from a file."""
    model.load_weights(filepath, skip_mismatch=skip_mismatch, **others)


CustomObjectScope = custom_object_scope
get_registered_name = registered_name

__all__ = [
    "CustomObjectScope", "custom_object_scope", "deserialize_keras_object", "get_custom_objects",
    "get_registered_name", "get_registered_object", "load_model", "load_weights", "problems_of",
    "register_keras_serializable", "save_model", "save_weights", "serialize_keras_object",
]  # fmt: skip
