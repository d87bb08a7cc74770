"""Computing on known values outside of compiled steps: calls of layers on arrays, `GradientTape`, optimizers' updates.

A recording keeps what is computed, with its history, until somebody wants a value; then one graph is made of all that
the value needs. A small graph is computed by the operators' references, a large one is compiled, and kept for the next
one of the same structure: a loop over batches compiles in its first turn only.
"""

from __future__ import annotations

import functools
import itertools
import math
import weakref
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import chain
from types import TracebackType
from typing import Any, Self, cast

import numpy as np

from convc.errors import ModelError, UnsupportedError
from convc.graph.interp import run_graph
from convc.graph.ir import Builder, Graph, Node
from convc.graph.op import Op
from convc.keras import backend
from convc.keras.engine.call import flatten, map_tensors
from convc.keras.engine.naming import user_line
from convc.keras.engine.tensor import (
    FUNCTIONS,
    RECORDERS,
    Array,
    KerasTensor,
    Step,
    Variable,
    as_tensor,
    evaluate,
    recorded,
    recording_now,
    steps_to,
)
from convc.keras.training.optimizer import PREFIX, all_slots, slot_name
from convc.keras.training.own_steps import (
    VARIABLES,
    StepTrace,
    apply_in,
    differentiated,
    leaves,
    rebuilt,
    tracing,
    tracing_step,
)
from convc.keras.training.rules import Rule
from convc.keras.training.seeds import next_key
from convc.keras.training.session import Session
from convc.keras.training.slot_holders import Holder, taken_by_hand
from convc.keras.training.step import RATE
from convc.ops.base import numbers
from convc.ops.conv import Conv2d
from convc.ops.elementwise import StopGradient
from convc.ops.matmul import MatMul
from convc.ops.recurrent import Recurrence
from convc.ops.values import Value
from convc.ops.volume import Conv3d
from convc.passes.gradient import with_outputs
from convc.passes.training_mode import SEED_INPUT
from convc.types import DType, TensorType

SMALL = 4_000_000
"""Operations up to which a graph isn't worth compiling: some ten milliseconds of numpy."""

LARGEST_CONSTANT = 64
"""Elements of an array made within a layer that is taken as a part of the structure."""


class Known(dict[Variable, Step]):
    """What variables are in a recording: the values that they had when it met them, and what was assigned since."""

    def __init__(self, outer: dict[Variable, Step] | None) -> None:
        super().__init__()
        self.outer = outer
        self.first: dict[Variable, Step] = {}
        self.read: dict[Variable, list[Step]] = {}
        """All that each variable was: a gradient for it is that for all of these together."""

    def __contains__(self, key: object) -> bool:
        return True

    def __missing__(self, variable: Variable) -> Step:
        if self.outer is not None:
            step = self.outer[variable]
        else:
            array = variable.array
            step = Step(array, (), TensorType(DType.of(variable.dtype), array.shape))
        self.first.setdefault(variable, step)
        self.adopt(variable, [step])
        return step

    def __setitem__(self, variable: Variable, step: Step) -> None:
        """An assignment: no gradient goes through it."""
        own = replace(step)
        if isinstance(step.source, Op):
            own = Step(StopGradient(), (step,), step.type, recorded=step.recorded)
        self.adopt(variable, [own])

    def adopt(self, variable: Variable, steps: Sequence[Step]) -> None:
        """The variable was these steps, and is the last of them now."""
        self.read.setdefault(variable, []).extend(steps)
        super().__setitem__(variable, steps[-1])

    def changed(self) -> dict[Variable, Step]:
        return {v: s for v, s in self.items() if self.first.get(v) is not s}


class Tape:
    """A recording. `keeps` for one that is asked for gradients again and again."""

    def __init__(self, keeps: bool = False) -> None:
        self.outer = cast("Tape | None", recording_now())
        self.variables: Known = Known(None if self.outer is None else self.outer.variables)
        self.keeps = keeps
        self._made: dict[int, weakref.ref[KerasTensor]] = {}
        self._waiting: dict[Variable, Step] = {}
        # A draw is the same one wherever nested recordings compute it.
        self._draws: dict[Step, int] = {} if self.outer is None else self.outer._draws
        self._numbers: Iterator[int] = (
            itertools.count() if self.outer is None else self.outer._numbers
        )
        self._seed: Array = self.outer._seed if self.outer is not None else _fresh_seed()

    # ------------------------------------------------------------ what is recorded

    def made(self, tensor: KerasTensor) -> None:
        self._made[id(tensor)] = weakref.ref(tensor)

    def alive(self) -> list[KerasTensor]:
        """The tensors made outside of layers that the program still holds."""
        found = [tensor for ref in self._made.values() if (tensor := ref()) is not None]
        self._made = {id(t): weakref.ref(t) for t in found}
        return found

    def number_of(self, step: Step) -> int:
        """Which of the recording's draws a random step is."""
        return self._draws.setdefault(step, len(self._draws))

    def next_number(self) -> int:
        """Another number for each draw that is recorded."""
        return next(self._numbers)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Within it nothing is recorded; what is assigned before, within and after takes effect in this order."""
        tapes = [self]
        while (outer := tapes[-1].outer) is not None:
            tapes.append(outer)
        with recorded(None):
            for tape in reversed(tapes):
                changed = tape.variables.changed()
                arrays = tape.values(list(changed.values()))
                for variable, array in zip(changed, arrays, strict=True):
                    variable.assign(array)
            versions = [{v: v.version for v in tape.variables} for tape in tapes]
            try:
                yield
            finally:
                for tape, held in zip(tapes, versions, strict=True):
                    for variable in [v for v, version in held.items() if v.version != version]:
                        del tape.variables[variable]

    def ended(self) -> None:
        """What was assigned reaches the variables when somebody reads them."""
        self._waiting = self.variables.changed()
        for variable in self._waiting:
            if self.outer is not None:
                self.outer.variables.adopt(variable, self.variables.read[variable])
            else:
                variable.hand_over(self)

    # ------------------------------------------------------------ the keeper of what was assigned

    def refresh(self, variable: Variable) -> None:
        waiting, self._waiting = self._waiting, {}  # whose own values are those from before
        try:
            arrays = self.values(list(waiting.values()))
        except BaseException:
            self._waiting = waiting
            raise
        for each, array in zip(waiting, arrays, strict=True):
            each.receive(np.array(array))

    def assigned(self, variable: Variable) -> None:
        self._waiting.pop(variable, None)

    def lost(self, variable: Variable) -> None:
        self._waiting.pop(variable, None)

    # ------------------------------------------------------------ values and gradients

    def values(self, steps: Sequence[Step]) -> list[Array]:
        """The values of steps, which are kept with them."""
        wanted = [s for s in steps if s.known is None]
        if wanted:
            trace = TapeTrace(self)
            for step in _known_before(wanted):
                trace.feed(step, step.known)
            self._run(trace, wanted)
        return [_value(s) for s in steps]

    def gradient(self, total: KerasTensor, sources: Sequence[Any]) -> list[KerasTensor]:
        """The gradients of a scalar; what is alive of the recording is computed along with them."""
        trace = TapeTrace(self)
        reached = {id(step) for step in steps_to([total.step])}
        steps = [self._source(source, reached) for source in sources]
        given = [trace.value(KerasTensor(step)).name for step in chain(*steps)]
        found = differentiated(trace, trace.value(total).name, given)
        outer = self.outer if recording_now() is None else recording_now()
        if outer is not None:
            with recorded(outer):
                return _sums([self._as_step(trace, name, outer) for name in found], steps)
        others = self.alive()
        # What was assigned within, such as moving averages, is due as well.
        waiting = [s for s in self._waiting.values() if s.known is None]
        arrays = self._run(trace, [total.step, *(t.step for t in others), *waiting], found)
        if not self.keeps:
            for tensor in others:
                tensor.step = as_tensor(_value(tensor.step), tensor.dtype).step
        return _sums([as_tensor(array) for array in arrays], steps)

    def _source(self, source: Any, reached: Container[int]) -> list[Step]:
        """What a gradient is taken for: of a variable, all that it was on the way to the target."""
        if not isinstance(source, Variable):
            return [as_tensor(source).step]
        latest = self.variables[source]
        return [s for s in self.variables.read[source] if id(s) in reached] or [latest]

    def _run(
        self, trace: TapeTrace, steps: Sequence[Step], further: Sequence[str] = ()
    ) -> list[Array]:
        """Gives steps their values, and returns those of further names."""
        names = [trace.value(KerasTensor(step)).name for step in steps]
        wanted = list(dict.fromkeys([*names, *further]))
        outputs = {f"y{k}": name for k, name in enumerate(wanted)}
        graph = with_outputs(trace.builder, outputs)
        found = computed(graph, trace.feeds)
        arrays = dict(zip(wanted, found, strict=True))
        for step, name in zip(steps, names, strict=True):
            if isinstance(step.source, Op):
                step.known = arrays[name]
        return [arrays[name] for name in further]

    def _as_step(self, trace: TapeTrace, name: str, outer: Any) -> KerasTensor:
        """A value of the trace as a tensor of the outer recording: gradients of gradients go through it."""
        steps = {n: s for s, n in trace.names_of_steps.items()}
        for node in _nodes_to(trace.builder.nodes, name, steps):
            if len(node.outputs) > 1:
                raise UnsupportedError(
                    f"{user_line()}: a gradient of a gradient through {node.op.mnemonic} isn't supported outside of a "
                    f"compiled step: compute it in a model's train_step"
                )
            inputs = tuple(steps[i] if i in steps else _constant(trace, i) for i in node.inputs)
            type = trace.builder.types[node.outputs[0]]
            steps[node.outputs[0]] = Step(node.op, inputs, type, recorded=outer)
        found = steps[name] if name in steps else _constant(trace, name)
        return KerasTensor(found)


def _fresh_seed() -> Array:
    return np.array([next_key(), next_key() & 0xFFFFFFFF], np.uint32)


def _sums(tensors: Sequence[KerasTensor], groups: Sequence[Sequence[Any]]) -> list[KerasTensor]:
    """The sum of as many tensors as each group has members."""
    following = iter(tensors)
    return [
        functools.reduce(FUNCTIONS["add"], itertools.islice(following, len(group)))
        for group in groups
    ]


def _nodes_to(nodes: Sequence[Node], name: str, known: Container[str]) -> list[Node]:
    """The nodes that a value is computed by from known ones, in their order."""
    wanted, found = {name}, []
    for node in reversed(nodes):
        if any(o in wanted and o not in known for o in node.outputs):
            found.append(node)
            wanted.update(node.inputs)
    return found[::-1]


def _constant(trace: TapeTrace, name: str) -> Step:
    array = trace.feeds[name] if name in trace.feeds else trace.builder.weights[name]
    return Step(array, (), trace.builder.types[name])


def _known_before(steps: Sequence[Step]) -> list[Step]:
    """The steps with known values that others are computed from."""
    found: list[Step] = []
    done: set[int] = set()
    stack = list(steps)
    while stack:
        step = stack.pop()
        if id(step) in done:
            continue
        done.add(id(step))
        if step.known is not None:
            found.append(step)
        else:
            stack.extend(step.inputs)
    return found[::-1]


def _value(step: Step) -> Array:
    return step.known if step.known is not None else evaluate(step)


class TapeTrace(StepTrace):
    """A graph in the making: known values are its inputs."""

    def __init__(self, tape: Tape) -> None:
        super().__init__(Builder("recorded"), {})
        self.tape = tape
        self.feeds: dict[str, Array] = {}
        self.key = tape._seed

    @property
    def names_of_steps(self) -> dict[Step, str]:
        return self._names

    def feed(self, step: Step, array: Any) -> str:
        """The step as an input that is given its value."""
        name = f"x{len(self.feeds)}"
        self.feeds[name] = np.asarray(array)
        self._names[step] = self.builder.input(name, step.type)
        return self._names[step]

    def _emitted(self, step: Step) -> str:
        if isinstance(step.source, Op):
            return super()._emitted(step)
        array = step.source.array if isinstance(step.source, Variable) else step.source
        if step.layer and np.size(array) <= LARGEST_CONSTANT:  # type: ignore[arg-type]
            return self.builder.weight("constant", np.asarray(array))
        return self.feed(step, array)

    def _drawn(self, step: Step) -> str:
        self._draws = self.tape.number_of(step)
        found = super()._drawn(step)
        self.feeds[SEED_INPUT] = self.key
        return found


# ---------------------------------------------------------------- running


PROGRAMS = 64
"""Compiled graphs that are kept: those used last."""

_programs: dict[Any, str] = {}
_numbers = itertools.count()
_session: list[Session] = []


def computed(graph: Graph, feeds: Mapping[str, Array]) -> list[Array]:
    """The outputs of a graph in their order."""
    given = {n: np.asarray(feeds[n]) for n in graph.inputs}
    if operations(graph) <= SMALL:
        found = run_graph(graph, given)
        return [found[name] for name in graph.outputs]
    key = structure(graph)
    if not _session:
        _session.append(Session("eager", backend.threads()))
    session = _session[0]
    name = _programs.pop(key, None)
    if name is None:
        name = f"eager_{next(_numbers)}"
        session.define(name, graph)
    _programs[key] = name  # the last in order
    while len(_programs) > PROGRAMS:
        session.forget(_programs.pop(next(iter(_programs))))
    return [np.array(a) for a in session.step(name, given)]


def operations(graph: Graph) -> int:
    """About how many additions and multiplications a graph is."""
    total = 0
    for node in graph.nodes:
        terms = _terms(node.op, [graph.types[i] for i in node.inputs])
        total += _size(graph.types[node.outputs[0]]) * terms
    return total


def _size(type: TensorType) -> int:
    return math.prod(numbers(type.shape))


def _terms(op: Op, inputs: list[TensorType]) -> int:
    """How many products an element of the output is the sum of."""
    match op:
        case MatMul():
            return numbers(inputs[0].shape)[-1]
        case Conv2d() | Conv3d():
            return 8 * math.prod(numbers(inputs[1].shape[1:]))
        case Recurrence():
            return 8 * numbers(inputs[1].shape)[0]
        case _:
            # What isn't arithmetic of numpy's own (pooling, scatters) is slow there.
            return 1 if len(inputs) <= 3 else 8


def structure(graph: Graph) -> Any:
    """What two graphs have in common that do the same."""
    nodes = tuple((n.op, n.inputs, n.outputs) for n in graph.nodes)
    types = tuple((n, graph.types[n]) for n in graph.inputs)
    weights = tuple((n, a.shape, a.dtype.str, a.tobytes()) for n, a in graph.weights.items())
    return nodes, types, weights, graph.outputs


@contextmanager
def recording_calls() -> Iterator[Tape]:
    """Records a call of a layer on known values; what it assigns is assigned afterwards."""
    tape = Tape()
    with recorded(tape):
        yield tape
    tape.ended()


def known_outputs(tape: Tape, outputs: Any) -> Any:
    """The outputs of a recorded call as tensors without a history, their masks too."""
    tensors = list(flatten(outputs))
    masks = [t.mask for t in tensors if t.mask is not None]
    wanted = [t.step for t in (*tensors, *masks)] + list(tape._waiting.values())
    tape.values([s for s in wanted if isinstance(s.source, Op)])

    def settled(tensor: KerasTensor) -> KerasTensor:
        found = as_tensor(_value(tensor.step), tensor.dtype)
        found.name = tensor.name
        if tensor.mask is not None:
            found.mask = as_tensor(_value(tensor.mask.step))
        return found

    return map_tensors(settled, outputs)


def recorded_call(call: Callable[[], Any]) -> Any:
    """What a call of a layer on known values gives, computed."""
    with recording_calls() as tape:
        outputs = call()
    return known_outputs(tape, outputs)


RECORDERS.append(recorded_call)


class GradientTape:
    """Gradients, with TensorFlow's names: in a `train_step`, or of what is computed within `with` on known values.

    Nothing needs to be watched: any value may be asked for.
    """

    def __init__(self, persistent: bool = False, watch_accessed_variables: bool = True) -> None:
        del watch_accessed_variables
        self.persistent = persistent
        self._tape: Tape | None = None
        self._within: Any = None

    def __enter__(self) -> Self:
        if tracing_step() is None:
            self._begin()
        return self

    def _begin(self) -> None:
        self._tape = Tape(self.persistent)
        self._within = recorded(self._tape)
        self._within.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._tape is not None:
            self._within.__exit__(kind, error, trace)
            self._within = None
            self._tape.ended()

    def watch(self, tensor: Any) -> None:
        """Nothing: all tensors are watched."""

    def stop_recording(self) -> Any:
        """Within it nothing is recorded."""
        return nullcontext() if self._tape is None else self._tape.paused()

    def reset(self) -> None:
        """Forgets what was recorded; within `with`, what follows is recorded anew."""
        if self._within is None:
            self._tape = None
        else:
            self.__exit__(None, None, None)
            self._begin()

    def gradient(
        self,
        target: Any,
        sources: Any,
        output_gradients: Any = None,
        unconnected_gradients: Any = "zero",
    ) -> Any:
        """The gradients of the target's sum for variables or tensors in a structure; zeros where it depends on none.

        `output_gradients` weigh the elements of the target, in its structure.
        """
        del unconnected_gradients
        flat = list(leaves(sources))
        trace = tracing_step()
        if trace is None:
            if self._tape is None:
                raise ModelError(
                    f"{user_line()}: GradientTape.gradient: nothing was recorded: compute the loss within `with`"
                )
            with recorded(self._tape):
                total = _total(target, output_gradients)
            return rebuilt(sources, iter(self._tape.gradient(total, flat)))
        loss = trace.value(_total(target, output_gradients))
        wanted = [trace.value(as_tensor(source)).name for source in flat]
        found = differentiated(trace, loss.name, wanted)
        return rebuilt(sources, iter([trace.tensor(Value(trace.builder, name)) for name in found]))


def _total(target: Any, weights: Any) -> KerasTensor:
    """The sum of all elements of tensors in a structure, weighed by those of another in the same one."""
    parts = [as_tensor(part) for part in leaves(target)]
    if weights is not None:
        single = not isinstance(target, (list, tuple, Mapping))
        pairs = zip(parts, [weights] if single else leaves(weights), strict=True)
        parts = [p if w is None else FUNCTIONS["multiply"](p, w) for p, w in pairs]
    sums = [part if part.ndim == 0 else FUNCTIONS["sum"](part) for part in parts]
    return functools.reduce(FUNCTIONS["add"], sums)


# ---------------------------------------------------------------- optimizers


LATER = "later/"


@dataclass
class Kept:
    """What an optimizer keeps between updates outside of compiled steps."""

    names: dict[Variable, str]
    state: dict[str, Array]
    updates: dict[Any, Update]

    def slots(self, slot: str) -> dict[Variable, Array]:
        found = {v: self.state.get(slot_name(f"0/{n}", slot)) for v, n in self.names.items()}
        return {v: array for v, array in found.items() if array is not None}

    def shared(self, name: str) -> Array | None:
        return self.state.get(f"{PREFIX}/0/{name}")

    def follow(self, earlier: Holder, rule: Rule) -> None:
        """Takes over what the optimizer kept in a training."""
        for slot in all_slots(rule):
            for variable, array in earlier.slots(slot).items():
                name = self.names.setdefault(variable, f"{VARIABLES}{len(self.names)}")
                self.state[slot_name(f"0/{name}", slot)] = array
        for name in rule.scalars:
            number = earlier.shared(name)
            if number is not None:
                self.state[f"{PREFIX}/0/{name}"] = number


@dataclass(frozen=True)
class Update:
    """One update as a graph."""

    graph: Graph
    first: dict[str, Array]
    rate: str


_kept: weakref.WeakKeyDictionary[Any, Kept] = weakref.WeakKeyDictionary()


def apply_gradients(optimizer: Any, pairs: Iterable[tuple[Any, Variable]]) -> None:
    """One update of variables by an optimizer: in the step that is being traced, or at once."""
    trace = tracing_step()
    if trace is not None:
        apply_in(trace, optimizer, pairs)
        return
    given = [(as_tensor(g), v) for g, v in pairs if g is not None]
    kept = _kept.setdefault(optimizer, Kept({}, {}, {}))
    variables = [v for _, v in given]
    rule = optimizer.rule
    training = taken_by_hand(optimizer, kept)
    if training is not None:
        kept.follow(training, rule)
    decays = tuple(id(v) for v in optimizer.without_decay(variables))
    key = (repr(rule), tuple(map(id, variables)), decays)
    if key not in kept.updates:
        kept.updates[key] = _update(optimizer, given, kept.names)
    update = kept.updates[key]
    state = {name: kept.state.get(name, array) for name, array in update.first.items()}
    feeds = {kept.names[v]: np.asarray(as_tensor(v).numpy()) for v in variables}
    feeds[kept.names[optimizer.iterations]] = np.asarray(as_tensor(optimizer.iterations).numpy())
    feeds |= {f"gradient/{k}": np.asarray(g.numpy()) for k, (g, _) in enumerate(given)}
    graph = update.graph
    steps = int(feeds[kept.names[optimizer.iterations]])
    rate = np.array(optimizer.rate_at(steps), graph.types[update.rate].dtype.numpy)
    feeds |= {**state, update.rate: rate}
    found = dict(zip(graph.outputs, computed(graph, feeds), strict=True))
    for variable in (*variables, optimizer.iterations):
        variable.assign(found[f"{LATER}{kept.names[variable]}"])
    kept.state |= {name: found[f"{LATER}{name}"] for name in update.first}


def _update(
    optimizer: Any, given: Sequence[tuple[KerasTensor, Variable]], names: dict[Variable, str]
) -> Update:
    trace = StepTrace(Builder("update"), names)
    builder = trace.builder
    with tracing(trace):
        pairs = []
        for k, (gradient, variable) in enumerate(given):
            name = builder.input(f"gradient/{k}", gradient.type)
            pairs.append((trace.tensor(Value(builder, name)), variable))
        apply_in(trace, optimizer, pairs)
        outputs = {}
        for variable in list(trace.variables):
            value = trace.value(KerasTensor(trace.variables[variable]))
            outputs[f"{LATER}{trace.name_of(variable)}"] = value.name
    outputs |= {f"{LATER}{name}": value.name for name, value in trace.state.items()}
    return Update(with_outputs(builder, outputs), dict(trace.first), f"{RATE}/0")
