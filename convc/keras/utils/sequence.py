"""Batches by their number: what `fit` reads data from that isn't an array."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any


class PyDataset:
    """Base of data sets in Python: `len(data)` batches, of which `data[k]` is the k-th, `(x, y)` or `(x, y, weights)`.

    `__getitem__` may be called from several threads at once and in any order. `on_epoch_begin` and `on_epoch_end` are
    called between epochs. `workers` threads read ahead in `fit`, from two on. `use_multiprocessing` is kept
    for classes that read it: no processes are started.
    """

    def __init__(
        self, workers: int = 1, use_multiprocessing: bool = False, max_queue_size: int = 10
    ) -> None:
        self.workers = workers
        self.use_multiprocessing = use_multiprocessing
        self.max_queue_size = max_queue_size

    # What a subclass has that doesn't call this class's __init__.
    workers: int = 1
    use_multiprocessing: bool = False
    max_queue_size: int = 10

    def __getitem__(self, index: int) -> Any:
        """The batch of that number."""
        raise NotImplementedError(f"{type(self).__name__} has no __getitem__")

    @property
    def num_batches(self) -> int | None:
        """How many batches an epoch has; None for a data set without end."""
        length = getattr(self, "__len__", None)
        if length is None:
            raise NotImplementedError(f"{type(self).__name__} has no __len__ and no num_batches")
        return int(length())

    def __iter__(self) -> Iterator[Any]:
        """The batches of one epoch, in order."""
        try:
            count = self.num_batches
        except NotImplementedError:
            count = None
        for index in itertools.count() if count is None else range(count):
            yield self[index]

    def on_epoch_begin(self) -> None:
        """Called before the first batch of an epoch."""

    def on_epoch_end(self) -> None:
        """Called after the last batch of an epoch."""


class EpochDataset(PyDataset):
    """Base of data sets whose batches depend on nothing but the epoch's number and their own: `batch(epoch, index)`.

    So they may be made ahead, by any number of threads. As a data set by number it gives the batches of `epoch`.
    """

    reads_ahead = True
    epoch = 0

    def batch(self, epoch: int, index: int) -> Any:
        """The batch of that number in that epoch."""
        raise NotImplementedError(f"{type(self).__name__} has no batch")

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} has no __len__")

    def __getitem__(self, index: int) -> Any:
        if not -len(self) <= index < len(self):
            raise IndexError(f"batch {index} of {len(self)}")
        return self.batch(self.epoch, index % len(self))

    def on_epoch_end(self) -> None:
        self.epoch += 1


Sequence = PyDataset
