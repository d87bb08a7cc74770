"""Data sets out of arrays, series and folders of text."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convc.errors import InputFileError, UsageError
from convc.keras.engine.arguments import choice, positive, refuse, whole
from convc.keras.utils.arrays import to_categorical
from convc.keras.utils.elements import as_values
from convc.keras.utils.sequence import EpochDataset

Array = NDArray[Any]


class Rows(EpochDataset):
    """Rows of arrays in batches, in another order in each epoch if it shuffles.

    `parts` are arrays of as many rows each; a batch is a tuple of their rows, or those of the single one.
    """

    def __init__(
        self,
        parts: tuple[Array, ...],
        batch_size: int,
        shuffle: bool = False,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.parts, self.batch_size, self.shuffles = parts, batch_size, shuffle
        self.seed = int(np.random.randint(1 << 31)) if seed is None else seed

    def __len__(self) -> int:
        return math.ceil(len(self.parts[0]) / self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        epoch = self.epoch
        for index in range(len(self)):
            yield self.batch(epoch, index)
        self.on_epoch_end()

    def batch(self, epoch: int, index: int) -> Any:
        order = np.arange(len(self.parts[0]))
        if self.shuffles:
            order = np.random.default_rng([self.seed, epoch]).permutation(order)
        chosen = order[self.batch_size * index : self.batch_size * (index + 1)]
        found = tuple(as_values(self.rows(part, chosen)) for part in self.parts)
        return found[0] if len(found) == 1 else found

    def rows(self, part: Array, chosen: Array) -> Array:
        return np.asarray(part[chosen])


class Windows(Rows):
    """Windows of a series in batches, with their targets if there are any."""

    def __init__(
        self, series: Array, starts: Array, length: int, stride: int, targets: Any, *settings: Any
    ) -> None:
        places = starts[:, None] + np.arange(length) * stride
        super().__init__((places,) if targets is None else (places, targets), *settings)
        self.series = series

    def rows(self, part: Array, chosen: Array) -> Array:
        found = np.asarray(part[chosen])
        return np.asarray(self.series[found]) if part is self.parts[0] else found


def timeseries_dataset_from_array(
    data: Any,
    targets: Any,
    sequence_length: int,
    sequence_stride: int = 1,
    sampling_rate: int = 1,
    batch_size: int | None = 128,
    shuffle: bool = False,
    seed: int | None = None,
    start_index: int | None = None,
    end_index: int | None = None,
) -> Any:
    """Windows (batch, sequence_length, …) of a series, and the targets at the windows' starts unless they are None.

    Windows begin `sequence_stride` steps apart and take every `sampling_rate`-th step, between `start_index` and
    `end_index`. `batch_size=None` gives windows one by one.
    """
    owner = "timeseries_dataset_from_array"
    series = np.asarray(data)
    length = positive(owner, "sequence_length", sequence_length)
    stride = positive(owner, "sequence_stride", sequence_stride)
    rate = positive(owner, "sampling_rate", sampling_rate)
    first = 0 if start_index is None else whole(owner, "start_index", start_index)
    last = len(series) if end_index is None else whole(owner, "end_index", end_index)
    if first >= len(series) or not first < last <= len(series):
        raise UsageError(
            f"{owner}: start_index and end_index must be within {len(series)} steps; "
            f"received {start_index} and {end_index}"
        )
    series = series[first:last]
    count = len(series) - (length - 1) * rate
    labels = None
    if targets is not None:
        labels = np.asarray(targets)[first:last]
        count = min(count, len(labels))
    if count < 1:
        raise UsageError(
            f"{owner}: sequence_length {length} at sampling_rate {rate} is longer than the {len(series)} steps"
        )
    starts = np.arange(0, count, stride)
    chosen = None if labels is None else labels[starts]
    if batch_size is None:
        windows = Windows(series, starts, length, rate, chosen, 1, shuffle, seed)
        return _singles(windows)
    size = positive(owner, "batch_size", batch_size)
    return Windows(series, starts, length, rate, chosen, size, shuffle, seed)


def _singles(windows: Windows) -> list[Any]:
    return [
        tuple(part[0] for part in batch) if isinstance(batch, tuple) else batch[0]
        for batch in windows
    ]


def split_dataset(
    dataset: Any,
    left_size: Any = None,
    right_size: Any = None,
    shuffle: bool = False,
    seed: int | None = None,
) -> tuple[Any, Any]:
    """Two data sets of an array's rows, of tuples of arrays, or of the items of a list: sizes are counts or shares."""
    parts = tuple(map(np.asarray, dataset)) if isinstance(dataset, tuple) else None
    if parts is None:
        items = np.asarray(dataset) if isinstance(dataset, np.ndarray) else list(dataset)
        parts = (items if isinstance(items, np.ndarray) else _column(items),)
    total = len(parts[0])
    left, right = _sizes(total, left_size, right_size)
    order = np.random.default_rng(seed).permutation(total) if shuffle else np.arange(total)
    found = []
    for chosen in (order[:left], order[total - right :]):
        rows = tuple(part[chosen] for part in parts)
        found.append(Items(rows))
    return found[0], found[1]


def _column(items: list[Any]) -> Array:
    found = np.empty(len(items), object)
    found[:] = items
    return found


def _sizes(total: int, left: Any, right: Any) -> tuple[int, int]:
    if left is None and right is None:
        raise UsageError("split_dataset: give left_size or right_size; received neither")

    first, second = _count("left_size", left, total), _count("right_size", right, total)
    if first is None:
        assert second is not None
        return total - second, second
    second = total - first if second is None else second
    if first + second > total:
        raise UsageError(f"split_dataset: {first} and {second} are more than the {total} samples")
    return first, second


def _count(name: str, value: Any, total: int) -> int | None:
    """How many of the samples a size means."""
    if value is None:
        return None
    if isinstance(value, float) and 0 < value < 1:
        return round(value * total)
    if not isinstance(value, int) or not 0 < value < total:
        refuse("split_dataset", name, f"a share between 0 and 1 or a count below {total}", value)
    return value


class Items(EpochDataset):
    """Samples one by one, with `batch(n)` to put them together."""

    def __init__(self, parts: tuple[Array, ...]) -> None:
        super().__init__()
        self.parts = parts

    def __len__(self) -> int:
        return len(self.parts[0])

    def __getitem__(self, index: int) -> Any:
        found = tuple(part[index] for part in self.parts)
        return found[0] if len(found) == 1 else found

    def __iter__(self) -> Iterator[Any]:
        for index in range(len(self)):
            yield self[index]

    def batch(self, batch_size: int, drop_remainder: bool = False) -> Any:  # type: ignore[override]
        """Batches of so many samples."""
        size = positive("batch", "batch_size", batch_size)
        kept = len(self) // size * size if drop_remainder else len(self)
        return Rows(tuple(_stacked(part[:kept]) for part in self.parts), size)


def _stacked(part: Array) -> Array:
    return np.stack(list(part)) if part.dtype == object else part


def text_dataset_from_directory(
    directory: str | os.PathLike[str],
    labels: Any = "inferred",
    label_mode: str | None = "int",
    class_names: Any = None,
    batch_size: int = 32,
    max_length: int | None = None,
    shuffle: bool = True,
    seed: int | None = None,
    validation_split: float | None = None,
    subset: str | None = None,
    follow_links: bool = False,
    verbose: bool = True,
) -> Any:
    """The .txt files below a folder in batches of strings, with the numbers of the folders that they are in."""
    owner, root = "text_dataset_from_directory", Path(directory)
    if not root.is_dir():
        raise InputFileError(f"{owner}: no folder {root}")
    if label_mode is not None:
        choice(owner, "label_mode", label_mode, ("int", "categorical", "binary"))
    if (validation_split is None) != (subset is None):
        raise UsageError(f"{owner}: give both validation_split and subset, or neither")
    if labels not in ("inferred", None):
        refuse(owner, "labels", "'inferred' or None", labels)
    found = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    names = list(class_names) if class_names else found
    folders: Iterable[Path] = [root] if labels is None else [root / n for n in names]
    files, numbers = [], []
    for number, folder in enumerate(folders):
        inside = sorted(
            Path(at) / name
            for at, _, listed in os.walk(folder, followlinks=follow_links)
            for name in listed
            if name.endswith(".txt")
        )
        files += inside
        numbers += [number] * len(inside)
    if not files:
        raise InputFileError(f"{owner}: no .txt files below {root}")
    if verbose:
        print(f"Found {len(files)} files belonging to {len(names)} classes.")
    key = int(np.random.randint(1 << 31)) if seed is None else seed
    order = np.random.RandomState(key).permutation(len(files)) if shuffle else np.arange(len(files))
    at = len(files) - int((validation_split or 0) * len(files))
    parts = {None: order, "training": order[:at], "validation": order[at:]}
    wanted = ("training", "validation") if subset == "both" else (subset,)
    made = []
    for part in wanted:
        if part not in parts:
            refuse(owner, "subset", "'training', 'validation' or 'both'", subset)
        chosen = parts[part]
        texts = [
            files[k].read_text(encoding="utf-8", errors="replace")[:max_length] for k in chosen
        ]
        given = np.array(numbers, np.int32)[chosen]
        columns = _labelled(
            _column(texts), given, None if labels is None else label_mode, len(names)
        )
        rows = Rows(
            columns,
            positive(owner, "batch_size", batch_size),
            shuffle and part != "validation",
            key,
        )
        rows.class_names = names  # type: ignore[attr-defined]
        made.append(rows)
    return tuple(made) if subset == "both" else made[0]


def _labelled(texts: Array, numbers: Array, mode: str | None, classes: int) -> tuple[Array, ...]:
    match mode:
        case None:
            return (texts,)
        case "int":
            return texts, numbers
        case "binary":
            return texts, numbers.astype(np.float32)[:, None]
        case _:
            return texts, to_categorical(numbers, classes)
