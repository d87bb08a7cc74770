"""The state of a training in memory, and the compiled entries that step it forward.

This is the only place that knows how state is handed to native code.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from convc_runtime import Context
from convc_runtime.memory import aligned
from convc_runtime.model import Entry

import convc
from convc.graph.ir import Graph
from convc.graph.state import NEXT
from convc.keras.engine.tensor import Array
from convc.keras.training.wholes import inverse


@dataclass
class Compiled:
    """One entry as native code."""

    entry: Entry
    context: Context
    states: frozenset[str]
    """What it replaces where it lies, in the context."""
    inputs: tuple[str, ...]
    results: list[Array] | None
    """Where its outputs go; None for new arrays in each call."""
    views: Mapping[str, tuple[int, ...]]
    """How states lie transposed in the context, by name."""
    steps: int = 0

    def view(self, name: str) -> Array:
        """A state in the session's order."""
        array, perm = self.context.view(name), self.views.get(name)
        return array if perm is None else array.transpose(inverse(perm))

    def put(self, name: str, value: Array) -> None:
        """Sets a state."""
        perm = self.views.get(name)
        self.context.set(name, value if perm is None else value.transpose(perm))


def nothing() -> None:
    """What there is to do for most values, once they have moved."""


@dataclass(frozen=True)
class Lent:
    """A first value, elsewhere until an entry wants it: `array` makes it, `moved` is called once it was copied."""

    array: Callable[[], Array]
    moved: Callable[[], None] = nothing


class Session:
    """Named arrays that entries read and write.

    `step` runs an entry once: one native call. `read` gives a copy of an array, `write` replaces its values. Each
    array lies with the entry that wrote it last and moves when another entry wants it: within an epoch nothing is
    copied. What `keeps` names is first copied by each step that replaces it, for `previous`.
    """

    def __init__(self, name: str, threads: int | None = None) -> None:
        self.name, self.threads = name, threads
        self.lock = threading.RLock()
        """Held while an entry runs: other threads may predict and read meanwhile."""
        self.keeps: frozenset[str] = frozenset()
        self._home: dict[str, Array] = {}
        """Arrays in logical order, outside of all contexts."""
        self._lent: dict[str, Lent] = {}
        """Arrays that no entry has asked for yet: neither here nor there."""
        self._copied: dict[str, tuple[str, int]] = {}
        """Of which entry's step those are copies, where they are."""
        self._owner: dict[str, str | None] = {}
        """The entry whose context has the latest value; None for an array at home."""
        self._previous: dict[str, Array] = {}
        self._graphs: dict[str, Graph] = {}
        self._views: dict[str, Mapping[str, tuple[int, ...]]] = {}
        self._compiled: dict[str, Compiled] = {}
        self._ready = ""
        """The entry that needs nothing moved before it runs again."""

    def define(self, entry: str, graph: Graph) -> None:
        """Gives an entry its graph; it is compiled when it first runs."""
        self.forget(entry)
        self._graphs[entry] = graph

    def transpose(self, entry: str, views: Mapping[str, tuple[int, ...]]) -> None:
        """Says how an entry that hasn't run yet has states transposed, by name."""
        self._views[entry] = views

    def forget(self, entry: str) -> None:
        """Takes an entry away; its state stays."""
        for name, owner in self._owner.items():
            if owner == entry:
                self._bring_home(name)
                self._owner[name] = None
        self._graphs.pop(entry, None)
        self._views.pop(entry, None)
        self._compiled.pop(entry, None)
        self._ready = ""

    def __contains__(self, name: str) -> bool:
        return name in self._owner

    @property
    def names(self) -> list[str]:
        """The names of the arrays."""
        return list(self._owner)

    def write(self, name: str, value: Any) -> None:
        """Sets an array, new or of the same type."""
        value = np.asarray(value)
        lent = self._lent.pop(name, None)
        if name not in self._owner or lent is not None:
            self._home[name] = placed(value if lent is None else lent.array())
            self._owner[name] = None
        np.copyto(self.view(name), value, casting="same_kind")
        self._ready = ""
        self._copied.pop(name, None)

    def lend(
        self, name: str, array: Callable[[], Array], moved: Callable[[], None] = nothing
    ) -> None:
        """Sets a new array to what `array` returns, which is asked for when an entry first wants it.

        It is always the same then, and nobody writes to it. `moved` is called once it was copied.
        """
        assert name not in self._owner, f"{name} has a value"
        self._lent[name], self._owner[name], self._ready = Lent(array, moved), None, ""

    def _settle(self, name: str) -> None:
        """Copies an array that is lent to us home."""
        lent = self._lent.get(name)
        if lent is not None:
            self._home[name] = placed(lent.array())
            del self._lent[name]
            lent.moved()

    def read(self, name: str) -> Array:
        """A copy of an array."""
        with self.lock:
            return np.array(self.view(name), order="C")

    def scalar(self, name: str) -> float:
        """An array of one number as that."""
        return float(self.view(name))

    def view(self, name: str) -> Array:
        """The array itself, in any strides: good until the next step."""
        owner = self._owner[name]
        if owner is not None:
            return self._compiled[owner].view(name)
        return self._lent[name].array() if name in self._lent else self._home[name]

    def previous(self, name: str) -> Array:
        """An array as it was before the latest step that replaced it (see `keeps`)."""
        return self._previous[name] if name in self._previous else self.read(name)

    def step(self, entry: str, feeds: Mapping[str, Any]) -> list[Array]:
        """Runs an entry on the arrays in `feeds` and its state, and returns its outputs that aren't state."""
        with self.lock:
            return self._step(entry, feeds)

    def _step(self, entry: str, feeds: Mapping[str, Any]) -> list[Array]:
        compiled = self._compiled.get(entry) or self._compile(entry)
        if self._ready != entry:
            self._gather(entry, compiled, feeds)
        if self.keeps:
            kept = compiled.states & self.keeps
            self._previous = {n: np.array(compiled.view(n), order="C") for n in kept}
        home = self._home
        given = [feeds[n] if n in feeds else home[n] for n in compiled.inputs]
        found = compiled.entry(*given, out=compiled.results)
        compiled.steps += 1
        return found if isinstance(found, list) else [found]

    def _gather(self, entry: str, compiled: Compiled, feeds: Mapping[str, Any]) -> None:
        """Brings what an entry reads to where it reads it."""
        for name in compiled.states:
            if self._owner[name] == entry:
                continue
            value = self.view(name)
            if name not in self._lent or not is_filled_with_zeros(value):
                compiled.put(name, value)  # else nothing has ever been there
            self._owner[name] = entry
            self._home.pop(name, None)
            self._copied.pop(name, None)
            lent = self._lent.pop(name, None)
            if lent is not None:
                lent.moved()
        for name in compiled.inputs:
            if name in feeds:
                continue
            if self._owner[name] is not None:
                self._bring_home(name)
            else:
                self._settle(name)
        self._ready = entry

    def _bring_home(self, name: str) -> None:
        """A copy of an array's latest value in logical order."""
        owner = self._owner[name]
        assert owner is not None, "it is elsewhere"
        source = self._compiled[owner]
        version = (owner, source.steps)
        if self._copied.get(name) != version:
            view = source.view(name)
            if self._home.get(name) is None:
                self._home[name] = placed(view)
            else:
                self._home[name][...] = view
            self._copied[name] = version

    def _compile(self, entry: str) -> Compiled:
        graph = self._graphs[entry]
        driver = convc.driver
        options = driver.Options("training", in_place=True)
        made = driver.compile_graphs(self.name, {entry: graph}, driver.host_target(), options)
        context = made.artifact.model(self.threads).context()
        native = context.entries[entry]
        steps_state = any(o.startswith(NEXT) for o in graph.outputs)
        outputs = [np.zeros((), t.dtype) for t in native.info.outputs] if steps_state else None
        states = frozenset(s.name for s in context.states)
        inputs = tuple(t.name for t in native.info.inputs)
        views = self._views.get(entry, {})
        found = Compiled(native, context, states, inputs, outputs, views)
        self._compiled[entry] = found
        return found


def is_filled_with_zeros(array: Array) -> bool:
    """Whether an array is one zero seen many times."""
    if array.size == 0 or any(array.strides):
        return False
    return not any(array[(0,) * array.ndim].tobytes())


def placed(value: Array) -> Array:
    """A copy at an address that is a multiple of 64, where vectors don't straddle cache lines."""
    array: Array = aligned(value.nbytes).view(value.dtype).reshape(value.shape)
    array[...] = value
    return array
