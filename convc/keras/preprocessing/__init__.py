"""Data on its way to a model."""

from convc.keras.preprocessing import image, sequence, text
from convc.keras.utils.datasets import text_dataset_from_directory, timeseries_dataset_from_array
from convc.keras.utils.folders import image_dataset_from_directory

__all__ = [
    "image", "image_dataset_from_directory", "sequence", "text", "text_dataset_from_directory",
    "timeseries_dataset_from_array",
]  # fmt: skip
