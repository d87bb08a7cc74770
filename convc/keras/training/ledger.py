"""What programs compute by hand, put down until somebody wants a value: tapes' contents, and what follows from them.

Operators on known values within a tape, on what came out of one, gradients, updates and assignments are put down as
steps. When a value is read, or the next tape begins, all that is due runs as one program (hand_running.py): what the
program still holds, and the next values of variables.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from convc.keras.engine.call import map_tensors
from convc.keras.engine.layer import Layer
from convc.keras.engine.steps import Step, Variable, evaluate, recorded
from convc.keras.engine.tensor import Array, KerasTensor
from convc.keras.training.hand_programs import LOCK, cell_of
from convc.keras.training.hand_running import LostError, Version, Work, run
from convc.keras.training.own_steps import detached
from convc.keras.training.replay import called
from convc.keras.training.seeds import next_key

TAPES = 8
"""Tapes that may wait for their gradients at a time."""


class Versions(dict[Variable, Step]):
    """What variables are by now."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self.ledger = ledger
        self.read: dict[Variable, list[Step]] = {}
        """All that each variable was: a gradient for it is that for all of these together."""

    def __contains__(self, key: object) -> bool:
        return True

    def __missing__(self, variable: Variable) -> Step:
        step = Version(variable, (), variable._step.type, recorded=self.ledger)
        cell = cell_of(variable)
        cell.ask_another(self.ledger)
        if variable.keeper is None:
            variable.keeper = cell
        if variable.keeper is not cell:
            step.known = variable.array  # Another one may change it without a word.
        cell.watcher = self.ledger
        self._met(variable, step)
        return step

    def __setitem__(self, variable: Variable, step: Step) -> None:
        cell = cell_of(variable)
        cell.ask_another(self.ledger)
        variable.hand_over(cell)
        self._met(variable, detached(step))
        cell.watcher = cell.pending = self.ledger

    def _met(self, variable: Variable, step: Step) -> None:
        self.read.setdefault(variable, []).append(step)
        super().__setitem__(variable, step)

    def changed(self) -> dict[Variable, Step]:
        """The variables that were assigned to."""
        return {v: s for v, s in self.items() if not isinstance(s, Version)}


class Ledger:
    """The one recording of a thread."""

    def __init__(self) -> None:
        self.variables = Versions(self)
        self.tapes: weakref.WeakSet[Any] = weakref.WeakSet()
        """Those that may still ask for gradients of what is put down."""
        self.within: Layer | None = None
        """The layer whose call is put down in order to be repeated."""
        self._begun = 0
        self._running = False
        self._made: dict[int, weakref.ref[KerasTensor]] = {}
        self._draws: dict[Step, int] = {}
        self._numbers = itertools.count()
        self._seed: Array | None = None

    # ------------------------------------------------------------ what is put down

    def made(self, tensor: KerasTensor) -> None:
        number = id(tensor)
        self._made[number] = weakref.ref(tensor, lambda _: self._made.pop(number, None))

    def called(self, layer: Layer, args: Any, kwargs: Any) -> Any:
        """A call of a layer."""
        return called(layer, args, kwargs, self)

    def next_number(self) -> int:
        """Another number for each draw that is recorded."""
        return next(self._numbers)

    def number_of(self, step: Step) -> int:
        """Which of the draws since the first tape a random step is."""
        return self._draws.setdefault(step, len(self._draws))

    @property
    def seed(self) -> Array:
        if self._seed is None:
            self._seed = np.array([next_key(), next_key() & 0xFFFFFFFF], np.uint32)
        return self._seed

    def begin(self) -> None:
        """A tape begins within no other: what came before is over, unless a gradient of it is still to come."""
        self.flush(keep=False)
        self._begun += 1
        if self._begun > TAPES or not any(tape.open for tape in self.tapes):
            self.forget()

    def forget(self) -> None:
        """No more gradients of what was put down."""
        for tensor in self._tensors():
            if tensor.step.known is not None:
                tensor.step = _known(tensor.step)
        for tape in self.tapes:
            tape.over = True
        self.tapes.clear()
        self._begun = 0
        self.variables.read.clear()
        self._draws.clear()
        self._numbers, self._seed = itertools.count(), None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Within it values are computed at once, and are constants to gradients."""
        self.flush()
        with recorded(None):
            yield

    # ------------------------------------------------------------ variables' keepers ask

    def replaced(self, variable: Variable, before: Array) -> None:
        """A variable was assigned to at once: what is put down has the value from before."""
        step = self.variables.pop(variable, None)
        for each in (*self.variables.read.get(variable, ()), step):
            if isinstance(each, Version) and each.known is None and not each.lost:
                each.known = before

    # ------------------------------------------------------------ values

    def values(self, steps: Sequence[Step]) -> list[Array]:
        """The values of steps, which are kept with them."""
        self.flush([s for s in steps if s.known is None])
        return [
            s.known if s.known is not None else evaluate(replace(s, recorded=None)) for s in steps
        ]

    def flush(self, wanted: Sequence[Step] = (), keep: bool = True) -> None:
        """Computes all that is due, and these steps. With `keep`, gradients that tapes may ask for stay possible."""
        with LOCK:
            if wanted or not self._running:  # else a program that runs asks for its variables
                self._flush(wanted, keep)

    def _flush(self, wanted: Sequence[Step], keep: bool) -> None:
        changed = self.variables.changed()
        alive = [s for t in self._tensors() if (s := t.step).known is None and s.recorded is self]
        steps = list(dict.fromkeys([*wanted, *alive]))
        if not (steps or changed):
            return
        kept = [t for t in self.tapes if t.open or (keep and t.persistent)]
        if kept:
            self._keep(changed)
        work = Work(steps, changed, self)
        outer, self._running = self._running, True
        try:
            with recorded(None):
                run(work)
        except BaseException as error:
            again = isinstance(error, MemoryError) or not work.replaced
            if again and isinstance(error, (MemoryError, KeyboardInterrupt)):
                for variable in changed:
                    cell_of(variable).pending = self
                raise
            if wanted and isinstance(error, LostError):
                raise  # Nothing has run: what is due besides can be computed without them.
            # What can't be computed now never can: variables stay as they are, or as an interrupted program left them.
            self._made.clear()
            self._settle(changed, work.replaced)
            raise
        finally:
            self._running = outer
        self._settle(changed)

    def _settle(self, changed: Iterable[Variable], replaced: bool = True) -> None:
        """Nothing is due; what variables were before they were replaced is lost, where nobody has kept it."""
        for variable in changed:
            for step in self.variables.read.get(variable, ()) if replaced else ():
                if isinstance(step, Version) and step.known is None:
                    step.lost = True
        self.variables.clear()
        for variable in changed:  # Last: until then other threads that read them wait.
            cell_of(variable).pending = None

    def _keep(self, changed: Iterable[Variable]) -> None:
        """Copies the values that variables had before: gradients may be asked for there."""
        for variable in changed:
            old = [s for s in self.variables.read.get(variable, ()) if isinstance(s, Version)]
            waiting = [s for s in old if s.known is None and not s.lost]
            if waiting:
                array = cell_of(variable).copy(variable)
                for step in waiting:
                    step.known = array

    def _tensors(self) -> list[KerasTensor]:
        return [tensor for ref in list(self._made.values()) if (tensor := ref()) is not None]


def _known(step: Step) -> Step:
    array = step.known
    assert array is not None
    return Step(array, (), step.type)


class _Own(threading.local):
    """Each thread's ledger."""

    def __init__(self) -> None:
        self.ledger = Ledger()


_own = _Own()


def ledger_now() -> Ledger:
    """The ledger of the thread."""
    return _own.ledger


def recorded_call(call: Callable[[], Any]) -> Any:
    """What a call of a layer on known values gives: computed at once, unless something it needs is put down."""
    ledger = ledger_now()
    with recorded(ledger):
        outputs = call()

    def settled(tensor: KerasTensor) -> KerasTensor:
        found = KerasTensor(_known(tensor.step) if tensor.step.known is not None else tensor.step)
        found.name = tensor.name
        if tensor.mask is not None:
            found.mask = settled(tensor.mask)
        return found

    tensors: list[KerasTensor] = []
    map_tensors(lambda t: tensors.extend([t, *([t.mask] if t.mask is not None else [])]), outputs)
    ledger.values([t.step for t in tensors if t.step.known is None and t.step.recorded is ledger])
    if not any(tape.open for tape in ledger.tapes):
        ledger.forget()
    return map_tensors(settled, outputs)
