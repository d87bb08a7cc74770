"""What optimizers keep between updates by hand: variables, which compiled steps replace where they lie."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from convc.keras.engine.tensor import Array, Variable
from convc.keras.training.attached import Attached
from convc.keras.training.optimizer import all_slots
from convc.keras.training.rules import Rule
from convc.keras.training.slot_holders import (
    Holder,
    held_by_hand,
    latest_holder,
    taken_by_hand,
)
from convc.types import DType


class Kept:
    """The slots of one optimizer's variables, and the numbers that it keeps for all of them."""

    def __init__(self) -> None:
        self._slots: Attached[dict[str, Variable]] = Attached()
        self._shared: dict[str, Variable] = {}
        self._steps = 0

    def slot(self, variable: Variable, slot: str, first: Array) -> Variable:
        """What is kept for a variable under a name; at first an array of its type."""
        return self._slot(variable, slot, lambda: first)

    def _slot(self, variable: Variable, slot: str, first: Callable[[], Array]) -> Variable:
        found = self._slots.get(variable)
        if found is None:
            found = self._slots.set(variable, {})
        if slot not in found:
            found[slot] = _variable(first(), f"{variable.name}/{slot}")
        return found[slot]

    def number(self, name: str, first: Array) -> Variable:
        """A number that is kept for all variables."""
        if name not in self._shared:
            self._shared[name] = _variable(first, name)
        return self._shared[name]

    def state(self, rule: Rule, variables: Sequence[Variable]) -> list[Variable]:
        """The slots of each variable, then the shared numbers."""
        slots = all_slots(rule)
        found = [
            self._slot(v, s, partial(np.full, v.shape, x, DType.of(v.dtype).numpy))
            for v in variables
            for s, x in slots.items()
        ]
        floats = DType.of(variables[0].dtype).numpy
        return [*found, *(self.number(n, np.array(x, floats)) for n, x in rule.scalars.items())]

    def steps_made(self, optimizer: Any, put_down: bool) -> int:
        """The steps before the next one; `put_down` if the latest update isn't computed yet."""
        self._steps = self._steps + 1 if put_down else int(optimizer.step_count.array)
        return self._steps

    def slots(self, slot: str) -> dict[Variable, Array]:
        return {v: found[slot].array for v, found in self._slots.items() if slot in found}

    def shared(self, name: str) -> Array | None:
        return self._shared[name].array if name in self._shared else None

    def follow(self, earlier: Holder, rule: Rule) -> None:
        """Takes over what the optimizer kept in a training."""
        for slot in all_slots(rule):
            for variable, array in earlier.slots(slot).items():
                self.slot(variable, slot, array).assign(array)
        for name in rule.scalars:
            number = earlier.shared(name)
            if number is not None:
                self.number(name, number).assign(number)


_kept: Attached[Kept] = Attached()

Slots = tuple[list[tuple[str, Variable, Array]], list[tuple[str, Array]]]
"""What an optimizer keeps: (slot, variable, array), then (name, array) for all variables."""


def slots_for_copies(optimizer: Any) -> Slots:
    """What copies of a model with the optimizer go on with; nothing before a step."""
    holder = None if optimizer is None else latest_holder(optimizer)
    if holder is None:
        return [], []
    each = [(s, v, a) for s in all_slots(optimizer.rule) for v, a in holder.slots(s).items()]
    shared = [(n, a) for n in optimizer.rule.scalars if (a := holder.shared(n)) is not None]
    return each, shared


def give_slots(optimizer: Any, found: Slots) -> None:
    """Makes a copied optimizer go on with what its original kept."""
    kept = Kept()
    each, shared = found
    for slot, variable, array in each:
        kept.slot(variable, slot, array)
    for name, array in shared:
        kept.number(name, array)
    held_by_hand(optimizer, _kept.set(optimizer, kept))


def kept_for(optimizer: Any) -> Kept:
    """What the optimizer keeps, with what a training made of it since its latest update by hand."""
    kept = _kept.get(optimizer) or _kept.set(optimizer, Kept())
    training = taken_by_hand(optimizer, kept)
    if training is not None:
        kept.follow(training, optimizer.rule)
    return kept


def _variable(first: Array, name: str) -> Variable:
    return Variable(np.asarray(first), dtype=first.dtype, trainable=False, name=name)
