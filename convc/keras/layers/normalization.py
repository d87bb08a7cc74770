"""Normalization, under the path that they had in Keras 2."""

from convc.keras.layers import (
    BatchNormalization,
    LayerNormalization,
)

__all__ = [
    "BatchNormalization",
    "LayerNormalization",
]
