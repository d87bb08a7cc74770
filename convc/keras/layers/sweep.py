"""A cell over all steps of a sequence: in one operator where there is one, else unrolled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from convc.errors import UnsupportedError
from convc.keras.engine.call import flatten, map_tensors
from convc.keras.engine.open_sizes import Open
from convc.keras.engine.tensor import KerasTensor, apply, as_tensor, reshape
from convc.keras.layers.cells import Cell, States, flipped, mul, part, state_at, where, zeros
from convc.ops import elementwise
from convc.ops import shape as shapes
from convc.types import DType

LONGEST = 1024
"""Steps that a layer is unrolled over at most."""

LOOPED = (DType.float32, DType.float64)
"""Dtypes that the operators over all steps take."""


@dataclass(frozen=True)
class Sweep:
    """From the first step to the last, or `backwards`:
    the `whole` sequence of outputs as they come, or the last one."""

    owner: str
    backwards: bool
    whole: bool

    def __call__(
        self, cell: Any, x: KerasTensor, states: Any, counted: KerasTensor | None
    ) -> tuple[KerasTensor, Any]:
        """The output for x (batch, steps, …), and the states after the last step, in the structure of the first."""
        if not isinstance(cell, Cell):
            return self._of_any(cell, x, states, counted)
        if x.type.dtype in LOOPED and cell.loop(self.backwards) is not None:
            return self._looped(cell, x, states, counted)
        return self._unrolled(cell, x, states, counted)

    def _looped(
        self, cell: Cell, x: KerasTensor, states: States, counted: KerasTensor | None
    ) -> tuple[KerasTensor, States]:
        """All steps in one operator."""
        loop = cell.loop(self.backwards)
        assert loop is not None
        batch, steps, _ = x.type.shape
        assert isinstance(steps, int)
        prepared = cell.inputs(apply(shapes.Transpose((1, 0, 2)), x))
        mask = [] if counted is None else [apply(shapes.Transpose((1, 0)), counted)]
        kept = [kept_share(cell.recurrent_dropout, states[0])] if cell.recurrent_dropout else []
        all = apply(loop, prepared, *cell.loop_operands(), *states, *kept, *mask)
        end = 0 if self.backwards else steps
        made = [
            reshape(state_at(all, k, end, end + 1), (batch, cell.units)) for k in range(len(states))
        ]
        if not self.whole:
            return made[0], made
        first = 0 if self.backwards else 1
        outputs = state_at(all, 0, first, first + steps)
        y = apply(shapes.Transpose((1, 0, 2)), reshape(outputs, (steps, batch, cell.units)))
        return (flipped(y) if self.backwards else y), made

    def _turns(self, x: KerasTensor) -> list[int]:
        """The numbers of the steps in the order in which they are taken."""
        steps = x.type.shape[1]
        if isinstance(steps, Open):
            return [0]  # For the shapes: what is compiled is traced for the number that data have.
        if not isinstance(steps, int) or steps > LONGEST:
            raise UnsupportedError(
                f"{self.owner}: expected up to {LONGEST} steps; received {steps}"
            )
        return list(reversed(range(steps)) if self.backwards else range(steps))

    def _unrolled(
        self, cell: Cell, x: KerasTensor, states: States, counted: KerasTensor | None
    ) -> tuple[KerasTensor, States]:
        """The same, the steps one after the other."""
        turns = self._turns(x)
        prepared = cell.inputs(x)
        steps = apart(prepared)
        kept = kept_share(cell.recurrent_dropout, states[0]) if cell.recurrent_dropout else None
        outputs = []
        for t in turns:
            now = steps[t]
            given = states if kept is None else [mul(states[0], kept), *states[1:]]
            new = cell.step(now, given)
            if counted is not None:
                inside = part(counted, 1, t, t + 1)
                new = [where(inside, n, old) for n, old in zip(new, states, strict=True)]
            states = new
            outputs.append(states[0])
        return self._gathered(outputs, x), states

    def _of_any(
        self, cell: Any, x: KerasTensor, states: Any, counted: KerasTensor | None
    ) -> tuple[KerasTensor, Any]:
        """A cell that somebody else wrote, step by step."""
        steps = apart(x)
        outputs: list[KerasTensor] = []
        for t in self._turns(x):
            output, new = cell(steps[t], states)
            output = as_tensor(output)
            new = list(new) if isinstance(new, (list, tuple)) else [new]
            if counted is not None:
                inside = part(counted, 1, t, t + 1)
                before = outputs[-1] if outputs else zeros(output.type.shape, output.type.dtype)
                output = chosen(inside, output, before)
                new = unless(inside, new, states)
            outputs.append(output)
            states = new
        return self._gathered(outputs, x), states

    def _gathered(self, outputs: list[KerasTensor], x: KerasTensor) -> KerasTensor:
        if not self.whole:
            return outputs[-1]
        batch, *features = outputs[0].type.shape
        rows = [reshape(o, (batch, 1, *features)) for o in outputs]
        steps = x.type.shape[1]
        if isinstance(steps, Open):
            return apply(shapes.Broadcast((batch, steps, *features)), rows[0])
        return apply(shapes.Concat(1), *rows) if len(rows) > 1 else rows[0]


def apart(x: KerasTensor) -> list[KerasTensor]:
    """The steps of x (batch, steps, …), each (batch, …).

    They are halves of halves: the gradients of n slices of one value would be summed n times, each time all of it.
    """
    batch, count, *features = x.type.shape
    if not isinstance(count, int):  # an open size
        return [reshape(part(x, 1, 0, 1), (batch, *features))]
    if count == 1:
        return [reshape(x, (batch, *features))]
    middle = count // 2
    return [*apart(part(x, 1, 0, middle)), *apart(part(x, 1, middle, count))]


def unless(inside: KerasTensor, new: Any, old: Any) -> Any:
    """The new states in rows that count, the old ones in others."""
    before = iter(list(flatten(old)))
    return map_tensors(lambda state: chosen(inside, state, next(before)), new)


def chosen(inside: KerasTensor, then: KerasTensor, otherwise: KerasTensor) -> KerasTensor:
    """`then` in rows that count (batch, 1), for any rank."""
    batch = inside.type.shape[0]
    return where(reshape(inside, (batch, *[1] * (then.type.rank - 1))), then, otherwise)


def kept_share(rate: float, state: KerasTensor) -> KerasTensor:
    """What every step multiplies the last output by: one draw of dropout in training, ones otherwise."""
    one = as_tensor(1.0, state.type.dtype)
    ones = apply(shapes.Broadcast(state.type.shape), one)
    return apply(elementwise.Dropout(rate), ones)
