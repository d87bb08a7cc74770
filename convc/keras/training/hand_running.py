"""Running what a ledger has put down: one program for each structure, compiled once it comes again and again.

Two pieces of work have the same structure if the same operators are applied to values of the same types in the same
way: then they differ in arrays and variables only, which a program is given. A small program is computed by the
operators' references at first.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from convc.errors import UnsupportedError
from convc.graph.interp import run_graph
from convc.graph.ir import Builder, Graph
from convc.graph.op import Op
from convc.graph.state import NEXT
from convc.keras.engine.naming import user_line
from convc.keras.engine.steps import Part, Step, Variable
from convc.keras.engine.tensor import Array
from convc.keras.training.hand_programs import Program
from convc.keras.training.own_steps import StepTrace, tracing
from convc.keras.training.wholes import Gradients, inverse
from convc.ops.base import numbers
from convc.ops.conv import Conv2d
from convc.ops.matmul import MatMul
from convc.ops.noise import FreshSeed
from convc.ops.recurrent import Recurrence
from convc.ops.volume import Conv3d
from convc.passes.training_mode import SEED_INPUT, draws
from convc.types import TensorType

SMALL = 4_000_000
"""Operations up to which a graph isn't worth compiling at once: some ten milliseconds of numpy."""

TIMES = 32
"""How often a small graph is computed by references before it is compiled."""

LARGEST_CONSTANT = 64
"""Elements of an array made within a layer that is taken as a part of the structure."""

PROGRAMS = 64
"""Programs that are kept: those used last."""


@dataclass(eq=False)
class Version(Step):
    """A variable's value from before what is put down."""

    lost: bool = False
    """Whether the variable has another value by now, and nobody needed this one."""


@dataclass
class Work:
    """What is to be computed: the values of steps, and the next values of variables."""

    steps: list[Step]
    changed: dict[Variable, Step]
    ledger: Any
    replaced: bool = False
    """Whether native code has given the variables their next values."""


@dataclass(eq=False)
class Ready:
    """The program of a structure."""

    program: Program
    feeds: list[tuple[str, int]]
    """The names of arrays, and their places in the order of the steps."""
    variables: list[tuple[str, int]]
    draws: bool
    operations: int
    runs: int = 0


_programs: dict[Hashable, Ready] = {}


def run(work: Work) -> None:
    """Gives the steps and the variables their values."""
    order, given = ordered(work)
    targets = list(work.changed)
    key, variables = structure(work, order, given, targets)
    ready = _programs.pop(key, None)
    if ready is None:
        ready = prepared(work, order, given, variables)
    _programs[key] = ready  # the last in order
    while len(_programs) > PROGRAMS:
        _programs.pop(next(iter(_programs))).program.release()
    feeds: dict[str, Any] = {name: _array(order[k]) for name, k in ready.feeds}
    if ready.draws:
        feeds[SEED_INPUT] = work.ledger.seed
    bound = {name: variables[k] for name, k in ready.variables}
    ready.runs += 1
    if ready.operations <= SMALL and ready.runs <= TIMES:
        found = referenced(ready.program, bound, feeds)
    else:
        place = ready.program.bound(bound)
        runs = place.runs
        try:
            found = ready.program.run(place, feeds)
        finally:
            work.replaced = place.runs > runs
    for step, array in zip(work.steps, found, strict=True):
        step.known = array


def ordered(work: Work) -> tuple[list[Step], set[int]]:
    """The steps that are needed, each after its inputs, and which of them (by id) have values that are given.

    What has a value needs no inputs, unless a gradient is asked for that goes through it.
    """
    roots = [*work.steps, *work.changed.values()]
    through = _history(roots)
    order: list[Step] = []
    given: set[int] = set()
    done: set[int] = set()
    wholes: set[int] = set()
    stack: list[tuple[Step, bool]] = [(root, False) for root in reversed(roots)]
    while stack:
        step, ready = stack.pop()
        if ready:
            order.append(step)
            continue
        number = id(step)
        if number in done:
            continue
        done.add(number)
        if step.known is not None and (number not in through or not step.inputs):
            given.add(number)
            order.append(step)
        elif not step.inputs or _seen(step, wholes):
            order.append(step)
        else:
            stack.append((step, True))
            stack.extend([(i, False) for i in reversed(step.inputs)])
    return order, given


def _seen(step: Step, wholes: set[int]) -> bool:
    """Whether another part of the same whole was met before: then what it needs is known."""
    if not isinstance(step.source, Part):
        return False
    number = id(step.source.whole)
    if number in wholes:
        return True
    wholes.add(number)
    return False


def _history(roots: Iterable[Step]) -> set[int]:
    """All that gradients among the needed steps may go through."""
    found: set[int] = set()
    done: set[int] = set()
    wholes: set[int] = set()
    starts: list[Step] = []
    stack = list(roots)
    while stack:
        step = stack.pop()
        if id(step) in done or step.known is not None:
            continue
        done.add(id(step))
        if _seen(step, wholes):
            continue
        if isinstance(step.source, Part) and isinstance(step.source.whole, Gradients):
            starts.append(step.inputs[0])
        stack.extend(step.inputs)
    while starts:
        step = starts.pop()
        if id(step) not in found:
            found.add(id(step))
            starts.extend(step.inputs)
    return found


def structure(
    work: Work, order: list[Step], given: set[int], targets: list[Variable]
) -> tuple[Hashable, list[Variable]]:
    """What works have in common that one program does, and the variables in the order in which it knows them."""
    places: dict[int, int] = {}
    variables: dict[Variable, int] = {}
    wholes: dict[int, int] = {}
    key: list[Any] = []
    for k, step in enumerate(order):
        places[id(step)] = k
        source = step.source
        if id(step) in given:
            key.append(step.type)
        elif isinstance(source, Op):
            key.append((source, tuple([places[id(i)] for i in step.inputs])))
            if step.training or isinstance(source, FreshSeed):
                key.append(_drawing(work, step, source))
        elif isinstance(source, Part):
            whole = wholes.get(id(source.whole))
            if whole is None:
                wholes[id(source.whole)] = len(wholes)
                inputs = tuple([places[id(i)] for i in step.inputs])
                key.append((source.whole.key, inputs))
                whole = len(wholes) - 1
            key.append((whole, source.number))
        elif isinstance(source, Variable):
            if isinstance(step, Version) and step.lost:
                raise lost(source)
            number = variables.setdefault(source, len(variables))
            key.append((number, step.type))
        elif _fixed(step):
            key.append((source.tobytes(), step.type))  # type: ignore[union-attr]
        else:
            key.append(step.type)
    outputs = tuple([places[id(s)] for s in work.steps])
    changed = tuple(
        [(variables.setdefault(v, len(variables)), places[id(work.changed[v])]) for v in targets]
    )
    types = tuple([(v._dtype, v.shape) for v in targets])
    return (tuple(key), outputs, changed, types), list(variables)


class LostError(UnsupportedError):
    """A variable's earlier value is asked for, and nobody has it."""


def lost(variable: Variable) -> LostError:
    return LostError(
        f"{user_line()}: a gradient is asked for where {variable.path!r} had a value that nobody has any more: "
        f"call tape.gradient before the next tape begins, or before values are read after an update"
    )


def _drawing(work: Work, step: Step, source: Op) -> int:
    drawn = isinstance(source, FreshSeed) or draws(source)
    return work.ledger.number_of(step) if drawn else -1


def _fixed(step: Step) -> bool:
    """Whether an array is a part of the structure."""
    return bool(step.layer) and np.size(step.source) <= LARGEST_CONSTANT  # type: ignore[arg-type]


def _array(step: Step) -> Array:
    if step.known is not None:
        return step.known
    array: Array = step.source  # type: ignore[assignment]
    return array


class WorkTrace(StepTrace):
    """A graph in the making whose known values are inputs."""

    views_state = True

    def __init__(self, work: Work, given: set[int], names: dict[Variable, str]) -> None:
        super().__init__(Builder("by_hand"), names)
        self.work, self.given = work, given
        self.fed: dict[str, Step] = {}

    def _emitted(self, step: Step) -> str:
        if id(step) in self.given:
            return self._feed(step)
        match step.source:
            case Op() | Part() | Variable():
                return super()._emitted(step)
            case array if _fixed(step):
                return self.builder.weight("constant", np.asarray(array))
            case _:
                return self._feed(step)

    def _feed(self, step: Step) -> str:
        name = f"x{len(self.fed)}"
        self.fed[name] = step
        return self.builder.input(name, step.type)

    def _needs(self, step: Step) -> Sequence[Step]:
        return () if id(step) in self.given else step.inputs

    def _number_of_draw(self, step: Step) -> int:
        number: int = self.work.ledger.number_of(step)
        return number


def prepared(work: Work, order: list[Step], given: set[int], variables: list[Variable]) -> Ready:
    """The program for work of this structure."""
    names = {v: f"variables/{k}" for k, v in enumerate(variables)}
    trace = WorkTrace(work, given, names)
    with tracing(trace):
        dict.update(trace.variables, work.changed)
        graph = trace.graph({f"y{k}": step for k, step in enumerate(work.steps)}, order)
    places = {id(step): k for k, step in enumerate(order)}
    feeds = [(name, places[id(step)]) for name, step in trace.fed.items() if name in graph.inputs]
    used = [(n, k) for k, n in enumerate(names.values()) if n in graph.inputs]
    drawing = SEED_INPUT in graph.inputs
    return Ready(Program("by_hand", graph, trace.views), feeds, used, drawing, operations(graph))


def referenced(
    program: Program, variables: dict[str, Variable], feeds: dict[str, Any]
) -> list[Array]:
    """The outputs of a program by its operators' references; its variables get their next values."""
    graph, views = program.graph, program.views
    given = {**feeds, **{n: _seen_as(v.array, views.get(n)) for n, v in variables.items()}}
    found = run_graph(graph, {name: np.asarray(given[name]) for name in graph.inputs})
    for name, variable in variables.items():
        after = found.get(f"{NEXT}{name}")
        if after is not None:
            perm = views.get(name)
            variable.assign(after if perm is None else after.transpose(inverse(perm)))
    return [found[name] for name in graph.outputs if not name.startswith(NEXT)]


def _seen_as(array: Array, perm: tuple[int, ...] | None) -> Array:
    seen: Array = array if perm is None else np.transpose(array, perm)
    return seen


def operations(graph: Graph) -> int:
    """About how many additions and multiplications a graph is."""
    total = 0
    for node in graph.nodes:
        terms = _terms(node.op, [graph.types[i] for i in node.inputs])
        total += _size(graph.types[node.outputs[0]]) * terms
    return total


def _size(type: TensorType) -> int:
    return math.prod(numbers(type.shape))


def _terms(op: Op, inputs: Sequence[TensorType]) -> int:
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
