"""Curves for TensorBoard."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from convc.errors import UsageError
from convc.keras.callbacks.callback import Callback, Logs
from convc.keras.callbacks.events import EventWriter, histogram, scalar
from convc.keras.callbacks.learning_rate import rate_of
from convc.keras.engine.arguments import refuse


class TensorBoard(Callback):
    """Writes results into `log_dir/train` and `log_dir/validation`; see them with `tensorboard --logdir logs`.

    `update_freq` is "epoch", "batch" or a number of steps; each `histogram_freq` epochs the weights' distributions
    are written too. Nothing needs to be installed for writing. What TensorFlow's own has besides (graphs, profiles,
    embeddings) is not written.
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str] = "logs",
        histogram_freq: int = 0,
        write_graph: bool = True,
        write_images: bool = False,
        write_steps_per_second: bool = False,
        update_freq: Any = "epoch",
        profile_batch: Any = 0,
        embeddings_freq: int = 0,
        embeddings_metadata: Any = None,
    ) -> None:
        super().__init__()
        if not isinstance(log_dir, (str, os.PathLike)):
            refuse("TensorBoard", "log_dir", "a path", log_dir)
        if update_freq not in ("epoch", "batch") and not (
            isinstance(update_freq, int) and update_freq > 0
        ):
            raise UsageError(
                f"TensorBoard: update_freq must be 'epoch', 'batch' or a number of steps; received {update_freq!r}"
            )
        self.log_dir, self.histogram_freq = Path(log_dir), histogram_freq
        self.update_freq = 1 if update_freq == "batch" else update_freq
        self._writers: dict[str, EventWriter] = {}
        self._steps = 0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._steps = 0

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        self._steps += 1
        if self.update_freq != "epoch" and self._steps % self.update_freq == 0:
            values = [scalar(f"batch_{n}", float(np.mean(v))) for n, v in (logs or {}).items()]
            self._writer("train").write(self._steps, values)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        logs = logs or {}
        plain = {n: v for n, v in logs.items() if not n.startswith("val_")}
        plain["learning_rate"] = rate_of(self.model)
        self._scalars("train", epoch, plain)
        validation = {n.removeprefix("val_"): v for n, v in logs.items() if n.startswith("val_")}
        if validation:
            self._scalars("validation", epoch, validation)
        if self.histogram_freq and epoch % self.histogram_freq == 0:
            weights = [histogram(f"{w.path}/histogram", w.value) for w in self.model.weights]
            self._writer("train").write(epoch, weights)
            self._writer("train").flush()

    def on_train_end(self, logs: Logs | None = None) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers = {}

    def _scalars(self, run: str, epoch: int, values: Logs) -> None:
        writer = self._writer(run)
        writer.write(epoch, [scalar(f"epoch_{n}", float(np.mean(v))) for n, v in values.items()])
        writer.flush()

    def _writer(self, run: str) -> EventWriter:
        if run not in self._writers:
            self._writers[run] = EventWriter(self.log_dir / run)
        return self._writers[run]
