"""Results in a table on disk."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import IO, Any

import numpy as np

from convc.errors import OutputError
from convc.keras.callbacks.callback import Callback, Logs
from convc.keras.engine.arguments import refuse


class CSVLogger(Callback):
    """Writes a line per epoch: the epoch, then the results by name; `append` continues a file."""

    def __init__(
        self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False
    ) -> None:
        super().__init__()
        if not isinstance(filename, (str, os.PathLike)):
            refuse("CSVLogger", "filename", "a path", filename)
        self.filename, self.separator, self.append = Path(filename), separator, append
        self._file: IO[str] | None = None
        self._writer: Any = None
        self._keys: list[str] | None = None
        self._header = True

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._close()
        self._keys = self._writer = None
        self._header = not (self.append and self._has_header())
        try:
            self._file = self.filename.open("a" if self.append else "w", newline="")
        except OSError as error:
            raise OutputError(f"can't write {self.filename}: {error.strerror or error}") from None

    def _has_header(self) -> bool:
        return self.filename.is_file() and self.filename.stat().st_size > 0

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        logs = logs or {}
        assert self._file is not None, "training has begun"
        if self._keys is None:
            self._keys = sorted(logs)
            if not any(key.startswith("val_") for key in self._keys):
                self._keys += [f"val_{key}" for key in self._keys]
            self._writer = csv.writer(self._file, delimiter=self.separator)
            if self._header:
                self._writer.writerow(["epoch", *self._keys])
        self._writer.writerow([epoch, *(cell(logs.get(key, "NA")) for key in self._keys)])
        self._file.flush()

    def on_train_end(self, logs: Logs | None = None) -> None:
        self._close()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = None


def cell(value: Any) -> Any:
    """A value as the table shows it; several numbers in brackets."""
    if np.ndim(value) == 0:
        return value
    return f'"[{", ".join(map(str, value))}]"'
