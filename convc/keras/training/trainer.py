"""What makes a model trainable: fit, evaluate, steps on single batches, and the state of a training.

`compile` is in compiled.py, `predict` in predicting.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convc.keras.callbacks.callback import CallbackList
from convc.keras.callbacks.functions import TerminateOnNaN
from convc.keras.callbacks.history import History
from convc.keras.callbacks.kept import CALLBACK, remembered, remind
from convc.keras.engine.tensor import Array
from convc.keras.training import finite
from convc.keras.training.data import Feeds, Source, split, unpacked
from convc.keras.training.fit_arguments import (
    checked_frequency,
    due,
    flat,
    listening,
    number_of_epochs,
    refuse_unknown,
)
from convc.keras.training.hand_slots import give_slots, slots_for_copies
from convc.keras.training.predicting import Predicting
from convc.keras.training.run import Run
from convc.keras.training.seeds import next_key

SLOTS = "slots of the optimizer"
"""Where the state of a copied model has them."""


class Trainer(Predicting):
    """Base of models: they describe themselves as graphs, this class trains and runs them."""

    stop_training: bool = False
    """A callback sets it to end `fit` after the step or epoch."""
    history: History | None = None

    _last_feeds: Feeds | None = None
    _resume: tuple[int, int, int] | None = None
    _position: tuple[int, int, int] = (0, 0, 0)
    _listed: CallbackList | None = None
    _remembered: Mapping[str, Array] | None = None

    def __reduce_ex__(self, protocol: Any) -> Any:
        # Copies train on their own, and go on with what the optimizer keeps.
        make, arguments, state = super().__reduce_ex__(protocol)
        settings = self._settings
        slots = slots_for_copies(settings.optimizer if settings is not None else None)
        return make, arguments, {**state, SLOTS: slots} if any(slots) else state

    def __setstate__(self, state: dict[str, Any]) -> None:
        slots = state.get(SLOTS)
        vars(self).update({name: value for name, value in state.items() if name != SLOTS})
        if slots is not None and self._settings is not None:
            give_slots(self._settings.optimizer, slots)

    # ------------------------------------------------------------ fit

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool | str = True,
        class_weight: Mapping[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: Any = 1,
        **others: Any,
    ) -> History:
        """Trains on arrays (or lists and dicts of them), a sequence of batches, a generator or a data set.

        Returns the history: a value per epoch for the loss and each metric, those on validation data as `val_…`.
        """
        epochs = number_of_epochs(others.pop("nb_epoch", epochs))
        refuse_unknown(Trainer.fit, others)
        validation_freq = checked_frequency(validation_freq)
        self._require_settings("fit")
        x = self._ready_to_train(x)
        if validation_split and validation_data is None:
            (x, y, sample_weight), validation_data = split((x, y, sample_weight), validation_split)
        key = next_key()
        start, first_step = initial_epoch, 0
        run = self._running("fit")
        settings = (batch_size, steps_per_epoch, shuffle, class_weight)
        batches = run.source(x, y, sample_weight, *settings, key)
        size = validation_batch_size or batch_size
        validation = validation_source(run, validation_data, size, validation_steps)
        history = next((c for c in flat(callbacks) if isinstance(c, History)), None) or History()
        listed = self._callbacks(callbacks, verbose, epochs, batches.steps, history)
        watched = any(isinstance(c, TerminateOnNaN) for c in listed.callbacks)
        run.session.keeps = frozenset(run.weights if watched else ())
        self.stop_training, self._resume = False, None
        self.history, self._listed = history, listed
        listed.on_train_begin()
        if self._resume is not None:  # by a callback
            start, first_step, key = self._resume
            remind(listed.callbacks, self._remembered or {})
            if hasattr(batches, "key"):
                batches.key = key
        logs: dict[str, Any] = {}
        for epoch in range(start, start if self.stop_training else epochs):
            if first_step == 0:
                run.reset_metrics()
            listed.on_epoch_begin(epoch)
            if not self._train_epoch(run, batches, epoch, first_step, key, listed):
                break  # the data have ended, with a warning
            first_step = 0
            watching = validation if due(validation_freq, epoch) else None
            logs = self._end_epoch(run, epoch, key, watching, listed)
            if self.stop_training:
                break
        run.finish()
        listed.on_train_end(logs)
        self._listed = self._remembered = None
        return history

    def _end_epoch(
        self, run: Run, epoch: int, key: int, validation: Source | None, callbacks: CallbackList
    ) -> dict[str, Any]:
        """The epoch's results, with those on validation data, once the callbacks have heard of them."""
        logs = run.logs()
        if validation is not None:
            found = self._evaluate(run, validation, callbacks)
            logs |= {f"val_{name}": value for name, value in found.items()}
        self._position = (epoch + 1, 0, key)
        callbacks.on_epoch_end(epoch, dict(sorted(logs.items())))
        return logs

    def _train_epoch(
        self, run: Run, batches: Source, epoch: int, start: int, key: int, callbacks: CallbackList
    ) -> bool:
        """The steps of an epoch from `start` on; False if it has none at all."""
        listeners, bar = listening(callbacks, "train")
        step = max(start - 1, 0)
        for feeds in batches.epoch(epoch, step):
            if step < start:  # done before a restored state was kept: it may have been the last one
                run.prepare("train", feeds)
                step += 1
                continue
            for callback in listeners:
                callback.on_train_batch_begin(step, {})
            self._last_feeds = feeds
            run.train(feeds)
            self._position = (epoch, step + 1, key)
            shown = bar is not None and bar.due()
            logs = run.logs() if listeners or shown else None
            for callback in listeners:
                callback.on_train_batch_end(step, dict(logs or {}))
            if bar is not None:
                bar.seen = step + 1
                if shown:
                    bar.on_train_batch_end(step, logs)
            step += 1
            if self.stop_training:
                break
        return step > 0

    def _ready_to_train(self, x: Any) -> Any:
        """`_ready`, for a model whose own steps don't make its weights as they go."""
        return x if self.has_own_steps else self._ready(x)

    # ------------------------------------------------------------ evaluate

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: Any = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
        return_dict: bool = False,
        **others: Any,
    ) -> Any:
        """The loss and the metrics on data: a number, a list in the order of `metrics_names`, or a dict."""
        refuse_unknown(Trainer.evaluate, others)
        self._require_settings("evaluate")
        x = self._ready_to_train(x)
        run = self._running("evaluate")
        batches = run.source(x, y, sample_weight, batch_size, steps)
        listed = self._callbacks(callbacks, verbose, 1, batches.steps)
        return self._in_order(self._evaluate(run, batches, listed), return_dict)

    def _evaluate(self, run: Run, batches: Source, callbacks: CallbackList) -> dict[str, Any]:
        listeners, bar = listening(callbacks, "test")
        callbacks.on_test_begin()
        run.reset_metrics()
        step = -1
        for step, feeds in enumerate(batches.epoch(0)):
            for callback in listeners:
                callback.on_test_batch_begin(step, {})
            run.test(feeds)
            shown = bar is not None and not bar.in_fit and bar.due()
            logs = run.logs() if listeners or shown else None
            for callback in listeners:
                callback.on_test_batch_end(step, dict(logs or {}))
            if bar is not None and not bar.in_fit:
                bar.seen = step + 1
                if shown:
                    bar.on_test_batch_end(step, logs)
        found = run.logs() if step >= 0 else {}  # a generator's batches are used up, with a warning
        callbacks.on_test_end(found)
        return found

    def _in_order(self, logs: dict[str, Any], return_dict: bool) -> Any:
        if return_dict:
            return logs
        known = [n for n in self.metrics_names if n in logs]
        values = [logs[n] for n in (*known, *(n for n in logs if n not in known))]
        return values[0] if len(values) == 1 else values

    # ------------------------------------------------------------ single batches

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Mapping[int, float] | None = None,
        reset_metrics: bool = True,
        return_dict: bool = False,
    ) -> Any:
        """One step on a batch: the loss and the metrics, as `evaluate` returns them."""
        return self._on_batch(
            "train", x, y, sample_weight, class_weight, reset_metrics, return_dict
        )

    def test_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        reset_metrics: bool = True,
        return_dict: bool = False,
    ) -> Any:
        """The loss and the metrics of a batch, as `evaluate` returns them."""
        return self._on_batch("test", x, y, sample_weight, None, reset_metrics, return_dict)

    def _on_batch(
        self, kind: str, x: Any, y: Any, weights: Any, classes: Any, reset: bool, return_dict: bool
    ) -> Any:
        self._require_settings(f"{kind}_on_batch")
        x = self._ready_to_train(x)
        run = self._running(f"{kind}_on_batch")
        feeds = run.feeds(x, y, weights, classes)
        run.prepare(kind, feeds)
        if reset:
            run.reset_metrics()
        if kind == "train":
            self._last_feeds = feeds
        (run.train if kind == "train" else run.test)(feeds)
        return self._in_order(run.logs(), return_dict)

    # ------------------------------------------------------------ old spellings

    def fit_generator(self, generator: Any, *args: Any, **kwargs: Any) -> History:
        """Keras 2's name for `fit` with a generator: (steps_per_epoch, epochs, verbose, callbacks, …)."""
        names = (
            "steps_per_epoch",
            "epochs",
            "verbose",
            "callbacks",
            "validation_data",
            "validation_steps",
        )
        return self.fit(generator, **dict(zip(names, args, strict=False)), **kwargs)

    def evaluate_generator(self, generator: Any, steps: int | None = None, **kwargs: Any) -> Any:
        """Keras 2's name for `evaluate` with a generator."""
        return self.evaluate(generator, steps=steps, **{"verbose": 0, **kwargs})

    def predict_generator(self, generator: Any, steps: int | None = None, **kwargs: Any) -> Any:
        """Keras 2's name for `predict` with a generator."""
        return self.predict(generator, steps=steps, **{"verbose": 0, **kwargs})

    # ------------------------------------------------------------ state

    def training_state(self) -> tuple[dict[str, Array], dict[str, int]]:
        """All that the next step depends on besides the data: arrays by name, and numbers.

        The numbers say where in the training it is: the epoch, the steps done in it, the keys of the shuffles and the
        dropouts, and whether a callback has ended it.
        """
        run = self._running("training_state")
        epoch, step, key = self._position
        arrays = {**run.state(), **remembered(self._listed.callbacks if self._listed else ())}
        numbers = {"epoch": epoch, "step": step, "shuffle": key, "dropout": run.key}
        return arrays, {**numbers, "stopped": int(self.stop_training)}

    def set_training_state(self, arrays: Mapping[str, Array], numbers: Mapping[str, int]) -> None:
        """Continues from a state of `training_state`: within `on_train_begin`, `fit` goes on from there."""
        run = self._running("set_training_state")
        run.restore(
            {n: a for n, a in arrays.items() if not n.startswith(CALLBACK)}, numbers["dropout"]
        )
        self._remembered = {n: a for n, a in arrays.items() if n.startswith(CALLBACK)}
        self.stop_training = bool(numbers.get("stopped", 0))
        self._position = (numbers["epoch"], numbers["step"], numbers["shuffle"])
        self._resume = self._position

    def first_not_finite(self) -> str:
        """Where the latest step first had a NaN or an infinity, in words; empty if nowhere."""
        if self._run is None or self._last_feeds is None or self.has_own_steps:
            return ""
        return finite.report(self._run, self._last_feeds)


def validation_source(run: Run, data: Any, batch_size: Any, steps: Any) -> Source | None:
    """The source of `validation_data`: (x, y) or (x, y, sample_weight) of arrays, or a data set."""
    if data is None:
        return None
    x, y, weights = unpacked(data) if isinstance(data, (tuple, list)) else (data, None, None)
    return run.source(x, y, weights, batch_size, steps)
