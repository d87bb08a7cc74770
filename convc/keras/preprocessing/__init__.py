"""Data on its way to a model."""

from convc.keras.preprocessing import image

__all__ = ["image"]
