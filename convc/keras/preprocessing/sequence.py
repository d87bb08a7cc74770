"""Keras 2's module of sequences."""

from convc.keras.utils.padding import pad_sequences

__all__ = ["pad_sequences"]
