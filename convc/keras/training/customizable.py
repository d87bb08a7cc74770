"""The parts of a step that subclasses of a model may define themselves."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from convc.errors import ModelError
from convc.keras.engine.call import flatten
from convc.keras.engine.layer import Layer
from convc.keras.engine.tensor import FUNCTIONS, apply, as_tensor, cast
from convc.keras.layers.norm import BatchNormalization
from convc.keras.metrics import Mean, Metric
from convc.keras.training.data import Port, Ports, listed, target_name, unpacked
from convc.keras.training.eager import GradientTape, apply_gradients
from convc.keras.training.own_run import metrics_in
from convc.keras.training.own_steps import tracing_step
from convc.keras.training.settings import Settings
from convc.ops.reduce import Count

OWN_STEPS = ("train_step", "test_step", "compute_loss", "compute_metrics")
"""What a subclass may override; then steps are traced from these methods."""


def inner_layers(layer: Layer) -> Iterator[Layer]:
    """The layers within a layer, at any depth."""
    for inner in layer.sublayers:
        yield inner
        yield from inner_layers(inner)


def within(layer: Layer) -> Iterator[Layer]:
    """The layer and all those inside it."""
    yield layer
    for inner in layer.sublayers:
        yield from within(inner)


PHASES = frozenset({"in_train_phase", "in_test_phase", "learning_phase"})
"""The functions of `keras.backend` that give something else in training."""


def asks_for_training(layer: Layer) -> bool:
    """Whether a layer of the user's has to do with `training` in its call: as an argument, or for a layer inside."""
    if getattr(layer, "traced_in_training", False):
        return True
    call = inspect.unwrap(type(layer).call)
    code = getattr(call, "__code__", None)
    if code is None or str(call.__module__).startswith("convc."):
        # A Lambda's function, which may ask for the learning phase.
        code = getattr(getattr(layer, "function", None), "__code__", None)
        return code is not None and not PHASES.isdisjoint(code.co_names)
    passed = [name for names in code.co_consts if isinstance(names, tuple) for name in names]
    return "training" in (*code.co_varnames, *passed) or not PHASES.isdisjoint(code.co_names)


def follows_whatever_the_mode(model: Layer) -> bool:
    """Whether a functional model calls a layer with `training=True` that assigns to its variables then."""
    calls = getattr(getattr(model, "network", None), "calls", ())
    always = [
        c.operation for c in calls if c.kwargs.get("training") and isinstance(c.operation, Layer)
    ]
    return any(
        isinstance(layer, BatchNormalization) or asks_for_training(layer)
        for operation in always
        for layer in within(operation)
    )


def needs_own_steps(layer: Layer) -> bool:
    """Whether what a layer does in a step isn't in the graph of predictions: models trace steps from Python then."""
    return layer.changes_state or asks_for_training(layer) or follows_whatever_the_mode(layer)


class Customizable(Layer):
    """The steps of Keras, written as a user would: `fit` traces them where a subclass overrides one of them."""

    optimizer: Any
    _settings: Settings | None
    _loss_tracker: Mean | None = None
    _output_trackers: Mapping[str, Mean] = MappingProxyType({})
    """The means of the outputs' losses by output, where several have one."""

    @property
    def has_own_steps(self) -> bool:
        """Whether steps are traced from Python: those of the class, or layers of the user's that train otherwise."""
        return self.overrides_steps or any(map(needs_own_steps, within(self)))

    @property
    def overrides_steps(self) -> bool:
        """Whether the class has steps of its own."""
        base = Customizable
        own = any(getattr(type(self), name) is not getattr(base, name) for name in OWN_STEPS)
        return own or self.remembers

    @property
    def remembers(self) -> bool:
        """Whether a layer keeps states from call to call."""
        return any(getattr(layer, "stateful", False) for layer in inner_layers(self))

    @property
    def predicts_by_hand(self) -> bool:
        """Whether predictions are calls at once: by a `predict_step` of the class's own, or with states that change."""
        own = type(self).predict_step is not Customizable.predict_step
        return own or self.remembers or any(layer.changes_state for layer in within(self))

    def predict_step(self, data: Any) -> Any:
        """The predictions for a batch's inputs."""
        x, _, _ = unpacked(data)
        return self(x, training=False)

    def reset_states(self) -> None:
        """The states of stateful layers as they were at first."""
        for layer in inner_layers(self):
            if getattr(layer, "stateful", False) and hasattr(layer, "reset_state"):
                layer.reset_state()

    def train_step(self, data: Any) -> dict[str, Any]:
        """One step on a batch `x`, `(x, y)` or `(x, y, sample_weight)`: the metrics by name."""
        x, y, sample_weight = unpacked(data)
        with GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self._loss_of(x, y, y_pred, sample_weight, training=True)
        weights = self.trainable_weights
        self.track_loss(loss, x)
        gradients = tape.gradient(loss, weights)
        if weights:
            apply_gradients(self.optimizer, zip(gradients, weights, strict=True))
        return self.compute_metrics(x, y, y_pred, sample_weight)

    def test_step(self, data: Any) -> dict[str, Any]:
        """The metrics with a batch added."""
        x, y, sample_weight = unpacked(data)
        y_pred = self(x, training=False)
        self.track_loss(self._loss_of(x, y, y_pred, sample_weight, training=False), x)
        return self.compute_metrics(x, y, y_pred, sample_weight)

    def _loss_of(self, *data: Any, training: bool) -> Any:
        """What `compute_loss` gives; subclasses written for earlier versions of Keras 3 have no `training`."""
        parameters = inspect.signature(self.compute_loss).parameters.values()
        known = any(p.name == "training" or p.kind is p.VAR_KEYWORD for p in parameters)
        return self.compute_loss(*data, **({"training": training} if known else {}))

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """The sum of the losses that `compile` was given, of what layers add, and of regularizers."""
        trace = tracing_step()
        total: Any = None
        for key, target, pred, weight in self._scored(y, y_pred, sample_weight):
            output = self._resolved(key)
            if output.loss is not None:
                part = output.loss(target, pred, weight)
                self._track_output(key, part, pred)
                part = part * output.weight
                total = part if total is None else total + part
        weights = [w for w in self.trainable_weights if w.regularizer is not None]
        within = trace.losses if trace is not None else self._recorded_losses or ()
        extra = [*within, *(as_tensor(w.regularizer(w)) for w in weights)]
        for added in extra:
            part = FUNCTIONS["sum"](added) if added.ndim else added
            total = part if total is None else total + part
        if total is None:
            raise ModelError(
                f"model {self.name!r}: compute_loss needs a loss: give compile one, or call add_loss in a layer"
            )
        return total

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Any]:
        """The metrics after a batch: those that `compile` was given are updated here."""
        for key, target, pred, weight in self._scored(y, y_pred, sample_weight):
            output = self._resolved(key)
            for _, metric in output.metrics:
                metric.update_state(target, pred)
            for _, metric in output.weighted_metrics:
                metric.update_state(target, pred, weight)
        return self.get_metrics_result()

    def get_metrics_result(self) -> dict[str, Any]:
        """The results of all metrics by name."""
        found: dict[str, Any] = {}
        for metric in self.metrics:
            result = metric.result()
            found |= dict(result) if isinstance(result, Mapping) else {metric.name: result}
        return found

    def track_loss(self, loss: Any, x: Any) -> None:
        """Adds a batch's loss to the mean that logs show as "loss"."""
        if self._loss_tracker is None:
            return
        first = next(flatten(x))
        rows = cast(apply(Count((0,)), first), as_tensor(loss).type.dtype)
        self._loss_tracker.update_state(loss, sample_weight=rows)

    def _track_output(self, name: str, loss: Any, y_pred: Any) -> None:
        """Adds a batch's loss of one output, before its weight, to the mean that logs show where there are several."""
        assert self._settings is not None
        if self._loss_tracker is None or f"{name}_loss" not in self._settings.tracked:
            return
        if name not in self._output_trackers:
            tracker = Mean(name=f"{name}_loss")
            self._output_trackers = {**self._output_trackers, name: tracker}
        rows = cast(apply(Count((0,)), y_pred), as_tensor(loss).type.dtype)
        self._output_trackers[name].update_state(loss, sample_weight=rows)

    @property
    def metrics(self) -> list[Metric]:
        """The loss's mean in steps of a model's own, what `compile` asked for, and the metrics in attributes."""
        settings = self._settings
        asked = [m for _, m in settings.keyed()] if settings is not None else []
        tracker = [self._loss_tracker] if self._loss_tracker is not None else []
        tracker.extend(self._output_trackers.values())
        return list(dict.fromkeys([*tracker, *asked, *metrics_in(self), *self.metrics_of_layers()]))

    def metrics_of_layers(self) -> list[Metric]:
        """The metrics in attributes of the layers inside; of models inside only what `add_metric` made, as in Keras."""
        return [
            metric
            for part in inner_layers(self)
            for metric in (
                part._added_metrics if isinstance(part, Customizable) else metrics_in(part)
            )
        ]

    def tracked_metrics(self) -> list[Metric]:
        """All metrics that begin anew in each epoch."""
        return list(dict.fromkeys([*self.metrics, *Customizable.metrics.fget(self)]))  # type: ignore[attr-defined]

    def _scored(self, y: Any, y_pred: Any, weights: Any) -> list[tuple[str, Any, Any, Any]]:
        """(name, targets, predictions, weights) of each output with targets; its loss and metrics are made here."""
        settings = self._settings
        if settings is None or y is None or y_pred is None:
            return []
        preds = list(flatten(y_pred))
        names = self._names_of(len(preds))
        keys = tuple(y_pred) if isinstance(y_pred, dict) else tuple(names)
        ports = Ports(
            self.name,
            (),
            tuple(Port(n, p.type) for n, p in zip(names, preds, strict=True)),
            (),
            keys,
        )
        targets = listed(self.name, "target", keys, y)
        given = [weights] * len(preds)
        if isinstance(weights, (list, tuple, dict)):
            given = listed(self.name, "sample_weight", keys, weights)
        types = {
            target_name(n): t.type for n, t in zip(names, targets, strict=True) if t is not None
        }
        settings.resolve(ports, types)
        rows = zip(names, targets, preds, given, strict=True)
        return [row for row in rows if row[1] is not None]

    def _names_of(self, count: int) -> list[str]:
        network = getattr(self, "network", None)
        if network is not None and len(self.output_names) == count:
            return list(self.output_names)
        return [f"output_{k + 1}" for k in range(count)]

    def _resolved(self, name: str) -> Any:
        assert self._settings is not None
        return self._settings.resolved[name]

    output_names: Any
