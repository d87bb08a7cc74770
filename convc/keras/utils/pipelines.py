"""`tf.data.Dataset`: pipelines of elements, one after the other, in Python.

What elements are, and how functions get them, is in elements.py.
"""

from __future__ import annotations

import glob
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from convc.errors import DataError
from convc.keras.engine.arguments import positive
from convc.keras.engine.tensor import as_tensor
from convc.keras.utils.elements import (
    Array,
    TensorSpec,
    as_array,
    as_given,
    called,
    combined,
    leaves,
    mapped,
    of_types,
    padded,
    rows,
    shapes_of,
    stacked,
    told,
)
from convc.types import DType

Elements = Callable[[], Iterator[Any]]
UNKNOWN, INFINITE = -2, -1
"""What `cardinality` says besides numbers."""
AUTOTUNE = -1


class Dataset:
    """Elements that `make` begins anew for each pass; `count` of them, if that is known."""

    def __init__(self, make: Elements, count: int = UNKNOWN) -> None:
        self._make, self._count = make, count

    # ------------------------------------------------------------ sources

    @staticmethod
    def from_tensor_slices(tensors: Any, name: Any = None) -> Dataset:
        """The rows of arrays in a structure."""
        held = mapped(as_array, tensors)
        sizes = {len(a) for a in leaves(held)}
        if len(sizes) != 1:
            raise DataError(
                f"from_tensor_slices: expected arrays of one length; received lengths {sorted(sizes)}"
            )
        (count,) = sizes

        return Dataset(lambda: rows(held, count), count)

    @staticmethod
    def from_tensors(tensors: Any, name: Any = None) -> Dataset:
        """One element: the structure itself."""
        held = mapped(as_array, tensors)
        return Dataset(lambda: iter([held]), 1)

    @staticmethod
    def from_generator(
        generator: Callable[..., Iterable[Any]],
        output_types: Any = None,
        output_shapes: Any = None,
        args: Any = (),
        output_signature: Any = None,
        name: Any = None,
    ) -> Dataset:
        """What a function's iterators yield, in the element types that are given."""
        dtypes = None if output_types is None else list(leaves(output_types))
        if output_signature is not None:
            dtypes = [spec.dtype for spec in leaves(output_signature)]

        def make() -> Iterator[Any]:
            for item in generator(*args):
                found = mapped(
                    as_array, item if isinstance(item, (tuple, dict)) else as_array(item)
                )
                yield found if dtypes is None else of_types(found, iter(dtypes))

        return Dataset(make)

    @staticmethod
    def range(*bounds: int, output_type: Any = "int64", name: Any = None) -> Dataset:
        """The numbers of Python's range."""
        numbers = np.arange(*(int(b) for b in bounds)).astype(DType.of(output_type).numpy)
        return Dataset.from_tensor_slices(numbers)

    @staticmethod
    def zip(*datasets: Any, name: Any = None) -> Dataset:
        """Tuples (or a dict) of the elements of several data sets, as many as the shortest has."""
        given = datasets[0] if len(datasets) == 1 else datasets
        if isinstance(given, Mapping):
            keys = list(given)
            return Dataset.zip(tuple(given.values())).map_arrays(
                lambda *parts: dict(zip(keys, parts, strict=True))
            )
        parts = [_dataset(p) for p in given]
        counts = [p._count for p in parts if p._count != INFINITE]
        known = UNKNOWN if UNKNOWN in counts else min(counts, default=INFINITE)
        return Dataset(lambda: zip(*(p._make() for p in parts), strict=False), known)

    @staticmethod
    def list_files(
        file_pattern: Any, shuffle: bool = True, seed: int | None = None, name: Any = None
    ) -> Dataset:
        """The paths that match patterns, as strings."""
        patterns = [file_pattern] if isinstance(file_pattern, str) else list(file_pattern)
        paths = sorted({p for pattern in patterns for p in glob.glob(str(pattern))})
        if not paths:
            raise DataError(f"list_files: no files match {file_pattern!r}")
        found = Dataset.from_tensor_slices(np.array(paths, object))
        return found.shuffle(len(paths), seed) if shuffle else found

    # ------------------------------------------------------------ changes

    def map(self, map_func: Callable[..., Any], *others: Any, **settings: Any) -> Dataset:
        """What a function of an element's parts (of the parts of a tuple) gives."""
        del others, settings  # how many calls run at once, and names
        return Dataset(lambda: (called(map_func, e) for e in self._make()), self._count)

    def map_arrays(self, function: Callable[..., Any]) -> Dataset:
        """`map` with a function of arrays."""
        return Dataset(lambda: itertools.starmap(function, self._make()), self._count)

    def filter(self, predicate: Callable[..., Any], name: Any = None) -> Dataset:
        """The elements for which a function gives True."""

        def make() -> Iterator[Any]:
            return (e for e in self._make() if bool(np.all(called(predicate, e))))

        return Dataset(make)

    def batch(
        self, batch_size: Any, drop_remainder: bool = False, *others: Any, **settings: Any
    ) -> Dataset:
        """Elements stacked along a new first axis, `batch_size` at a time."""
        return self._grouped(batch_size, drop_remainder, stacked)

    def padded_batch(
        self,
        batch_size: Any,
        padded_shapes: Any = None,
        padding_values: Any = None,
        drop_remainder: bool = False,
        name: Any = None,
    ) -> Dataset:
        """`batch` of arrays of several sizes: those at the end are filled up with zeros (or the values given)."""
        values = list(leaves(padding_values)) if padding_values is not None else [None]

        def filled(elements: list[Any]) -> Any:
            fills = itertools.cycle(values)
            shapes = iter(shapes_of(padded_shapes))

            def together(*arrays: Array) -> Array:
                return padded(list(arrays), next(shapes, None), next(fills))

            return combined(together, elements)

        return self._grouped(batch_size, drop_remainder, filled)

    def _grouped(
        self, batch_size: Any, drop_remainder: bool, put: Callable[[list[Any]], Any]
    ) -> Dataset:
        size = positive("Dataset.batch", "batch_size", int(batch_size))

        def make() -> Iterator[Any]:
            running = self._make()
            while found := list(itertools.islice(running, size)):
                if len(found) == size or not drop_remainder:
                    yield put(found)

        count = self._count
        if count >= 0:
            count = count // size if drop_remainder else -(-count // size)
        return Dataset(make, count)

    def unbatch(self, name: Any = None) -> Dataset:
        """The rows of the elements."""

        def make() -> Iterator[Any]:
            for element in self._make():
                yield from rows(element, len(next(leaves(element))))

        return Dataset(make)

    def rebatch(self, batch_size: Any, drop_remainder: bool = False, name: Any = None) -> Dataset:
        """The rows of the elements in batches of another size."""
        return self.unbatch().batch(batch_size, drop_remainder)

    def shuffle(
        self,
        buffer_size: Any,
        seed: int | None = None,
        reshuffle_each_iteration: bool | None = True,
        name: Any = None,
    ) -> Dataset:
        """Elements in another order in each pass: each drawn from the next `buffer_size` of them."""
        size = positive("Dataset.shuffle", "buffer_size", int(buffer_size))
        key = int(np.random.randint(1 << 31)) if seed is None else int(seed)
        passes = itertools.count()

        def make() -> Iterator[Any]:
            number = next(passes) if reshuffle_each_iteration is not False else 0
            random = np.random.default_rng([key, number])
            running = self._make()
            buffer = list(itertools.islice(running, size))
            for element in running:
                k = int(random.integers(len(buffer)))
                yield buffer[k]
                buffer[k] = element
            for k in random.permutation(len(buffer)):
                yield buffer[k]

        return Dataset(make, self._count)

    def repeat(self, count: int | None = None, name: Any = None) -> Dataset:
        """The elements again and again, `count` times or without end."""
        times = None if count is None or count < 0 else int(count)

        def make() -> Iterator[Any]:
            for _ in itertools.count() if times is None else range(times):
                found = False
                for element in self._make():
                    found = True
                    yield element
                if not found:
                    return

        known = self._count
        if known != UNKNOWN:
            known = INFINITE if times is None or known == INFINITE else known * times
        return Dataset(make, known)

    def take(self, count: int, name: Any = None) -> Dataset:
        """The first elements; all for -1."""
        if count < 0:
            return self
        known = count if self._count == INFINITE else min(self._count, count)
        return Dataset(lambda: itertools.islice(self._make(), int(count)), known)

    def skip(self, count: int, name: Any = None) -> Dataset:
        """All but the first elements."""
        known = self._count if self._count < 0 else max(0, self._count - count)
        return Dataset(lambda: itertools.islice(self._make(), int(count), None), known)

    def shard(self, num_shards: int, index: int, name: Any = None) -> Dataset:
        """Every `num_shards`-th element, from `index` on."""
        known = self._count if self._count < 0 else len(range(index, self._count, num_shards))
        return Dataset(lambda: itertools.islice(self._make(), index, None, num_shards), known)

    def concatenate(self, dataset: Dataset, name: Any = None) -> Dataset:
        """The elements of this data set, then those of another."""
        counts = (self._count, dataset._count)
        known = sum(counts) if min(counts) >= 0 else INFINITE if INFINITE in counts else UNKNOWN
        return Dataset(lambda: itertools.chain(self._make(), dataset._make()), known)

    def enumerate(self, start: int = 0, name: Any = None) -> Dataset:
        """Pairs of numbers and elements."""

        def make() -> Iterator[Any]:
            for number, element in enumerate(self._make(), start):
                yield np.asarray(number, np.int64), element

        return Dataset(make, self._count)

    def window(
        self,
        size: int,
        shift: int | None = None,
        stride: int = 1,
        drop_remainder: bool = False,
        name: Any = None,
    ) -> Dataset:
        """Data sets of `size` elements each, which begin `shift` (`size`) elements apart."""
        step, length = shift or size, (size - 1) * stride + 1

        def make() -> Iterator[Any]:
            running = self._make()
            held: list[Any] = []
            ended = False
            while True:
                while len(held) < length and not ended:
                    more = list(itertools.islice(running, length - len(held)))
                    held += more
                    ended = len(held) < length
                if not held or (drop_remainder and len(held) < length):
                    return
                inside = held[:length:stride]
                yield Dataset(partial(iter, inside), len(inside))
                gone = step - len(held)
                held = held[step:]
                if gone > 0:
                    for _ in itertools.islice(running, gone):
                        pass

        return Dataset(lambda: (_together(w) for w in make()))

    def flat_map(self, map_func: Callable[..., Dataset], name: Any = None) -> Dataset:
        """The elements of the data sets that a function of each element gives."""

        def make() -> Iterator[Any]:
            for element in self._make():
                yield from told(map_func, element)._make()

        return Dataset(make)

    def interleave(
        self,
        map_func: Callable[..., Dataset],
        cycle_length: int | None = None,
        block_length: int | None = None,
        *others: Any,
        **settings: Any,
    ) -> Dataset:
        """As `flat_map`, but of `cycle_length` data sets by turns, `block_length` (1) elements of each.

        One that has ended gives way to the next in its turn. Without a `cycle_length` (or AUTOTUNE, for which
        TensorFlow's order depends on the machine) one data set comes after the other.
        """
        del others, settings  # how many calls run at once, and names
        length = 1 if cycle_length in (None, AUTOTUNE) else cycle_length
        places = positive("Dataset.interleave", "cycle_length", length)
        block = positive("Dataset.interleave", "block_length", block_length or 1)

        def make() -> Iterator[Any]:
            waiting = (told(map_func, element)._make() for element in self._make())
            turns: list[Iterator[Any] | None] = [None] * places
            for place in itertools.cycle(range(places)):
                running = turns[place] or next(waiting, None)
                taken = [] if running is None else list(itertools.islice(running, block))
                turns[place] = running if len(taken) == block else None
                yield from taken
                if running is None and not any(turns):
                    return

        return Dataset(make)

    def cache(self, filename: Any = "", name: Any = None) -> Dataset:
        """The elements, kept in memory from the first whole pass on."""
        kept: list[Any] = []
        whole_pass: list[bool] = []

        def make() -> Iterator[Any]:
            if whole_pass:
                yield from kept
                return
            found = []
            for element in self._make():
                found.append(element)
                yield element
            if not whole_pass:
                kept.extend(found)
                whole_pass.append(True)

        return Dataset(make, self._count)

    def prefetch(self, buffer_size: Any = None, name: Any = None) -> Dataset:
        """The data set itself."""
        return self

    def with_options(self, options: Any, name: Any = None) -> Dataset:
        """The data set itself."""
        return self

    def apply(self, transformation_func: Callable[[Dataset], Dataset]) -> Dataset:
        """What a function makes of the data set."""
        return transformation_func(self)

    def reduce(self, initial_state: Any, reduce_func: Callable[..., Any], name: Any = None) -> Any:
        """The last state of `state = reduce_func(state, element)`."""
        state = initial_state
        for element in self:
            state = reduce_func(state, element)
        return state

    # ------------------------------------------------------------ what it holds

    def __iter__(self) -> Iterator[Any]:
        return (mapped(as_given, element) for element in self._make())

    def as_numpy_iterator(self) -> Iterator[Any]:
        """The elements as arrays."""
        return (mapped(lambda a: a if a.ndim else a[()], e) for e in self._make())

    def get_single_element(self, name: Any = None) -> Any:
        """The only element."""
        (found,) = self
        return found

    def cardinality(self, name: Any = None) -> Any:
        """The number of elements; -1 without an end, -2 if it isn't known."""
        return as_tensor(np.int64(self._count))

    def __len__(self) -> int:
        if self._count < 0:
            what = "has no end" if self._count == INFINITE else "has a length that isn't known"
            raise TypeError(f"the data set {what}")
        return self._count

    def __bool__(self) -> bool:
        return True

    @property
    def element_spec(self) -> Any:
        """The first element's structure with TensorSpec in place of arrays."""
        first = next(self._make(), None)
        return None if first is None else mapped(lambda a: TensorSpec(a.shape, a.dtype), first)

    def __repr__(self) -> str:
        count = {UNKNOWN: "unknown", INFINITE: "infinite"}.get(self._count, self._count)
        return f"<Dataset element_spec={self.element_spec}, cardinality={count}>"


class Pipelined:
    """What data sets by number have of `tf.data.Dataset`: pipelines of their batches."""

    def pipeline(self) -> Dataset:
        """The batches as elements."""

        def make() -> Iterator[Any]:
            return (mapped(as_array, batch) for batch in self)  # type: ignore[attr-defined]

        try:
            count = len(self)  # type: ignore[arg-type]
        except (TypeError, NotImplementedError):
            count = UNKNOWN
        return Dataset(make, count)

    def _shuffled(self, buffer_size: Any, *others: Any, **settings: Any) -> Dataset:
        """The batches in another order in each pass."""
        return self.pipeline().shuffle(buffer_size, *others, **settings)

    shuffle: Any = _shuffled
    """A method; data sets of the user's may call something else so."""

    def unbatch(self) -> Dataset:
        """The rows of the batches."""
        return self.pipeline().unbatch()

    def rebatch(self, batch_size: Any, drop_remainder: bool = False) -> Dataset:
        """The rows in batches of another size."""
        return self.pipeline().rebatch(batch_size, drop_remainder)

    def repeat(self, count: int | None = None) -> Dataset:
        """The batches again and again."""
        return self.pipeline().repeat(count)

    def filter(self, predicate: Callable[..., Any]) -> Dataset:
        """The batches for which a function gives True."""
        return self.pipeline().filter(predicate)

    def concatenate(self, dataset: Any) -> Dataset:
        """These batches, then those of another data set."""
        other = dataset if isinstance(dataset, Dataset) else dataset.pipeline()
        return self.pipeline().concatenate(other)

    def enumerate(self, start: int = 0) -> Dataset:
        """Pairs of numbers and batches."""
        return self.pipeline().enumerate(start)

    def shard(self, num_shards: int, index: int) -> Dataset:
        """Every `num_shards`-th batch."""
        return self.pipeline().shard(num_shards, index)

    def as_numpy_iterator(self) -> Iterator[Any]:
        """The batches as arrays."""
        return self.pipeline().as_numpy_iterator()

    def cardinality(self) -> Any:
        """The number of batches."""
        return self.pipeline().cardinality()

    @property
    def element_spec(self) -> Any:
        """The first batch's structure with TensorSpec in place of arrays."""
        return self.pipeline().element_spec


def _dataset(value: Any) -> Dataset:
    if isinstance(value, (tuple, list, Mapping)):
        return Dataset.zip(value)
    return value.pipeline() if isinstance(value, Pipelined) else value


def _together(window: Dataset) -> Any:
    """A window of single values is a data set; one of tuples a tuple of data sets, as in TensorFlow."""
    first = next(window._make(), None)
    if not isinstance(first, tuple):
        return window
    return tuple(Dataset(partial(_part, window, k), window._count) for k in range(len(first)))


def _part(window: Dataset, k: int) -> Iterator[Any]:
    return (element[k] for element in window._make())
