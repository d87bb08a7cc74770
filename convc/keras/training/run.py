"""A model in training: its state beside its variables, and the entries that the data ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from convc.errors import DataError
from convc.graph.ir import Graph
from convc.keras import backend
from convc.keras.engine.ranges import Limit, check_fed
from convc.keras.engine.tensor import Array, Variable
from convc.keras.metrics import Mean, Metric
from convc.keras.training.data import (
    Feeds,
    Ports,
    Source,
    check_labels,
    feeds_of,
    source,
    target_name,
    weight_name,
)
from convc.keras.training.model import Training, trained_in, training_of, with_input_dtypes
from convc.keras.training.optimizer import PREFIX, all_slots, slot_name
from convc.keras.training.seeds import Draws
from convc.keras.training.session import Session
from convc.keras.training.settings import Settings
from convc.keras.training.slot_holders import Holder, taken_from_hands
from convc.keras.training.step import ITERATIONS, LOSS, RATE
from convc.keras.training.tracing import STATE, state_names
from convc.passes.training_mode import SEED_INPUT, with_inputs
from convc.types import Dim, DType, Shape, TensorType

WEIGHT = "weights/"
"""The first part of the names of the model's variables in a state."""

TESTED = 0x74657374
"""What makes another key of a training's for draws outside of its steps."""

Signature = tuple[tuple[str, TensorType], ...]
"""Names and types of the arrays that a step is fed."""


class Run:
    """Steps of a compiled model. Its variables' latest values are in the session's memory until somebody reads them."""

    def __init__(self, model: Any, settings: Settings, ports: Ports, dropout_key: int) -> None:
        self.model, self.settings, self.ports = model, settings, ports
        self.session = Session(model.name, backend.threads())
        self.key = dropout_key
        self.seed = np.array([dropout_key & 0xFFFFFFFF, 0], np.uint32)
        self.draws = Draws(dropout_key ^ TESTED)
        self.iterations = int(settings.optimizer.step_count.value)
        self.rate: Array = np.zeros(())
        # Of a weight that only a loss depends on, predictions know nothing.
        _, self.weights = model.graph_of_variables(losses=True, nominal=True)
        self._names: dict[Variable, str] = {w.variable: n for n, w in self.weights.items()}
        self._plain: dict[Variable, str] = {settings.optimizer.step_count: ITERATIONS}
        """Metrics' and the optimizer's variables, whose state has their own form."""
        self._first_metrics: dict[str, Array] = {}
        self._waiting: dict[str, Array] = {}
        """Restored state that no entry has asked for yet."""
        self.changing: set[str] = set()
        """The names of the weights that are state: trained ones, and moving statistics."""
        self.trained = settings.trained or trained_in(model)
        self._varying: set[str] = set()
        self._classes: dict[str, tuple[int, int | None]] = {}
        """Frozen weights that were assigned to since a step was compiled."""
        self._constants: dict[str, dict[Variable, Array]] = {}
        self._writes = 0
        self._read: dict[Variable, int] = {}
        self._shown: set[Variable] = set()
        """Those that somebody has read: they hold a copy of the session's value."""
        self._lenders: set[Variable] = set()
        """Those that have the value themselves until the session wants it."""
        self._stale: set[Variable] = {*self._names, *self._plain}
        self.network = model.traced_once
        self._entries: dict[Any, str] = {}  # by the arrays of a call: fast
        self._defined: dict[tuple[str, Signature], str] = {}
        self._trainings: dict[Signature, Training] = {}

    def __reduce__(self) -> Any:
        return dropped, ()

    # ------------------------------------------------------------ variables

    def refresh(self, variable: Variable) -> None:
        """Gives a variable the value that the latest step left in the session."""
        with self.session.lock:
            self._refresh(variable)

    def _refresh(self, variable: Variable) -> None:
        known = self._read.get(variable) == self._writes
        own = variable in self._stale or variable in self._lenders
        if own or (known and variable.has_value):
            return
        name = self._names.get(variable)
        if name in self.changing:
            value = self.weights[name].inverted(self.session.view(name))
        elif self._plain.get(variable, "") in self.session:
            value = self.session.read(self._plain[variable])
        else:
            return
        self._read[variable] = self._writes
        self._shown.add(variable)
        if known:
            variable.recover(value)
        else:
            variable.receive(value)

    def assigned(self, variable: Variable) -> None:
        self._stale.add(variable)

    def lost(self, variable: Variable) -> None:
        self._stale.add(variable)

    def release(self) -> None:
        """Gives all variables their values and lets them go."""
        for variable in (*self._names, *self._plain):
            if variable.keeper is self:
                variable.hand_over(None)

    def take_over(self) -> None:
        """Brings what was assigned elsewhere into the session."""
        for variable in list(self._stale):
            variable.hand_over(self)
            if variable is getattr(self.settings.optimizer, "step_count", None):
                self.iterations = int(variable.array)
            name = self._names.get(variable)
            if name in self.changing:
                self.session.write(name, self.weights[name].array)
                self._moved(variable)
            elif variable in self._plain and self._plain[variable] in self.session:
                self.session.write(self._plain[variable], variable.value)
                self._moved(variable)
            elif name is not None and self._has_other_constant(variable):
                self._vary(variable, name)
        self._stale.clear()

    def _lend(self, variable: Variable, name: str) -> None:
        """Makes the value of a variable that this run keeps state of the session, which takes it when it wants to."""
        weight = self.weights.get(name)
        if not variable.can_wait:
            self.session.write(name, variable.value if weight is None else weight.array)
            self._moved(variable)
            return
        self._lenders.add(variable)

        def value() -> Array:
            return variable.own if weight is None else weight.seen(variable.own)

        self.session.lend(name, value, lambda: self._moved(variable))

    def _moved(self, variable: Variable) -> None:
        """The session has a variable's value now."""
        self._stale.discard(variable)
        self._lenders.discard(variable)
        self._read[variable] = self._writes
        variable.let_go()

    def hide(self) -> None:
        """Lets go what somebody has read of the variables: the next step changes them."""
        for variable in list(self._shown):
            if variable.keeper is self and variable not in self._stale | self._lenders:
                variable.let_go()
        self._shown.clear()

    def _has_other_constant(self, variable: Variable) -> bool:
        """Whether an entry was compiled with another value of a frozen variable."""
        known = [c[variable] for c in self._constants.values() if variable in c]
        return any(a is not variable.value and not np.array_equal(a, variable.value) for a in known)

    def _vary(self, variable: Variable, name: str) -> None:
        """Makes a frozen weight that changes an input of all entries: they are compiled once more."""
        self._varying.add(name)
        self.changing.add(name)
        self.session.write(name, self.weights[name].array)
        self._moved(variable)
        for signature, entry in list(self._defined.items()):
            if variable in self._constants[entry]:
                self.session.forget(entry)
                del self._defined[signature], self._constants[entry]
                self._entries = {k: e for k, e in self._entries.items() if e != entry}
        self._trainings.clear()

    # ------------------------------------------------------------ data

    def feeds(self, x: Any, y: Any = None, weights: Any = None, classes: Any = None) -> Feeds:
        """The arrays of a batch by the names of the entries' inputs."""
        return feeds_of(self.ports, x, y, weights, classes)

    def source(self, x: Any, y: Any = None, *settings: Any) -> Source:
        """The source of batches of what a user passes as data."""
        return source(self.ports, x, y, *settings)

    # ------------------------------------------------------------ entries

    def train(self, feeds: Feeds) -> None:
        """One step on a batch."""
        self.catch_up()
        entry = self.entry("train", feeds)
        self.check(feeds)
        self.rate[...] = self.settings.optimizer.rate_at(self.iterations)
        self.seed[1] = self.iterations & 0xFFFFFFFF
        self.hide()
        try:
            self.session.step(entry, {**feeds, RATE: self.rate, SEED_INPUT: self.seed})
        finally:  # An interrupt is heard of once native code has made the step.
            self.iterations = int(self.session.scalar(ITERATIONS))
            self._writes += 1

    def test(self, feeds: Feeds) -> None:
        """Adds a batch to the sums of the loss and the metrics."""
        entry = self.entry("test", feeds)
        self.check(feeds)
        try:
            self.session.step(entry, {**feeds, SEED_INPUT: self.draws.next()})
        finally:
            self._writes += 1

    @property
    def limits(self) -> Mapping[str, list[Limit]]:
        """What is wanted of fed whole numbers, by name."""
        found: Mapping[str, list[Limit]] = self.model.limits
        return found

    def check(self, feeds: Feeds) -> None:
        """DataError for labels that are no classes, and for places outside of a table."""
        check_fed(feeds, self.limits)
        for target, (classes, ignored) in self._classes.items():
            if target in feeds:
                check_labels(target, feeds[target], classes, ignored)

    def predict(self, feeds: Feeds) -> list[Array]:
        """The outputs for a batch."""
        entry = self.entry("predict", feeds)
        return self.session.step(entry, {**feeds, SEED_INPUT: self.draws.next()})

    def prepare(self, kind: str, feeds: Feeds) -> None:
        """Defines the entry for a batch, so that its metrics are known."""
        self.entry(kind, feeds)

    def entry(self, kind: str, feeds: Feeds) -> str:
        """The name of the entry for arrays of these types, defined if it is a new one."""
        key = (kind, tuple((n, a.dtype, a.shape[1:]) for n, a in feeds.items()))
        if self._stale or key not in self._entries:
            self.take_over()
            self._entries[key] = self.defined(kind, self.types_of(feeds))
        return self._entries[key]

    def defined(self, kind: str, types: Mapping[str, TensorType]) -> str:
        signature = (kind, tuple(sorted(types.items())))
        name = self._defined.get(signature)
        if name is None:
            count = sum(k == kind for k, _ in self._defined)
            name = f"{kind}_{count}" if count else kind
            graph = self.predict_graph(types) if kind == "predict" else self.step_graph(kind, types)
            self._constants[name] = {
                v: v.value for v, n in self._names.items() if n not in graph.inputs
            }
            self.session.define(name, graph)
            self._defined[signature] = name
        return name

    def types_of(self, feeds: Feeds) -> dict[str, TensorType]:
        """The types of fed arrays: the first axis the batch, others as the model has them where it leaves them open."""
        outputs = {port.name: port.type for port in self.ports.inputs}
        for port in self.ports.outputs:
            outputs |= {target_name(port.name): port.type, weight_name(port.name): port.type}
        found = {}
        for name, array in feeds.items():
            like = outputs[name].shape
            shape = tuple(
                like[k] if k < len(like) and (k == 0 or isinstance(like[k], Dim)) else extent
                for k, extent in enumerate(array.shape)
            )
            found[name] = TensorType(DType.of(array.dtype), shape)
        return found

    def sizes_of(self, types: Mapping[str, TensorType]) -> dict[str, Shape]:
        """The shapes of the model's inputs."""
        return {port.name: types[port.name].shape for port in self.ports.inputs}

    def step_graph(self, kind: str, types: Mapping[str, TensorType]) -> Graph:
        signature = tuple(sorted(types.items()))
        if signature not in self._trainings:
            made = training_of(
                self.model,
                self.settings.scorings(self.ports, types),
                self.settings.optimizer.rule,
                {p.name: types[p.name].dtype for p in self.ports.inputs},
                self.settings.optimizer.without_decay(list(self._names)),
                self.trained,
                self._varying,
                self.sizes_of(types),
            )
            self._trainings = {signature: made}
            self._classes = self.settings.classes(self.ports)
            self._begin(made)
        return self._trainings[signature].graphs[f"{kind}_step"]

    def predict_graph(self, types: Mapping[str, TensorType]) -> Graph:
        def reads(variable: Variable) -> bool:
            return self._names.get(variable) not in self.changing

        graph, weights = self.model.graph_of_variables(sizes=self.sizes_of(types), reads=reads)
        graph = with_input_dtypes(graph, {n: t.dtype for n, t in types.items()})
        return with_inputs(graph, [n for n in weights if n in self.changing])

    def _begin(self, training: Training) -> None:
        """Puts the first values of new state into the session."""
        inputs = training.graphs["train_step"].inputs
        changing = [n for n in training.weights if n in inputs]
        for name in changing:
            if name not in self.session:
                self._lend(self.weights[name].variable, name)
        self.changing.update(changing)
        for key, metric in self.settings.keyed():
            for name, variable in state_names(key, metric).items():
                if variable not in self._plain:
                    self._plain[variable] = name
                    self._first_metrics[name] = np.array(variable.value)
        for variable, name in self._plain.items():
            if name in self._first_metrics and variable.keeper is not self:
                self.session.write(name, self._waiting.pop(name, self._first_metrics[name]))
                variable.hand_over(self)
        for name, array in training.first_slots().items():
            if name not in self.session and name not in self.weights:
                self._put_first(name, array)
                if name.startswith(f"{STATE}/"):
                    self._first_metrics.setdefault(name, array)
        step = training.graphs["train_step"]
        if self.rate.dtype != step.types[RATE].dtype.numpy:
            self.rate = np.zeros((), step.types[RATE].dtype.numpy)
        self.session.write(ITERATIONS, self.iterations)

    def _put_first(self, name: str, array: Array) -> None:
        """Makes what was restored, or else an array that nobody writes to, the first value of new state."""
        first = self._waiting.pop(name, array)
        self.session.lend(name, lambda: first)

    # ------------------------------------------------------------ state

    @property
    def has_state(self) -> bool:
        """Whether the session has the weights, so that it predicts too."""
        return bool(self.changing)

    def before(self, name: str) -> Array:
        """A weight as it was before the latest step."""
        return self.session.previous(name)

    def state(self) -> dict[str, Array]:
        """Every variable of the model, the optimizer and the metrics.

        Weights go by their number, `weights/3` and `optimizer/3/momentum`: automatic names differ between two models
        that the same lines make.
        """
        if self._stale:
            self.take_over()
        found = {n: self.session.read(n) for n in self.session.names if n not in self.weights}
        numbers = {name: str(k) for k, name in enumerate(self.weights)}
        found = {renamed_slot(n, numbers): a for n, a in {**found, **self._waiting}.items()}
        rate = self.settings.optimizer.learning_rate
        if isinstance(rate, Variable):
            found[RATE] = rate.value
        weights = [w.variable.value for w in self.weights.values()]
        return {**found, **{f"{WEIGHT}{k}": a for k, a in enumerate(weights)}}

    def restore(self, arrays: Mapping[str, Array], dropout_key: int) -> None:
        """Takes over the arrays of `state`. DataError if they are those of another model."""
        variables = [(k, n, w.variable) for k, (n, w) in enumerate(self.weights.items())]
        for k, name, variable in variables:
            array = arrays.get(f"{WEIGHT}{k}")
            if array is None or array.shape != variable.shape:
                came = "none" if array is None else f"one of shape {array.shape}"
                raise DataError(
                    f"the state is another model's: expected a weight {name!r} of shape {variable.shape}; it has {came}"
                )
        taken_from_hands(self.settings.optimizer)
        for k, _, variable in variables:
            if not np.array_equal(variable.value, arrays[f"{WEIGHT}{k}"]):
                variable.assign(arrays[f"{WEIGHT}{k}"])
        self.key = dropout_key
        self.seed[0] = dropout_key & 0xFFFFFFFF
        optimizer = self.settings.optimizer
        optimizer.step_count.assign(arrays[ITERATIONS])
        self.iterations = int(arrays[ITERATIONS])
        if RATE in arrays and isinstance(optimizer.learning_rate, Variable):
            optimizer.learning_rate = float(arrays[RATE])
        names = {str(k): name for k, name, _ in variables}
        others = {
            renamed_slot(n, names): a
            for n, a in arrays.items()
            if n not in (RATE, ITERATIONS) and not n.startswith(WEIGHT)
        }
        self._waiting = {n: a for n, a in others.items() if n not in self.session}
        for name in others.keys() - self._waiting.keys():
            self.session.write(name, others[name])
        self._writes += 1

    def slots(self, slot: str) -> dict[Variable, Array]:
        """What the optimizer keeps under a name for each variable, in the variable's own shape; none before a step."""
        state = {**self.session_state(), **self._waiting}
        found = {}
        for variable, name in self._names.items():
            array = state.get(slot_name(name, slot))
            if array is not None:
                found[variable] = self.weights[name].inverted(array)
        return found

    def session_state(self) -> dict[str, Array]:
        """What the session holds besides the weights."""
        return {n: self.session.read(n) for n in self.session.names if n not in self.weights}

    def shared(self, name: str) -> Array | None:
        """A number that the optimizer keeps for all variables; None before a step."""
        return {**self.session_state(), **self._waiting}.get(f"{PREFIX}/{name}")

    def restore_shared(self, name: str, array: Array) -> None:
        self._put(f"{PREFIX}/{name}", array)

    def restore_slots(self, slot: str, arrays: Mapping[Variable, Array]) -> None:
        """Gives the first step what the optimizer kept for each variable, as `slots` has it."""
        for variable, array in arrays.items():
            name = self._names[variable]
            self._put(slot_name(name, slot), self.weights[name].seen(array))

    def _put(self, name: str, array: Array) -> None:
        """Gives the next step what the optimizer kept."""
        if name in self.session:
            self.session.write(name, array)
            self._writes += 1
        else:
            self._waiting[name] = array

    def catch_up(self) -> None:
        """Takes over what updates by hand have kept since the latest step."""
        held = taken_from_hands(self.settings.optimizer)
        if held is not None:
            self.follow(held)

    def follow(self, earlier: Holder) -> None:
        """Takes over what the same optimizer kept elsewhere, as far as the variables are this one's."""
        rule = self.settings.optimizer.rule
        for slot in all_slots(rule):
            kept = earlier.slots(slot)
            self.restore_slots(slot, {v: a for v, a in kept.items() if v in self._names})
        for name in rule.scalars:
            array = earlier.shared(name)
            if array is not None:
                self.restore_shared(name, array)

    def finish(self) -> None:
        """Ends a training: with moving averages of the weights, these become the weights."""
        if self.settings.optimizer.rule.use_ema:
            for name in self.changing:
                average = slot_name(name, "average")
                if average in self.session:
                    self.session.write(name, self.session.view(average))
            self._writes += 1

    # ------------------------------------------------------------ results

    def reset_metrics(self) -> None:
        for name, array in self._first_metrics.items():
            self.session.write(name, array)
        self._waiting = {n: a for n, a in self._waiting.items() if not n.startswith(f"{STATE}/")}
        self._writes += 1

    def logs(self) -> dict[str, Any]:
        """The means and metrics since the last reset, by name in alphabetical order.

        Floats, and arrays for metrics of several numbers (an `F1Score` of each class).
        """
        found: dict[str, Any] = {LOSS: self.mean(LOSS)}
        for key in self.settings.tracked:
            found[key] = self.mean(key)
        for key, metric in self.settings.keyed():
            found |= self.metric_value(key, metric)
        return dict(sorted(found.items()))

    def mean(self, key: str) -> float:
        total, count = (self._sum(f"{STATE}/{key}/{k}") for k in (0, 1))
        return total / count if count else 0.0

    def _sum(self, name: str) -> float:
        if name in self.session:
            return self.session.scalar(name)
        return float(self._waiting.get(name, 0.0))

    def metric_value(self, key: str, metric: Metric) -> dict[str, Any]:
        if type(metric).result is Mean.result:
            return {key: self.mean(key)}
        result = metric.result()
        if isinstance(result, Mapping):
            return {name: logged(value) for name, value in result.items()}
        return {key: logged(result)}


def logged(result: Any) -> Any:
    """A metric's result as the logs have it: a float, or an array of several numbers."""
    array = np.asarray(result)
    return array if array.ndim else float(array)


def renamed_slot(name: str, names: Mapping[str, str]) -> str:
    """The name of an optimizer's slot with its parameter's other name; other names as they are."""
    first, _, rest = name.partition("/")
    parameter, _, slot = rest.rpartition("/")
    return slot_name(names[parameter], slot) if first == PREFIX and parameter in names else name


def dropped() -> None:
    """What copies of a model have for a run: they train on their own."""
    return
