"""Prediction: a model's outputs for data, by the newest weights that it has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from convc.graph.op import Op
from convc.keras.engine.call import flatten, map_tensors, sole
from convc.keras.engine.ranges import Limit, check_fed, limits_of
from convc.keras.engine.tensor import Array, steps_to
from convc.keras.training.compiled import Compiled
from convc.keras.training.data import Feeds, feeds_of, is_array_like, source
from convc.keras.training.declared import as_declared
from convc.keras.training.eager import recorded_call
from convc.keras.training.fit_arguments import listening, refuse_unknown
from convc.keras.training.predictor import Predictor
from convc.keras.training.seeds import Draws
from convc.keras.utils.sequence import pack_x_y_sample_weight
from convc.passes.training_mode import SEED_INPUT, draws


class Predicting(Compiled):
    """A model that predicts: by its training under way, else compiled with its weights."""

    _predictor: Predictor | None = None
    _recompiled: bool = False
    _drawing: tuple[Any, Draws | None] | None = None
    """The structure that was last asked whether it draws in predictions, and the seeds if it does."""
    _limited: tuple[Any, dict[str, list[Limit]]] | None = None
    """The structure whose limits were last asked for, and these."""

    def is_stale(self) -> bool:
        """Whether the model was compiled for prediction with other weights than it has."""
        raise NotImplementedError

    def native(self) -> Callable[..., Any]:
        """The model compiled for prediction with the weights that it has."""
        raise NotImplementedError

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
        refuse_unknown(Predicting.predict, others)
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
        check_fed(feeds, self.limits)
        if self.predicts_by_hand:
            return self._by_hand(feeds)
        if self._run is not None and self._run.has_state:
            return self._run.predict(feeds)
        types = {p.name: p.dtype.numpy for p in self.ports.inputs}
        feeds = {n: np.ascontiguousarray(a, types[n]) for n, a in feeds.items()}
        seed = self._seed_of_draws()
        if self._predictor is not None and self._predictor.network is self.traced_once:
            return self._predictor(feeds, seed)
        self._predictor = None
        if self.has_open_sizes or (self.is_stale() and self._recompiled):
            # Its sizes are those of the data, or its weights keep changing: compiled once more, it will follow them.
            self._predictor = Predictor(self)
            return self._predictor(feeds, seed)
        self._recompiled = self._recompiled or self.is_stale()
        found = self.native()({**feeds, **seed})
        return list(found) if isinstance(found, (list, tuple)) else [found]

    @property
    def limits(self) -> dict[str, list[Limit]]:
        """What the model wants of inputs that are places in a table, by name."""
        network = self.traced_once
        if self._limited is None or self._limited[0] is not network:
            traced = self.traced()
            names = {id(t.step): name for name, t in self.fed(traced)}
            steps = steps_to(t.step for t in flatten(traced.outputs))
            self._limited = network, limits_of(steps, names)
        return self._limited[1]

    def _seed_of_draws(self) -> Feeds:
        """What predictions draw with, another seed for each batch; nothing for a model that doesn't draw then."""
        network = self.traced_once
        if self._drawing is None or self._drawing[0] is not network:
            steps = steps_to(t.step for t in flatten(self.traced().outputs))
            drawing = any(
                s.training and isinstance(s.source, Op) and draws(s.source) for s in steps
            )
            self._drawing = network, Draws() if drawing else None
        found = self._drawing[1]
        return {} if found is None else {SEED_INPUT: found.next()}

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
        arranged = map_tensors(
            lambda t: as_declared(next(following), t, self), self.traced().outputs
        )
        return sole(arranged) if self.traced_once is not None else arranged
