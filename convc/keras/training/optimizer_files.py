"""An optimizer's state in the order in which Keras' files hold it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from convc.errors import InputFileError
from convc.keras.engine.tensor import Array, Variable
from convc.keras.training.optimizer import all_slots
from convc.keras.training.rules import Rule
from convc.keras.training.slot_holders import kept_by_hand

_PAIRED = (
    ("momentum", "velocity"),
    ("momentum", "norm"),
    ("accumulated_gradient", "accumulated_delta"),
    ("accumulator", "linear"),
)
"""Slots that Keras makes together, a pair for each variable in turn; all others come one after the other."""


def layout(rule: Rule, variables: Sequence[Variable]) -> list[tuple[str, Variable]]:
    """The slots of the trained variables in the order of Keras' `optimizer.variables`."""
    names = list(all_slots(rule))
    if "accumulator_sum" in names:  # Keras makes it after the averages, before the rule's own
        names.remove("accumulator_sum")
        names.insert(int(rule.use_ema), "accumulator_sum")
    found: list[tuple[str, Variable]] = []
    while names:
        together = 2 if tuple(names[:2]) in _PAIRED and type(rule).__name__ != "RMSprop" else 1
        found += [(slot, variable) for variable in variables for slot in names[:together]]
        names = names[together:]
    return found


def saved_state(model: Any) -> list[tuple[str, Array]]:
    """Names and arrays of a compiled model's optimizer: the count of steps, the learning rate, then the slots."""
    optimizer = model.optimizer
    found: list[tuple[str, Array]] = [
        ("iteration", np.asarray(optimizer.iterations.value, np.int32))
    ]
    if isinstance(optimizer.learning_rate, Variable):
        rate = np.asarray(optimizer.learning_rate.value, np.float32)
        found.append(("learning_rate", rate))
    run = model.started_run() if kept_by_hand(optimizer) else model.current_run
    if run is None:
        return found
    run.catch_up()
    kept = {slot: run.slots(slot) for slot in all_slots(optimizer.rule)}
    for slot, variable in layout(optimizer.rule, model.trainable_variables):
        if variable not in kept[slot]:
            return found[:2]  # no step was made
        found.append((f"{variable.path.replace('/', '_')}_{slot}", kept[slot][variable]))
    shared = [(name, run.shared(name)) for name in optimizer.rule.scalars]
    return [*found, *((name, array) for name, array in shared if array is not None)]


def restore_state(model: Any, arrays: Sequence[Array], source: str) -> None:
    """Takes over the arrays of a file; InputFileError if they are those of another optimizer or model."""
    optimizer, variables = model.optimizer, model.trainable_variables
    slots, scalars = layout(optimizer.rule, variables), list(optimizer.rule.scalars)
    first = len(arrays) - len(slots) - len(scalars)
    if len(arrays) <= 3 and all(not a.shape for a in arrays):  # saved before any step
        slots, scalars, first = [], [], min(len(arrays), 2)
    wanted = [variable.shape for _, variable in slots]
    if not 1 <= first <= 3 or [a.shape for a in arrays[first : first + len(slots)]] != wanted:
        raise InputFileError(
            f"{source}: the optimizer's state has {len(arrays)} arrays; {type(optimizer).__name__} of this model "
            f"expects {len(slots)} of its weights' shapes after the count of steps (compile=False leaves it out)"
        )
    optimizer.iterations.assign(np.asarray(arrays[0], np.int64))
    if first > 1 and isinstance(optimizer.learning_rate, Variable):
        optimizer.learning_rate = float(arrays[1])
    if slots:
        run = model.started_run()
        for slot in dict.fromkeys(slot for slot, _ in slots):
            pairs = zip(slots, arrays[first:], strict=False)
            run.restore_slots(slot, {variable: a for (name, variable), a in pairs if name == slot})
        for name, array in zip(scalars, arrays[first + len(slots) :], strict=True):
            run.restore_shared(name, np.asarray(array, variables[0].value.dtype))
