"""The state of a training in memory, and the compiled entries that step it forward.

This is the only place that knows how state is handed to native code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from convc_runtime.memory import aligned
from convc_runtime.model import Entry

import convc
from convc.graph.ir import Graph
from convc.keras.engine.tensor import Array
from convc.keras.training.step import NEXT


@dataclass
class Compiled:
    """One entry as native code: which of its inputs and outputs are state."""

    entry: Entry
    inputs: tuple[str, ...]
    state: tuple[str, ...]
    """The names of the state that it writes, in the order of its first outputs."""
    results: tuple[str, ...]
    """Its other outputs, which come after the state."""
    scalars: dict[str, Any] = field(default_factory=dict)


class Session:
    """Named arrays that entries read and write.

    `step` runs an entry once: one native call. `read` gives a copy of a state array, `write` replaces its values,
    `previous` has those before the latest step.
    """

    def __init__(self, name: str, threads: int | None = None) -> None:
        self.name, self.threads = name, threads
        self._state: dict[str, Array] = {}
        self._spare: dict[str, Array] = {}
        self._graphs: dict[str, Graph] = {}
        self._compiled: dict[str, Compiled] = {}

    def define(self, entry: str, graph: Graph) -> None:
        """Gives an entry its graph; it is compiled when it first runs."""
        self._graphs[entry] = graph
        self._compiled.pop(entry, None)

    def defines(self, entry: str) -> bool:
        return entry in self._graphs

    def forget(self, entry: str) -> None:
        self._graphs.pop(entry, None)
        self._compiled.pop(entry, None)

    def __contains__(self, name: str) -> bool:
        return name in self._state

    @property
    def names(self) -> list[str]:
        """The names of the state."""
        return list(self._state)

    def write(self, name: str, value: Any) -> None:
        """Sets a state array, new or of the same type."""
        value = np.asarray(value)
        if name not in self._state:
            self._state[name], self._spare[name] = placed(value), placed(value)
        np.copyto(self._state[name], value, casting="same_kind")

    def read(self, name: str) -> Array:
        """A copy of a state array."""
        return self._state[name].copy()

    def scalar(self, name: str) -> float:
        """A state scalar as a number."""
        return float(self._state[name])

    def view(self, name: str) -> Array:
        """A state array itself: good until the next step."""
        return self._state[name]

    def previous(self, name: str) -> Array:
        """A copy of a state array as it was before the latest step that wrote it."""
        return self._spare[name].copy()

    def step(self, entry: str, feeds: Mapping[str, Any]) -> list[Array]:
        """Runs an entry on the arrays in `feeds` and its state, and returns the outputs that aren't state."""
        compiled = self._compiled.get(entry) or self._compile(entry)
        state, spare = self._state, self._spare
        given = [feeds[n] if n in feeds else state[n] for n in compiled.inputs]
        if compiled.results and not compiled.state:
            found = compiled.entry(*given)
            return found if isinstance(found, list) else [found]
        out = [spare[n] for n in compiled.state]
        results = [compiled.scalars[n] for n in compiled.results]
        compiled.entry(*given, out=[*out, *results])
        for name, array in zip(compiled.state, out, strict=True):
            spare[name] = state[name]
            state[name] = array
        return results

    def _compile(self, entry: str) -> Compiled:
        graph = self._graphs[entry]
        written = [o for o in graph.outputs if o.startswith(NEXT)]
        others = [o for o in graph.outputs if not o.startswith(NEXT)]
        driver = convc.driver
        made = driver.compile_graphs(
            self.name,
            {entry: replace(graph, outputs=(*written, *others))},
            driver.host_target(),
            driver.Options("training"),
        )
        native = made.artifact.model(self.threads).entries[entry]
        scalars = {o: np.zeros((), graph.types[o].dtype.numpy) for o in others if written}
        found = Compiled(
            native,
            tuple(t.name for t in native.info.inputs),
            tuple(o.removeprefix(NEXT) for o in written),
            tuple(others),
            scalars,
        )
        self._compiled[entry] = found
        return found


def placed(value: Array) -> Array:
    """A copy at an address that is a multiple of 64, where vectors don't straddle cache lines."""
    array: Array = aligned(value.nbytes).view(value.dtype).reshape(value.shape)
    array[...] = value
    return array
