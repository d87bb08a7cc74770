"""Compiled steps of programs that train by hand, and the variables that they replace where they lie.

A `Program` is native code of one structure; each set of variables that it runs on has a context of its own. The
latest value of a variable lies with the program that wrote it last, until somebody reads it or another one wants it.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from convc_runtime import Context
from convc_runtime.model import Entry

import convc
from convc.graph.ir import Graph
from convc.graph.state import NEXT
from convc.keras import backend
from convc.keras.engine.tensor import Array, Variable
from convc.keras.training.attached import Attached
from convc.keras.training.wholes import inverse

STEP = "step"
"""The name of a program's only entry."""

NO_VIEWS: Mapping[str, tuple[int, ...]] = {}

LOCK = threading.RLock()
"""Held while variables move: several threads may compute by hand."""

SETS = 8
"""Sets of variables whose contexts a program keeps: those used last."""


class Cell:
    """Where a variable's latest value lies: in the variable, or in a context. It is the variable's keeper."""

    def __init__(self) -> None:
        self.place: Bound | None = None
        """The context with the latest value; None for the variable itself."""
        self.name = ""
        """Its name there."""
        self.copied = True
        """Whether the variable has the latest value, wherever else it lies."""
        self.pending: Any = None
        """Who has put down a next value that isn't computed yet (ledger.py)."""
        self.watcher: Any = None
        """Who has put down something that reads the value."""

    def refresh(self, variable: Variable) -> None:
        if self.pending is not None:
            self.pending.flush()
        if not self.copied:
            with LOCK:
                self._copy_out(variable)

    def _copy_out(self, variable: Variable) -> None:
        if not self.copied:
            assert self.place is not None
            variable.receive(self.place.value(self.name))
            self.copied = True

    def assigned(self, variable: Variable) -> None:
        self._replaced(variable)

    def lost(self, variable: Variable) -> None:
        self._replaced(variable)

    def _replaced(self, variable: Variable) -> None:
        if self.watcher is not None:
            self.watcher.replaced(variable, self.copy(variable))
        self.place, self.copied, self.pending, self.watcher = None, True, None, None

    def ask_another(self, ledger: Any) -> None:
        """Before a thread puts something down: a next value that another thread has put down comes first."""
        if self.pending is not None and self.pending is not ledger:
            self.pending.flush()

    def copy(self, variable: Variable) -> Array:
        """The value that lies here, without asking who has put down another one."""
        if self.place is not None and not self.copied:
            return self.place.value(self.name)
        return variable.own

    def move(self, variable: Variable, place: Bound, name: str) -> None:
        """Brings the latest value into a context."""
        variable.hand_over(self)
        if self.place is None or self.copied:
            place.put(name, variable.own)
        else:
            place.put(name, self.place.view(self.name))
        self.place, self.name = place, name


_cells: Attached[Cell] = Attached()


def cell_of(variable: Variable) -> Cell:
    return _cells.get(variable) or _cells.set(variable, Cell())


@dataclass(eq=False)
class Bound:
    """A context of a program for certain variables."""

    context: Context
    entry: Entry
    views: Mapping[str, tuple[int, ...]]
    """How states are variables' values transposed, by name."""
    states: list[tuple[weakref.ref[Variable], Cell, str]] = field(default_factory=list)
    """What the program replaces."""
    read: list[tuple[weakref.ref[Variable], str]] = field(default_factory=list)
    """What it only reads."""
    runs: int = 0
    """How often native code was called."""
    alive: bool = True
    """Whether all of the variables are still there, and the program has the context."""

    def put(self, name: str, array: Array) -> None:
        """Sets a state to a variable's value."""
        perm = self.views.get(name)
        self.context.set(name, array if perm is None else array.transpose(perm))

    def view(self, name: str) -> Array:
        """A state as its variable has it, over the context's memory."""
        array, perm = self.context.view(name), self.views.get(name)
        return array if perm is None else array.transpose(inverse(perm))

    def value(self, name: str) -> Array:
        """A copy of that."""
        return np.array(self.view(name), order="C")

    def release(self) -> None:
        """Gives variables the values that lie here; the context isn't used again."""
        self.alive = False
        for ref, cell, _ in self.states:
            variable = ref()
            if cell.place is self and variable is not None:
                cell.refresh(variable)
                cell.place = None


class Program:
    """Native code for a graph whose outputs `next/x` are the next values of inputs `x`; compiled in its first run."""

    def __init__(
        self, name: str, graph: Graph, views: Mapping[str, tuple[int, ...]] = NO_VIEWS
    ) -> None:
        self.name, self.graph, self.views = name, graph, views
        self._model: Any = None
        self._inputs: tuple[str, ...] = ()
        self._bound: dict[tuple[int, ...], Bound] = {}

    def run(self, bound: Bound, feeds: Mapping[str, Any]) -> list[Array]:
        """The outputs that aren't variables' next values. `feeds` are the inputs that are no variables."""
        with LOCK:
            return self._run(bound, feeds)

    def _run(self, bound: Bound, feeds: Mapping[str, Any]) -> list[Array]:
        for ref, cell, name in bound.states:
            if cell.place is not bound:
                cell.move(alive(ref), bound, name)
        given = {**feeds, **{name: alive(ref).array for ref, name in bound.read}}
        bound.runs += 1
        try:
            found = bound.entry(*[given[name] for name in self._inputs])
        finally:  # Native code ends before an interrupt is heard of.
            for ref, cell, _ in bound.states:
                cell.copied = False
                variable = alive(ref)
                if variable.has_value:
                    variable.let_go()
        return found if isinstance(found, list) else [found]

    def release(self) -> None:
        """Gives variables the values that lie in the program's contexts, which end."""
        for bound in self._bound.values():
            bound.release()
        self._bound.clear()

    def bound(self, variables: Mapping[str, Variable]) -> Bound:
        """The context for variables, by the names of their inputs."""
        key = tuple(map(id, variables.values()))
        found = self._bound.get(key)
        if found is None:
            found = self._bind(variables, key)
            while len(self._bound) >= SETS:
                self._bound.pop(next(iter(self._bound))).release()
            self._bound[key] = found
        elif len(self._bound) > 1:
            self._bound[key] = self._bound.pop(key)  # the last in order
        return found

    def _bind(self, variables: Mapping[str, Variable], key: tuple[int, ...]) -> Bound:
        if self._model is None:
            self._compile()
        context = self._model.context()
        replaced = {s.name for s in context.states}
        found = Bound(context, context.entries[STEP], self.views)

        def gone(_: Any) -> None:
            found.alive = False
            self._bound.pop(key, None)  # Another variable may have the number from now on.

        refs = {name: weakref.ref(v, gone) for name, v in variables.items()}
        found.states = [(refs[n], cell_of(v), n) for n, v in variables.items() if n in replaced]
        found.read = [(refs[n], n) for n in variables if n in self._inputs]
        return found

    def _compile(self) -> None:
        driver = convc.driver
        options = driver.Options("training", in_place=True)
        made = driver.compile_graphs(self.name, {STEP: self.graph}, driver.host_target(), options)
        self._model = made.artifact.model(backend.threads())
        entry = self._model.entries[STEP]
        self._inputs = tuple(t.name for t in entry.info.inputs)

    @property
    def results(self) -> list[str]:
        """The names of the outputs that `run` gives, in their order."""
        return [name for name in self.graph.outputs if not name.startswith(NEXT)]


def alive(ref: weakref.ref[Variable]) -> Variable:
    """A variable that the caller knows to be there."""
    found = ref()
    assert found is not None, "its caller holds it"
    return found
