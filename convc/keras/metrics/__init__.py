"""Metrics with Keras 3's names, arguments and values."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any
from typing import NoReturn as _NoReturn

from convc.errors import ModelError
from convc.keras.engine.identifiers import config_of, resolved
from convc.keras.engine.naming import missing as _missing
from convc.keras.engine.naming import snake_case
from convc.keras.losses.functions import (
    binary_crossentropy,
    binary_focal_crossentropy,
    categorical_crossentropy,
    categorical_focal_crossentropy,
    categorical_hinge,
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
)
from convc.keras.metrics.auc import AUC
from convc.keras.metrics.classes import (
    Accuracy,
    BinaryAccuracy,
    BinaryCrossentropy,
    CategoricalAccuracy,
    CategoricalCrossentropy,
    CategoricalHinge,
    ConcordanceCorrelation,
    CosineSimilarity,
    Hinge,
    KLDivergence,
    LogCoshError,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    MeanSquaredLogarithmicError,
    PearsonCorrelation,
    Poisson,
    SparseCategoricalAccuracy,
    SparseCategoricalCrossentropy,
    SparseTopKCategoricalAccuracy,
    SquaredHinge,
    TopKCategoricalAccuracy,
)
from convc.keras.metrics.confusion import (
    FalseNegatives,
    FalsePositives,
    Precision,
    PrecisionAtRecall,
    Recall,
    RecallAtPrecision,
    SensitivityAtSpecificity,
    SpecificityAtSensitivity,
    TrueNegatives,
    TruePositives,
)
from convc.keras.metrics.functions import (
    accuracy,
    binary_accuracy,
    categorical_accuracy,
    concordance_correlation,
    cosine_similarity,
    pearson_correlation,
    sparse_categorical_accuracy,
    sparse_top_k_categorical_accuracy,
    top_k_categorical_accuracy,
)
from convc.keras.metrics.iou import BinaryIoU, IoU, MeanIoU, OneHotIoU, OneHotMeanIoU
from convc.keras.metrics.metric import Mean, MeanMetricWrapper, Metric, Sum
from convc.keras.metrics.scores import F1Score, FBetaScore, R2Score, RootMeanSquaredError

mse = MSE = mean_squared_error
mae = MAE = mean_absolute_error
mape = MAPE = mean_absolute_percentage_error
msle = MSLE = mean_squared_logarithmic_error

__all__ = [
    "AUC", "MAE", "MAPE", "MSE", "MSLE", "Accuracy", "BinaryAccuracy", "BinaryCrossentropy", "BinaryIoU",
    "CategoricalAccuracy", "CategoricalCrossentropy", "CategoricalHinge", "ConcordanceCorrelation",
    "CosineSimilarity", "F1Score", "FBetaScore", "FalseNegatives", "FalsePositives", "Hinge", "IoU",
    "KLDivergence", "LogCoshError", "Mean", "MeanAbsoluteError", "MeanAbsolutePercentageError", "MeanIoU",
    "MeanMetricWrapper", "MeanSquaredError", "MeanSquaredLogarithmicError", "Metric", "OneHotIoU", "OneHotMeanIoU",
    "PearsonCorrelation", "Poisson", "Precision", "PrecisionAtRecall", "R2Score", "Recall", "RecallAtPrecision",
    "RootMeanSquaredError", "SensitivityAtSpecificity", "SparseCategoricalAccuracy",
    "SparseCategoricalCrossentropy", "SparseTopKCategoricalAccuracy", "SpecificityAtSensitivity", "SquaredHinge",
    "Sum", "TopKCategoricalAccuracy", "TrueNegatives", "TruePositives", "accuracy", "binary_accuracy",
    "binary_crossentropy", "binary_focal_crossentropy", "categorical_accuracy", "categorical_crossentropy",
    "categorical_focal_crossentropy", "categorical_hinge", "concordance_correlation", "cosine_similarity",
    "deserialize", "get", "hinge", "huber", "kl_divergence", "log_cosh", "mae", "mape", "mean_absolute_error",
    "mean_absolute_percentage_error", "mean_squared_error", "mean_squared_logarithmic_error", "metric_of", "mse",
    "msle", "pearson_correlation", "poisson", "serialize", "sparse_categorical_accuracy",
    "sparse_categorical_crossentropy", "sparse_top_k_categorical_accuracy", "squared_hinge",
    "top_k_categorical_accuracy",
]  # fmt: skip

_CLASSES = [c for c in list(globals().values()) if inspect.isclass(c) and issubclass(c, Metric)]
_BY_NAME: dict[str, Any] = {
    **{c.__name__: c for c in _CLASSES},
    **{snake_case(c.__name__): c for c in _CLASSES},
    "bce": BinaryCrossentropy, "BCE": BinaryCrossentropy,
    "mse": MeanSquaredError, "MSE": MeanSquaredError,
    "mae": MeanAbsoluteError, "MAE": MeanAbsoluteError,
    "mape": MeanAbsolutePercentageError, "MAPE": MeanAbsolutePercentageError,
    "msle": MeanSquaredLogarithmicError, "MSLE": MeanSquaredLogarithmicError,
    "rmse": RootMeanSquaredError, "RMSE": RootMeanSquaredError,
    "cosine_proximity": CosineSimilarity, "kld": KLDivergence, "KLD": KLDivergence,
    "logcosh": LogCoshError,
}  # fmt: skip


kld = KLD = kullback_leibler_divergence = kl_divergence
cosine_proximity = cosine_similarity


def get(identifier: Any) -> Any:
    """The metric of a name, config or class: a `Metric` or a function (y_true, y_pred); None stays None."""
    return resolved("metric", identifier, _BY_NAME)


def metric_of(identifier: Any, y_true: tuple[Any, ...], y_pred: tuple[Any, ...]) -> Metric:
    """The metric that `compile(metrics=…)` means for targets and predictions of these shapes.

    "accuracy" and "acc" are that of two classes, of labels or of class shares, as the shapes say.
    """
    if isinstance(identifier, str) and identifier.lower() in ("accuracy", "acc"):
        return accuracy_for(y_true, y_pred)(name=identifier)
    found = get(identifier)
    if not callable(found):
        raise ModelError(f"expected a metric; received {identifier!r}")
    if not isinstance(found, Metric):
        own = getattr(found, "name", None) or snake_case(getattr(found, "__name__", "metric"))
        found = MeanMetricWrapper(found, own)
    metric: Metric = found
    if isinstance(identifier, str):
        metric.name = identifier
    return metric


def accuracy_for(y_true: tuple[Any, ...], y_pred: tuple[Any, ...]) -> Callable[..., Metric]:
    if y_pred and y_pred[-1] == 1:
        return BinaryAccuracy
    if len(y_true) < len(y_pred) or (y_true and y_true[-1] == 1):
        return SparseCategoricalAccuracy
    return CategoricalAccuracy


def serialize(metric: Any) -> Any:
    """A config (of a function: its name) that `deserialize` turns back into the metric."""
    return config_of("keras.metrics", metric)


def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    return resolved("metric", config, _BY_NAME, custom_objects)


def __getattr__(name: str) -> _NoReturn:
    raise _missing("convc.keras.metrics", name, __all__)
