"""Lists of different lengths as one array."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from convc.errors import DataError, UsageError

SIDES = ("pre", "post")


def pad_sequences(
    sequences: Any,
    maxlen: int | None = None,
    dtype: Any = "int32",
    padding: str = "pre",
    truncating: str = "pre",
    value: Any = 0.0,
) -> NDArray[Any]:
    """Sequences of items of one shape as an array (number of sequences, maxlen, *shape).

    Longer ones lose items at the side `truncating`, shorter ones get `value` at the side `padding`; without `maxlen`
    the longest one counts. Defaults and results are Keras' own. DataError for what isn't a list of sequences or for
    items of different shapes.
    """
    for name, side in (("padding", padding), ("truncating", truncating)):
        if side not in SIDES:
            raise UsageError(f"pad_sequences: {name} must be 'pre' or 'post'; received {side!r}")
    arrays = [_array(k, sequence, dtype) for k, sequence in enumerate(sequences)]
    length = max((len(a) for a in arrays), default=0) if maxlen is None else int(maxlen)
    shape = next((a.shape[1:] for a in arrays if len(a)), ())
    found = np.full((len(arrays), length, *shape), value, dtype=dtype)
    for k, array in enumerate(arrays):
        if not len(array):
            continue
        if array.shape[1:] != shape:
            raise DataError(
                f"pad_sequences: expected items of shape {shape}; sequence {k} has {array.shape[1:]}"
            )
        kept = array[max(0, len(array) - length) :] if truncating == "pre" else array[:length]
        start = length - len(kept) if padding == "pre" else 0
        found[k, start : start + len(kept)] = kept
    return found


def _array(index: int, sequence: Any, dtype: Any) -> NDArray[Any]:
    if not hasattr(sequence, "__len__"):
        raise DataError(
            f"pad_sequences: expected a list of sequences; item {index} is {sequence!r}"
        )
    try:
        return np.asarray(sequence, dtype)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"pad_sequences: sequence {index} is no array of {dtype}: {error}"
        ) from None
