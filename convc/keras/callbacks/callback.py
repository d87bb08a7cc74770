"""The base of callbacks, and the list that calls them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from convc.errors import UsageError

Logs = dict[str, Any]

BATCH_HOOKS = {
    "train": ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end"),
    "test": ("on_test_batch_begin", "on_test_batch_end"),
    "predict": ("on_predict_batch_begin", "on_predict_batch_end"),
}


class Callback:
    """Base class: override the moments that you need.

    `model` is the model in training, `params` a dict with "verbose", "epochs" and "steps". `logs` are results by name
    ("loss", "accuracy", "val_loss", …); what a callback adds to those of `on_epoch_end`, later ones and the
    history have too.
    """

    def __init__(self) -> None:
        self.params: dict[str, Any] | None = None
        self.model: Any = None
        self.validation_data: Any = None  # which classes written for Keras 1 read

    def set_params(self, params: dict[str, Any]) -> None:
        self.params = params

    def set_model(self, model: Any) -> None:
        self.model = model

    def on_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """The old name of `on_train_batch_begin`."""

    def on_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """The old name of `on_train_batch_end`."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Before an epoch (from 0) of training."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """After an epoch and its validation."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Before a step; the number counts from 0 in each epoch."""
        self.on_batch_begin(batch, logs=logs)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """After a step, with the means over the epoch so far."""
        self.on_batch_end(batch, logs=logs)

    def on_test_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Before a batch of evaluation, in `fit` too."""

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """After a batch of evaluation."""

    def on_predict_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Before a batch of prediction."""

    def on_predict_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """After a batch of prediction; `logs["outputs"]` has its results."""

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Before the first epoch."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """After the last epoch, with its logs."""

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Before an evaluation, in `fit` too."""

    def on_test_end(self, logs: Logs | None = None) -> None:
        """After an evaluation, with its results."""

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        """Before a prediction."""

    def on_predict_end(self, logs: Logs | None = None) -> None:
        """After a prediction."""


class CallbackList:
    """Calls several callbacks one after the other. An attribute `on_…` is the call of all of them."""

    def __init__(
        self, callbacks: Any = None, model: Any = None, params: dict[str, Any] | None = None
    ) -> None:
        self.callbacks = list(flattened(callbacks))
        self.params = params or {}
        self.model = model
        for callback in self.callbacks:
            self._introduce(callback)

    def append(self, callback: Callback) -> None:
        self._introduce(callback)
        self.callbacks.append(callback)

    def _introduce(self, callback: Any) -> None:
        if isinstance(callback, type) or not hasattr(callback, "set_model"):
            raise UsageError(
                f"callbacks: expected objects of class Callback; received {callback!r}"
            )
        callback.set_model(self.model)
        callback.set_params(self.params)

    def __getattr__(self, name: str) -> Callable[..., None]:
        if not name.startswith("on_"):
            raise AttributeError(f"CallbackList has no attribute {name!r}")
        methods = [getattr(c, name) for c in self.callbacks]
        numbered = "_epoch_" in name or "_batch_" in name

        def call(*args: Any, **kwargs: Any) -> None:
            if len(args) + len(kwargs) == int(numbered):
                args = (*args, {})  # without logs callbacks get empty ones, as in Keras
            for method in methods:
                method(*args, **kwargs)

        return call

    def listeners(self, phase: str) -> list[Callback]:
        """The callbacks that want to hear of each batch of "train", "test" or "predict"."""
        hooks = BATCH_HOOKS[phase]
        return [c for c in self.callbacks if any(overrides(c, hook) for hook in hooks)]


def overrides(callback: Any, hook: str) -> bool:
    """Whether a callback has its own version of a method of `Callback`."""
    method = getattr(callback, hook)
    return getattr(method, "__func__", method) is not getattr(Callback, hook)


def flattened(callbacks: Any) -> Iterable[Any]:
    """The callbacks in nested lists."""
    match callbacks:
        case None:
            return
        case list() | tuple():
            for item in callbacks:
                yield from flattened(item)
        case _:
            yield callbacks
