"""What layers keep in their attributes, and the metrics and updates that their calls speak of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from convc.errors import ModelError
from convc.keras.engine.call import collected_losses
from convc.keras.engine.naming import user_line
from convc.keras.engine.registry import METRICS
from convc.keras.engine.tensor import Variable, as_tensor

Kind = TypeVar("Kind")
_PRIVATE = (
    "init_arguments",
    "calls",
    "kept_states",
    "network",
    "_native",
    "_own_weights",
    "_recorded_losses",
)


def found_in(value: Any, kind: type[Kind]) -> Iterator[Kind]:
    """The layers, variables or metrics in nested lists, tuples and dicts."""
    match value:
        case kind():
            yield value
        case list() | tuple():
            for item in value:
                yield from found_in(item, kind)
        case dict():
            for key, item in value.items():
                if key not in _PRIVATE:
                    yield from found_in(item, kind)


class Tracking:
    """The part of a layer that has to do with metrics, and Keras 2's words for them and for assignments."""

    name: str
    sublayers: Any
    _added_metrics: Sequence[Any] = ()
    """What `add_metric` made."""

    def add_metric(self, value: Any, name: str | None = None, aggregation: Any = None) -> None:
        """Shows the mean of a tensor's elements under a name in logs (Keras 2). Used within `call`.

        What the call of a metric gave shows that metric under its own name. `aggregation` changes nothing.
        """
        if collected_losses() is None:
            raise ModelError(
                f"{user_line()}: {self.name}.add_metric: expected to be used within call(); received {value!r} outside"
            )
        metric = getattr(value, "metric", None)
        if metric is not None:
            self._metric_named(metric.name, metric)
        elif name is None:
            raise ModelError(
                f"{user_line()}: {self.name}.add_metric: expected a name for logs; received None"
            )
        else:
            self._metric_named(name).update_state(as_tensor(value))

    def _metric_named(self, name: str, metric: Any = None) -> Any:
        """The layer's own metric of that name; else the given one, or a new mean, which is the layer's from now on."""
        known: Any
        for known in found_in(vars(self), METRICS["Metric"]):
            if known is metric or getattr(known, "name", None) == name:
                return known
        found = METRICS["Mean"](name=name) if metric is None else metric
        self._added_metrics = [*self._added_metrics, found]
        return found

    @property
    def metrics(self) -> list[Any]:
        """The metrics in the layer's attributes, those that `add_metric` made, and those of the layers inside."""
        own: list[Any] = list(found_in(vars(self), METRICS["Metric"]))
        return list(dict.fromkeys([*own, *(m for inner in self.sublayers for m in inner.metrics)]))

    def add_update(self, updates: Any, inputs: Any = None) -> None:
        """Carries out assignments within `call` (Keras 2): pairs of a variable and its next value, and functions.

        What is given besides was assigned before, by `K.update` and the like.
        """
        pair = isinstance(updates, tuple) and len(updates) == 2 and isinstance(updates[0], Variable)
        for update in [updates] if pair or not isinstance(updates, (list, tuple)) else updates:
            match update:
                case (Variable() as variable, value):
                    variable.assign(value)
                case _ if callable(update) and not isinstance(update, Variable):
                    update()
