"""Losses with Keras 3's names, arguments and values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from typing import NoReturn as _NoReturn

from convc.errors import ModelError
from convc.keras.engine.identifiers import config_of, resolved
from convc.keras.engine.naming import missing as _missing
from convc.keras.losses.classes import (
    BinaryCrossentropy,
    BinaryFocalCrossentropy,
    CategoricalCrossentropy,
    CategoricalFocalCrossentropy,
    CategoricalGeneralizedCrossEntropy,
    CategoricalHinge,
    CosineSimilarity,
    Dice,
    Hinge,
    Huber,
    KLDivergence,
    LogCosh,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    MeanSquaredLogarithmicError,
    Poisson,
    SparseCategoricalCrossentropy,
    SquaredHinge,
    Tversky,
)
from convc.keras.losses.functions import (
    binary_crossentropy,
    binary_focal_crossentropy,
    categorical_crossentropy,
    categorical_focal_crossentropy,
    categorical_generalized_cross_entropy,
    categorical_hinge,
    cosine_similarity,
    dice,
    hinge,
    huber,
    kl_divergence,
    log_cosh,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    mean_squared_logarithmic_error,
    poisson,
    sparse_categorical_crossentropy,
    squared_hinge,
    tversky,
)
from convc.keras.losses.loss import Loss, LossFunctionWrapper, Reduction

mse = MSE = mean_squared_error
mae = MAE = mean_absolute_error
mape = MAPE = mean_absolute_percentage_error
msle = MSLE = mean_squared_logarithmic_error
kld = KLD = kullback_leibler_divergence = kl_divergence
bce = BCE = binary_crossentropy
logcosh, huber_loss, cosine_proximity = log_cosh, huber, cosine_similarity

__all__ = [
    "BCE",
    "KLD",
    "MAE",
    "MAPE",
    "MSE",
    "MSLE",
    "BinaryCrossentropy",
    "BinaryFocalCrossentropy",
    "CategoricalCrossentropy",
    "CategoricalFocalCrossentropy",
    "CategoricalGeneralizedCrossEntropy",
    "CategoricalHinge",
    "CosineSimilarity",
    "Dice",
    "Hinge",
    "Huber",
    "KLDivergence",
    "LogCosh",
    "Loss",
    "LossFunctionWrapper",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "Poisson",
    "Reduction",
    "SparseCategoricalCrossentropy",
    "SquaredHinge",
    "Tversky",
    "bce",
    "binary_crossentropy",
    "binary_focal_crossentropy",
    "categorical_crossentropy",
    "categorical_focal_crossentropy",
    "categorical_generalized_cross_entropy",
    "categorical_hinge",
    "cosine_proximity",
    "cosine_similarity",
    "deserialize",
    "dice",
    "get",
    "hinge",
    "huber",
    "huber_loss",
    "kl_divergence",
    "kld",
    "kullback_leibler_divergence",
    "log_cosh",
    "logcosh",
    "loss_of",
    "mae",
    "mape",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_error",
    "mean_squared_logarithmic_error",
    "mse",
    "msle",
    "poisson",
    "serialize",
    "sparse_categorical_crossentropy",
    "squared_hinge",
    "tversky",
]  # fmt: skip

_HELPERS = ("deserialize", "get", "loss_of", "serialize")
_BY_NAME: dict[str, Any] = {n: globals()[n] for n in __all__ if n not in _HELPERS}


def get(identifier: Any) -> Any:
    """The loss of a name, config or class: a `Loss` or a function (y_true, y_pred); None stays None."""
    return resolved("loss", identifier, _BY_NAME)


def loss_of(identifier: Any) -> Loss:
    """The loss that `compile(loss=…)` means, as an object; ModelError for what is none."""
    found = get(identifier)
    if isinstance(found, Loss):
        return found
    if not callable(found):
        raise ModelError(f"expected a loss; received {identifier!r}")
    return LossFunctionWrapper(found)


def serialize(loss: Any) -> Any:
    """A config (of a function: its name) that `deserialize` turns back into the loss."""
    return config_of("keras.losses", loss)


def deserialize(name: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    return resolved("loss", name, _BY_NAME, custom_objects)


def __getattr__(name: str) -> _NoReturn:
    raise _missing("convc.keras.losses", name, __all__)
