"""What makes a model trainable: compile, fit, evaluate, predict, and steps on single batches."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from itertools import chain
from typing import Any

import numpy as np

from convc.errors import DataError, ModelError, UsageError
from convc.graph.ir import Graph
from convc.keras import optimizers
from convc.keras.callbacks.backup import BackupAndRestore
from convc.keras.callbacks.callback import CallbackList
from convc.keras.callbacks.functions import TerminateOnNaN
from convc.keras.callbacks.history import History
from convc.keras.callbacks.kept import CALLBACK, remembered, remind
from convc.keras.callbacks.progbar import ProgbarLogger
from convc.keras.engine.call import flatten, map_tensors, sole
from convc.keras.engine.graphs import Viewed
from convc.keras.engine.naming import nearest
from convc.keras.engine.network import Network
from convc.keras.engine.open_sizes import Sizes
from convc.keras.engine.serialization import serialize_keras_object
from convc.keras.engine.tensor import Array
from convc.keras.metrics import Mean
from convc.keras.training import finite
from convc.keras.training.customizable import Customizable
from convc.keras.training.data import (
    Feeds,
    Port,
    Ports,
    Source,
    feeds_of,
    is_array_like,
    listed,
    source,
    split,
    unpacked,
)
from convc.keras.training.eager import recorded_call
from convc.keras.training.fit_arguments import (
    LEGACY_COMPILE,
    checked_frequency,
    due,
    flat,
    keys_of,
    listening,
    number_of_epochs,
    refuse_unknown,
    verbosity,
)
from convc.keras.training.model import trained_in
from convc.keras.training.own_run import OwnRun
from convc.keras.training.predictor import Predictor
from convc.keras.training.run import Run
from convc.keras.training.seeds import next_key
from convc.keras.training.settings import Settings, check_known
from convc.keras.training.slot_holders import trains_with
from convc.keras.utils.sequence import pack_x_y_sample_weight


class Trainer(Customizable):
    """Base of models: they describe themselves as graphs, this class trains and runs them."""

    optimizer: Any = None
    """What `compile` was given or made."""
    loss: Any = None
    stop_training: bool = False
    """A callback sets it to end `fit` after the step or epoch."""
    history: History | None = None
    compiled: bool = False

    _settings: Settings | None = None
    _run: Run | None = None
    _earlier: Run | None = None
    _predictor: Predictor | None = None
    _recompiled: bool = False
    _last_feeds: Feeds | None = None
    _resume: tuple[int, int, int] | None = None
    _position: tuple[int, int, int] = (0, 0, 0)
    _listed: CallbackList | None = None
    _remembered: Mapping[str, Array] | None = None

    # What a model has.

    input_names: Any
    output_names: Any

    def traced(self) -> Network:
        """The inputs and outputs between which the graph lies."""
        raise NotImplementedError

    def graph_of_variables(
        self, losses: bool = False, sizes: Sizes | None = None, nominal: bool = False
    ) -> tuple[Graph, dict[str, Viewed]]:
        """The graph of `predict`, and which of its weights are which variables."""
        raise NotImplementedError

    has_open_sizes: Any
    masked_outputs: Any

    def build_for(self, x: Any) -> None:
        """Makes the weights for the shapes of data, where they aren't made yet."""
        raise NotImplementedError

    def is_stale(self) -> bool:
        """Whether the model was compiled for prediction with other weights than it has."""
        raise NotImplementedError

    def native(self) -> Callable[..., Any]:
        """The model compiled for prediction with the weights that it has."""
        raise NotImplementedError

    # ------------------------------------------------------------ compile

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: Any = "auto",
        **others: Any,
    ) -> None:
        """Says how to train: by which optimizer, towards which losses, watched by which metrics.

        What is trainable by then will be trained: later changes count once `compile` is called again. A step is always
        compiled as a whole: `run_eagerly`, `steps_per_execution` and `jit_compile` change nothing.
        """
        for name, value in others.items():
            if name not in LEGACY_COMPILE:
                known = ("optimizer", "loss", "loss_weights", "metrics", "weighted_metrics")
                raise UsageError(f"compile has no argument {name!r}{nearest(name, known)}")
            if value is not None and name == "target_tensors":
                raise UsageError("compile: target_tensors isn't supported: pass y to fit")
        check_known(loss, metrics, weighted_metrics)
        self._drop_run()
        self._loss_tracker = Mean(name="loss") if self.has_own_steps else None
        self.optimizer = optimizers.get(optimizer)
        self.loss = loss
        trained = trained_in(self) if self.built else None
        asked = (loss, loss_weights, metrics, weighted_metrics)
        self._settings = Settings(self.optimizer, *asked, trained=trained)
        self.compiled = True

    def _drop_run(self) -> None:
        if self._run is not None:
            self._run.release()
            self._earlier = self._run
        self._run = None

    def _require_settings(self, method: str) -> Settings:
        if self._settings is None:
            raise ModelError(
                f"model {self.name!r}: call compile(optimizer, loss) before {method}()"
            )
        return self._settings

    def _running(self, method: str) -> Run:
        """The run that `compile` asked for, made when it is first needed and when the model has changed since."""
        settings = self._require_settings(method)
        if self._run is not None and self._run.network is not self.traced_once:
            self._drop_run()
        if self._run is None:
            if self.has_own_steps:
                self._loss_tracker = self._loss_tracker or Mean(name="loss")
                self._run = OwnRun(self, settings, next_key())
            else:
                self._run = Run(self, settings, self.ports, next_key())
            earlier, self._earlier = self._earlier, None
            if earlier is not None and earlier.settings.optimizer is settings.optimizer:
                self._run.follow(earlier)
            trains_with(settings.optimizer, self._run)
        return self._run

    @property
    def current_run(self) -> Run | None:
        """The training under way, if a step was made or a state was restored."""
        return self._run

    def started_run(self) -> Run:
        """The training that `compile` asked for, ready for a state."""
        return self._running("load_model")

    def get_compile_config(self) -> dict[str, Any] | None:
        """The arguments of `compile` as Keras 3's files hold them; None without, or if they can't be saved."""
        settings = self._settings
        if settings is None:
            return None
        try:
            return {
                "optimizer": serialize_keras_object(settings.optimizer),
                "loss": serialize_keras_object(settings.loss),
                "loss_weights": settings.loss_weights,
                "metrics": serialize_keras_object(settings.metrics),
                "weighted_metrics": serialize_keras_object(settings.weighted_metrics),
                "run_eagerly": False,
                "steps_per_execution": 1,
                "jit_compile": False,
            }
        except ModelError as error:
            warnings.warn(
                f"model {self.name!r} is saved without its loss and metrics: {error}", stacklevel=2
            )
            return None

    @property
    def traced_once(self) -> Any:
        """What stands for the model's structure: another object once layers were added or removed."""
        return getattr(self, "network", None)

    @property
    def ports(self) -> Ports:
        """The inputs and outputs as data are matched with them."""
        traced = self.traced()
        taken, outputs = self.fed(traced), list(flatten(traced.outputs))
        keys = keys_of(traced.inputs, self.input_names)
        same = [n for n, _ in taken] == list(self.input_names)
        return Ports(
            self.name,
            tuple(Port(n, t.type) for n, t in taken),
            tuple(Port(n, t.type) for n, t in zip(self.output_names, outputs, strict=True)),
            keys if same else tuple(n for n, _ in taken),
            keys_of(traced.outputs, self.output_names),
            self._single_loss(len(outputs)),
            None if same else partial(self._prepared_of, keys),
        )

    def _single_loss(self, outputs: int) -> int | None:
        """The place of the only loss among those of several outputs."""
        losses = None if self._settings is None else self._settings.loss
        if outputs < 2 or not isinstance(losses, (list, tuple)) or len(losses) != outputs:
            return None
        places = [k for k, loss in enumerate(losses) if loss is not None]
        return places[0] if len(places) == 1 else None

    def _prepared_of(self, keys: tuple[str, ...], x: Any) -> Any:
        """Numbers in place of the text in data."""
        return self.prepared(listed(self.name, "input", keys, x))

    fed: Any
    prepared: Any

    @property
    def metrics_names(self) -> list[str]:
        """The names of what `evaluate` returns, in order; from the first batch on."""
        return self._settings.names if self._settings else []

    def reset_metrics(self) -> None:
        """Begins the sums of the loss and the metrics anew."""
        if self._run is not None:
            self._run.reset_metrics()

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
        refuse_unknown("fit", others)
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

    def _callbacks(
        self,
        callbacks: Any,
        verbose: Any,
        epochs: int,
        steps: int | None,
        history: History | None = None,
    ) -> CallbackList:
        """The user's callbacks, then the history and the progress line, which see what those add to the logs."""
        listed = flat(callbacks)
        if history is not None and history not in listed:
            listed.append(history)
        if int(verbosity(verbose)) and not any(isinstance(c, ProgbarLogger) for c in listed):
            listed.append(ProgbarLogger())
        listed.sort(key=lambda callback: isinstance(callback, BackupAndRestore))  # after the others
        params = {"verbose": verbose, "epochs": epochs, "steps": steps}
        return CallbackList(listed, self, params)

    def _ready_to_train(self, x: Any) -> Any:
        """`_ready`, for a model whose own steps don't make its weights as they go."""
        return x if self.has_own_steps else self._ready(x)

    def _ready(self, x: Any) -> Any:
        """The data again; a model without weights gets them for the shapes of the first batch."""
        if self.built and (self.traced_once is not None or getattr(self, "_input_types", None)):
            return x
        if is_array_like(x):
            self.build_for(x)
        elif hasattr(x, "__getitem__"):
            self.build_for(unpacked(x[0])[0])
        else:
            running = iter(x)
            first = next(running, None)
            if first is None:
                raise DataError(f"model {self.name!r}: expected batches; the data had none")
            self.build_for(unpacked(first)[0])
            return chain([first], running) if running is x else x
        return x

    # ------------------------------------------------------------ evaluate, predict

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
        refuse_unknown("evaluate", others)
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
        found = run.logs()
        callbacks.on_test_end(found)
        return found

    def _in_order(self, logs: dict[str, Any], return_dict: bool) -> Any:
        if return_dict:
            return logs
        known = [n for n in self.metrics_names if n in logs]
        values = [logs[n] for n in (*known, *(n for n in logs if n not in known))]
        return values[0] if len(values) == 1 else values

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: Any = "auto",
        steps: int | None = None,
        callbacks: Any = None,
        **others: Any,
    ) -> Any:
        """The outputs for arrays, a list or a dict of them, or batches, `batch_size` (32) rows at a time."""
        refuse_unknown("predict", others)
        x = self._ready(x)
        ports = self.ports
        if batch_size is None and is_array_like(x):
            batch_size = next((p.shape[0] for p in ports.inputs if p.shape[0] is not None), None)
        batches = source(ports, x, None, None, batch_size, steps)
        listed = self._callbacks(callbacks, verbose, 1, batches.steps)
        listeners, bar = listening(listed, "predict")
        listed.on_predict_begin()
        parts = []
        for step, feeds in enumerate(batches.epoch(0)):
            for callback in listeners:
                callback.on_predict_batch_begin(step, {})
            parts.append(self._outputs(feeds))
            for callback in listeners:
                callback.on_predict_batch_end(step, {"outputs": parts[-1]})
            if bar is not None:
                bar.seen = step + 1
                if bar.due():
                    bar.on_predict_batch_end(step)
        listed.on_predict_end()
        return self._arranged([np.concatenate(column) for column in zip(*parts, strict=True)])

    def predict_on_batch(self, x: Any) -> Any:
        """The outputs for one batch."""
        x = self._ready(x)
        return self._arranged(self._outputs(feeds_of(self.ports, x)))

    def _outputs(self, feeds: Feeds) -> list[Array]:
        taken = [n for n, _ in self.fed(self.traced())]
        feeds = {n: a for n, a in feeds.items() if n in taken}
        if self.predicts_by_hand:
            return self._by_hand(feeds)
        if self._run is not None and self._run.has_state:
            return self._run.predict(feeds)
        types = {p.name: p.dtype.numpy for p in self.ports.inputs}
        feeds = {n: np.ascontiguousarray(a, types[n]) for n, a in feeds.items()}
        if self._predictor is not None and self._predictor.network is self.traced_once:
            return self._predictor(feeds)
        self._predictor = None
        if self.has_open_sizes or (self.is_stale() and self._recompiled):
            # Its sizes are those of the data, or its weights keep changing: compiled once more, it will follow them.
            self._predictor = Predictor(self)
            return self._predictor(feeds)
        self._recompiled = self._recompiled or self.is_stale()
        found = self.native()(feeds)
        return list(found) if isinstance(found, (list, tuple)) else [found]

    def _by_hand(self, feeds: Feeds) -> list[Array]:
        """What `predict_step` gives for a batch, computed at once."""
        given = iter([feeds[name] for name in self.input_names])
        x = map_tensors(lambda t: next(given), self.traced().inputs)
        self._outputs_by_hand = recorded_call(
            lambda: self.predict_step(pack_x_y_sample_weight(sole(x)))
        )
        return [t.numpy() for t in flatten(self._outputs_by_hand)]

    def _arranged(self, outputs: list[Array]) -> Any:
        """Arrays in the structure of the model's outputs."""
        following = iter(outputs)
        if self.predicts_by_hand:
            return map_tensors(lambda t: next(following), self._outputs_by_hand)
        arranged = map_tensors(lambda t: next(following), self.traced().outputs)
        return sole(arranged) if self.traced_once is not None else arranged

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
