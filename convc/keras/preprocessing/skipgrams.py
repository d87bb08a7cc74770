"""Pairs of a word and one near it, for word2vec (Mikolov et al., Distributed Representations of Words, 2013)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def make_sampling_table(size: int, sampling_factor: float = 1e-5) -> NDArray[np.float64]:
    """The probability to keep the word of each rank, if frequencies follow Zipf's law: min(1, sqrt(t / f)).

    1 / f is about rank * (log(rank) + 0.577) + 1/2 - 1 / (12 * rank); rank 0 counts as 1.
    """
    rank = np.arange(size, dtype=np.float64)
    rank[:1] = 1
    inverse = rank * (np.log(rank) + 0.577) + 0.5 - 1.0 / (12.0 * rank)
    share = sampling_factor * inverse
    return np.minimum(1.0, np.sqrt(share))


def skipgrams(
    sequence: Sequence[int],
    vocabulary_size: int,
    window_size: int = 4,
    negative_samples: float = 1.0,
    shuffle: bool = True,
    categorical: bool = False,
    sampling_table: Any = None,
    seed: int | None = None,
) -> tuple[list[list[int]], list[Any]]:
    """([word, other] pairs, labels): 1 for others within the window, 0 for random ones; 0 in the sequence is no word.

    With `categorical`, labels are [1, 0] and [0, 1]. Draws are those of Python's `random`, as in Keras.
    """
    no, yes = ([1, 0], [0, 1]) if categorical else (0, 1)
    couples: list[list[int]] = []
    for place, word in enumerate(sequence):
        if not word or (sampling_table is not None and sampling_table[word] < random.random()):
            continue
        near = range(max(0, place - window_size), min(len(sequence), place + window_size + 1))
        couples += [[word, sequence[k]] for k in near if k != place and sequence[k]]
    labels: list[Any] = [yes] * len(couples)
    if negative_samples > 0:
        words = [couple[0] for couple in couples]
        random.shuffle(words)
        count = int(len(labels) * negative_samples)
        others = [
            [words[k % len(words)], random.randint(1, vocabulary_size - 1)] for k in range(count)
        ]
        couples, labels = couples + others, labels + [no] * count
    if shuffle:
        order = random.randint(0, 10**6) if seed is None else seed
        random.seed(order)
        random.shuffle(couples)
        random.seed(order)
        random.shuffle(labels)
    return couples, labels
