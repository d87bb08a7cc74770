"""Data on its way to a model."""

from convc.keras.preprocessing import image, sequence, text

__all__ = ["image", "sequence", "text"]
