"""Reuters: 11,228 news as numbers of words by their frequency, of 46 topics.

Source: Reuters-21578, http://kdd.ics.uci.edu/databases/reuters21578/reuters21578.html.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from convc.keras.datasets import splits
from convc.keras.datasets.splits import Parts

SHA256 = "d6586e694ee56d7a4e65172e12b3e987c03096cb01eab99753921ef915959916"
INDEX_MD5 = "4d44cc38712099c9e383dc6e5f11a921"
LABELS = (
    "cocoa grain veg-oil earn acq wheat copper housing money-supply coffee sugar trade reserves ship cotton carcass "
    "crude nat-gas cpi money-fx interest gnp meal-feed alum oilseed gold tin strategic-metal livestock retail ipi "
    "iron-steel rubber heat jobs lei bop zinc orange pet-chem dlr gas silver wpi hog lead"
)


def load_data(
    path: str = "reuters.npz",
    num_words: int | None = None,
    skip_top: int = 0,
    maxlen: int | None = None,
    test_split: float = 0.2,
    seed: int = 113,
    start_char: int | None = 1,
    oov_char: int | None = 2,
    index_from: int | None = 3,
    **others: Any,
) -> Parts:
    """(x_train, y_train), (x_test, y_test): lists of numbers, and topics; the arguments are those of IMDB's."""
    num_words = others.pop("nb_words", num_words)
    found = splits.read(splits.located(path, "reuters.npz", SHA256), ("x", "y"))
    x, labels = splits.shuffled(found, np.random.RandomState(seed))
    rows, labels = splits.shorter(splits.marked(x, start_char, index_from), labels, maxlen)
    array = splits.ragged(splits.limited(rows, num_words, skip_top, oov_char))
    at = int(len(array) * (1 - test_split))
    return (array[:at], labels[:at]), (array[at:], labels[at:])


def get_word_index(path: str = "reuters_word_index.json") -> dict[str, int]:
    """The numbers of words, from 1 by frequency: in `load_data`, these plus `index_from`."""
    file = splits.located(path, "reuters_word_index.json", INDEX_MD5)
    return {str(k): int(v) for k, v in json.loads(file.read_text(encoding="utf-8")).items()}


def get_label_names() -> tuple[str, ...]:
    """The topics by their numbers."""
    return tuple(LABELS.split())
