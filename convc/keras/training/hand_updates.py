"""Updates of variables by an optimizer: in the step that is being traced, or put down until their values are wanted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from convc.keras.engine.steps import Step, recorded
from convc.keras.engine.tensor import KerasTensor, Variable, as_tensor
from convc.keras.training.hand_programs import LOCK, cell_of
from convc.keras.training.hand_slots import kept_for
from convc.keras.training.ledger import ledger_now
from convc.keras.training.own_steps import apply_in, tracing_step
from convc.types import DType


def apply_gradients(optimizer: Any, pairs: Iterable[tuple[Any, Variable]]) -> None:
    """One update of variables by an optimizer."""
    trace = tracing_step()
    if trace is not None:
        apply_in(trace, optimizer, pairs)
        return
    with LOCK:  # Another thread that reads a variable finds all of the update put down, or nothing.
        book = ByHand(optimizer)
        with recorded(ledger_now()):
            apply_in(book, optimizer, pairs)


class ByHand:
    """An optimizer's state as variables, as an update takes it."""

    def __init__(self, optimizer: Any) -> None:
        self.kept = kept_for(optimizer)
        put_down = cell_of(optimizer.step_count).pending is not None
        self._state: list[Variable] = []
        self._rate = optimizer.rate_at(self.kept.steps_made(optimizer, put_down))

    def rate(self, optimizer: Any, dtype: DType) -> Step:
        return as_tensor(np.array(self._rate, dtype.numpy)).step

    def state(self, optimizer: Any, variables: Sequence[Variable]) -> list[Step]:
        self._state = self.kept.state(optimizer.rule, variables)
        return [v.step for v in self._state]

    def keep(self, optimizer: Any, variables: Sequence[Variable], after: Sequence[Step]) -> None:
        for variable, step in zip(self._state, after, strict=True):
            variable.assign(KerasTensor(step))
