"""The arguments of fit, evaluate and predict: what they mean, and which are of older generations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any

import numpy as np

from convc.errors import UsageError
from convc.keras.callbacks.callback import Callback, CallbackList
from convc.keras.callbacks.progbar import ProgbarLogger
from convc.keras.engine.naming import nearest

LEGACY_COMPILE = ("sample_weight_mode", "target_tensors", "distribute", "auto_scale_loss")
LEGACY_FIT = ("workers", "use_multiprocessing", "max_queue_size")
"""Arguments of older generations that mean nothing here."""


def keys_of(structure: Any, names: Any) -> tuple[str, ...]:
    """The keys by which data are given in a dict."""
    return tuple(structure) if isinstance(structure, Mapping) else tuple(names)


def verbosity(verbose: Any) -> int:
    """0, 1 or 2; "auto" is 1."""
    if verbose == "auto":
        return 1
    if verbose in (0, 1, 2):
        return int(verbose)
    raise UsageError(f"verbose: expected 'auto', 0, 1 or 2; received {verbose!r}")


def number_of_epochs(value: Any) -> int:
    """UsageError for what is no number from 0."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
        raise UsageError(f"epochs: expected a number from 0; received {value!r}")
    return int(value)


def checked_frequency(value: Any) -> Any:
    """`validation_freq` again; UsageError for what `due` can't read."""
    is_count = isinstance(value, (int, np.integer)) and value >= 1
    if isinstance(value, str) or not (is_count or hasattr(value, "__contains__")):
        raise UsageError(
            f"validation_freq: expected a number from 1 or a list of epochs; received {value!r}"
        )
    return value


def listening(callbacks: CallbackList, phase: str) -> tuple[list[Callback], ProgbarLogger | None]:
    """Who hears of each batch, and the progress line, which doesn't need to."""
    bars = [c for c in callbacks.callbacks if isinstance(c, ProgbarLogger)]
    others = [c for c in callbacks.listeners(phase) if not isinstance(c, ProgbarLogger)]
    return others, bars[0] if bars else None


def flat(callbacks: Any) -> list[Any]:
    """The callbacks in a list or a CallbackList, or a single one."""
    return CallbackList(
        callbacks.callbacks if isinstance(callbacks, CallbackList) else callbacks
    ).callbacks


def due(frequency: Any, epoch: int) -> bool:
    """Whether an epoch (from 0) is validated: every n-th one, or those counted from 1 in a list."""
    if isinstance(frequency, (int, np.integer)):
        return (epoch + 1) % frequency == 0
    return epoch + 1 in frequency


def refuse_unknown(method: Callable[..., Any], others: Mapping[str, Any]) -> None:
    """UsageError for an argument that the method doesn't have."""
    for name in others:
        if name not in LEGACY_FIT:
            known = (n for n in signature(method).parameters if n not in ("self", "others"))
            raise UsageError(f"{method.__name__} has no argument {name!r}{nearest(name, known)}")
