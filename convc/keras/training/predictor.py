"""Predictions of a model whose weights change again and again, or whose sizes do."""

from __future__ import annotations

from typing import Any

from convc.keras import backend
from convc.keras.engine.tensor import BATCH, Array
from convc.keras.training.session import Session
from convc.passes.training_mode import with_inputs

PREDICT = "predict"


class Predictor:
    """A model with its weights as inputs that follow its variables, compiled once for each shape of its inputs."""

    def __init__(self, model: Any) -> None:
        self.model, self.network = model, model.traced_once
        self.session = Session(model.name, backend.threads())
        _, self.weights = model.graph_of_variables(nominal=True)
        self._entries: dict[Any, str] = {}
        self._versions = dict.fromkeys(self.weights, -1)

    def __reduce__(self) -> Any:
        return dropped, ()

    def __call__(self, feeds: dict[str, Array], seed: dict[str, Array]) -> list[Array]:
        """The outputs for arrays in the model's dtypes, and for what it draws with."""
        for name, weight in self.weights.items():
            version = weight.variable.version
            if self._versions[name] != version:
                self.session.write(name, weight.array)
                self._versions[name] = version
        return self.session.step(self.entry(feeds), {**feeds, **seed})

    def entry(self, feeds: dict[str, Array]) -> str:
        """The entry for arrays of these sizes, defined if they are new ones."""
        sizes = {name: array.shape[1:] for name, array in feeds.items()}
        key = tuple(sizes.items()) if self.model.has_open_sizes else ()
        if key not in self._entries:
            name = f"{PREDICT}_{len(self._entries)}" if self._entries else PREDICT
            graph, _ = self.model.graph_of_variables(
                sizes={n: (BATCH, *s) for n, s in sizes.items()}
            )
            self.session.define(name, with_inputs(graph, list(self.weights)))
            self._entries[key] = name
        return self._entries[key]


def dropped() -> None:
    """What copies of a model have for it: they make their own."""
    return
