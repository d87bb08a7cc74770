"""Models, and models from files."""

from typing import Any as _Any

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


def clone_model(model: _Any) -> _Any:
    """A model of the same layers with new weights."""
    return type(model).from_config(model.get_config())
