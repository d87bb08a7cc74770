"""Models."""

from convc.keras.engine.model import Model, Sequential

__all__ = ["Model", "Sequential"]
