"""The area under a curve of two rates."""

from __future__ import annotations

from typing import Any

import numpy as np

from convc.errors import ModelError
from convc.keras import backend, ops
from convc.keras.engine.arguments import choice, whole
from convc.keras.engine.tensor import as_tensor
from convc.keras.losses.loss import same_rank
from convc.keras.metrics.confusion import Confusion
from convc.keras.metrics.metric import Metric


class AUC(Confusion):
    """The area under the ROC curve, or under that of precision over recall ("PR") or of their gains ("PRGAIN").

    It is a Riemann sum over thresholds; the PR curve is interpolated after Davis and Goadrich (2006).
    """

    def __init__(
        self,
        num_thresholds: int = 200,
        curve: str = "ROC",
        summation_method: str = "interpolation",
        name: str | None = None,
        dtype: Any = None,
        thresholds: Any = None,
        multi_label: bool = False,
        num_labels: int | None = None,
        label_weights: Any = None,
        from_logits: bool = False,
    ) -> None:
        super().__init__(dtype, name)
        self.curve = choice("AUC", "curve", curve, ("roc", "pr", "prgain")).upper()
        methods = ("interpolation", "majoring", "minoring")
        self.summation_method = choice("AUC", "summation_method", summation_method, methods)
        if num_labels and not multi_label:
            raise ModelError("AUC: num_labels is for multi_label=True only")
        inner = sorted(thresholds) if thresholds is not None else None
        whole("AUC", "num_thresholds", num_thresholds)
        if inner is None and num_thresholds <= 1:
            raise ModelError(f"AUC: num_thresholds must be more than 1; received {num_thresholds}")
        self.num_thresholds = num_thresholds if inner is None else len(inner) + 2
        self.init_thresholds = inner
        steps = self.num_thresholds - 1
        between = [(i + 1) / steps for i in range(steps - 1)] if inner is None else inner
        ends = (0.0 - backend.epsilon(), 1.0 + backend.epsilon())
        self.thresholds = [ends[0], *between, ends[1]]
        self.multi_label = self.by_label = multi_label
        self.num_labels, self.from_logits = num_labels, from_logits
        self.label_weights = None if label_weights is None else np.asarray(label_weights)
        if not multi_label or num_labels:
            self.make_counts(num_labels)

    def ensure_built(self, y_true: Any, y_pred: Any = None, sample_weight: Any = None) -> None:
        if self._variables:
            return
        shape = as_tensor(y_pred).shape
        if len(shape) != 2:
            raise ModelError(
                f"AUC: multi_label=True expects predictions (batch, labels); received shape {shape}"
            )
        self.make_counts(shape[1])

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        self.ensure_built(y_true, y_pred)
        y_true, y_pred = as_tensor(y_true, self.dtype), as_tensor(y_pred, self.dtype)
        y_true, y_pred = same_rank(y_true, y_pred)
        weights = self.label_weights
        if weights is not None:
            weights = None if self.multi_label else weights.astype(y_pred.type.dtype.numpy)
        y_pred = ops.sigmoid(y_pred) if self.from_logits else y_pred
        self._count(y_true, y_pred, sample_weight, weights)

    def reset_state(self) -> None:
        Metric.reset_state(self)

    def result(self) -> Any:
        if self.curve == "PR" and self.summation_method == "interpolation":
            return self._over_labels(self._interpolated())
        x, y = {"ROC": self._roc, "PR": self._pr, "PRGAIN": self._gains}[self.curve]()
        first, second = y[:-1], y[1:]
        match self.summation_method:
            case "interpolation":
                heights = (first + second) / 2.0
            case "minoring":
                heights = ops.minimum(first, second)
            case _:
                heights = ops.maximum(first, second)
        return self._over_labels((x[:-1] - x[1:]) * heights)

    def _roc(self) -> tuple[Any, Any]:
        negatives = self.false_positives + self.true_negatives
        return ops.divide_no_nan(self.false_positives, negatives), self._recall()

    def _pr(self) -> tuple[Any, Any]:
        return self._recall(), self._precision()

    def _gains(self) -> tuple[Any, Any]:
        """Recall and precision relative to those of always guessing positive (Flach and Kull 2015)."""
        right = as_tensor(self.true_positives)
        scale = ops.divide_no_nan(
            right + self.false_negatives, self.true_negatives + self.false_positives
        )
        recall = 1.0 - scale * ops.divide_no_nan(self.false_negatives, right)
        precision = 1.0 - scale * ops.divide_no_nan(self.false_positives, right)
        recall = ops.maximum(ops.where(right == 0.0, 0.0, recall), 0.0)
        return recall, ops.where(right == 0.0, 1.0, precision)

    def _interpolated(self) -> Any:
        right = as_tensor(self.true_positives)
        positive = right + self.false_positives
        d_right, d_positive = right[:-1] - right[1:], positive[:-1] - positive[1:]
        slope = ops.divide_no_nan(d_right, ops.maximum(d_positive, 0.0))
        intercept = right[1:] - slope * positive[1:]
        both = ops.logical_and(positive[:-1] > 0.0, positive[1:] > 0.0)
        ratio = ops.divide_no_nan(positive[:-1], ops.maximum(positive[1:], 0.0))
        logs = ops.log(ops.where(both, ratio, 1.0))
        total = ops.maximum(right[1:] + self.false_negatives[1:], 0.0)
        return ops.divide_no_nan(slope * (d_right + intercept * logs), total)

    def _over_labels(self, terms: Any) -> Any:
        """The sum over thresholds; of several labels the weighted mean."""
        areas = ops.sum(terms, 0)
        if not self.multi_label:
            return areas
        if self.label_weights is None:
            return ops.mean(areas)
        weights = as_tensor(self.label_weights, areas.dtype)
        return ops.divide_no_nan(ops.sum(areas * weights), ops.sum(weights))

    def get_config(self) -> dict[str, Any]:
        weights = self.label_weights
        own = {
            "num_thresholds": self.num_thresholds,
            "curve": self.curve,
            "summation_method": self.summation_method,
            "multi_label": self.multi_label,
            "num_labels": self.num_labels,
            "label_weights": None if weights is None else weights.tolist(),
            "from_logits": self.from_logits,
        }
        if self.init_thresholds is not None:
            own["thresholds"] = self.init_thresholds
        return {**super().get_config(), **own}
