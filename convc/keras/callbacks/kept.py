"""What callbacks remember of the epochs so far, as arrays that a state on disk can hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from convc.errors import DataError
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
    """Gives callbacks back what `remembered` found in those of the same classes at the same places.

    All or nothing: a DataError names what is damaged before any callback has changed.
    """
    found = [
        (callback, name, _value(f"{prefix}{name}", arrays))
        for prefix, callback in keepers(callbacks)
        for name in callback.kept
    ]
    for callback, name, value in found:
        if value is not None:
            setattr(callback, name, value)


def _value(name: str, arrays: Mapping[str, Array]) -> Any:
    """What is remembered under a name: a number or a list of arrays; None if nothing is."""
    if name in arrays:
        if arrays[name].size != 1:
            raise DataError(f"state: {name}: expected one number; received {arrays[name].shape}")
        return arrays[name].item()
    parts = {n.removeprefix(f"{name}/"): a for n, a in arrays.items() if n.startswith(f"{name}/")}
    wanted = [str(k) for k in range(len(parts))]
    if parts.keys() != set(wanted):
        raise DataError(
            f"state: {name}: expected parts 0 to {len(parts) - 1}; received {sorted(parts)}"
        )
    return [parts[k] for k in wanted] or None


def keepers(callbacks: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """The callbacks that remember something, and how the names of their arrays begin."""
    listed = (c for c in callbacks if getattr(c, "kept", ()))
    for number, callback in enumerate(listed):
        yield f"{CALLBACK}{number}/{type(callback).__name__}/", callback
