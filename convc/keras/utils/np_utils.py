"""Under the path that they had in Keras 2."""

from convc.keras.utils import normalize, to_categorical

__all__ = ["normalize", "to_categorical"]
