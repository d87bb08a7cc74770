"""Batches by their number: what `fit` reads data from that isn't an array."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from convc.errors import DataError
from convc.keras.utils.pipelines import Pipelined


class PyDataset(Pipelined):
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

    def map(self, function: Any, **others: Any) -> PyDataset:
        """The data set of what a function gives for each batch: `data.map(lambda x, y: (prepare(x), y))`."""
        return Mapped(self, function)

    def cache(self, *others: Any) -> PyDataset:
        """The data set itself: what is read is kept by those that read files."""
        return self

    def prefetch(self, *others: Any) -> PyDataset:
        """The data set itself: `fit` reads ahead."""
        return self

    def take(self, count: int) -> PyDataset:
        """The first batches."""
        return Part(self, 0, count)

    def skip(self, count: int) -> PyDataset:
        """All but the first batches."""
        return Part(self, count, None)

    def on_epoch_begin(self) -> None:
        """Called before the first batch of an epoch."""

    def on_epoch_end(self) -> None:
        """Called after the last batch of an epoch."""


class Mapped(PyDataset):
    """A data set's batches through a function of their parts."""

    def __init__(self, data: PyDataset, function: Any) -> None:
        super().__init__(data.workers, data.use_multiprocessing, data.max_queue_size)
        self.data, self.function = data, function

    @property
    def num_batches(self) -> int | None:
        return self.data.num_batches

    def __len__(self) -> int:
        return int(self.data.num_batches or 0)

    def __getitem__(self, index: int) -> Any:
        batch = self.data[index]
        return self.function(*batch) if isinstance(batch, tuple) else self.function(batch)

    def on_epoch_begin(self) -> None:
        self.data.on_epoch_begin()

    def on_epoch_end(self) -> None:
        self.data.on_epoch_end()


class Part(PyDataset):
    """Some of a data set's batches."""

    def __init__(self, data: PyDataset, start: int, count: int | None) -> None:
        super().__init__(data.workers, data.use_multiprocessing, data.max_queue_size)
        self.data, self.start, self.count = data, start, count

    def __len__(self) -> int:
        left = max(0, int(self.data.num_batches or 0) - self.start)
        return left if self.count is None else min(left, self.count)

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(f"batch {index} of {len(self)}")
        return self.data[self.start + index]

    def on_epoch_end(self) -> None:
        self.data.on_epoch_end()


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


def unpack_x_y_sample_weight(data: Any) -> tuple[Any, Any, Any]:
    """(x, y, sample_weight) of a step's data, None for what is missing."""
    given = data if isinstance(data, tuple) else (data,)
    if not 1 <= len(given) <= 3:
        raise DataError(f"expected x, (x, y) or (x, y, sample_weight); received {len(given)} parts")
    x, y, weights = (*given, None, None)[:3]
    return x, y, weights


def pack_x_y_sample_weight(x: Any, y: Any = None, sample_weight: Any = None) -> Any:
    """The data of a step as `unpack_x_y_sample_weight` takes them apart."""
    if y is None:
        return (x,) if isinstance(x, (list, tuple)) else x
    return (x, y) if sample_weight is None else (x, y, sample_weight)
