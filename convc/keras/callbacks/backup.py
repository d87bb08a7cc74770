"""A training that survives the end of its process: the whole state on disk, and back."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from convc_runtime import WriteError
from convc_runtime.writing import write_whole

from convc.errors import InputFileError, OutputError, UsageError
from convc.keras.callbacks.callback import Callback, Logs

NAME = "training.safetensors"


class BackupAndRestore(Callback):
    """Keeps the training's state in a folder, after each epoch or each `save_freq` steps.

    When `fit` begins and the folder has a state, training goes on from there, to the same final weights as without
    the interruption: weights, the optimizer's state, the epoch's results so far, the position in the data, the
    seeds of shuffles and dropouts and what convc's other callbacks remember (EarlyStopping, ReduceLROnPlateau) are
    in it; it is kept once they have done their part. (A generator's own state is not: its batches are skipped up to
    that position.) A state replaces the one before as a whole: a process that is killed at any moment leaves one of
    the two. The file is deleted when training ends, unless `delete_checkpoint` is False; `double_checkpoint` keeps
    the previous one too.
    """

    def __init__(
        self,
        backup_dir: str | os.PathLike[str],
        save_freq: Any = "epoch",
        double_checkpoint: bool = False,
        delete_checkpoint: bool = True,
    ) -> None:
        super().__init__()
        if not os.fspath(backup_dir):
            raise UsageError("BackupAndRestore: backup_dir must not be empty")
        if save_freq not in ("epoch", False) and not (isinstance(save_freq, int) and save_freq > 0):
            raise UsageError(
                f"BackupAndRestore: save_freq must be 'epoch' or a number of steps; received {save_freq!r}"
            )
        self.backup_dir, self.save_freq = Path(backup_dir), save_freq
        self.double_checkpoint, self.delete_checkpoint = double_checkpoint, delete_checkpoint
        self._steps = 0

    @property
    def path(self) -> Path:
        return self.backup_dir / NAME

    @property
    def previous(self) -> Path:
        """The state before the latest one, with `double_checkpoint`."""
        return self.backup_dir / f"previous-{NAME}"

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._steps = 0
        for path in (self.path, self.previous):
            if path.is_file():
                self.model.set_training_state(*read_state(path))
                return

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        self._steps += 1
        if isinstance(self.save_freq, int) and self._steps >= self.save_freq > 0:
            self._steps = 0
            self._save()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if self.save_freq == "epoch":
            self._save()

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self.delete_checkpoint:
            for path in (self.path, self.previous, *unfinished(self.path)):
                path.unlink(missing_ok=True)

    def _save(self) -> None:
        arrays, numbers = self.model.training_state()
        if self.double_checkpoint and self.path.is_file():
            os.replace(self.path, self.previous)
        write_state(self.path, arrays, numbers)


def unfinished(path: Path) -> Iterator[Path]:
    """What processes that were killed while they wrote a state have left."""
    return path.parent.glob(f".{path.stem}.*.part{path.suffix}")


def write_state(path: Path, arrays: Mapping[str, Any], numbers: Mapping[str, int]) -> None:
    """Writes a state; the file is replaced as a whole once everything is on the disk."""
    contiguous = {n: np.asarray(a, order="C") for n, a in arrays.items()}
    data = safetensors.numpy.save(contiguous, {"position": json.dumps(dict(numbers))})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data)
    except OSError as error:
        raise OutputError(f"can't write {path}: {error.strerror or error}") from None
    except WriteError as error:
        raise OutputError(str(error)) from None


def read_state(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """The arrays and the numbers of a state. InputFileError if the file isn't one."""
    try:
        data = path.read_bytes()
        arrays = safetensors.numpy.load(data)
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
        return arrays, json.loads(header["__metadata__"]["position"])
    except (OSError, ValueError, KeyError, struct.error, safetensors.SafetensorError) as error:
        raise InputFileError(f"{path} is not a training's state: {error}") from None
