"""The record of a training."""

from __future__ import annotations

from typing import Any

from convc.keras.callbacks.callback import Callback, Logs


class History(Callback):
    """`history` has a list per name with a value per epoch, `epoch` the numbers of the epochs. `fit` returns it."""

    def __init__(self) -> None:
        super().__init__()
        self.history: dict[str, list[Any]] = {}
        self.epoch: list[int] = []

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.epoch = []

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)
        self.model.history = self
