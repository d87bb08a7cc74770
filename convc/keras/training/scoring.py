"""What compile() asks for, on one output of a model: its loss and its metrics, traced into a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from convc.errors import UsageError
from convc.keras.training.data import target_name, weight_name
from convc.keras.training.step import summed, weighted_by_rows
from convc.keras.training.tracing import Trace, updated_metric
from convc.ops.values import Value
from convc.types import TensorType


@dataclass(frozen=True)
class Scoring:
    """An output's loss and metrics (each with its key in the state), for targets and weights of given types.

    Without targets the output is left alone. `tracked` is the name under which its loss is averaged too, where a model
    has several.
    """

    output: str
    target: TensorType | None
    sample_weight: TensorType | None
    loss: Any
    weight: float
    metrics: Sequence[tuple[str, Any]]
    weighted_metrics: Sequence[tuple[str, Any]]
    tracked: str = ""

    def scored(
        self, trace: Trace, y_pred: Value, mask: Value | None = None
    ) -> tuple[Value | None, dict[str, Value]]:
        if self.target is None:
            return None, {}
        if mask is not None:
            trace.tensor(y_pred).mask = trace.tensor(mask)
        builder = trace.builder
        y_true = Value(builder, builder.input(target_name(self.output), self.target))
        weights = None
        if self.sample_weight is not None:
            name = builder.input(weight_name(self.output), self.sample_weight)
            weights = Value(builder, name)
        part: Value | None = None
        state: dict[str, Value] = {}
        if self.loss is not None:
            part = self.loss_value(trace, y_true, y_pred, weights)
            if self.tracked:
                state |= summed(builder, self.tracked, weighted_by_rows(builder, y_pred.name, part))
            part = part * self.weight if self.weight != 1.0 else part
        for key, metric in self.metrics:
            state |= updated_metric(trace, key, metric, y_true, y_pred)
        for key, metric in self.weighted_metrics:
            given = (y_true, y_pred) if weights is None else (y_true, y_pred, weights)
            state |= updated_metric(trace, key, metric, *given)
        return part, state

    def loss_value(
        self, trace: Trace, y_true: Value, y_pred: Value, weights: Value | None
    ) -> Value:
        found: Value = trace.run(self.loss, y_true, y_pred, weights)
        if found.rank:
            raise UsageError(
                f"the loss {self.loss.name!r} of output {self.output!r} gives a value per sample "
                f"(shape {found.shape}); training needs a reduction, such as 'sum_over_batch_size'"
            )
        return found
