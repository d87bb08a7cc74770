"""Models as scikit-learn's estimators."""

from convc.keras.wrappers import scikit_learn

__all__ = ["scikit_learn"]
