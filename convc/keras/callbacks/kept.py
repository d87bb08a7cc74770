"""What callbacks remember of the epochs so far, as arrays that a state on disk can hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from convc.keras.engine.tensor import Array

CALLBACK = "callbacks/"
"""The first part of the names of these arrays: `callbacks/0/EarlyStopping/wait`."""


def remembered(callbacks: Iterable[Any]) -> dict[str, Array]:
    """The attributes that callbacks name in `kept`: numbers, and lists of arrays (`…/best_weights/3`)."""
    found: dict[str, Array] = {}
    for prefix, callback in keepers(callbacks):
        for name in callback.kept:
            value = getattr(callback, name)
            if isinstance(value, list):
                found |= {f"{prefix}{name}/{k}": np.asarray(a) for k, a in enumerate(value)}
            elif value is not None:
                found[f"{prefix}{name}"] = np.asarray(value)
    return found


def remind(callbacks: Iterable[Any], arrays: Mapping[str, Array]) -> None:
    """Gives callbacks back what `remembered` found in those of the same classes at the same places."""
    for prefix, callback in keepers(callbacks):
        for name in callback.kept:
            single = arrays.get(f"{prefix}{name}")
            if single is not None:
                setattr(callback, name, single.item())
            elif f"{prefix}{name}/0" in arrays:
                count = sum(n.startswith(f"{prefix}{name}/") for n in arrays)
                setattr(callback, name, [arrays[f"{prefix}{name}/{k}"] for k in range(count)])


def keepers(callbacks: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """The callbacks that remember something, and how the names of their arrays begin."""
    listed = (c for c in callbacks if getattr(c, "kept", ()))
    for number, callback in enumerate(listed):
        yield f"{CALLBACK}{number}/{type(callback).__name__}/", callback
