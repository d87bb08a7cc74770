"""The base of losses: values per sample, their weights, and the reduction to one number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from convc.errors import ModelError
from convc.keras import backend, ops
from convc.keras.engine.arguments import fraction, number
from convc.keras.engine.call import map_tensors
from convc.keras.engine.naming import nearest, snake_case, unique_name
from convc.keras.engine.tensor import KerasTensor, as_tensor
from convc.types import DType

REDUCTIONS = ("sum_over_batch_size", "sum", "mean", "mean_with_sample_weight", "none", None)


class Reduction:
    """Keras 2's names of reductions."""

    AUTO = "auto"
    NONE = "none"
    SUM = "sum"
    SUM_OVER_BATCH_SIZE = "sum_over_batch_size"


class Loss:
    """Base of all losses: subclasses define `call(y_true, y_pred)`, which gives a value per sample.

    Called on arrays, a loss gives a tensor whose values `numpy()` and `float()` show; in `fit` it is traced into the
    training step.
    """

    casts_targets = True
    """Whether `call` gets y_true in the loss's dtype, or as it came."""

    def __init__(
        self, name: str | None = None, reduction: Any = "sum_over_batch_size", dtype: Any = None
    ) -> None:
        self.name = name or unique_name(snake_case(type(self).__name__))
        # Keras 2 called the default "auto".
        self.reduction = "sum_over_batch_size" if reduction == "auto" else reduction
        if self.reduction not in REDUCTIONS:
            raise ModelError(
                f"{type(self).__name__}: reduction must be one of {', '.join(map(repr, REDUCTIONS))}; "
                f"received {reduction!r}{nearest(reduction, [r for r in REDUCTIONS if r])}"
            )
        self.dtype = DType.of(dtype or backend.floatx()).value

    def call(self, y_true: Any, y_pred: Any) -> Any:
        raise ModelError(f"loss {type(self).__name__} lacks call(y_true, y_pred)")

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        mask = getattr(y_pred, "mask", None)
        y_pred = converted(y_pred, self.dtype)
        y_true = converted(y_true, self.dtype if self.casts_targets else None)
        values = as_tensor(self.call(y_true, y_pred))
        if mask is not None:
            values.mask = mask if values.mask is None else ops.logical_and(mask, values.mask)
        return reduced(values, sample_weight, self.reduction, self.dtype)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "reduction": self.reduction}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Loss:
        return cls(**config)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}>"


class LossFunctionWrapper(Loss):
    """A function of (y_true, y_pred), and other arguments of it, as a loss."""

    def __init__(
        self,
        fn: Callable[..., Any],
        reduction: Any = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        name = name or getattr(fn, "__name__", None)
        super().__init__(name, reduction, dtype)
        check_settings(type(self).__name__, kwargs)
        self.fn = fn
        self.fn_kwargs = kwargs
        self.casts_targets = not getattr(fn, "takes_labels", False)

    def __getattr__(self, name: str) -> Any:
        # The function's arguments are attributes of the losses that Keras defines.
        settings = self.__dict__.get("fn_kwargs", {})
        if name in settings:
            return settings[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def call(self, y_true: Any, y_pred: Any) -> Any:
        if isinstance(y_true, KerasTensor) and isinstance(y_pred, KerasTensor):
            y_true, y_pred = same_rank(y_true, y_pred)
        return self.fn(y_true, y_pred, **self.fn_kwargs)

    def get_config(self) -> dict[str, Any]:
        config = {**super().get_config(), **self.fn_kwargs}
        return {**config, "fn": self.fn} if type(self) is LossFunctionWrapper else config


def check_settings(owner: str, settings: dict[str, Any]) -> None:
    """ModelError for a setting of Keras' losses that is no number where it must be one."""
    for name, value in settings.items():
        if name == "label_smoothing":
            fraction(owner, name, value)
        elif name in ("delta", "gamma"):
            number(owner, name, value, "a number ≥ 0")


def converted(structure: Any, dtype: Any) -> Any:
    """Arrays, numbers and tensors in a structure as tensors of the dtype (None for their own)."""
    if isinstance(structure, dict):
        return {k: converted(v, dtype) for k, v in structure.items()}
    if isinstance(structure, (list, tuple)) and any(isinstance(v, KerasTensor) for v in structure):
        return map_tensors(lambda t: as_tensor(t, dtype), structure)
    return as_tensor(structure, dtype)


def same_rank(x1: KerasTensor, x2: KerasTensor) -> tuple[KerasTensor, KerasTensor]:
    """Both, the last axis of one squeezed or added where it is of size 1 and the ranks differ by it."""
    if x1.ndim == x2.ndim + 1 and x1.shape[-1] == 1:
        return (x1, ops.expand_dims(x2, -1)) if x2.ndim == 1 else (ops.squeeze(x1, -1), x2)
    if x2.ndim == x1.ndim + 1 and x2.shape[-1] == 1:
        return (ops.expand_dims(x1, -1), x2) if x1.ndim == 1 else (x1, ops.squeeze(x2, -1))
    return x1, x2


def reduced(
    values: KerasTensor, sample_weight: Any, reduction: str | None, dtype: str
) -> KerasTensor:
    """The weighted values, and of them the sum or mean that the reduction asks for.

    The weights have the values' axes, or the first of them. `sum_over_batch_size` and `mean` divide by the number of
    values that count, `mean_with_sample_weight` by the sum of the weights.
    """
    mask, values = values.mask, as_tensor(values, dtype)
    weights = None if sample_weight is None else as_tensor(sample_weight, dtype)
    if mask is not None:
        weights = masked(mask, weights, dtype, scaled=reduction in ("sum_over_batch_size", "mean"))
    if weights is not None:
        values, weights = same_rank(values, weights)
        values = values * aligned(weights, values.ndim)
    if reduction in (None, "none") or values.ndim == 0:
        return values
    if reduction == "sum":
        return ops.sum(values)
    if reduction == "mean_with_sample_weight" and weights is not None:
        return ops.divide_no_nan(ops.sum(values), ops.sum(weights))
    return ops.mean(values)


def masked(mask: KerasTensor, weights: KerasTensor | None, dtype: str, scaled: bool) -> Any:
    """The weights (1 of the dtype if there are none) where the mask holds, else 0.

    `scaled` up so that means are of what counts.
    """
    valid = ops.cast(mask, dtype if weights is None else weights.dtype)
    if scaled:
        valid = ops.divide_no_nan(valid, ops.mean(valid))
    if weights is None:
        return valid
    valid, weights = same_rank(valid, weights)
    return valid * aligned(weights, valid.ndim)


def aligned(weights: KerasTensor, rank: int) -> KerasTensor:
    """The weights with axes of size 1 after their own: those of the samples come first."""
    missing = rank - weights.ndim
    return weights if missing <= 0 else ops.expand_dims(weights, list(range(-missing, 0)))
