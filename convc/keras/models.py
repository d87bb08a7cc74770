"""Models, and models from files."""

from convc.keras.engine.cloning import clone_model
from convc.keras.engine.loading import load_model, model_from_config, model_from_json
from convc.keras.engine.model import Model, Sequential
from convc.keras.engine.saving import save_model

__all__ = [
    "Model",
    "Sequential",
    "clone_model",
    "load_model",
    "model_from_config",
    "model_from_json",
    "save_model",
]
