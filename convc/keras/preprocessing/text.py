"""Keras 2's tokenizer: words by how often they occur."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convc.keras.engine.arguments import choice

__all__ = ["Tokenizer", "hashing_trick", "one_hot", "text_to_word_sequence", "tokenizer_from_json"]

FILTERS = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n'
MODES = ("binary", "count", "tfidf", "freq")


def text_to_word_sequence(
    text: str, filters: str = FILTERS, lower: bool = True, split: str = " "
) -> list[str]:
    """The words of a text, without the characters of `filters`."""
    found = text.lower() if lower else text
    found = found.translate({ord(c): split for c in filters})
    return [word for word in found.split(split) if word]


def hashing_trick(
    text: str,
    n: int,
    hash_function: Any = None,
    filters: str = FILTERS,
    lower: bool = True,
    split: str = " ",
) -> list[int]:
    """The words as numbers from 1 to n - 1 by a hash: Python's own (other numbers in each run), 'md5' or a function."""
    function = hash if hash_function is None else hash_function
    if function == "md5":
        function = _md5
    words = text_to_word_sequence(text, filters=filters, lower=lower, split=split)
    return [function(word) % (n - 1) + 1 for word in words]


def _md5(word: str) -> int:
    return int(hashlib.md5(word.encode(), usedforsecurity=False).hexdigest(), 16)


def one_hot(
    text: str, n: int, filters: str = FILTERS, lower: bool = True, split: str = " "
) -> list[int]:
    """The words as numbers from 1 to n - 1 by Python's own hash."""
    return hashing_trick(text, n, None, filters, lower, split)


class Tokenizer:
    """Texts as lists of numbers: 1 for the most frequent word. Only words below `num_words` are kept.

    With `oov_token` that is number 1 and stands for all words that aren't known.
    """

    def __init__(
        self,
        num_words: int | None = None,
        filters: str = FILTERS,
        lower: bool = True,
        split: str = " ",
        char_level: bool = False,
        oov_token: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.num_words, self.filters, self.lower = num_words, filters, lower
        self.split, self.char_level, self.oov_token = split, char_level, oov_token
        self.document_count = int(kwargs.pop("document_count", 0))
        self.word_counts: dict[str, int] = {}
        self.word_docs: dict[str, int] = {}
        self.word_index: dict[str, int] = {}
        self.index_word: dict[int, str] = {}

    def _words(self, text: Any) -> list[str]:
        if self.char_level or isinstance(text, list):
            return [t.lower() if self.lower else t for t in text]
        return text_to_word_sequence(text, self.filters, self.lower, self.split)

    def fit_on_texts(self, texts: Iterable[Any]) -> None:
        """Counts the words of texts; numbers follow from all counts so far."""
        counts, documents = Counter(self.word_counts), Counter(self.word_docs)
        for text in texts:
            words = self._words(text)
            counts.update(words)
            documents.update(set(words))
            self.document_count += 1
        self.word_counts, self.word_docs = dict(counts), dict(documents)
        ordered = sorted(counts, key=lambda word: counts[word], reverse=True)
        special = [] if self.oov_token is None else [self.oov_token]
        listed = [*special, *(w for w in ordered if w != self.oov_token)]
        self.word_index = {word: k + 1 for k, word in enumerate(listed)}
        self.index_word = {k: word for word, k in self.word_index.items()}

    def texts_to_sequences(self, texts: Iterable[Any]) -> list[list[int]]:
        return list(self.texts_to_sequences_generator(texts))

    def texts_to_sequences_generator(self, texts: Iterable[Any]) -> Iterator[list[int]]:
        unknown = self.word_index.get(self.oov_token or "")
        for text in texts:
            numbers = [self._kept(self.word_index.get(word), unknown) for word in self._words(text)]
            yield [n for n in numbers if n is not None]

    def _kept(self, number: int | None, unknown: int | None) -> int | None:
        beyond = number is None or (self.num_words is not None and number >= self.num_words)
        return unknown if beyond else number

    def sequences_to_texts(self, sequences: Iterable[Iterable[int]]) -> list[str]:
        unknown = self.word_index.get(self.oov_token or "")
        found = []
        for numbers in sequences:
            kept = [self._kept(n if n in self.index_word else None, unknown) for n in numbers]
            found.append(" ".join(self.index_word[n] for n in kept if n is not None))
        return found

    def texts_to_matrix(self, texts: Iterable[Any], mode: str = "binary") -> NDArray[np.float64]:
        """A row per text over the words: which occur, how often, their share, or weighted by rarity."""
        return self.sequences_to_matrix(self.texts_to_sequences(texts), mode)

    def sequences_to_matrix(
        self, sequences: list[list[int]], mode: str = "binary"
    ) -> NDArray[np.float64]:
        choice("Tokenizer", "mode", mode, MODES)
        width = self.num_words or len(self.word_index) + 1
        found = np.zeros((len(sequences), width))
        for row, numbers in zip(found, sequences, strict=True):
            for number, count in Counter(n for n in numbers if n < width).items():
                row[number] = self._weight(number, count, len(numbers), mode)
        return found

    def _weight(self, number: int, count: int, length: int, mode: str) -> float:
        match mode:
            case "count":
                return count
            case "freq":
                return count / length
            case "binary":
                return 1
            case _:
                documents = self.word_docs.get(self.index_word[number], 0)
                rarity = np.log(1 + self.document_count / (1 + documents))
                return float((1 + np.log(count)) * rarity)

    def get_config(self) -> dict[str, Any]:
        plain = (
            "num_words",
            "filters",
            "lower",
            "split",
            "char_level",
            "oov_token",
            "document_count",
        )
        tables = ("word_counts", "word_docs", "index_word", "word_index")
        found = {name: getattr(self, name) for name in plain}
        return {**found, **{name: json.dumps(getattr(self, name)) for name in tables}}

    def to_json(self, **kwargs: Any) -> str:
        return json.dumps(
            {"class_name": type(self).__name__, "config": self.get_config()}, **kwargs
        )


def tokenizer_from_json(json_string: str) -> Tokenizer:
    """The tokenizer of `to_json`."""
    config = json.loads(json_string)["config"]
    tables = {
        n: json.loads(config.pop(n))
        for n in ("word_counts", "word_docs", "index_word", "word_index")
    }
    made = Tokenizer(**config)
    made.word_counts, made.word_docs = tables["word_counts"], tables["word_docs"]
    made.word_index = tables["word_index"]
    made.index_word = {int(k): w for k, w in tables["index_word"].items()}
    return made
