"""An optimizer's state in the order in which Keras' files hold it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from convc.errors import InputFileError
from convc.keras.engine.tensor import Array, Variable
from convc.keras.training.optimizer import all_slots
from convc.keras.training.rules import Nadam, Rule
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
        ("iteration", np.asarray(optimizer.step_count.value, np.int32))
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
    rule = optimizer.rule
    slots, scalars = layout(rule, variables), list(rule.scalars)
    if len(arrays) <= 3 and all(not a.shape for a in arrays):  # saved before any step
        slots, scalars = [], []
    first = _first_slot(arrays, slots, scalars, variables)
    if first is None:
        raise InputFileError(
            f"{source}: the optimizer's state has {len(arrays)} arrays; {type(optimizer).__name__} of this model "
            f"expects {len(slots)} of its weights' shapes after the count of steps (compile=False leaves it out)"
        )
    optimizer.step_count.assign(np.asarray(arrays[0], np.int64))
    if first > 1 and isinstance(optimizer.learning_rate, Variable):
        optimizer.learning_rate = float(arrays[1])
    if slots:
        run = model.started_run()
        for slot in dict.fromkeys(slot for slot, _ in slots):
            pairs = zip(slots, arrays[first:], strict=False)
            run.restore_slots(slot, {variable: a for (name, variable), a in pairs if name == slot})
        kept = arrays[first + len(slots) :] or [
            np.asarray(_scalar_after(rule, int(arrays[0])))
        ] * len(scalars)
        for name, array in zip(scalars, kept, strict=True):
            run.restore_shared(name, np.asarray(array, variables[0].value.dtype))


def _first_slot(
    arrays: Sequence[Array],
    slots: list[tuple[str, Variable]],
    scalars: list[str],
    variables: Sequence[Variable],
) -> int | None:
    """Where the slots begin, after the count of steps and perhaps the learning rate; None where they don't fit.

    Keras 2 keeps no scalars after them, and slots of an SGD without momentum.
    """
    if not slots:
        rest = [a.shape for a in arrays if a.shape]
        unused = not rest or rest == [v.shape for v in variables]
        return min(len(arrays) - len(rest), 2) if unused and not arrays[0].shape else None
    wanted = [variable.shape for _, variable in slots]
    for after in dict.fromkeys((len(scalars), 0)):
        first = len(arrays) - len(slots) - after
        if 1 <= first <= 3 and [a.shape for a in arrays[first : first + len(slots)]] == wanted:
            return first
    return None


def _scalar_after(rule: Rule, steps: int) -> float:
    """Nadam's product of momenta after so many steps, which Keras 2 doesn't keep."""
    if not isinstance(rule, Nadam):
        return 1.0
    return math.prod(rule.beta_1 * (1 - 0.5 * rule.decay**step) for step in range(1, steps + 1))


def ordered_as_now(
    rule: Rule, variables: Sequence[Variable], names: Sequence[str], arrays: Sequence[Array]
) -> Sequence[Array]:
    """The arrays of a file as Keras 2.11 and later orders them, which is told by their names.

    Before it the count of steps had another name, all variables' first slots came before their second ones, and an
    Adam without AMSGrad had empty third ones (Keras up to 2.3).
    """
    if not names or names[0].rpartition("/")[2].partition(":")[0] == "iteration":
        return arrays
    kept = [
        (n, a) for n, a in zip(names, arrays, strict=True) if a.shape or not n.endswith("_cache:0")
    ]
    caches = [
        a for n, a in zip(names, arrays, strict=True) if not a.shape and n.endswith("_cache:0")
    ]
    head = [np.asarray(0)] if kept[0][1].shape else [kept.pop(0)[1]]
    found = [a for _, a in kept]
    count, own = len(variables), list(rule.slots)
    if len(own) == 2 and len(found) == 3 * count and all(a.shape == (1,) for a in found[-count:]):
        found = found[:-count]
    if type(rule).__name__ == "Ftrl" or len(found) != count * len(own):
        return [*head, *found, *caches]
    place = {id(v): k for k, v in enumerate(variables)}
    pairs = layout(rule, variables)
    return [*head, *(found[own.index(s) * count + place[id(v)]] for s, v in pairs), *caches]
