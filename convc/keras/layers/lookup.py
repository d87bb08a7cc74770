"""Words and numbers as their places in a vocabulary: layers that prepare data with numpy, before a model sees it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from convc.errors import DataError, InputFileError, ModelError, UnsupportedError
from convc.keras import backend
from convc.keras.engine.arguments import choice, positive, refuse, title, whole
from convc.keras.engine.call import record
from convc.keras.engine.hosted import Text, hosted
from convc.keras.engine.layer import Layer
from convc.keras.engine.open_sizes import Open
from convc.keras.engine.tensor import Array, KerasTensor
from convc.keras.layers.fingerprints import fingerprint
from convc.keras.utils.elements import Values
from convc.types import DType, TensorType

MODES = ("int", "one_hot", "multi_hot", "count", "tf_idf")


class HostLayer(Layer):
    """Base of layers that compute in Python, on arrays or lists: compiled models begin with what they make."""

    def compute(self, x: Array) -> Array:
        """What the layer gives for an array."""
        raise NotImplementedError

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(inputs, KerasTensor) and inputs.step.symbolic:
            return self._symbolic(inputs)
        given = inputs.numpy() if isinstance(inputs, KerasTensor) else inputs
        made: Array = self.compute(np.asarray(given))
        return made.view(type(given) if isinstance(given, Values) else Values)

    def _symbolic(self, inputs: KerasTensor) -> Any:
        """What the graph takes in place of the input: the layer's numbers, which it makes of data in Python."""
        made = hosted(self, self.made_of(inputs), inputs)
        self.built = True
        return record(self, (inputs,), {}, made)

    def made_of(self, inputs: KerasTensor) -> TensorType:
        """The type of what the layer makes of a batch."""
        text = isinstance(inputs.step.source, Text)
        sizes = [1 if e is None else e for e in inputs.shape[1:]]
        sample = self.compute(self.sample(sizes, text))
        if sample.dtype.kind in "US":
            raise UnsupportedError(f"{title(self)}: gives strings, which no model computes with")
        shape = [
            n if e is not None else Open()
            for n, e in zip(sample.shape[1:], inputs.shape[1:], strict=False)
        ]
        shape += sample.shape[1 + len(shape) :]
        return TensorType(DType.of(sample.dtype), (inputs.type.shape[0], *shape))

    def sample(self, sizes: list[int], text: bool) -> Array:
        """One row of data of these sizes."""
        return np.zeros((1, *sizes), "U1" if text else np.int64)

    def call(self, inputs: Any) -> Any:
        return self(inputs)


def encoded(ids: Array, mode: str, depth: int, weights: Array | None = None) -> Array:
    """Numbers as rows: a one for each (`one_hot`), or for each row which ones occur, how often, or weighted."""
    dtype = np.dtype(backend.floatx() if mode == "tf_idf" else np.int64)
    if mode == "one_hot":
        ids = ids[..., 0] if ids.ndim > 1 and ids.shape[-1] == 1 else ids
        return np.asarray(ids[..., None] == np.arange(depth), dtype)
    rows = ids.reshape(-1, ids.shape[-1]) if ids.ndim else ids.reshape(1, 1)
    counts = np.zeros((len(rows), depth), dtype)
    known = np.greater_equal(rows, 0) & np.less(rows, depth)
    places: Any = rows[known]
    np.add.at(counts, (np.nonzero(known)[0], places), 1)
    if mode == "multi_hot":
        counts = (counts > 0).astype(dtype)
    elif mode == "tf_idf":
        counts = counts * np.asarray(weights, dtype)
    return counts.reshape(*ids.shape[:-1], depth)


def batches_of(data: Any, steps: int | None = None) -> Iterator[Array]:
    """The arrays that `adapt` is given: one, or the inputs of a data set's batches."""
    if isinstance(data, (list, tuple, np.ndarray, str)):
        yield np.asarray(data)
        return
    for k, batch in enumerate(data):
        if steps is not None and k >= steps:
            return
        yield np.asarray(batch[0] if isinstance(batch, tuple) else batch)


class IndexLookup(HostLayer):
    """Base: an item's number is its place in the vocabulary, which begins with the mask token and unknown ones."""

    kind: ClassVar[str]
    settings: ClassVar[tuple[str, ...]] = (
        "max_tokens", "num_oov_indices", "mask_token", "oov_token", "invert", "output_mode", "pad_to_max_tokens",
    )  # fmt: skip

    def _set(self, arguments: dict[str, Any]) -> None:
        for name in self.settings:
            setattr(self, name, arguments[name])
        if self.max_tokens is not None:
            positive(self, "max_tokens", self.max_tokens)
        whole(self, "num_oov_indices", self.num_oov_indices)
        if self.invert and self.num_oov_indices > 1:
            refuse(self, "num_oov_indices", "0 or 1 with invert=True", self.num_oov_indices)
        choice(self, "output_mode", self.output_mode, MODES)
        choice(self, "oov_method", arguments["oov_method"], ("floormod", "farmhash"))
        self.oov_method = arguments["oov_method"]
        for name, usual in (("sparse", False), ("salt", None)):
            if arguments[name] not in (None, usual):
                refuse(self, name, str(usual), arguments[name])
        self.learned: list[Any] = []
        self.idf: Array | None = None
        if arguments["vocabulary"] is not None:
            self.set_vocabulary(arguments["vocabulary"], arguments["idf_weights"])

    max_tokens: int | None
    num_oov_indices: int
    mask_token: Any
    oov_token: Any
    invert: bool
    output_mode: str
    pad_to_max_tokens: bool

    @property
    def specials(self) -> list[Any]:
        """What comes before the learned vocabulary."""
        masked = [self.mask_token] if self.mask_token is not None and self._numbers else []
        return [*masked, *[self.oov_token] * self.num_oov_indices]

    @property
    def _numbers(self) -> bool:
        return self.output_mode == "int" or self.invert

    def adapt(self, data: Any, batch_size: Any = None, steps: int | None = None) -> None:
        """Learns the vocabulary of data: the most frequent first, as many as `max_tokens` leaves room for."""
        counts: Counter[Any] = Counter()
        documents: Counter[Any] = Counter()
        total = 0
        for batch in batches_of(data, steps):
            for row in self.rows(batch):
                counts.update(row)
                documents.update(set(row))
                total += 1
        for special in (self.mask_token, self.oov_token):
            counts.pop(special, None)
        ordered = sorted(counts, key=lambda t: (counts[t], t), reverse=True)
        room = None if self.max_tokens is None else self.max_tokens - len(self.specials)
        self.learned = ordered[:room]
        if self.output_mode == "tf_idf":
            found = np.array([np.log(1 + total / (1 + documents[t])) for t in self.learned])
            self._set_idf(found)

    def _set_idf(self, weights: Any) -> None:
        found = np.asarray(weights, np.float64)
        self.idf = np.concatenate([np.full(len(self.specials), found.mean()), found])

    def rows(self, batch: Array) -> Iterable[list[Any]]:
        """The samples of a batch as lists of items."""
        rows = batch.reshape(len(batch), -1) if batch.ndim else batch.reshape(1, 1)
        return [[self.item(v) for v in row] for row in rows]

    def made_of(self, inputs: KerasTensor) -> TensorType:
        """Numbers in the inputs' shape, whatever the vocabulary is, or what it is made into."""
        if self.output_mode == "int" and not self.invert:
            return TensorType(DType.int64, inputs.type.shape)
        return super().made_of(inputs)

    def sample(self, sizes: list[int], text: bool) -> Array:
        """A row of something that is in the vocabulary."""
        if not self.learned:
            raise ModelError(f"{title(self)}: call adapt(data) or give a vocabulary first")
        return np.full((1, *sizes), 0 if self.invert else self.learned[0])

    def item(self, value: Any) -> Any:
        """A value of data as the vocabulary has it."""
        raise NotImplementedError

    def set_vocabulary(self, vocabulary: Any, idf_weights: Any = None) -> None:
        """The vocabulary in order: a list, or the path of a text file of a line each; special ones may lead it."""
        if isinstance(vocabulary, (str, Path)):
            if not Path(vocabulary).is_file():
                raise InputFileError(f"{title(self)}: no vocabulary file {vocabulary}")
            vocabulary = Path(vocabulary).read_text(encoding="utf-8").splitlines()
        items = [self.item(v) for v in vocabulary]
        count = len(self.specials)
        if items[:count] == self.specials:
            items = items[count:]
        if len(set(items)) < len(items):
            twice = next(t for t, n in Counter(items).items() if n > 1)
            raise ModelError(
                f"{title(self)}: vocabulary must have each item once; received {twice!r} twice"
            )
        self.learned = items
        if idf_weights is not None:
            weights = np.asarray(idf_weights, np.float64)
            self._set_idf(weights[len(weights) - len(items) :])
        elif self.output_mode == "tf_idf":
            raise ModelError(
                f"{title(self)}: output_mode 'tf_idf' needs idf_weights with a vocabulary"
            )

    def get_vocabulary(self, include_special_tokens: bool = True) -> list[Any]:
        return [*(self.specials if include_special_tokens else []), *self.learned]

    def vocabulary_size(self) -> int:
        return len(self.specials) + len(self.learned)

    def compute(self, x: Array) -> Array:
        if not self.learned:
            raise ModelError(f"{title(self)}: call adapt(data) or give a vocabulary first")
        vocabulary = self.get_vocabulary()
        if self.invert:
            return self._inverted(x, vocabulary)
        places = {token: k for k, token in enumerate(vocabulary)}
        first = vocabulary.index(self.oov_token) if self.num_oov_indices else None
        ids = np.empty(x.shape, np.int64)
        for position, value in np.ndenumerate(x):
            found = places.get(self.item(value))
            if found is None or (self.num_oov_indices and found == first):
                found = None if first is None else first + self.unknown(self.item(value))
            if found is None:
                raise DataError(
                    f"{title(self)}: {self.item(value)!r} isn't in the vocabulary, and num_oov_indices is 0"
                )
            ids[position] = found
        return self.encode(ids)

    def unknown(self, item: Any) -> int:
        """Which of the numbers for unknown items one has."""
        if self.num_oov_indices == 1:
            return 0
        if isinstance(item, str) or self.oov_method == "farmhash":
            return fingerprint(str(item).encode("utf-8")) % self.num_oov_indices
        return int(item) % self.num_oov_indices

    def encode(self, ids: Array) -> Array:
        """Numbers as `output_mode` says."""
        if self.output_mode == "int":
            return ids
        depth = self.vocabulary_size()
        if self.pad_to_max_tokens and self.max_tokens is not None:
            depth = self.max_tokens
        weights = self.idf
        if weights is not None:
            weights = np.concatenate([weights, np.zeros(depth - len(weights))])
        return encoded(ids, self.output_mode, depth, weights)

    def _inverted(self, ids: Array, vocabulary: Sequence[Any]) -> Array:
        inside = np.greater_equal(ids, 0) & np.less(ids, len(vocabulary))
        return np.asarray(vocabulary)[np.where(inside, ids, vocabulary.index(self.oov_token))]

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        weights = None if self.idf is None else self.idf[len(self.specials) :].tolist()
        return {**config, "vocabulary": list(self.learned) or None, "idf_weights": weights}


class StringLookup(IndexLookup):
    """Strings as numbers, or with `invert` numbers as strings."""

    def __init__(
        self, max_tokens: int | None = None, num_oov_indices: int = 1, mask_token: str | None = None,
        oov_token: str = "[UNK]", vocabulary: Any = None, idf_weights: Any = None, invert: bool = False,
        output_mode: str = "int", pad_to_max_tokens: bool = False, sparse: bool = False, encoding: str = "utf-8",
        name: str | None = None, oov_method: str = "floormod", salt: Any = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        arguments = locals()
        super().__init__(name=name, **kwargs)
        self._set(arguments)

    def item(self, value: Any) -> str:
        return value.decode("utf-8") if isinstance(value, bytes) else str(value)


class IntegerLookup(IndexLookup):
    """Whole numbers as their places in a vocabulary, or with `invert` back."""

    def __init__(
        self, max_tokens: int | None = None, num_oov_indices: int = 1, mask_token: int | None = None,
        oov_token: int = -1, vocabulary: Any = None, vocabulary_dtype: str = "int64", idf_weights: Any = None,
        invert: bool = False, output_mode: str = "int", sparse: bool = False, pad_to_max_tokens: bool = False,
        oov_method: str = "floormod", salt: Any = None, name: str | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        arguments = locals()
        super().__init__(name=name, **kwargs)
        self._set(arguments)

    def item(self, value: Any) -> int:
        return int(value)
