"""A model in training by steps of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from convc.errors import ConvcError, DataError, UsageError
from convc.graph.ir import Graph
from convc.keras import backend
from convc.keras.engine.ranges import Limit
from convc.keras.engine.tensor import BATCH, Array, Variable
from convc.keras.metrics import Metric
from convc.keras.training.data import (
    Feeds,
    Source,
    feedable,
    plain_array,
    source,
    weights_of_classes,
)
from convc.keras.training.optimizer import PREFIX, all_slots, slot_name
from convc.keras.training.own_steps import LOGS, StepTrace, traced_step
from convc.keras.training.run import TESTED, Run
from convc.keras.training.seeds import Draws
from convc.keras.training.session import Session
from convc.keras.training.settings import Settings
from convc.keras.training.slot_holders import Holder
from convc.keras.training.step import RATE
from convc.passes.training_mode import SEED_INPUT
from convc.types import DType, TensorType

SIZES = 16
"""Entries that are kept where each is for one number of rows."""


def may_be_of_sizes(error: Exception) -> bool:
    """Whether a step that fails for any number of rows may do for a known one: it is traced once more then."""
    return not isinstance(error, ConvcError) or bool(
        re.search(r"\bN\b|None|size|shape", str(error))
    )


class OwnRun(Run):
    """Steps that the model's `train_step` and `test_step` describe."""

    def __init__(self, model: Any, settings: Settings, dropout_key: int) -> None:
        self.model, self.settings = model, settings
        self.session = Session(model.name, backend.threads())
        self.key = dropout_key
        self.seed = np.array([dropout_key & 0xFFFFFFFF, 0], np.uint32)
        self.draws = Draws(dropout_key ^ TESTED)
        self.iterations = 0
        self.weights, self.changing = {}, set()
        self.network = model.traced_once
        self._structures: dict[tuple[str, ...], Any] = {}
        """Those of data, with names in place of arrays, by these names."""
        self._names, self._plain = {}, {}
        self._first_metrics, self._waiting, self._constants = {}, {}, {}
        self._writes, self._read, self._stale = 0, {}, set()
        self._shown, self._lenders = set(), set()
        self._entries, self._defined, self._classes = {}, {}, {}
        self._traces: dict[str, StepTrace] = {}
        self._limits: dict[str, list[Limit]] = {}
        self._logs: tuple[list[str], list[Array]] = ([], [])
        self._number: int | None = None
        """The place of `compile`'s optimizer among those of the steps, once one was traced."""
        self._kept: dict[tuple[str, Variable | None], Array] = {}
        """What that optimizer kept in another run, by slot, for variables and (None) for all, until a step takes it."""
        self._for_sizes = False
        """Whether steps are traced for known numbers of rows: they can't be traced for all."""

    # ------------------------------------------------------------ data

    def feeds(self, x: Any, y: Any = None, weights: Any = None, classes: Any = None) -> Feeds:
        """The arrays of a batch, whatever their structure is, by the names of the step's inputs."""
        if classes is not None:
            if weights is not None:
                raise UsageError("class_weight and sample_weight can't be given at the same time")
            if y is None or isinstance(y, (Mapping, list, tuple)):
                raise UsageError("class_weight needs targets y: a single array of them")
            floats = DType.of(backend.floatx()).numpy
            weights = weights_of_classes(plain_array(y, "y"), classes, floats)
        found: Feeds = {}
        given = tuple(v for v in (x, y, weights) if v is not None)
        parts = (x, y, weights)[: 3 if weights is not None else len(given)]
        named = tuple(
            None if part is None else _named(name, part, found)
            for name, part in zip(("x", "y", "sample_weight"), parts, strict=False)
        )
        # A list of several inputs alone is no pair of inputs and targets.
        alone = len(named) == 1 and not isinstance(named[0], (list, tuple))
        self._structures[tuple(found)] = named[0] if alone else named
        rows = {name: len(array) for name, array in found.items() if array.ndim}
        if len(set(rows.values())) > 1:
            shown = ", ".join(f"{n}: {c}" for n, c in rows.items())
            raise DataError(
                f"the arrays for model {self.model.name!r} must have the same number of rows; received {shown}"
            )
        return found

    def source(self, x: Any, y: Any = None, *settings: Any) -> Source:
        owner: Any = self
        return partial(source, feeds=OwnRun.feeds)(owner, x, y, *settings)

    @property
    def owner(self) -> str:
        return str(self.model.name)

    # ------------------------------------------------------------ steps

    def train(self, feeds: Feeds) -> None:
        self.catch_up()
        self.hide()
        self._step("train", feeds)

    def test(self, feeds: Feeds) -> None:
        self._step("test", feeds)

    @property
    def limits(self) -> Mapping[str, list[Limit]]:
        return self._limits

    def _step(self, kind: str, feeds: Feeds) -> None:
        entry = self.entry(kind, feeds)
        self.check(feeds)
        trace = self._traces[entry]
        self.seed[1] = self.iterations & 0xFFFFFFFF
        seed = self.seed if kind == "train" else self.draws.next()
        controls: dict[str, Any] = {SEED_INPUT: seed}
        for k, optimizer in enumerate(trace.optimizers):
            dtype = trace.builder.types[f"{RATE}/{k}"].dtype.numpy
            rate = optimizer.rate_at(trace_steps(optimizer, self))
            controls[f"{RATE}/{k}"] = np.array(rate, dtype)
        names = [n for n in self.session._graphs[entry].outputs if n.startswith(LOGS)]
        try:
            self._logs = (names, self.session.step(entry, {**feeds, **controls}))
        finally:  # An interrupt is heard of once native code has made the step.
            self._writes += 1
            self.iterations += kind == "train"

    def entry(self, kind: str, feeds: Feeds) -> str:
        """The entry for arrays of these types; a step that fits one batch size only has one for each that comes."""
        if self._for_sizes:
            kind_of = {n: (a.dtype, a.shape) for n, a in feeds.items()}
            key = (kind, tuple(kind_of.items()))
            if self._stale or key not in self._entries:
                self.take_over()
                if len(self._entries) >= SIZES:
                    self._forget_entries()
                self._entries[key] = self.defined(kind, self.types_of(feeds))
            return self._entries[key]
        try:
            return super().entry(kind, feeds)
        except (ConvcError, TypeError) as error:
            if self.model.remembers or not may_be_of_sizes(error):
                raise
            self._for_sizes = True
            try:
                return self.entry(kind, feeds)
            except (ConvcError, TypeError):
                self._for_sizes = False
                raise error from None

    def _forget_entries(self) -> None:
        """Makes room: data whose rows differ in each batch would fill the memory with code."""
        for name in self._defined.values():
            self.session.forget(name)
        for known in (self._entries, self._defined, self._traces, self._constants):
            known.clear()

    def types_of(self, feeds: Feeds) -> dict[str, TensorType]:
        # States that are kept from batch to batch are for so many rows.
        counted = self._for_sizes or self.model.remembers
        first = (lambda rows: rows) if counted else (lambda rows: BATCH)
        return {
            name: TensorType(DType.of(a.dtype), (first(a.shape[0]), *a.shape[1:]) if a.ndim else ())
            for name, a in feeds.items()
        }

    def step_graph(self, kind: str, types: Mapping[str, TensorType]) -> Graph:
        step = self.model.train_step if kind == "train" else self.model.test_step
        known = set(self._plain)
        try:
            structure = self._structures[tuple(types)]
            graph, trace = traced_step(step, types, structure, self._plain, views_state=True)
        except Exception:
            for variable in self._plain.keys() - known:
                del self._plain[variable]
            raise
        for variable, name in self._plain.items():
            if variable not in known:
                self._take(variable, name)
        self._limits |= trace.limits
        optimizers = [k for k, o in enumerate(trace.optimizers) if o is self.settings.optimizer]
        self._number = optimizers[0] if optimizers else self._number
        kept = self._restored()
        for name, array in trace.first.items():
            if name not in self.session:
                self.session.write(name, self._waiting.pop(name, kept.get(name, array)))
        self._latest = trace
        return graph

    def _take(self, variable: Variable, name: str) -> None:
        """Brings a variable that a step has met for the first time into the session."""
        variable.hand_over(self)
        if name in self._waiting:
            self.session.write(name, self._waiting.pop(name))
            self._moved(variable)
        else:
            self._lend(variable, name)

    def defined(self, kind: str, types: Mapping[str, TensorType]) -> str:
        before = set(self._constants)
        name = super().defined(kind, types)
        if name not in before:
            self._traces[name] = self._latest
            self.session.transpose(name, self._latest.views)
        return name

    # ------------------------------------------------------------ state and results

    def state(self) -> dict[str, Array]:
        if self._stale:
            self.take_over()
        return {**{n: self.session.read(n) for n in self.session.names}, **self._waiting}

    def restore(self, arrays: Mapping[str, Array], dropout_key: int) -> None:
        self.key = dropout_key
        self.seed[0] = dropout_key & 0xFFFFFFFF
        self._waiting = {n: a for n, a in arrays.items() if n not in self.session}
        for name in arrays.keys() - self._waiting.keys():
            self.session.write(name, arrays[name])
        self._writes += 1

    def _slot(self, slot: str, variable: Variable | None) -> str:
        """The name of what `compile`'s optimizer keeps for a variable, or for all; empty before a step needs it."""
        if self._number is None or (variable is not None and variable not in self._plain):
            return ""
        if variable is None:
            return f"{PREFIX}/{self._number}/{slot}"
        return slot_name(f"{self._number}/{self._plain[variable]}", slot)

    def _restored(self) -> dict[str, Array]:
        """What is kept from another run, by its name here."""
        return {self._slot(slot, v): array for (slot, v), array in self._kept.items()}

    def slots(self, slot: str) -> dict[Variable, Array]:
        found = {v: a for (s, v), a in self._kept.items() if s == slot and v is not None}
        for variable in self._plain:
            name = self._slot(slot, variable)
            if name in self.session:
                found[variable] = self.session.read(name)
        return found

    def shared(self, name: str) -> Array | None:
        place = self._slot(name, None)
        return self.session.read(place) if place in self.session else self._kept.get((name, None))

    def restore_shared(self, name: str, array: Array) -> None:
        self._restore_slot(name, None, array)

    def restore_slots(self, slot: str, arrays: Mapping[Variable, Array]) -> None:
        for variable, array in arrays.items():
            self._restore_slot(slot, variable, array)

    def _restore_slot(self, slot: str, variable: Variable | None, array: Array) -> None:
        self._kept[slot, variable] = array
        if self._slot(slot, variable) in self.session:
            self.session.write(self._slot(slot, variable), array)
            self._writes += 1

    def follow(self, earlier: Holder) -> None:
        rule = self.settings.optimizer.rule
        for slot in all_slots(rule):
            self.restore_slots(slot, earlier.slots(slot))
        for name in rule.scalars:
            array = earlier.shared(name)
            if array is not None:
                self.restore_shared(name, array)

    def finish(self) -> None:
        """Ends a training: with moving averages of the weights, these become the weights."""
        if self.settings.optimizer is None or not self.settings.optimizer.rule.use_ema:
            return
        for variable, name in self._plain.items():
            average = self._slot("average", variable)
            if average in self.session:
                self.session.write(name, self.session.view(average))
        self._writes += 1

    def reset_metrics(self) -> None:
        for metric in self.model.tracked_metrics():
            metric.reset_state()

    def logs(self) -> dict[str, Any]:
        names, values = self._logs
        return {n.removeprefix(LOGS): float(v) for n, v in zip(names, values, strict=True)}


def trace_steps(optimizer: Any, run: OwnRun) -> int:
    """The steps that the optimizer has made."""
    name = run._plain.get(optimizer.step_count, "")
    kept = name in run.session
    return int(run.session.scalar(name)) if kept else int(optimizer.step_count.value)


def _named(name: str, value: Any, found: Feeds) -> Any:
    """The structure of data with names in place of arrays, which are put into `found`."""
    match value:
        case Mapping():
            return {key: _named(f"{name}/{key}", item, found) for key, item in value.items()}
        case list() | tuple() if value and all(np.ndim(item) > 0 for item in value):
            made = [_named(f"{name}/{k}", item, found) for k, item in enumerate(value)]
            return tuple(made) if isinstance(value, tuple) else made
        case _:
            found[name] = feedable(plain_array(value, name), DType.of(backend.floatx()))
            return name


def metrics_in(value: Any) -> list[Metric]:
    """The metrics that an object keeps in its attributes."""
    found = []
    for item in vars(value).values():
        items = item if isinstance(item, (list, tuple)) else [item]
        found += [m for m in items if isinstance(m, Metric)]
    return found
