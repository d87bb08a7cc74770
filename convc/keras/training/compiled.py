"""What `compile` makes of a model: its settings, its run, and how data are matched with its inputs."""

from __future__ import annotations

import warnings
from functools import partial
from itertools import chain
from typing import Any

from convc.errors import DataError, ModelError, UsageError
from convc.graph.ir import Graph
from convc.keras import optimizers
from convc.keras.callbacks.backup import BackupAndRestore
from convc.keras.callbacks.callback import CallbackList
from convc.keras.callbacks.history import History
from convc.keras.callbacks.progbar import ProgbarLogger
from convc.keras.engine.call import flatten
from convc.keras.engine.graphs import Reads, Viewed
from convc.keras.engine.naming import nearest
from convc.keras.engine.network import Network
from convc.keras.engine.open_sizes import Sizes
from convc.keras.engine.serialization import serialize_keras_object
from convc.keras.metrics import Mean
from convc.keras.training.customizable import Customizable
from convc.keras.training.data import (
    Port,
    Ports,
    is_array_like,
    listed,
    unpacked,
)
from convc.keras.training.fit_arguments import LEGACY_COMPILE, flat, keys_of, verbosity
from convc.keras.training.model import trained_in
from convc.keras.training.own_run import OwnRun
from convc.keras.training.run import Run
from convc.keras.training.seeds import next_key
from convc.keras.training.settings import Settings, check_known
from convc.keras.training.slot_holders import trains_with


class Compiled(Customizable):
    """A model that is told how to train, and the run in which it does."""

    optimizer: Any = None
    """What `compile` was given or made."""
    loss: Any = None
    compiled: bool = False

    _settings: Settings | None = None
    _run: Run | None = None
    _earlier: Run | None = None

    # What a model has.

    input_names: Any
    output_names: Any

    def traced(self) -> Network:
        """The inputs and outputs between which the graph lies."""
        raise NotImplementedError

    def graph_of_variables(
        self,
        losses: bool = False,
        sizes: Sizes | None = None,
        nominal: bool = False,
        reads: Reads | None = None,
    ) -> tuple[Graph, dict[str, Viewed]]:
        """The graph of `predict`, and which of its weights are which variables."""
        raise NotImplementedError

    has_open_sizes: Any
    masked_outputs: Any

    def build_for(self, x: Any) -> None:
        """Makes the weights for the shapes of data, where they aren't made yet."""
        raise NotImplementedError

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
        self._output_trackers = {}
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
        names = self._settings.names if self._settings else []
        return list(dict.fromkeys([*names, *(m.name for m in self.metrics_of_layers())]))

    def reset_metrics(self) -> None:
        """Begins the sums of the loss and the metrics anew."""
        if self._run is not None:
            self._run.reset_metrics()

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
