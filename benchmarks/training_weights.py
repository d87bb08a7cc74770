"""The same initial weights for all contenders: convc draws them, in Keras' order and layouts, and the others load them.

Imports numpy only, so that processes of other frameworks can read this file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Arrays = list[Any]


def save_weights(path: Path, weights: Iterable[Any]) -> None:
    """Writes a network's arrays in the order in which Keras lists them."""
    arrays = {f"{n:04d}": np.asarray(w) for n, w in enumerate(weights)}
    np.savez(path, **arrays)  # type: ignore[arg-type]


def load_weights(path: Path) -> Arrays:
    """What `save_weights` wrote."""
    with np.load(path) as found:
        return [found[name] for name in sorted(found.files)]


def kernels_of(weights: Arrays) -> Arrays:
    """The kernels of convolutions and dense layers; ValueError where anything else isn't zeros or ones.

    Biases, and what batch norms begin with, are then what every framework can be told to begin with.
    """
    for array in weights:
        if array.ndim < 2 and not (np.all(array == 0) or np.all(array == 1)):
            raise ValueError(f"a vector of {array.size} weights is neither zeros nor ones")
    return [w for w in weights if w.ndim > 1]


def take(weights: Arrays, shape: Sequence[int]) -> Any:
    """The first array of a shape, taken out of the list: layers of one shape come in one order everywhere."""
    place = next((n for n, w in enumerate(weights) if w.shape == tuple(shape)), None)
    if place is None:
        raise ValueError(f"no weight of shape {tuple(shape)} is left")
    return weights.pop(place)
