"""Learning rate schedules with Keras 3's names, arguments and values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from typing import NoReturn as _NoReturn

from convc.keras.engine.identifiers import config_of, resolved
from convc.keras.engine.naming import missing as _missing
from convc.keras.optimizers.schedules.schedule import (
    CosineDecay,
    CosineDecayRestarts,
    ExponentialDecay,
    InverseTimeDecay,
    LearningRateSchedule,
    PiecewiseConstantDecay,
    PolynomialDecay,
)

__all__ = [
    "CosineDecay", "CosineDecayRestarts", "ExponentialDecay", "InverseTimeDecay", "LearningRateSchedule",
    "PiecewiseConstantDecay", "PolynomialDecay", "deserialize", "serialize",
]  # fmt: skip

_BY_NAME = {n: globals()[n] for n in __all__ if n[0].isupper()}


def serialize(learning_rate_schedule: Any) -> Any:
    """A config that `deserialize` turns back into the schedule."""
    return config_of("keras.optimizers.schedules", learning_rate_schedule)


def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    return resolved("schedule", config, _BY_NAME, custom_objects)


def __getattr__(name: str) -> _NoReturn:
    raise _missing("convc.keras.optimizers.schedules", name, __all__)
