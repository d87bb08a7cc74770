"""Intersection over union of predicted and true classes, from a confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from convc.errors import ModelError
from convc.keras import backend, ops
from convc.keras.engine.arguments import positive
from convc.keras.engine.tensor import KerasTensor, as_tensor
from convc.keras.losses.loss import aligned
from convc.keras.metrics.metric import Metric
from convc.types import size_of


class IoU(Metric):
    """The mean over chosen classes of |both| / |either|, classes that never occur left out."""

    def __init__(
        self,
        num_classes: int,
        target_class_ids: Sequence[int],
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_true: bool = True,
        sparse_y_pred: bool = True,
        axis: int = -1,
    ) -> None:
        super().__init__(dtype or "int64", name)
        positive(type(self).__name__, "num_classes", num_classes)
        if not target_class_ids or max(target_class_ids) >= num_classes:
            raise ModelError(
                f"{type(self).__name__}: target_class_ids must be from 0 to {num_classes - 1}; "
                f"received {target_class_ids!r}"
            )
        self.num_classes, self.target_class_ids = num_classes, list(target_class_ids)
        self.ignore_class, self.axis = ignore_class, axis
        self.sparse_y_true, self.sparse_y_pred = sparse_y_true, sparse_y_pred
        size = (num_classes, num_classes)
        self.total_cm = self.add_variable(size, name="total_confusion_matrix")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        wanted = as_tensor(y_true) if self.sparse_y_true else ops.argmax(y_true, self.axis)
        given = as_tensor(y_pred) if self.sparse_y_pred else ops.argmax(y_pred, self.axis)
        wanted, given = ops.cast(wanted, "int64"), ops.cast(given, "int64")
        flat = (size_of(wanted.type.shape),)
        rows = self._hits(ops.reshape(wanted, flat), self.ignore_class)
        if sample_weight is not None:
            # Weights are of the matrix's type, as in Keras.
            weights = ops.cast(ops.cast(sample_weight, self.dtype), "float32")
            wide = ops.broadcast_to(aligned(weights, wanted.ndim), wanted.type.shape)
            rows = rows * ops.reshape(wide, (*flat, 1))
        both = ops.matmul(ops.transpose(rows), self._hits(ops.reshape(given, flat), None))
        self.total_cm.assign(self.total_cm + ops.cast(both, self.dtype))

    def _hits(self, labels: KerasTensor, ignored: int | None) -> Any:
        """1 at each label's class: (labels, classes). A batch's counts are exact in float32 up to 2^24."""
        found = ops.one_hot(labels, self.num_classes)
        if ignored is None:
            return found
        return found * ops.expand_dims(ops.cast(labels != ignored, "float32"), -1)

    def result(self) -> Any:
        matrix = ops.cast(as_tensor(self.total_cm), "float64")
        right = ops.sum(matrix * np.eye(self.num_classes), 0)
        either = ops.sum(matrix, 0) + ops.sum(matrix, 1) - right
        times = np.bincount(self.target_class_ids, minlength=self.num_classes)
        valid = ops.where(either > 1e-9, times.astype(np.float64), 0.0)
        shares = valid * right / (either + backend.epsilon())
        return ops.cast(ops.sum(shares) / (ops.sum(valid) + backend.epsilon()), "float32")

    def get_config(self) -> dict[str, Any]:
        own = {
            "num_classes": self.num_classes,
            "target_class_ids": self.target_class_ids,
            "ignore_class": self.ignore_class,
            "sparse_y_true": self.sparse_y_true,
            "sparse_y_pred": self.sparse_y_pred,
            "axis": self.axis,
        }
        return {**super().get_config(), **{n: own[n] for n in self.settings}}

    settings: tuple[str, ...] = (
        "num_classes",
        "target_class_ids",
        "ignore_class",
        "sparse_y_true",
        "sparse_y_pred",
        "axis",
    )
    """The arguments that a config has."""


class BinaryIoU(IoU):
    """The mean over classes 0 and 1 of predictions on one or the other side of a threshold."""

    settings: tuple[str, ...] = ("target_class_ids",)

    def __init__(
        self,
        target_class_ids: Sequence[int] = (0, 1),
        threshold: float = 0.5,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(2, target_class_ids, name, dtype)
        self.threshold = threshold

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        given = ops.cast(as_tensor(y_pred) >= self.threshold, "int64")
        super().update_state(y_true, given, sample_weight)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "threshold": self.threshold}


class MeanIoU(IoU):
    """The mean over all classes."""

    settings: tuple[str, ...] = (
        "num_classes",
        "ignore_class",
        "sparse_y_true",
        "sparse_y_pred",
        "axis",
    )

    def __init__(
        self,
        num_classes: int,
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_true: bool = True,
        sparse_y_pred: bool = True,
        axis: int = -1,
    ) -> None:
        every = range(positive("MeanIoU", "num_classes", num_classes))
        super().__init__(
            num_classes, every, name, dtype, ignore_class, sparse_y_true, sparse_y_pred, axis
        )


class OneHotIoU(IoU):
    """Of targets with an axis of classes."""

    settings = ("num_classes", "target_class_ids", "ignore_class", "sparse_y_pred", "axis")

    def __init__(
        self,
        num_classes: int,
        target_class_ids: Sequence[int],
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_pred: bool = False,
        axis: int = -1,
    ) -> None:
        super().__init__(
            num_classes, target_class_ids, name, dtype, ignore_class, False, sparse_y_pred, axis
        )


class OneHotMeanIoU(MeanIoU):
    """Of all classes, of targets with an axis of classes."""

    settings = ("num_classes", "ignore_class", "sparse_y_pred", "axis")

    def __init__(
        self,
        num_classes: int,
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_pred: bool = False,
        axis: int = -1,
    ) -> None:
        super().__init__(num_classes, name, dtype, ignore_class, False, sparse_y_pred, axis)
