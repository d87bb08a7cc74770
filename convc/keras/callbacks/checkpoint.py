"""Models and weights on disk while training goes on."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from convc.errors import OutputError, UsageError
from convc.keras.callbacks.callback import Logs
from convc.keras.callbacks.monitor import MonitorCallback
from convc.keras.engine import hdf5

WEIGHTS = (".weights.h5", ".safetensors", ".npz", ".h5", ".hdf5")
MODELS = (".keras", ".h5", ".hdf5")


class ModelCheckpoint(MonitorCallback):
    """Saves the model, or its weights, after each epoch or each `save_freq` steps.

    The path may name the epoch and results: "{epoch:02d}-{val_loss:.2f}.keras". With `save_best_only` a file is only
    written when the watched result is the best so far, and better than `initial_value_threshold`. Files appear whole
    or not at all.
    """

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: Any = "epoch",
        initial_value_threshold: float | None = None,
        period: int = 1,
    ) -> None:
        super().__init__(monitor, mode, initial_value_threshold)
        self.filepath, self.verbose = os.fspath(filepath), verbose
        self.save_best_only, self.save_weights_only = save_best_only, save_weights_only
        if save_freq != "epoch" and not (isinstance(save_freq, int) and save_freq > 0):
            raise UsageError(
                f"ModelCheckpoint: save_freq must be 'epoch' or a number of steps; received {save_freq!r}"
            )
        self.save_freq, self.period = save_freq, period
        expected = WEIGHTS if save_weights_only else MODELS
        if not self.filepath.endswith(expected):
            raise UsageError(
                f"ModelCheckpoint: with save_weights_only={save_weights_only} the path must end in "
                f"{', '.join(expected)}; received {self.filepath!r}"
            )
        self._epoch = self._steps = 0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        if self.filepath.endswith(MODELS):
            hdf5.h5py()  # If the package is missing, that is said now, not after the first epoch.

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        if self.save_freq == "epoch":
            return
        self._steps += 1
        if self._steps >= self.save_freq:
            self._steps = 0
            self._save(self._epoch, batch, logs or {})

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if self.save_freq == "epoch" and (epoch + 1) % self.period == 0:
            self._save(epoch, None, logs or {})

    def _save(self, epoch: int, batch: int | None, logs: Logs) -> None:
        path = self._path(epoch, batch, logs)
        if not self._wanted(epoch, logs, path):
            return
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"can't write {path}: {error.strerror or error}") from None
        if self.save_weights_only:
            self.model.save_weights(path, overwrite=True)
        else:
            self.model.save(path, overwrite=True)

    def _path(self, epoch: int, batch: int | None, logs: Logs) -> str:
        names = {"epoch": epoch + 1, **({} if batch is None else {"batch": batch + 1}), **logs}
        try:
            return self.filepath.format(**names)
        except KeyError as error:
            raise UsageError(
                f"ModelCheckpoint: {self.filepath!r} asks for {error}; known are {', '.join(names)}"
            ) from None

    def _wanted(self, epoch: int, logs: Logs, path: str) -> bool:
        if not self.save_best_only:
            self._say(epoch, f"saving model to {path}")
            return True
        current = logs.get(self.monitor)
        if current is None or np.ndim(current) > 0:
            warnings.warn(f"Can save best model only with {self.monitor} available.", stacklevel=4)
            return True
        best = "None" if self.best is None else f"{self.best:.5f}"
        if not self.improved(current, self.best):
            self._say(epoch, f"{self.monitor} did not improve from {best}")
            return False
        self._say(
            epoch,
            f"{self.monitor} improved from {best} to {current:.5f}, saving model to {path}",
        )
        self.best = current
        return True

    def _say(self, epoch: int, text: str) -> None:
        if self.verbose > 0:
            print(f"\nEpoch {epoch + 1}: {text}")
