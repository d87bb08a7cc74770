"""Text as numbers of words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from convc.errors import ModelError
from convc.keras.engine.arguments import choice, is_integer, positive, refuse, title
from convc.keras.engine.open_sizes import Open
from convc.keras.engine.tensor import Array, KerasTensor
from convc.keras.layers.lookup import HostLayer, StringLookup
from convc.types import DType, TensorType

PUNCTUATION = re.compile(r"""[!"#$%&()*+,\-./:;<=>?@\[\\\]^_`{|}~']""")
"""What Keras strips."""

CAPITALS = {c: c + 32 for c in range(ord("A"), ord("Z") + 1)}
"""Letters that it makes small: those of ASCII."""

STANDARDS = ("lower_and_strip_punctuation", "lower", "strip_punctuation")
Tokens = list[str]


class TextVectorization(HostLayer):
    """Strings (batch) as numbers of words (batch, words), 0 after the last; or as rows over the vocabulary.

    Each string is standardized, split, put together to `ngrams`, and its words looked up. It computes in Python;
    a model that takes text is compiled from its numbers on.
    """

    def __init__(
        self,
        max_tokens: int | None = None,
        standardize: str | Callable[..., Any] | None = "lower_and_strip_punctuation",
        split: str | Callable[..., Any] | None = "whitespace",
        ngrams: Any = None,
        output_mode: str = "int",
        output_sequence_length: int | None = None,
        pad_to_max_tokens: bool = False,
        vocabulary: Any = None,
        idf_weights: Any = None,
        sparse: bool = False,
        ragged: bool = False,
        encoding: str = "utf-8",
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        if isinstance(standardize, str):
            choice(self, "standardize", standardize, STANDARDS)
        if isinstance(split, str):
            choice(self, "split", split, ("whitespace", "character"))
        if ragged:
            refuse(self, "ragged", "False", True)
        if output_sequence_length is not None:
            positive(self, "output_sequence_length", output_sequence_length)
            if output_mode != "int":
                refuse(
                    self,
                    "output_sequence_length",
                    "None unless output_mode is 'int'",
                    output_sequence_length,
                )
        self.max_tokens, self.standardize, self.split = max_tokens, standardize, split
        self.ngrams = tuple(range(1, ngrams + 1)) if is_integer(ngrams) else ngrams
        self.output_mode, self.output_sequence_length = output_mode, output_sequence_length
        self.pad_to_max_tokens = pad_to_max_tokens
        self._lookup = StringLookup(
            max_tokens,
            1,
            "",
            "[UNK]",
            vocabulary,
            idf_weights,
            False,
            output_mode,
            pad_to_max_tokens,
            sparse,
        )

    def get_config(self) -> dict[str, Any]:
        inner = self._lookup.get_config()
        ngrams = None if self.ngrams is None else list(self.ngrams)
        kept = {"vocabulary": inner["vocabulary"], "idf_weights": inner["idf_weights"]}
        return {**super().get_config(), **kept, "ngrams": ngrams}

    def tokens(self, text: Any) -> Tokens:
        """The words of a string."""
        found = text.decode("utf-8") if isinstance(text, bytes) else str(text)
        match self.standardize:
            case None:
                pass
            case str() as rule:
                found = found.translate(CAPITALS) if "lower" in rule else found
                found = PUNCTUATION.sub("", found) if "strip" in rule else found
            case function:
                found = str(np.asarray(function(found)))
        match self.split:
            case None:
                parts = [found]
            case "whitespace":
                parts = found.split()
            case "character":
                parts = list(found)
            case function:
                parts = [str(part) for part in function(found)]  # type: ignore[operator]
        return parts if self.ngrams is None else self._joined(parts)

    def _joined(self, parts: Tokens) -> Tokens:
        return [
            " ".join(parts[start : start + size])
            for size in self.ngrams or ()
            for start in range(len(parts) - size + 1)
        ]

    def adapt(self, data: Any, batch_size: Any = None, steps: int | None = None) -> None:
        """Learns the vocabulary of strings: an array or list of them, or a data set's batches."""
        lookup = self._lookup
        lookup.rows = self._rows  # type: ignore[method-assign]
        try:
            lookup.adapt(data, batch_size, steps)
        finally:
            del lookup.rows

    def _rows(self, batch: Array) -> Iterable[Tokens]:
        return [self.tokens(text) for text in batch.reshape(-1)]

    def compute(self, x: Array) -> Array:
        if not self._lookup.learned:
            raise ModelError(f"{title(self)}: call adapt(data) or give a vocabulary first")
        return self._encoded(x)

    def _encoded(self, x: Array) -> Array:
        flat = x[:, 0] if x.ndim == 2 and x.shape[1] == 1 else x
        rows = [self.tokens(text) for text in flat.reshape(-1)]
        ids = [self._ids(row) for row in rows]
        length = self.output_sequence_length or max((len(row) for row in ids), default=0)
        table = np.full((len(ids), length), 0 if self.output_mode == "int" else -1, np.int64)
        for k, row in enumerate(ids):
            table[k, : len(row)] = row[:length]
        found = self._lookup.encode(table)
        return found if x.ndim else found[0]

    def made_of(self, inputs: KerasTensor) -> TensorType:
        """Words of an open number, unless it is given; else rows over the vocabulary."""
        batch = inputs.type.shape[0]
        if self.output_mode == "int":
            length = self.output_sequence_length
            return TensorType(DType.int64, (batch, Open() if length is None else length))
        sample = self._encoded(np.array([self._lookup.learned[0] if self._lookup.learned else ""]))
        return TensorType(DType.of(sample.dtype), (batch, *sample.shape[1:]))

    def _ids(self, row: Tokens) -> Array:
        if not row:
            return np.zeros(0, np.int64)
        places = self._places()
        unknown = places["[UNK]"]
        return np.array([places.get(token, unknown) for token in row], np.int64)

    def _places(self) -> dict[str, int]:
        vocabulary = self._lookup.get_vocabulary()
        return {token: k for k, token in enumerate(vocabulary)}

    def get_vocabulary(self, include_special_tokens: bool = True) -> list[str]:
        return self._lookup.get_vocabulary(include_special_tokens)

    def set_vocabulary(self, vocabulary: Any, idf_weights: Any = None) -> None:
        self._lookup.set_vocabulary(vocabulary, idf_weights)

    def vocabulary_size(self) -> int:
        return self._lookup.vocabulary_size()
