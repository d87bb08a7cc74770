"""F scores, the coefficient of determination, and the root of the mean squared error."""

from __future__ import annotations

from typing import Any

from convc.errors import ModelError
from convc.keras import backend, ops
from convc.keras.engine.tensor import Variable, apply, as_tensor
from convc.keras.losses.loss import aligned, same_rank
from convc.keras.metrics.metric import Mean, Metric
from convc.ops.reduce import Count


class RootMeanSquaredError(Mean):
    def __init__(self, name: str | None = "root_mean_squared_error", dtype: Any = None) -> None:
        super().__init__(name, dtype)

    def update_state(  # type: ignore[override]  # as in Keras
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> None:
        first, second = same_rank(as_tensor(y_true, self.dtype), as_tensor(y_pred, self.dtype))
        super().update_state(ops.square(second - first), sample_weight)

    def result(self) -> Any:
        return ops.sqrt(super().result())


class FBetaScore(Metric):
    """(1 + beta²) precision recall / (beta² precision + recall) per class, or its average."""

    true_positives: Variable
    false_positives: Variable
    false_negatives: Variable
    intermediate_weights: Variable
    counts = ("true_positives", "false_positives", "false_negatives", "intermediate_weights")

    def __init__(
        self,
        average: str | None = None,
        beta: float = 1.0,
        threshold: float | None = None,
        name: str | None = "fbeta_score",
        dtype: Any = None,
    ) -> None:
        super().__init__(dtype, name)
        owner = type(self).__name__
        if average not in (None, "micro", "macro", "weighted"):
            raise ModelError(
                f"{owner}: average must be None, 'micro', 'macro' or 'weighted'; received {average!r}"
            )
        if isinstance(beta, int) or beta <= 0:
            raise ModelError(f"{owner}: beta must be a positive float; received {beta!r}")
        if threshold is not None and not 0 < threshold <= 1:
            raise ModelError(f"{owner}: threshold must be in (0, 1]; received {threshold!r}")
        self.average, self.beta, self.threshold = average, beta, threshold

    def ensure_built(self, y_true: Any, y_pred: Any = None, sample_weight: Any = None) -> None:
        if self._variables:
            return
        shape = as_tensor(y_pred).shape
        if len(shape) != 2 or shape[-1] is None:
            raise ModelError(
                f"{type(self).__name__}: expected predictions (batch, classes); received shape {shape}"
            )
        for name in self.counts:
            size = () if self.average == "micro" else (shape[-1],)
            setattr(self, name, self.add_variable(size, name=name))

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        wanted, given = as_tensor(y_true, self.dtype), as_tensor(y_pred, self.dtype)
        self.ensure_built(wanted, given)
        if self.threshold is None:
            best = given >= ops.max(given, -1, True)
            chosen = ops.logical_and(best, ops.abs(given) > 1e-9)
        else:
            chosen = given > self.threshold
        given = ops.cast(chosen, self.dtype)
        parts = (given * wanted, given * (1.0 - wanted), (1.0 - given) * wanted, wanted)
        axis = None if self.average == "micro" else 0
        for name, part in zip(self.counts, parts, strict=True):
            if sample_weight is not None:
                part = part * aligned(as_tensor(sample_weight, self.dtype), part.ndim)
            variable = getattr(self, name)
            variable.assign(variable + ops.sum(part, axis))

    def result(self) -> Any:
        least, squared = backend.epsilon(), self.beta**2
        right = as_tensor(self.true_positives)
        precision = right / (right + self.false_positives + least)
        recall = right / (right + self.false_negatives + least)
        score = precision * recall / (squared * precision + recall + least) * (1.0 + squared)
        if self.average == "weighted":
            weights = as_tensor(self.intermediate_weights)
            return ops.sum(score * (weights / (ops.sum(weights) + least)))
        return score if self.average is None else ops.mean(score)

    def get_config(self) -> dict[str, Any]:
        own = {"average": self.average, "beta": self.beta, "threshold": self.threshold}
        return {**super().get_config(), **own}


class F1Score(FBetaScore):
    def __init__(
        self,
        average: str | None = None,
        threshold: float | None = None,
        name: str | None = "f1_score",
        dtype: Any = None,
    ) -> None:
        super().__init__(average, 1.0, threshold, name, dtype)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["beta"]
        return config


class R2Score(Metric):
    """1 - residual / variance per output and their average; adjusted for `num_regressors` if there are any."""

    squared_sum: Variable
    sum: Variable
    total_mse: Variable
    count: Variable
    counts = ("squared_sum", "sum", "total_mse", "count")

    def __init__(
        self,
        class_aggregation: str | None = "uniform_average",
        num_regressors: int = 0,
        name: str | None = "r2_score",
        dtype: Any = None,
    ) -> None:
        super().__init__(dtype, name)
        known = (None, "uniform_average", "variance_weighted_average")
        if class_aggregation not in known:
            raise ModelError(
                f"R2Score: class_aggregation must be one of {known}; received {class_aggregation!r}"
            )
        if num_regressors < 0:
            raise ModelError(
                f"R2Score: num_regressors must be 0 or more; received {num_regressors}"
            )
        self.class_aggregation, self.num_regressors = class_aggregation, num_regressors
        self.num_samples = self.add_variable(name="num_samples")

    def ensure_built(self, y_true: Any, y_pred: Any = None, sample_weight: Any = None) -> None:
        if len(self._variables) > 1:
            return
        shape = as_tensor(y_pred).shape
        if len(shape) != 2 or shape[-1] is None:
            raise ModelError(
                f"R2Score: expected predictions (batch, outputs); received shape {shape}"
            )
        for name in self.counts:
            setattr(self, name, self.add_variable((shape[-1],), name=name))

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        wanted, given = same_rank(as_tensor(y_true, self.dtype), as_tensor(y_pred, self.dtype))
        self.ensure_built(wanted, given)
        weights = ops.ones_like(wanted)
        if sample_weight is not None:
            weights = weights * aligned(as_tensor(sample_weight, self.dtype), 2)
        weighted = wanted * weights
        parts = (wanted * weighted, weighted, ops.square(wanted - given) * weights, weights)
        for name, part in zip(self.counts, parts, strict=True):
            variable = getattr(self, name)
            variable.assign(variable + ops.sum(part, 0))
        self.num_samples.assign(self.num_samples + apply(Count((0, 1)), wanted))

    def result(self) -> Any:
        total = self.squared_sum - self.sum * (self.sum / self.count)
        raw = 1.0 - self.total_mse / total
        raw = ops.where(ops.isinf(raw), 0.0, raw)
        if self.class_aggregation == "uniform_average":
            score = ops.mean(raw)
        elif self.class_aggregation == "variance_weighted_average":
            score = ops.sum(total * raw) / ops.sum(total)
        else:
            score = raw
        free = float(self.num_samples) - self.num_regressors - 1.0
        if self.num_regressors == 0 or free <= 0:
            return score
        return 1.0 - (1.0 - score) * (float(self.num_samples) - 1.0) / free

    def get_config(self) -> dict[str, Any]:
        own = {
            "class_aggregation": self.class_aggregation,
            "num_regressors": self.num_regressors,
        }
        return {**super().get_config(), **own}
