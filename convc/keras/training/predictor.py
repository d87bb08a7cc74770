"""Predictions of a model whose weights change again and again."""

from __future__ import annotations

from typing import Any

from convc.keras import backend
from convc.keras.engine.tensor import Array
from convc.keras.training.session import Session
from convc.passes.training_mode import with_inputs

PREDICT = "predict"


class Predictor:
    """A model compiled once, with its weights as inputs that follow its variables."""

    def __init__(self, model: Any) -> None:
        self.network = model.traced_once
        self.session = Session(model.name, backend.threads())
        graph, self.weights = model.graph_of_variables()
        self.session.define(PREDICT, with_inputs(graph, list(self.weights)))
        self._versions = dict.fromkeys(self.weights, -1)

    def __reduce__(self) -> Any:
        return dropped, ()

    def __call__(self, feeds: dict[str, Array]) -> list[Array]:
        """The outputs for arrays in the model's dtypes."""
        for name, weight in self.weights.items():
            version = weight.variable.version
            if self._versions[name] != version:
                self.session.write(name, weight.array)
                self._versions[name] = version
        return self.session.step(PREDICT, feeds)


def dropped() -> None:
    """What copies of a model have for it: they make their own."""
    return
