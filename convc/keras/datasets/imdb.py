"""IMDB: 50,000 reviews of films as numbers of words by their frequency, and whether they praise.

Source: A. Maas et al. (2011), http://ai.stanford.edu/~amaas/data/sentiment/.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from convc.keras.datasets import splits
from convc.keras.datasets.splits import Parts

SHA256 = "69664113be75683a8fe16e3ed0ab59fda8886cb3cd7ada244f7d9544e4676b9f"
INDEX_MD5 = "bfafd718b763782e994055a2d397834f"


def load_data(
    path: str = "imdb.npz",
    num_words: int | None = None,
    skip_top: int = 0,
    maxlen: int | None = None,
    seed: int = 113,
    start_char: int | None = 1,
    oov_char: int | None = 2,
    index_from: int | None = 3,
    **others: Any,
) -> Parts:
    """(x_train, y_train), (x_test, y_test): lists of numbers and 0 or 1.

    `start_char` begins each list, `oov_char` stands for words that `num_words` and `skip_top` leave out, words count
    from `index_from`; reviews of `maxlen` words and more are left out.
    """
    num_words = others.pop("nb_words", num_words)
    names = ("x_train", "y_train", "x_test", "y_test")
    found = splits.read(splits.located(path, "imdb.npz", SHA256), names)
    random = np.random.RandomState(seed)
    parts = []
    for x, y in (found[:2], found[2:]):
        reviews, labels = splits.shuffled((x, y), random)
        made = splits.marked(reviews, start_char, index_from)
        parts.append(splits.shorter(made, labels, maxlen))
    both = [row for part, _ in parts for row in part]
    rows = splits.limited(both, num_words, skip_top, oov_char)
    at = len(parts[0][0])
    train, test = splits.ragged(rows[:at]), splits.ragged(rows[at:])
    return (train, parts[0][1]), (test, parts[1][1])


def get_word_index(path: str = "imdb_word_index.json") -> dict[str, int]:
    """The numbers of words, from 1 by frequency: in `load_data`, these plus `index_from`."""
    file = splits.located(path, "imdb_word_index.json", INDEX_MD5)
    return {str(k): int(v) for k, v in json.loads(file.read_text(encoding="utf-8")).items()}
