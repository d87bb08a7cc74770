"""Callbacks that set the optimizer's learning rate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from convc.errors import UsageError
from convc.keras.callbacks.callback import Callback, Logs
from convc.keras.callbacks.monitor import MonitorCallback
from convc.keras.engine.arguments import number, refuse, whole


def rate_of(model: Any) -> float:
    """The learning rate of the next step."""
    return float(np.asarray(model.optimizer.learning_rate))


class LearningRateScheduler(Callback):
    """Sets the rate before each epoch to `schedule(epoch, rate)`, or `schedule(epoch)` of the old form."""

    def __init__(self, schedule: Callable[..., Any], verbose: int = 0) -> None:
        super().__init__()
        if not callable(schedule):
            refuse("LearningRateScheduler", "schedule", "a function (epoch, rate)", schedule)
        self.schedule, self.verbose = schedule, verbose

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        try:
            rate = self.schedule(epoch, rate_of(self.model))
        except TypeError:
            rate = self.schedule(epoch)
        try:
            rate = float(np.asarray(rate))
        except (TypeError, ValueError):
            raise UsageError(
                f"LearningRateScheduler: schedule({epoch}) must return a number; it returned {rate!r}"
            ) from None
        self.model.optimizer.learning_rate = rate
        if self.verbose > 0:
            print(f"\nEpoch {epoch + 1}: LearningRateScheduler setting learning rate to {rate}.")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if logs is not None:
            logs["learning_rate"] = rate_of(self.model)


class ReduceLROnPlateau(MonitorCallback):
    """Multiplies the rate by `factor` after `patience` epochs without improvement, down to `min_lr`.

    After a reduction it waits `cooldown` epochs before it counts again.
    """

    kept = ("best", "wait", "cooldown_counter")

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        super().__init__(monitor, mode, min_delta=min_delta)
        cls = "ReduceLROnPlateau"
        number(cls, "factor", factor, "a number from 0 to below 1")
        whole(cls, "patience", patience)
        whole(cls, "cooldown", cooldown)
        number(cls, "min_lr", min_lr, "a number ≥ 0")
        if factor >= 1.0:
            raise UsageError(f"ReduceLROnPlateau: factor must be below 1.0; received {factor}")
        self.factor, self.patience, self.verbose = factor, patience, verbose
        self.cooldown, self.min_lr = cooldown, min_lr
        self.wait = self.cooldown_counter = 0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.best, self.wait, self.cooldown_counter = None, 0, 0

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        logs = logs if logs is not None else {}
        logs["learning_rate"] = rate_of(self.model)
        current = self.watched(logs, "Learning rate reduction is conditioned on metric")
        if current is None:
            return
        if self.in_cooldown():
            self.cooldown_counter -= 1
            self.wait = 0
        if self.improved(current, self.best):
            self.best, self.wait = current, 0
        elif not self.in_cooldown():
            self.wait += 1
            if self.wait >= self.patience:
                self._reduce(epoch)

    def in_cooldown(self) -> bool:
        return self.cooldown_counter > 0

    def _reduce(self, epoch: int) -> None:
        old = rate_of(self.model)
        if old <= np.float32(self.min_lr):
            return
        rate = max(old * self.factor, self.min_lr)
        self.model.optimizer.learning_rate = rate
        self.cooldown_counter, self.wait = self.cooldown, 0
        if self.verbose > 0:
            print(f"\nEpoch {epoch + 1}: ReduceLROnPlateau reducing learning rate to {rate}.")
