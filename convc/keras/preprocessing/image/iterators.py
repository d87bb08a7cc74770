"""Batches of transformed images, from an array."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator as PythonIterator
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from convc.errors import DataError, OutputError, UsageError
from convc.keras.engine.arguments import choice, positive
from convc.keras.engine.ordered import ordered_map
from convc.keras.preprocessing.image.parameters import Plan
from convc.keras.utils.images import array_to_img
from convc.keras.utils.sequence import EpochDataset

Array = NDArray[Any]

PLANNED = 2048
"""Images that are drawn for at once: numpy's calls cost more than what they do for one batch."""
KEPT_PLANS = 4


class Augmenter(Protocol):
    """What an iterator needs of an ImageDataGenerator."""

    data_format: str
    dtype: Any
    validation_split: float

    def augmented(self, images: Array, seed: int, epoch: int, indices: Array) -> Array: ...

    def planned(
        self, shape: Sequence[int], seed: int, epoch: int, indices: Array
    ) -> Plan | None: ...

    def applied(self, images: Array, plan: Plan | None) -> Array: ...


class Iterator(EpochDataset):
    """Base of the iterators: batch `k` of epoch `e` is a function of the seed, `e` and `k` alone.

    As a data set by number it gives the batches of `epoch`, which `on_epoch_end` moves on. As an iterator it never
    ends, and `workers` threads work ahead. Without a seed, numpy's global generator draws one.
    """

    def __init__(
        self, n: int, batch_size: int, shuffle: bool, seed: int | None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.n = n
        self.batch_size = positive(type(self).__name__, "batch_size", batch_size)
        self.shuffle = bool(shuffle)
        self.seed = int(np.random.randint(1 << 31)) if seed is None else int(seed) & 0xFFFFFFFF
        self.batch_index = 0
        """Of the next batch as an iterator."""
        self.total_batches_seen = 0
        self._orders: dict[int, Array] = {}
        self._stream: PythonIterator[tuple[int, Any]] | None = None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return math.ceil(self.n / self.batch_size)

    def reset(self) -> None:
        """The iterator begins an epoch with its next batch."""
        with self._lock:
            self._stop()
            if self.batch_index:
                self.epoch += 1
            self.batch_index = 0

    def __iter__(self) -> PythonIterator[Any]:
        return self

    def __next__(self) -> Any:
        with self._lock:
            if not self.n:
                raise StopIteration
            if self._stream is None:
                keys = self._keys(self.epoch, self.batch_index)
                ahead = min(self.max_queue_size, self.workers + 2)
                self._stream = ordered_map(self._numbered, keys, self.workers, ahead)
            position, batch = next(self._stream)
            self.epoch, self.batch_index = divmod(position + 1, len(self))
            self.total_batches_seen += 1
            return batch

    def _keys(self, epoch: int, index: int) -> PythonIterator[int]:
        position = epoch * len(self) + index
        while True:
            yield position
            position += 1

    def _numbered(self, position: int) -> tuple[int, Any]:
        return position, self.batch(*divmod(position, len(self)))

    def _stop(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()  # type: ignore[attr-defined]

    def order(self, epoch: int) -> Array:
        """The indices of an epoch's samples, in the order in which they come."""
        if not self.shuffle:
            return np.arange(self.n)
        found = self._orders.get(epoch)
        if found is None:
            key = np.array([self.seed, epoch], np.uint64)
            found = np.random.Generator(np.random.Philox(key=key)).permutation(self.n)
            for old in [e for e in self._orders.copy() if e < epoch - 1]:
                self._orders.pop(old, None)
            self._orders[epoch] = found
        return found

    @property
    def index_array(self) -> Array:
        """The order of the present epoch."""
        return self.order(self.epoch)

    def batch(self, epoch: int, index: int) -> Any:
        """The batch of that number in that epoch."""
        chosen = self.order(epoch)[self.batch_size * index : self.batch_size * (index + 1)]
        return self.transformed_batch(epoch, chosen)

    def transformed_batch(self, epoch: int, indices: Array) -> Any:
        """The samples of those indices as an epoch has them."""
        raise NotImplementedError(f"{type(self).__name__} has no transformed_batch")


class NumpyArrayIterator(Iterator):
    """Batches of an array of images."""

    def __init__(
        self,
        x: Any,
        y: Any,
        image_data_generator: Augmenter,
        batch_size: int = 32,
        shuffle: bool = False,
        sample_weight: Any = None,
        seed: int | None = None,
        data_format: str | None = None,
        save_to_dir: str | None = None,
        save_prefix: str = "",
        save_format: str = "png",
        subset: str | None = None,
        ignore_class_split: bool = False,
        dtype: Any = None,
    ) -> None:
        others = []
        if isinstance(x, (tuple, list)) and len(x) == 2 and np.ndim(x[0]) == 4:
            given = x[1] if isinstance(x[1], (list, tuple)) else [x[1]]
            x, others = x[0], [np.asarray(o) for o in given]
        self.image_data_generator = image_data_generator
        self.data_format = data_format or image_data_generator.data_format
        self.dtype = dtype or image_data_generator.dtype
        self.x = np.asarray(x)
        if self.x.ndim != 4:
            raise DataError(f"flow: expected images x of rank 4; received shape {self.x.shape}")
        self.y = None if y is None else np.asarray(y)
        self.sample_weight = None if sample_weight is None else np.asarray(sample_weight)
        self.x_misc = others
        for name, array in self._rows().items():
            if len(array) != len(self.x):
                raise DataError(
                    f"flow: expected {len(self.x)} rows of {name}, as of x; received {len(array)}"
                )
        if subset is not None:
            self._take(subset, ignore_class_split)
        self.saving = Saving(save_to_dir, save_prefix, save_format, self.data_format)
        self._scratch = threading.local()
        self._plans: dict[tuple[int, int], Plan | None] = {}
        self._planning = threading.Lock()
        super().__init__(len(self.x), batch_size, shuffle, seed)

    def _rows(self) -> dict[str, Array]:
        """The arrays that go with x."""
        others = {f"x[1][{k}]": array for k, array in enumerate(self.x_misc)}
        named = {"y": self.y, "sample_weight": self.sample_weight}
        return others | {name: array for name, array in named.items() if array is not None}

    def _take(self, subset: str, ignore_class_split: bool) -> None:
        chosen = choice("flow", "subset", subset, ("training", "validation"))
        at = int(len(self.x) * self.image_data_generator.validation_split)
        if self.y is not None and not ignore_class_split:
            if not at:
                split = self.image_data_generator.validation_split
                raise UsageError(
                    f"flow: subset={subset!r}: ImageDataGenerator's validation_split={split} "
                    f"leaves none of {len(self.x)} images for validation"
                )
            parts = [np.unique(part) for part in (self.y[:at], self.y[at:])]
            if not np.array_equal(parts[0], parts[1]):
                raise DataError(
                    "flow: training and validation subsets have different classes after the split: shuffle the data, "
                    "or give ignore_class_split=True for targets that aren't classes"
                )
        part = slice(0, at) if chosen == "validation" else slice(at, None)
        self.x = self.x[part]
        self.x_misc = [array[part] for array in self.x_misc]
        self.y = None if self.y is None else self.y[part]
        self.sample_weight = None if self.sample_weight is None else self.sample_weight[part]

    def _rows_of_x(self, indices: Array) -> Array:
        """A copy of those images, in memory that the thread's next call overwrites."""
        rows = getattr(self._scratch, "rows", None)
        if rows is None:
            rows = self._scratch.rows = np.empty((self.batch_size, *self.x.shape[1:]), self.x.dtype)
        # "clip" writes directly to the output: all indices are inside.
        return np.take(self.x, indices, axis=0, out=rows[: len(indices)], mode="clip")

    def batch(self, epoch: int, index: int) -> Any:
        """The batch of that number in that epoch."""
        chosen = self.order(epoch)[self.batch_size * index : self.batch_size * (index + 1)]
        return self._changed_batch(epoch, chosen, self._plan(epoch, index))

    def transformed_batch(self, epoch: int, indices: Array) -> Any:
        """x, (x, y) or (x, y, sample_weight); x is a list if other inputs go with the images."""
        plan = self.image_data_generator.planned(self.x.shape, self.seed, epoch, indices)
        return self._changed_batch(epoch, indices, plan)

    def _plan(self, epoch: int, index: int) -> Plan | None:
        """A batch's part of the plan for several, which is kept for the next ones."""
        batches = max(1, PLANNED // self.batch_size)
        block, within = divmod(index, batches)
        key = (epoch, block)
        with self._planning:
            if key not in self._plans:
                low = block * batches * self.batch_size
                indices = self.order(epoch)[low : low + batches * self.batch_size]
                plan = self.image_data_generator.planned(self.x.shape, self.seed, epoch, indices)
                while len(self._plans) >= KEPT_PLANS:
                    self._plans.pop(next(iter(self._plans)))
                self._plans[key] = plan
            found = self._plans[key]
        low = within * self.batch_size
        return None if found is None else found.part(low, low + self.batch_size)

    def _changed_batch(self, epoch: int, indices: Array, plan: Plan | None) -> Any:
        images = self.image_data_generator.applied(self._rows_of_x(indices), plan)
        self.saving.save(images, epoch, indices)
        x = [images, *(o[indices] for o in self.x_misc)] if self.x_misc else images
        if self.y is None:
            return x
        if self.sample_weight is None:
            return x, self.y[indices]
        return x, self.y[indices], self.sample_weight[indices]


class Saving:
    """Where transformed images are written to, to look at them."""

    def __init__(self, folder: str | None, prefix: str, format: str, data_format: str) -> None:
        self.folder, self.prefix, self.format = folder, prefix, format
        self.data_format = data_format
        if folder is not None and not Path(folder).is_dir():
            raise UsageError(f"save_to_dir: expected a folder; received {folder!r}")

    def save(self, images: Array, epoch: int, indices: Array) -> None:
        """Writes `PREFIX_INDEX_EPOCH.FORMAT` for each image."""
        if self.folder is None:
            return
        for index, image in zip(indices, images, strict=True):
            path = Path(self.folder) / f"{self.prefix}_{index}_{epoch}.{self.format}"
            try:
                array_to_img(image, self.data_format).save(path)
            except (OSError, ValueError, KeyError) as error:
                raise OutputError(f"can't write {path}: {error}") from None
