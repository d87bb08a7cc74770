"""Metrics of two classes by thresholds: counts of right and wrong positives and negatives, and what follows from them.

Keras' arithmetic: a prediction above a threshold is positive. Where thresholds are equally spaced, predictions are put
into buckets between them, as Keras does, so that both agree at the thresholds themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from convc.errors import ModelError
from convc.keras import backend, ops
from convc.keras.engine.arguments import real
from convc.keras.engine.tensor import KerasTensor, Variable, apply, as_tensor
from convc.keras.losses.loss import aligned, same_rank
from convc.keras.metrics.metric import Metric
from convc.ops.ordering import Rank
from convc.types import size_of

BELOW_ALL = -1e10
"""The threshold that what is among the top k exceeds, and the value of what is not."""


def thresholds_of(owner: str, thresholds: Any, default: float = 0.5) -> list[float]:
    found = default if thresholds is None else thresholds
    listed = [float(t) for t in found] if isinstance(found, (list, tuple, np.ndarray)) else [found]
    for threshold in listed:
        real(owner, "thresholds", threshold)
    if thresholds is not None and not all(0 <= t <= 1 for t in listed):
        raise ModelError(f"{owner}: thresholds must be from 0 to 1; received {thresholds!r}")
    return listed


def equally_spaced(thresholds: Sequence[float]) -> bool:
    """Whether the thresholds divide 0..1 evenly, up to Keras' epsilon at the ends."""
    count = len(thresholds)
    if count < 3:
        return False
    even = np.arange(count, dtype=np.float32) / (count - 1)
    return bool(np.allclose(thresholds, even, atol=backend.epsilon()))


def top_k_only(y_pred: KerasTensor, k: int) -> Any:
    """The k largest along the last axis; the others below all thresholds."""
    among = ops.cast(apply(Rank(-1, True), y_pred) < k, y_pred.dtype)
    return y_pred * among + BELOW_ALL * (1.0 - among)


class Confusion(Metric):
    """Base: counts by threshold of (true, false) (positives, negatives), those that `kinds` names."""

    kinds: tuple[str, ...] = (
        "true_positives",
        "true_negatives",
        "false_positives",
        "false_negatives",
    )
    true_positives: Variable
    false_positives: Variable
    true_negatives: Variable
    false_negatives: Variable
    thresholds: Any
    top_k: int | None = None
    class_id: int | None = None
    by_label = False
    """Whether labels are counted apart: variables (thresholds, labels)."""

    def make_counts(self, labels: int | None = None) -> None:
        count = len(self.thresholds)
        shape = (count,) if labels is None else (count, labels)
        for kind in self.kinds:
            setattr(self, kind, self.add_variable(shape, name=kind))

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        y_true, y_pred = as_tensor(y_true, self.dtype), as_tensor(y_pred, self.dtype)
        self._count(*same_rank(y_true, y_pred), sample_weight, None)

    def _count(
        self, y_true: KerasTensor, y_pred: KerasTensor, sample_weight: Any, label_weights: Any
    ) -> None:
        if self.top_k is not None:
            y_pred = top_k_only(y_pred, self.top_k)
        if self.class_id is not None:
            if y_pred.ndim < 2:
                raise ModelError(
                    f"{self.name}: class_id needs predictions (batch, classes); received shape {y_pred.shape}"
                )
            y_true, y_pred = (t[..., self.class_id : self.class_id + 1] for t in (y_true, y_pred))
        weights: Any = None
        if sample_weight is not None:
            given = as_tensor(sample_weight, self.dtype)
            weights = ops.broadcast_to(aligned(given, y_pred.ndim), y_pred.type.shape)
        if label_weights is not None:
            weights = label_weights if weights is None else weights * label_weights
            weights = ops.broadcast_to(weights, y_pred.type.shape)
        positive = ops.cast(ops.cast(y_true, "bool"), self.dtype)
        labels = [positive, 1.0 - positive]
        if weights is not None:
            labels = [part * weights for part in labels]
        self._add(labels, y_pred)

    def _add(self, labels: list[KerasTensor], y_pred: KerasTensor) -> None:
        """Adds the weights of positive and negative labels above each threshold, and of those that aren't."""
        flat = (1, *y_pred.type.shape) if self.by_label else (1, size_of(y_pred.type.shape))
        right, wrong = (ops.reshape(part, flat) for part in labels)
        above = self._above(ops.reshape(y_pred, flat))
        counts = {
            "true_positives": (right, above, True),
            "false_positives": (wrong, above, True),
            "true_negatives": (wrong, above, False),
            "false_negatives": (right, above, False),
        }
        for kind in self.kinds:
            part, chosen, wanted = counts[kind]
            kept = ops.where(chosen, part, 0.0) if wanted else ops.where(chosen, 0.0, part)
            variable = getattr(self, kind)
            variable.assign(variable + ops.sum(kept, 1))

    def _above(self, y_pred: KerasTensor) -> Any:
        """Whether predictions (1, batch, …) are above each threshold: (thresholds, batch, …)."""
        shape = (-1, *(1,) * (y_pred.ndim - 1))
        limits = np.asarray(self.thresholds, np.float64)
        if not equally_spaced(self.thresholds):
            return y_pred > limits.astype(as_tensor(y_pred).type.dtype.numpy).reshape(shape)
        bucket = ops.ceil(ops.clip(y_pred, 0.0, 1.0) * float(len(limits) - 1)) - 1.0
        if limits[0] < 0 or limits[-1] > 1:
            bucket = ops.relu(bucket)
        numbers = np.arange(len(limits), dtype=y_pred.type.dtype.numpy)
        return bucket >= numbers.reshape(shape)

    def _single(self, values: Any) -> Any:
        return values[0] if len(self.thresholds) == 1 else values

    def _precision(self) -> Any:
        return ops.divide_no_nan(self.true_positives, self.true_positives + self.false_positives)

    def _recall(self) -> Any:
        return ops.divide_no_nan(self.true_positives, self.true_positives + self.false_negatives)

    def _specificity(self) -> Any:
        return ops.divide_no_nan(self.true_negatives, self.true_negatives + self.false_positives)


class Condition(Confusion):
    """Base: the count of one kind."""

    def __init__(self, thresholds: Any = None, name: str | None = None, dtype: Any = None) -> None:
        super().__init__(dtype, name)
        self.init_thresholds = thresholds
        self.thresholds = thresholds_of(type(self).__name__, thresholds)
        self.make_counts()

    def result(self) -> Any:
        return self._single(as_tensor(getattr(self, self.kinds[0])))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "thresholds": self.init_thresholds}


class TruePositives(Condition):
    kinds = ("true_positives",)


class TrueNegatives(Condition):
    kinds = ("true_negatives",)


class FalsePositives(Condition):
    kinds = ("false_positives",)


class FalseNegatives(Condition):
    kinds = ("false_negatives",)


class Rate(Confusion):
    """Base of precision and recall."""

    def __init__(
        self,
        thresholds: Any = None,
        top_k: int | None = None,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(dtype, name)
        self.init_thresholds, self.top_k, self.class_id = thresholds, top_k, class_id
        default = 0.5 if top_k is None else BELOW_ALL
        self.thresholds = thresholds_of(type(self).__name__, thresholds, default)
        self.make_counts()

    def get_config(self) -> dict[str, Any]:
        own = {
            "thresholds": self.init_thresholds,
            "top_k": self.top_k,
            "class_id": self.class_id,
        }
        return {**super().get_config(), **own}


class Precision(Rate):
    """The share of right ones among what was predicted positive."""

    kinds = ("true_positives", "false_positives")

    def result(self) -> Any:
        return self._single(self._precision())


class Recall(Rate):
    """The share of what is positive that was predicted so."""

    kinds = ("true_positives", "false_negatives")

    def result(self) -> Any:
        return self._single(self._recall())


def spaced(count: int) -> list[float]:
    """Thresholds from 0 to 1, both included."""
    return [0.5] if count == 1 else [0.0, *((i + 1) / (count - 1) for i in range(count - 2)), 1.0]


class AtLeast(Confusion):
    """Base: the best of one rate where another is at least a value."""

    given: str
    """The argument that has the value."""

    def _prepare(
        self, value: float, num_thresholds: int, class_id: int | None, name: Any, dtype: Any
    ) -> None:
        owner = type(self).__name__
        if not 0 <= value <= 1:
            raise ModelError(f"{owner}: {self.given} must be from 0 to 1; received {value!r}")
        if num_thresholds <= 0:
            raise ModelError(f"{owner}: num_thresholds must be positive; received {num_thresholds}")
        Metric.__init__(self, dtype, name)
        self.value, self.num_thresholds, self.class_id = value, num_thresholds, class_id
        self.thresholds = spaced(num_thresholds)
        self.make_counts()

    def _best(self, constrained: Any, dependent: Any) -> Any:
        return ops.maximum(ops.max(ops.where(constrained >= self.value, dependent, 0.0)), 0.0)

    def get_config(self) -> dict[str, Any]:
        own = {"num_thresholds": self.num_thresholds, self.given: self.value}
        return {**super().get_config(), "class_id": self.class_id, **own}


class SensitivityAtSpecificity(AtLeast):
    given = "specificity"

    def __init__(
        self,
        specificity: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        self._prepare(specificity, num_thresholds, class_id, name, dtype)

    def result(self) -> Any:
        return self._best(self._specificity(), self._recall())


class SpecificityAtSensitivity(AtLeast):
    given = "sensitivity"

    def __init__(
        self,
        sensitivity: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        self._prepare(sensitivity, num_thresholds, class_id, name, dtype)

    def result(self) -> Any:
        return self._best(self._recall(), self._specificity())


class PrecisionAtRecall(AtLeast):
    given = "recall"

    def __init__(
        self,
        recall: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        self._prepare(recall, num_thresholds, class_id, name, dtype)

    def result(self) -> Any:
        return self._best(self._recall(), self._precision())


class RecallAtPrecision(AtLeast):
    given = "precision"

    def __init__(
        self,
        precision: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        self._prepare(precision, num_thresholds, class_id, name, dtype)

    def result(self) -> Any:
        return self._best(self._precision(), self._recall())
