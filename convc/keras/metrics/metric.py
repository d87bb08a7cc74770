"""The base of metrics: variables that each batch adds to, and a result made of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from convc.errors import ModelError
from convc.keras import backend, initializers, ops
from convc.keras.engine.naming import snake_case, unique_name
from convc.keras.engine.registry import METRICS
from convc.keras.engine.tensor import KerasTensor, Variable, apply, as_tensor
from convc.keras.losses.loss import Loss, aligned, masked, same_rank
from convc.ops.reduce import Count
from convc.types import DType


class Metric:
    """Base of all metrics.

    Subclasses make variables with `add_variable`, assign to them in `update_state(y_true, y_pred, sample_weight)` and
    give a number from them in `result()`. On arrays these two compute at once; in `fit` the update is traced into the
    compiled step and the result is computed where it is shown.
    """

    _variables: list[Variable]

    def __init__(self, dtype: Any = None, name: str | None = None) -> None:
        self.name = name or unique_name(snake_case(type(self).__name__))
        self.dtype = DType.of(dtype or backend.floatx()).value
        self._variables = []

    def add_variable(
        self,
        shape: Any = (),
        initializer: Any = None,
        dtype: Any = None,
        aggregation: Any = "sum",
        name: str | None = None,
    ) -> Variable:
        """A new variable of the state (zeros unless told otherwise)."""
        if isinstance(shape, str):
            # Keras 2 had the name first.
            shape, name = (), shape
        if not hasattr(self, "_variables"):
            raise ModelError(
                f"metric {type(self).__name__}: call super().__init__() in its __init__ first"
            )
        make = initializers.get("zeros" if initializer is None else initializer)
        label = f"{self.name}/{name or 'variable'}"
        size = (shape,) if isinstance(shape, int) else tuple(shape)
        variable = Variable(make, size, dtype or self.dtype, False, label)
        self._variables.append(variable)
        return variable

    def add_weight(
        self,
        shape: Any = (),
        initializer: Any = None,
        dtype: Any = None,
        name: str | None = None,
        **others: Any,
    ) -> Variable:
        return self.add_variable(shape, initializer, dtype, name=name)

    @property
    def variables(self) -> list[Variable]:
        """Own variables, then those of the metrics in its attributes."""
        inner = [m for m in vars(self).values() if isinstance(m, Metric)]
        return [*self._variables, *(v for m in inner for v in m.variables)]

    def ensure_built(self, y_true: Any, y_pred: Any = None, sample_weight: Any = None) -> None:
        """Makes the variables whose shapes follow from the data, if there are such."""

    def update_state(self, *args: Any, **kwargs: Any) -> Any:
        """Adds a batch to the variables."""
        raise ModelError(f"metric {type(self).__name__} lacks update_state(y_true, y_pred, …)")

    def result(self) -> Any:
        """The metric's value: a tensor or number, or a dict of them by name."""
        raise ModelError(f"metric {type(self).__name__} lacks result()")

    def reset_state(self) -> None:
        """Makes all variables what they were at first."""
        for variable in self.variables:
            variable.assign(ops.zeros(variable.shape, variable.dtype))

    def reset_states(self) -> None:
        """Keras 2's name for `reset_state`."""
        self.reset_state()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.update_state(*args, **kwargs)
        found = self.result()
        if isinstance(found, KerasTensor):
            found.metric = self
        return found

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "dtype": self.dtype}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Metric:
        return cls(**config)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}>"


def per_sample(
    values: KerasTensor, sample_weight: Any, reduce: Callable[..., Any], dtype: str
) -> tuple[KerasTensor, KerasTensor | None]:
    """The weighted values of each sample, their other axes reduced, and the samples' weights.

    Axes that the weights have too are reduced after weighing, the others before.
    """
    mask, values = values.mask, as_tensor(values, dtype)
    weights = None if sample_weight is None else as_tensor(sample_weight, dtype)
    if mask is not None:
        weights = masked(mask, weights, dtype, scaled=False)
    if weights is not None:
        values, weights = same_rank(values, weights)
        if values.ndim > weights.ndim:
            values = reduce(values, axis=list(range(weights.ndim, values.ndim)))
        weights = ops.broadcast_to(aligned(weights, values.ndim), values.type.shape)
        values = values * weights
        if weights.ndim > 1:
            weights = reduce(weights, axis=list(range(1, weights.ndim)))
    if values.ndim > 1:
        values = reduce(values, axis=list(range(1, values.ndim)))
    return values, weights


class Sum(Metric):
    """The weighted sum of values."""

    def __init__(self, name: str | None = "sum", dtype: Any = None) -> None:
        super().__init__(dtype, name)
        self.total = self.add_variable(name="total")

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        each, _ = per_sample(as_tensor(values), sample_weight, ops.sum, self.dtype)
        self.total.assign_add(ops.sum(each))

    def result(self) -> Any:
        return ops.copy(self.total)


class Mean(Metric):
    """The weighted mean of values."""

    def __init__(self, name: str | None = "mean", dtype: Any = None) -> None:
        super().__init__(dtype, name)
        self.total = self.add_variable(name="total")
        self.count = self.add_variable(name="count")

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        each, weights = per_sample(as_tensor(values), sample_weight, ops.mean, self.dtype)
        self.total.assign_add(ops.sum(each))
        if weights is not None:
            self.count.assign_add(ops.sum(weights))
        else:
            self.count.assign_add(apply(Count((0,)), each) if each.ndim else 1.0)

    def result(self) -> Any:
        return ops.divide_no_nan(self.total, self.count)


METRICS.update(Metric=Metric, Mean=Mean)


class MeanMetricWrapper(Mean):
    """The mean of a function (y_true, y_pred), and other arguments of it, or of a loss."""

    def __init__(
        self, fn: Callable[..., Any], name: str | None = None, dtype: Any = None, **kwargs: Any
    ) -> None:
        found = name or getattr(fn, "name", None) or getattr(fn, "__name__", None)
        super().__init__(found, dtype)
        self.fn = fn
        self.fn_kwargs = kwargs

    def __getattr__(self, name: str) -> Any:
        # The function's arguments are attributes of the metrics that Keras defines.
        settings = self.__dict__.get("fn_kwargs", {})
        if name in settings:
            return settings[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def update_state(  # type: ignore[override]  # as in Keras
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> None:
        mask = getattr(y_pred, "mask", None)
        if isinstance(self.fn, Loss):
            values = self.fn.call(as_tensor(y_true), as_tensor(y_pred))
        else:
            values = self.fn(as_tensor(y_true), as_tensor(y_pred), **self.fn_kwargs)
        if mask is not None:
            weights = None if sample_weight is None else as_tensor(sample_weight, self.dtype)
            sample_weight = masked(mask, weights, self.dtype, scaled=False)
        super().update_state(values, sample_weight)

    def get_config(self) -> dict[str, Any]:
        config = {**super().get_config(), **self.fn_kwargs}
        return {**config, "fn": self.fn} if type(self) is MeanMetricWrapper else config
