"""Functions on images."""

from convc.keras.ops.nn import resize

__all__ = ["resize"]
