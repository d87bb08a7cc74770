"""Training data: arrays, sequences of batches, generators and other iterables, as dicts of arrays for each step."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from convc.errors import DataError, UsageError
from convc.keras.engine.open_sizes import shown
from convc.keras.engine.ordered import ordered_map
from convc.keras.engine.tensor import Array
from convc.types import DType, TensorType

Feeds = dict[str, Array]
"""Arrays by the name of an entry's input."""

DEFAULT_BATCH = 32


@dataclass(frozen=True)
class Port:
    """One input or output of a model: its name and type."""

    name: str
    type: TensorType

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Numbers, and None for what is open."""
        return shown(self.type.shape)


@dataclass(frozen=True)
class Ports:
    """What a model takes and gives, and how the user's structures name it."""

    owner: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    input_keys: tuple[str, ...]
    """The keys of dicts of inputs."""
    output_keys: tuple[str, ...]
    scored: int | None = None
    """The one output of several that has a loss: what targets are for, if they aren't a structure."""
    prepare: Callable[[Any], Any] | None = None
    """What makes the inputs of the user's data, where these aren't the same (text, engine.hosted)."""


def target_name(output: str) -> str:
    """The entries' input for the targets of an output."""
    return f"target/{output}"


def weight_name(output: str) -> str:
    """The entries' input for an output's weights per sample."""
    return f"sample_weight/{output}"


class Source(Protocol):
    """Batches for epochs. `steps` is their number, if it is known."""

    steps: int | None

    def epoch(self, number: int, start: int = 0) -> Iterator[Feeds]:
        """The batches of an epoch, from the step `start` on."""
        ...


# ---------------------------------------------------------------- structures into arrays


def listed(owner: str, what: str, keys: Sequence[str], value: Any) -> list[Any]:
    """A structure as one item per key: a dict by keys, a list in order, or the item itself for a single key."""
    if isinstance(value, Mapping):
        missing = [k for k in keys if k not in value]
        if missing:
            raise DataError(
                f"model {owner!r} has {what}s {', '.join(keys)}; {missing[0]!r} is missing, "
                f"received {', '.join(map(repr, value)) or 'none'}"
            )
        return [value[k] for k in keys]
    if isinstance(value, (list, tuple)) and (len(keys) > 1 or holds_array(value)):
        items = list(value)
    else:
        items = [value]
    if len(items) != len(keys):
        raise DataError(
            f"model {owner!r} has {len(keys)} {what}s ({', '.join(keys)}); received {len(items)}"
        )
    return items


def holds_array(value: Sequence[Any]) -> bool:
    """Whether a list has one array, rather than being rows of numbers itself."""
    return len(value) == 1 and hasattr(value[0], "shape")


def plain_array(value: Any, what: str) -> Array:
    """Numbers, a tensor or an array as numpy's. DataError, which says what it is, where they aren't real numbers."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    array = np.asarray(value)
    if array.dtype.kind not in "biuf" and array.dtype != DType.bfloat16.numpy:
        raise DataError(f"{what}: expected real numbers; received an array of dtype {array.dtype}")
    return array


def input_array(owner: str, port: Port, value: Any) -> Array:
    """An input's array: integers as they are, for the kernels to cast, floats in the model's dtype."""
    array = plain_array(value, f"input {port.name!r} of model {owner!r}")
    rank = len(port.shape)
    if array.ndim == rank - 1 and port.shape[-1] == 1:
        array = array[..., np.newaxis]
    elif array.ndim == rank + 1 and array.shape[-1] == 1:
        array = array[..., 0]
    fits = array.ndim == rank and all(
        m is None or m == d for m, d in zip(port.shape[1:], array.shape[1:], strict=True)
    )
    if not fits:
        raise DataError(
            f"input {port.name!r} of model {owner!r} has shape {port.shape}; received {array.shape}"
        )
    return feedable(array, port.dtype)


def feedable(array: Array, wanted: DType) -> Array:
    """An array that an entry can take: C-contiguous, its floats in the wanted dtype."""
    if array.dtype.kind == "f" or array.dtype == DType.bfloat16.numpy:
        dtype = wanted.numpy if wanted.is_float else np.dtype(np.float32)
    else:
        dtype = np.dtype(array.dtype.type)  # in this machine's byte order
    return np.ascontiguousarray(array, dtype=dtype)


def input_feeds(ports: Ports, x: Any) -> Feeds:
    items = listed(ports.owner, "input", ports.input_keys, x)
    return {
        port.name: input_array(ports.owner, port, item)
        for port, item in zip(ports.inputs, items, strict=True)
    }


def output_feeds(ports: Ports, what: str, value: Any, name: Callable[[str], str]) -> Feeds:
    """Targets or weights by the names of the entries' inputs; a None in the structure is left out."""
    keys = ports.output_keys
    if isinstance(value, Mapping) and not set(value) - set(keys):
        value = {key: value.get(key) for key in keys}
    elif ports.scored is not None and not isinstance(value, (list, tuple, Mapping)):
        value = [value if k == ports.scored else None for k in range(len(keys))]
    elif what == "sample_weight" and not isinstance(value, (list, tuple, dict)):
        value = [value] * len(keys) if len(keys) > 1 else value
    items = listed(ports.owner, f"{what} for output", keys, value)
    return {
        name(port.name): feedable(plain_array(item, name(port.name)), port.dtype)
        for port, item in zip(ports.outputs, items, strict=True)
        if item is not None
    }


def feeds_of(
    ports: Ports, x: Any, y: Any = None, sample_weight: Any = None, class_weight: Any = None
) -> Feeds:
    """All arrays of a batch or a data set. DataError names what doesn't fit."""
    feeds = input_feeds(ports, x if ports.prepare is None else ports.prepare(x))
    if y is not None:
        feeds |= output_feeds(ports, "target", y, target_name)
    if sample_weight is not None:
        weights = output_feeds(ports, "sample_weight", sample_weight, weight_name)
        feeds |= {n: np.asarray(w, float_of(ports, n)) for n, w in weights.items()}
    if class_weight is not None:
        feeds |= class_weights(ports, feeds, class_weight)
    rows = {name: len(array) if array.ndim else 0 for name, array in feeds.items()}
    if len(set(rows.values())) > 1:
        shown = ", ".join(f"{n}: {c}" for n, c in rows.items())
        raise DataError(
            f"the arrays for model {ports.owner!r} must have the same number of rows; received {shown}"
        )
    return feeds


def check_labels(target: str, labels: Any, classes: int, ignored: int | None) -> None:
    """DataError for a label that is no class: the step would read another's score, or a fraction cut off."""
    if labels.dtype.kind == "f":
        uneven = labels[labels != np.trunc(labels)]
        if uneven.size:
            raise DataError(f"{target}: expected whole numbers, of classes; received {uneven[0]}")
    if labels.size == 0 or (labels.min() >= 0 and labels.max() < classes):
        return
    wrong = labels[(labels < 0) | (labels >= classes)]
    if ignored is not None:
        wrong = wrong[wrong != ignored]
    if wrong.size:
        hint = ": one output for two classes needs binary_crossentropy" if classes == 1 else ""
        raise DataError(
            f"{target}: expected labels from 0 to {classes - 1}, for {classes} classes; received {wrong[0]}{hint}"
        )


def float_of(ports: Ports, name: str) -> Any:
    """The dtype of an output's weights."""
    port = next(p for p in ports.outputs if weight_name(p.name) == name)
    return port.dtype.numpy


def class_weights(ports: Ports, feeds: Feeds, class_weight: Mapping[int, float]) -> Feeds:
    """Weights per sample from those of its class; classes that aren't named weigh 1."""
    if len(ports.outputs) != 1:
        raise UsageError("class_weight is only for models with a single output")
    (port,) = ports.outputs
    if weight_name(port.name) in feeds:
        raise UsageError("class_weight and sample_weight can't be given at the same time")
    if target_name(port.name) not in feeds:
        raise UsageError("class_weight needs targets y")
    labels: Any = feeds[target_name(port.name)]
    return {weight_name(port.name): weights_of_classes(labels, class_weight, port.dtype.numpy)}


def weights_of_classes(labels: Array, class_weight: Mapping[int, float], dtype: Any) -> Array:
    """A weight for each label: a number, in a last axis of one, or the largest of one number for each class."""
    if not isinstance(class_weight, Mapping):
        raise UsageError(
            f"class_weight: expected a dict from classes to weights; received {class_weight!r}"
        )
    numbers: Any = labels
    if numbers.ndim > 1:
        numbers = numbers[..., 0] if numbers.shape[-1] == 1 else np.argmax(numbers, -1)
    classes, inverse = np.unique(np.round(numbers).astype(np.int64), return_inverse=True)
    table = np.array([class_weight.get(int(c), 1.0) for c in classes], dtype)
    return np.asarray(table[inverse].reshape(numbers.shape))


def unpacked(batch: Any) -> tuple[Any, Any, Any]:
    """(x, y, sample_weight) of what a generator yields: a tuple of one to three, or x alone."""
    if isinstance(batch, (tuple, list)) and (isinstance(batch, tuple) or len(batch) in (2, 3)):
        if not 1 <= len(batch) <= 3:
            raise DataError(
                f"expected batches (x, y) or (x, y, sample_weight); received a tuple of {len(batch)}"
            )
        x, y, weights = (*batch, None, None)[:3]
        return x, y, weights
    return batch, None, None


# ---------------------------------------------------------------- sources


class ArraySource:
    """Rows of arrays in batches. Epoch `n` is shuffled by a generator seeded with (key, n)."""

    def __init__(
        self, feeds: Feeds, batch_size: int, shuffle: bool | str, key: int, steps: int | None = None
    ) -> None:
        self.feeds, self.batch_size, self.shuffle, self.key = feeds, batch_size, shuffle, key
        self.rows = len(next(iter(feeds.values())))
        whole = math.ceil(self.rows / batch_size)
        self.steps: int | None = whole if steps is None else steps
        self.whole = whole

    def epoch(self, number: int, start: int = 0) -> Iterator[Feeds]:
        assert self.steps is not None
        # As in Keras 3, an epoch goes on where the last one ended, and ends with the data; the next one begins anew.
        pass_, part = divmod(number, math.ceil(self.whole / self.steps))
        first = part * self.steps
        last = min(first + self.steps, self.whole)
        order = self.order(pass_)
        for position in range(first + start, last):
            yield self.batch(order, position * self.batch_size)
        if last - first < self.steps:
            warnings.warn(
                f"the data ended after {last - first} of {self.steps} steps: the next epoch begins with them anew",
                stacklevel=2,
            )

    def order(self, number: int) -> Array | None:
        """The rows in their order, None for the order that they have."""
        if not self.shuffle:
            return None
        random = np.random.default_rng([self.key, number])
        if self.shuffle == "batch":
            starts = random.permutation(self.whole) * self.batch_size
            rows = starts[:, np.newaxis] + np.arange(self.batch_size)
            return np.asarray(rows[rows < self.rows])
        return random.permutation(self.rows)

    def batch(self, order: Array | None, low: int) -> Feeds:
        high = min(low + self.batch_size, self.rows)
        if order is None:
            return {name: array[low:high] for name, array in self.feeds.items()}
        chosen: Any = order[low:high]
        return {name: array.take(chosen, 0) for name, array in self.feeds.items()}


class SequenceSource:
    """Batches by number, of an object with `__len__` and `__getitem__` such as `keras.utils.PyDataset`."""

    def __init__(
        self,
        sequence: Any,
        convert: Callable[..., Feeds],
        shuffle: bool,
        key: int,
        steps: int | None,
    ) -> None:
        self.sequence, self.convert, self.shuffle, self.key = sequence, convert, shuffle, key
        self.fixed = steps
        self.steps: int | None = steps or count_of(sequence)
        # Batches that depend on the epoch's number and their own alone are made ahead; others by workers, if several.
        self.reads_ahead = bool(getattr(sequence, "reads_ahead", False))
        self.first_epoch = int(sequence.epoch) if self.reads_ahead else 0
        workers = int(getattr(sequence, "workers", 1) or 0)
        self.workers = workers if self.reads_ahead or workers > 1 else 0

    def epoch(self, number: int, start: int = 0) -> Iterator[Feeds]:
        call_if_any(self.sequence, "on_epoch_begin")
        if self.fixed is None:
            self.steps = count_of(self.sequence)
        if self.steps is None:
            raise UsageError("a data set without an end needs steps_per_epoch")
        first = number * self.steps
        steps = range(first + start, first + self.steps)
        for batch in ordered_map(self.batch, self.places(steps), self.workers, self.workers + 2):
            yield self.convert(*unpacked(batch))
        call_if_any(self.sequence, "on_epoch_end")

    def places(self, steps: range) -> Iterator[tuple[int, int]]:
        """For each step the pass over the data and the number of the batch."""
        done = -1
        order: Any = ()
        for step in steps:
            round_, position = divmod(step, count_of(self.sequence) or self.steps or 1)
            if round_ != done:
                order, done = self.order(round_), round_
            yield round_, int(order[position])

    def batch(self, place: tuple[int, int]) -> Any:
        if self.reads_ahead:
            return self.sequence.batch(self.first_epoch + place[0], place[1])
        return self.sequence[place[1]]

    def order(self, number: int) -> Sequence[int] | Array:
        count = count_of(self.sequence) or self.steps or 0
        if not self.shuffle:
            return range(count)
        return np.random.default_rng([self.key, number]).permutation(count)


class IterableSource:
    """What can be iterated over: a generator, which goes on from epoch to epoch, or a data set, from its start.

    Without `steps` an epoch ends where the data end. DataError where they have no batch at all; an epoch after the
    first one that finds none is empty, with a warning.
    """

    def __init__(
        self, iterable: Iterable[Any], convert: Callable[..., Feeds], steps: int | None
    ) -> None:
        self.iterable, self.convert, self.steps = iterable, convert, steps
        self.fixed = steps
        self._running: Iterator[Any] | None = None
        self._had_any = False

    def epoch(self, number: int, start: int = 0) -> Iterator[Feeds]:
        if self._running is None:
            self._running = iter(self.iterable)
        for step in range(self.fixed) if self.fixed else itertools.count():
            try:
                batch = next(self._running)
            except StopIteration:
                self._running = None
                if not self._had_any:
                    raise DataError("expected batches; the data had none") from None
                if self.fixed or step == 0:
                    self.warn(step, number)
                return
            self._had_any = True
            if step >= start:
                yield self.convert(*unpacked(batch))

    def warn(self, step: int, number: int) -> None:
        where = f"before epoch {number + 1}" if number else "in an earlier pass over them"
        if self.fixed:
            where = f"after {step} of {self.fixed} steps"
        warnings.warn(
            f"the data ended {where}: they must have steps_per_epoch * epochs batches "
            f"(a data set's .repeat() may help)",
            stacklevel=2,
        )


def count_of(sequence: Any) -> int | None:
    """The batches of a sequence; None where there is no end."""
    try:
        found = getattr(sequence, "num_batches", NotImplemented)
    except NotImplementedError:
        return None
    return len(sequence) if found is NotImplemented else found


def is_number(value: object) -> bool:
    return isinstance(value, (int, np.integer))


def call_if_any(item: Any, method: str) -> None:
    found = getattr(item, method, None)
    if callable(found):
        found()


def is_array_like(x: Any) -> bool:
    """Arrays, tensors, and lists and dicts of them, rather than something that yields batches."""
    if isinstance(x, Mapping):
        return True
    if isinstance(x, (list, tuple)):
        return True
    return hasattr(x, "__array__") or isinstance(x, (int, float))


def source(
    ports: Ports,
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    batch_size: int | None = None,
    steps: int | None = None,
    shuffle: bool | str = False,
    class_weight: Mapping[int, float] | None = None,
    key: int = 0,
    feeds: Callable[..., Feeds] | None = None,
) -> Source:
    """The source of batches for what a user passes as x and y. UsageError where arguments exclude one another.

    `feeds` takes `feeds_of`'s place for models that know their data otherwise.
    """
    to_feeds = feeds or feeds_of
    if steps is not None and (type(steps) is bool or not is_number(steps) or steps < 1):
        raise UsageError(f"steps (steps_per_epoch): expected a number from 1; received {steps!r}")
    if isinstance(shuffle, str) and shuffle != "batch":
        raise UsageError(f"shuffle: expected True, False or 'batch'; received {shuffle!r}")
    if is_array_like(x):
        arrays = to_feeds(ports, x, y, sample_weight, class_weight)
        rows = len(next(iter(arrays.values())))
        if batch_size is None:
            batch_size = math.ceil(rows / steps) if steps else DEFAULT_BATCH
        if type(batch_size) is bool or not is_number(batch_size) or batch_size < 1:
            raise UsageError(f"batch_size: expected a number from 1; received {batch_size!r}")
        if rows == 0:
            raise DataError(f"the arrays for model {ports.owner!r} have no rows")
        return ArraySource(arrays, int(batch_size), shuffle, key, steps)
    for name, value in (("y", y), ("sample_weight", sample_weight)):
        if value is not None:
            raise UsageError(
                f"{name} must come with the batches where x is a {type(x).__name__}: (x, y) or (x, y, sample_weight)"
            )

    def convert(bx: Any, by: Any = None, bw: Any = None) -> Feeds:
        return to_feeds(ports, bx, by, bw, class_weight)

    if hasattr(x, "__getitem__") and (hasattr(x, "__len__") or hasattr(x, "num_batches")):
        return SequenceSource(x, convert, bool(shuffle), key, steps)
    if hasattr(x, "__iter__"):
        length = getattr(x, "__len__", None)
        known = IterableSource(x, convert, steps)
        if steps is None and callable(length):
            try:
                known.steps = int(length())
            except (TypeError, ValueError):
                known.steps = None
        return known
    raise UsageError(
        f"expected arrays, a data set or a generator of batches; received {type(x).__name__}"
    )


def split(
    feeds: tuple[Any, Any, Any], fraction: Any
) -> tuple[tuple[Any, Any, Any], tuple[Any, Any, Any]]:
    """The first rows for training and the last `fraction` of them for validation."""
    if not isinstance(fraction, (int, float, np.floating)) or not 0 < fraction < 1:
        raise UsageError(
            f"validation_split: expected a number between 0 and 1; received {fraction!r}"
        )
    arrays = all(is_array_like(part) for part in feeds if part is not None)
    rows = {len(a) for part in feeds for a in leaves(part)} if arrays else set()
    if len(rows) != 1:
        raise UsageError(
            "validation_split needs arrays of equal length; give validation_data instead"
        )
    (count,) = rows
    at = math.floor(count * (1.0 - fraction))
    if at in (0, count):
        raise UsageError(
            f"validation_split={fraction} leaves nothing of {count} rows for {'training' if at == 0 else 'validation'}"
        )
    return rows_of(feeds, slice(at)), rows_of(feeds, slice(at, None))


def rows_of(feeds: tuple[Any, Any, Any], rows: slice) -> tuple[Any, Any, Any]:
    x, y, weights = feeds
    return sliced(x, rows), sliced(y, rows), sliced(weights, rows)


def leaves(structure: Any) -> Iterator[Any]:
    match structure:
        case None:
            return
        case dict():
            for item in structure.values():
                yield from leaves(item)
        case list() | tuple() if structure and any(np.ndim(i) > 0 or i is None for i in structure):
            for item in structure:
                yield from leaves(item)
        case _:
            yield np.asarray(structure)


def sliced(structure: Any, rows: slice) -> Any:
    match structure:
        case None:
            return None
        case dict():
            return {k: sliced(v, rows) for k, v in structure.items()}
        case list() | tuple() if structure and any(hasattr(i, "shape") for i in structure):
            return [sliced(v, rows) for v in structure]
        case _:
            return np.asarray(structure)[rows]
