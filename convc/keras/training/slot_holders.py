"""Who has the latest of what an optimizer keeps: a compiled training, or updates by hand.

Moments made by `fit` are those that the next `apply_gradients` goes on with, and the other way round. Whoever makes a
step asks the other one first.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any, Protocol

from convc.keras.engine.tensor import Array, Variable


class Holder(Protocol):
    """What keeps an optimizer's state."""

    def slots(self, slot: str) -> Mapping[Variable, Array]:
        """What is kept under a name for each variable, in the variable's shape; none before a step."""
        ...

    def shared(self, name: str) -> Array | None:
        """A number that is kept for all variables; None before a step."""
        ...


_runs: weakref.WeakKeyDictionary[Any, weakref.ref[Any]] = weakref.WeakKeyDictionary()
_by_hand: weakref.WeakKeyDictionary[Any, Holder] = weakref.WeakKeyDictionary()


def trains_with(optimizer: Any, run: Holder) -> None:
    """A training uses the optimizer (None: steps of the user's own have others) from now on."""
    if optimizer is not None:
        _runs[optimizer] = weakref.ref(run)


def latest_holder(optimizer: Any) -> Holder | None:
    """Who has the optimizer's state now; None before a step."""
    if optimizer in _by_hand:
        return _by_hand[optimizer]
    found = _runs.get(optimizer)
    return None if found is None else found()


def held_by_hand(optimizer: Any, holder: Holder) -> None:
    """The optimizer's state is here: the next step, by hand or of a training, goes on with it."""
    _by_hand[optimizer] = holder


def taken_by_hand(optimizer: Any, holder: Holder) -> Holder | None:
    """Updates by hand go on with the state from now on: the training that had it, unless they had it already."""
    if optimizer in _by_hand:
        return None
    _by_hand[optimizer] = holder
    found = _runs.get(optimizer)
    return None if found is None else found()


def kept_by_hand(optimizer: Any) -> bool:
    """Whether the latest update was one by hand."""
    return optimizer is not None and optimizer in _by_hand


def taken_from_hands(optimizer: Any) -> Holder | None:
    """A training goes on with the state from now on: what updates by hand kept, if these came last."""
    return None if optimizer is None else _by_hand.pop(optimizer, None)
