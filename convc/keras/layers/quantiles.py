"""Quantiles of data that come batch by batch, from a summary of bounded size: the bins that Keras finds.

A summary is an array (2, n): sorted values, and how many of the data each stands for.
"""

from __future__ import annotations

import numpy as np

from convc.keras.engine.tensor import Array

NOTHING: Array = np.zeros((2, 0), np.float32)


def summarized(batch: Array, epsilon: float) -> Array:
    """The summary of a batch: each value, or every n-th one where there are more than 1 / `epsilon`."""
    values = np.sort(np.asarray(batch, np.float32), axis=None)
    step = max(len(values) * epsilon, 1.0)
    kept = values[int(step - 1) :: int(step)]
    return np.stack([kept, np.full_like(kept, step)])


def joined(first: Array, second: Array, epsilon: float) -> Array:
    """The summary of the data of two summaries."""
    both = np.concatenate([first, second], axis=1)
    return compressed(both[:, np.argsort(both[0])], epsilon)


def compressed(summary: Array, epsilon: float) -> Array:
    """The summary with about 1 / `epsilon` values, equally many data apart, between those that it has."""
    if summary.shape[1] * epsilon < 1:
        return summary
    shares = epsilon + np.arange(0.0, 1.0, epsilon)
    below = summary[1].cumsum()
    known = below / below[-1]
    values = np.interp(shares, known, summary[0])
    counts = np.diff(np.interp(shares, known, below), prepend=0)
    return np.stack([values, counts]).astype(np.float32)


def boundaries(summary: Array, bins: int) -> list[float]:
    """The values between `bins` bins of about equally many data."""
    return [float(v) for v in compressed(summary, 1.0 / bins)[0, :-1]]
