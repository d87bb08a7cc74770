"""Callbacks of a few lines: functions at given moments, and an end to trainings that diverge."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from convc.errors import UsageError
from convc.keras.callbacks.callback import Callback, Logs
from convc.keras.engine.naming import nearest

MOMENTS = tuple(name for name in vars(Callback) if name.startswith("on_"))


class LambdaCallback(Callback):
    """Calls the functions that it is given: `LambdaCallback(on_epoch_end=lambda epoch, logs: …)`."""

    def __init__(self, **functions: Callable[..., Any] | None) -> None:
        super().__init__()
        for name, function in functions.items():
            if name.startswith("on_") and name not in MOMENTS:
                raise UsageError(f"LambdaCallback has no {name!r}{nearest(name, MOMENTS)}")
            if function is not None:
                setattr(self, name, function)


class TerminateOnNaN(Callback):
    """Ends training at a loss that is NaN or infinite, and says which layer first gave such a value."""

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(loss):
            print(f"Batch {batch}: Invalid loss, terminating training")
            self.model.stop_training = True
            where = self.model.first_not_finite()
            if where:
                print(where)
