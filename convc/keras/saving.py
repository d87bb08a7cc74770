"""Names for users' own classes, as Keras scripts register them; models, objects and weights in files."""

from convc.keras.engine.registry import (
    custom_object_scope,
    get_custom_objects,
    get_registered_object,
    register_keras_serializable,
    registered_name,
)

CustomObjectScope = custom_object_scope
get_registered_name = registered_name

__all__ = [
    "CustomObjectScope", "custom_object_scope", "get_custom_objects", "get_registered_name", "get_registered_object",
    "register_keras_serializable",
]  # fmt: skip
