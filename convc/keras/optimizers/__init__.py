"""Optimizers with Keras 3's names, arguments and updates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convc.errors import ModelError
from convc.keras.engine.identifiers import config_of, resolved
from convc.keras.engine.naming import missing as _missing
from convc.keras.optimizers import legacy, schedules
from convc.keras.optimizers.classes import (
    CLASSES,
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Ftrl,
    Lamb,
    Lion,
    Nadam,
    RMSprop,
)
from convc.keras.optimizers.loss_scale import LossScaleOptimizer
from convc.keras.optimizers.optimizer import Optimizer

__all__ = [
    "SGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "Ftrl", "Lamb", "Lion", "LossScaleOptimizer", "Nadam",
    "Optimizer", "RMSprop", "deserialize", "get", "legacy", "schedules", "serialize",
]  # fmt: skip

_BY_NAME: dict[str, Any] = {
    name: cls
    for cls in (*CLASSES, LossScaleOptimizer)
    for name in (cls.__name__, cls.__name__.lower())
}


def get(identifier: Any) -> Any:
    """The optimizer of a name (in any case), config or class; None stays None."""
    found = identifier if isinstance(identifier, Optimizer) else deserialize(identifier)
    if found is not None and not isinstance(found, Optimizer):
        raise ModelError(f"expected an optimizer or its name; received {identifier!r}")
    return found


def serialize(optimizer: Any) -> Any:
    """A config that `deserialize` turns back into the optimizer."""
    return config_of("keras.optimizers", optimizer)


def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    if isinstance(config, str) and config.lower() in _BY_NAME:
        config = config.lower()
    return resolved("optimizer", config, _BY_NAME, custom_objects)


def __getattr__(name: str) -> type[Optimizer]:
    # Until Keras 2.3 each class could also be made by its name in lower case.
    if name in _BY_NAME:
        return _BY_NAME[name]  # type: ignore[no-any-return]
    raise _missing("convc.keras.optimizers", name, __all__)
