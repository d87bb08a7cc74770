"""Steps that users write themselves, `train_step(data)`, traced as a whole into one program.

What such a step does with tensors becomes part of the program: calls of models and layers, losses, gradients from a
`GradientTape`, optimizers' updates, assignments to variables, updates of metrics. It runs once in Python for each shape
of the data, not once for each batch.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from itertools import chain
from typing import Any, Protocol

import numpy as np

from convc.errors import ModelError
from convc.graph.ir import Builder, Graph, Node
from convc.graph.op import Op
from convc.graph.state import NEXT, next_values
from convc.keras.engine.call import collecting_losses, map_tensors
from convc.keras.engine.naming import entered, outermost, user_line
from convc.keras.engine.phase import step_phase
from convc.keras.engine.ranges import Limit, limits_of
from convc.keras.engine.steps import Outputs, Part, Placeholder, Whole
from convc.keras.engine.tensor import (
    FUNCTIONS,
    Array,
    KerasTensor,
    Step,
    Variable,
    as_tensor,
    steps_to,
    traced_variables,
)
from convc.keras.training.gradient_pairs import checked_pairs, gradient_of
from convc.keras.training.optimizer import PREFIX, all_slots, slot_name
from convc.keras.training.step import RATE
from convc.keras.training.tracing import Trace
from convc.keras.training.wholes import Gradients, Update, inverse, part
from convc.ops.elementwise import Dropout, StopGradient
from convc.ops.noise import FreshSeed
from convc.ops.norm import BatchNorm, BatchNormTraining
from convc.ops.random import SEED
from convc.ops.shape import Transpose
from convc.ops.values import Value
from convc.passes.gradient import with_outputs
from convc.passes.training_mode import FORWARD, SEED_INPUT, drawn, draws
from convc.types import DType, TensorType

LOGS = "logs/"
"""The first part of the names of what a step returns."""
VARIABLES = "variables/"


class Traced(dict[Variable, Step]):
    """Traced variables: all of them, whether they were met before or not."""

    def __init__(self) -> None:
        super().__init__()
        self.read: dict[Variable, list[Step]] = {}
        """All that each assigned variable was: a gradient for it is that for all of these together."""

    def __contains__(self, key: object) -> bool:
        return True

    def __missing__(self, variable: Variable) -> Step:
        return variable._step

    def __setitem__(self, variable: Variable, step: Step) -> None:
        own = detached(step)
        self.read.setdefault(variable, [variable._step]).append(own)
        super().__setitem__(variable, own)


def detached(step: Step) -> Step:
    """A step that was assigned to a variable: no gradient goes through it, a tape reads variables."""
    source = step.source
    if isinstance(source, Part) and isinstance(source.whole, Update):
        return step  # Updates stop gradients themselves.
    if not step.type.dtype.is_float or not isinstance(source, (Op, Part)):
        return replace(step)
    return Step(StopGradient(), (step,), step.type, symbolic=step.symbolic, recorded=step.recorded)


class Book(Protocol):
    """Where an update finds what its optimizer keeps."""

    def rate(self, optimizer: Any, dtype: DType) -> Step:
        """The learning rate, a scalar."""
        ...

    def state(self, optimizer: Any, variables: Sequence[Variable]) -> list[Step]:
        """The slots of each variable and the shared numbers, as they are now."""
        ...

    def keep(self, optimizer: Any, variables: Sequence[Variable], after: Sequence[Step]) -> None:
        """Takes what they become."""
        ...


class StepTrace(Trace):
    """A step in the making. `names` are those of variables in the state; new ones are added as the step meets them."""

    views_state = False
    """Whether who runs the graph can keep state transposed."""

    def __init__(self, builder: Builder, names: dict[Variable, str]) -> None:
        super().__init__(builder)
        self.names = names
        self.variables: Traced = Traced()
        self.kept: dict[str, Step] = {}
        """The latest values of what optimizers keep, by name."""
        self.first: dict[str, Array] = {}
        """What that is before the first step."""
        self.optimizers: list[Any] = []
        self.applied: dict[int, int] = {}
        """How often the step applies each optimizer."""
        self.losses: list[KerasTensor] = []
        self.limits: dict[str, list[Limit]] = {}
        """What the step wants of its data that are places in a table or classes, by name."""
        self._draws = 0
        self._postponed: dict[str, tuple[str, Callable[[Builder, Node], None]]] = {}
        self.views: dict[str, tuple[int, ...]] = {}
        """How state is transposed in the graph, by the name of its input (see `_view`)."""
        self.viewed: dict[str, str] = {}
        """The inputs of values that are those, transposed back."""
        self._norms: list[str] = []
        """The outputs of postponed norms."""
        self._parts: dict[int, tuple[Whole, Sequence[str]]] = {}
        """The names of what several steps are parts of, by its number."""

    def _emitted(self, step: Step) -> str:
        source = step.source
        if isinstance(source, Part):
            found = self._parts.get(id(source.whole))
            if found is None:
                inputs = tuple(self._names[i] for i in step.inputs)
                found = (source.whole, self._emitted_whole(source, inputs, step.layer))
                self._parts[id(source.whole)] = found
            return found[1][source.number]
        if isinstance(source, Variable):
            return self._as_itself(self.name_of(source), step.type)
        if isinstance(source, Transpose) and isinstance(step.inputs[0].source, Variable):
            name = self.name_of(step.inputs[0].source)
            if self.views.get(name) == source.perm:
                return name
        if isinstance(source, FreshSeed) or (step.training and draws(source)):  # type: ignore[arg-type]
            return self._drawn(step)
        return super()._emitted(step)

    def name_of(self, variable: Variable) -> str:
        return self.names.setdefault(variable, f"{VARIABLES}{len(self.names)}")

    def _emitted_whole(self, part: Part, inputs: tuple[str, ...], layer: str) -> Sequence[str]:
        whole = part.whole
        if not (isinstance(whole, Outputs) and isinstance(whole.op, BatchNormTraining)):
            return whole.emit(self, inputs)
        if part.number > 0:  # Nobody needs the output itself.
            return whole.emit(self, inputs)
        # Transposes pass a norm of given statistics.
        op, y = whole.op, self.builder.fresh(f"{layer}/norm")
        mean, variance = f"{y}/mean", f"{y}/variance"

        def train(builder: Builder, node: Node) -> None:
            trained = BatchNormTraining(node.op.axis, op.epsilon)  # type: ignore[attr-defined]
            outputs = (node.outputs[0], mean, variance)
            builder.emit(Node(trained, node.inputs[:3], outputs, node.layer))

        self._norms.append(y)
        given = (*inputs, *inputs[1:])
        self._postpone(Node(BatchNorm(op.axis, op.epsilon), given, (y,), layer), train)
        return y, mean, variance

    def _postpone(self, node: Node, becomes: Callable[[Builder, Node], None]) -> None:
        """Emits a node as it is in prediction; it becomes what it is in training once transposes have passed it."""
        place = f"{node.layer}#{len(self._postponed)}"
        self._postponed[place] = (node.layer, becomes)
        self.builder.emit(replace(node, layer=place))

    def _drawn(self, step: Step) -> str:
        if SEED_INPUT not in self.builder.inputs:
            self.builder.input(SEED_INPUT, SEED)
        name = self.builder.fresh(f"{step.layer}/drawn" if step.layer else "drawn")
        inputs = tuple(self._names[i] for i in step.inputs)
        node = Node(step.source, inputs, (name,), step.layer)  # type: ignore[arg-type]
        number = self._number_of_draw(step)
        if isinstance(step.source, Dropout) and inputs[0] not in self.builder.weights:
            self._postpone(node, lambda builder, node: drawn(builder, node, number))
        else:
            drawn(self.builder, node, number)
        return name

    def _number_of_draw(self, step: Step) -> int:
        self._draws += 1
        return self._draws - 1

    def slot(self, name: str, type: TensorType, value: float) -> Step:
        """What an optimizer keeps under a name, now."""
        if name not in self.kept:
            shape: Any = type.shape
            self.first[name] = np.full(shape, value, type.dtype.numpy)
            self.kept[name] = self.input(name, type)
        return self.kept[name]

    def input(self, name: str, type: TensorType) -> Step:
        """An input of the graph."""
        return self.tensor(Value(self.builder, self.builder.input(name, type))).step

    def number_of(self, optimizer: Any) -> int:
        """The optimizer's place among those of the step."""
        for k, known in enumerate(self.optimizers):
            if known is optimizer:
                return k
        self.optimizers.append(optimizer)
        return len(self.optimizers) - 1

    def rate(self, optimizer: Any, dtype: DType) -> Step:
        name = f"{RATE}/{self.number_of(optimizer)}"
        if name not in self.builder.inputs:
            return self.input(name, TensorType(dtype, ()))
        return self.tensor(Value(self.builder, name)).step

    def state_of(self, optimizer: Any, variables: Sequence[Variable]) -> dict[str, Step]:
        number, rule = self.number_of(optimizer), optimizer.rule
        found = {}
        for variable in variables:
            type = TensorType(DType.of(variable.dtype), variable.shape)
            for slot, value in all_slots(rule).items():
                name = slot_name(f"{number}/{self.name_of(variable)}", slot)
                found[name] = self.slot(name, type, value)
        type = TensorType(DType.of(variables[0].dtype), ())
        for scalar, value in rule.scalars.items():
            name = f"{PREFIX}/{number}/{scalar}"
            found[name] = self.slot(name, type, value)
        return found

    def state(self, optimizer: Any, variables: Sequence[Variable]) -> list[Step]:
        return list(self.state_of(optimizer, variables).values())

    def keep(self, optimizer: Any, variables: Sequence[Variable], after: Sequence[Step]) -> None:
        self.kept.update(zip(self.state_of(optimizer, variables), after, strict=True))
        number = self.number_of(optimizer)
        self.applied[number] = self.applied.get(number, 0) + 1

    # ------------------------------------------------------------ views

    def _view(self, order: Sequence[Step]) -> None:
        """Decides what state is kept transposed: as the only transpose of a variable has it, the slots alike.

        A convolution's kernel then lies as its operator wants it, and its gradient and update stay in that order.
        """
        if not self.views_state:
            return
        wanted: dict[Variable, set[tuple[int, ...]]] = {}
        for step in order:
            if isinstance(step.source, Transpose) and isinstance(
                v := step.inputs[0].source, Variable
            ):
                wanted.setdefault(v, set()).add(step.source.perm)
        changed = {v for v in self.variables if v.constraint is None}
        perms = {v: next(iter(found)) for v, found in wanted.items() if len(found) == 1}
        self.views = {self.name_of(v): perm for v, perm in perms.items() if v in changed}
        for step in order:
            if isinstance(step.source, Part) and isinstance(update := step.source.whole, Update):
                for variable, slots in update.slots_of(step.inputs):
                    if self.name_of(variable) in self.views:
                        for slot in slots:
                            self._view_slot(slot, self.views[self.name_of(variable)])

    def _view_slot(self, step: Step, perm: tuple[int, ...]) -> None:
        if isinstance(step.source, Variable) and step.source in dict.keys(self.variables):
            self.views[self.name_of(step.source)] = perm
        fresh = isinstance(step.source, Placeholder) and step.source.name not in self.views
        if isinstance(step.source, Placeholder) and fresh and step.source.name in self.kept:
            name, type = step.source.name, step.type
            self.views[name] = perm
            self.builder.types[name] = TensorType(type.dtype, tuple(type.shape[d] for d in perm))
            self._names[step] = self.builder.add(Transpose(inverse(perm)), name)
            self.viewed[self._names[step]] = name

    def _as_itself(self, name: str, type: TensorType) -> str:
        """A variable's value: its input, or that transposed back."""
        perm = self.views.get(name)
        if perm is None:
            return name if name in self.builder.inputs else self.builder.input(name, type)
        if name not in self.builder.inputs:
            shape = tuple(type.shape[d] for d in perm)
            self.builder.input(name, TensorType(type.dtype, shape))
        plain = self.builder.add(Transpose(inverse(perm)), name)
        self.viewed[plain] = name
        return plain

    def transposed(self, name: str, perm: tuple[int, ...]) -> str:
        """A value, transposed; what it was transposed from, if that undoes it."""
        if name in self.viewed and self.views[self.viewed[name]] == perm:
            return self.viewed[name]
        node = self._producer(name)
        if node is not None and isinstance(node.op, StopGradient):
            node = self._producer(node.inputs[0])
        if node is not None and isinstance(node.op, Transpose) and node.op.perm == inverse(perm):
            return node.inputs[0]
        return self.builder.add(Transpose(perm), name)

    def back(self, name: str, place: str) -> str:
        """A value in the order of an input, as the variable has it."""
        return self.builder.add(Transpose(inverse(self.views[place])), name)

    # ------------------------------------------------------------ the graph

    def graph(self, outputs: Mapping[str, Step], order: Sequence[Step] | None = None) -> Graph:
        """The graph of all that was traced, with steps as outputs and the next values of variables and state.

        `order` has the steps that are needed, each after its inputs.

        Steps up to the first gradients come first, in the order that a model's forward pass has in training (their
        transposes meet and vanish), then those up to the gradients that depend on these, and so on.
        """
        wanted = dict(outputs)
        for variable in list(self.variables):
            wanted[f"{NEXT}{self.name_of(variable)}"] = self.variables[variable]
        wanted |= {f"{NEXT}{name}": step for name, step in self.kept.items()}
        order = steps_to(wanted.values(), self._names) if order is None else order
        self._view(order)
        stages = staged(order, self._names)
        for k, steps in enumerate(stages):
            for step in chain.from_iterable((*self._needs(s), s) for s in steps):
                if step not in self._names:  # Constants that nothing has used so far are gone.
                    self._names[step] = self._emitted(step)
            if k + 1 < len(stages) or self._postponed:
                later = [i for each in stages[k + 1 :] for s in each for i in self._needs(s)]
                self._arrange([*wanted.values(), *later])
        for variable in list(self.variables):
            if self.name_of(variable) not in self.builder.inputs:
                self._as_itself(self.name_of(variable), variable._step.type)
        names = {n: self._names[s] for n, s in wanted.items()}
        for name, perm in self.views.items():
            names[f"{NEXT}{name}"] = self.transposed(names[f"{NEXT}{name}"], perm)
        graph = with_outputs(self.builder, names)
        next_values(graph)
        return graph

    def _needs(self, step: Step) -> Sequence[Step]:
        """What a step is computed from."""
        return step.inputs

    def _arrange(self, needed: Iterable[Step]) -> None:
        """Brings what was emitted into the order of training's forward passes; only what is needed keeps its name."""
        fixed = {*self.builder.inputs, *self.builder.weights}
        outputs = dict.fromkeys(n for s in needed if (n := self._names.get(s)) is not None)
        outputs |= dict.fromkeys(self._norms)  # whose statistics may be needed
        graph = self.builder.finish([n for n in outputs if n not in fixed])
        for run in FORWARD:
            graph = run(graph)
        builder = Builder(graph.name, dict(graph.weights), reserved=graph.types)
        for name in graph.inputs:
            builder.input(name, graph.types[name])
        for node in graph.nodes:
            if node.layer in self._postponed:
                layer, becomes = self._postponed.pop(node.layer)
                becomes(builder, replace(node, layer=layer))
            else:
                builder.emit(node)
        self._postponed.clear()
        self._norms.clear()
        before, self.builder = self.builder.weights, builder
        same = {n for n, array in builder.weights.items() if array is before.get(n)}
        there = {*builder.inputs, *same, *(n for n in outputs if n not in fixed)}
        self._names = {s: n for s, n in self._names.items() if n in there}
        self._tensors = {n: t for n, t in self._tensors.items() if n in there}
        self.viewed = {n: place for n, place in self.viewed.items() if n in there}


def _comes_later(part: Part) -> bool:
    """Whether it is emitted once what comes before it is in order: gradients, and statistics of norms."""
    if isinstance(part.whole, Outputs):
        return isinstance(part.whole.op, BatchNormTraining) and part.number > 0
    return isinstance(part.whole, Gradients)


def staged(order: Sequence[Step], known: Container[Step]) -> list[list[Step]]:
    """Steps by how many gradients of gradients they are, in their order."""
    levels: dict[int, int] = {}
    stages: list[list[Step]] = [[]]
    for step in order:
        level = max((levels[id(i)] for i in step.inputs if id(i) in levels), default=0)
        if step not in known and isinstance(step.source, Part):
            level += _comes_later(step.source)
        levels[id(step)] = level
        while len(stages) <= level:
            stages.append([])
        stages[level].append(step)
    return stages


_active: ContextVar[StepTrace | None] = ContextVar("convc_keras_step", default=None)


def tracing_step() -> StepTrace | None:
    """The step that is being traced."""
    return _active.get()


@contextmanager
def tracing(trace: StepTrace) -> Iterator[None]:
    token = _active.set(trace)
    try:
        with outermost(), collecting_losses() as losses, entered(""), step_phase():
            trace.losses = losses
            with traced_variables(trace.variables):
                yield
    finally:
        _active.reset(token)


def leaves(sources: Any) -> Iterator[Any]:
    if isinstance(sources, (list, tuple)):
        for source in sources:
            yield from leaves(source)
    elif isinstance(sources, Mapping):
        for source in sources.values():
            yield from leaves(source)
    else:
        yield sources


def rebuilt(sources: Any, found: Iterator[Any]) -> Any:
    if isinstance(sources, (list, tuple)):
        return [rebuilt(source, found) for source in sources]
    if isinstance(sources, Mapping):
        return {key: rebuilt(source, found) for key, source in sources.items()}
    return next(found)


def apply_in(book: Book, optimizer: Any, pairs: Iterable[tuple[Any, Variable]]) -> None:
    """One update of variables by an optimizer, in a step that is traced or recorded."""
    given = [(g, v) for g, v in checked_pairs(optimizer, pairs) if g is not None]
    if not given:
        raise ModelError(
            f"{user_line()}: {type(optimizer).__name__}.apply: expected gradients; received none"
        )
    rule, variables = optimizer.rule, tuple(v for _, v in given)
    fixed = optimizer.without_decay(variables)
    kept = tuple(k for k, v in enumerate(variables) if any(v is f for f in fixed))
    update = Update(rule, variables, tuple(all_slots(rule)), kept)
    before, steps = [v.step for v in variables], optimizer.step_count.step
    state = book.state(optimizer, variables)
    rate = book.rate(optimizer, DType.of(variables[0].dtype))
    gradients = [gradient_of(optimizer, g, v).step for g, v in given]
    inputs = (steps, rate, *before, *gradients, *state)
    likes = enumerate((*before, *state, steps))
    after = [part(update, k, inputs, like) for k, like in likes]
    for variable, step in zip(variables, after, strict=False):
        variable.assign(KerasTensor(step))
    book.keep(optimizer, variables, after[len(variables) : -1])
    optimizer.step_count.assign(KerasTensor(after[-1]))


def traced_step(
    step: Callable[[Any], Any],
    types: Mapping[str, TensorType],
    structure: Any,
    names: dict[Variable, str],
    views_state: bool = False,
) -> tuple[Graph, StepTrace]:
    """The graph of a step on data of these types, and what was found on the way.

    With `views_state` the graph may have state transposed, as the trace's `views` say.

    `structure` is that of the data, with names of inputs in place of arrays. The graph's outputs are what the step
    returns, `logs/name` each, and the next values of all variables and states that it changes.
    """
    builder = Builder(getattr(step, "__name__", "step"))
    for name, type in types.items():
        builder.input(name, type)
    trace = StepTrace(builder, names)
    trace.views_state = views_state
    with tracing(trace):
        data = _filled(structure, lambda name: trace.tensor(Value(builder, name)))
        logs = step(data)
        if not isinstance(logs, Mapping):
            raise ModelError(
                f"{getattr(step, '__qualname__', step)}: expected a dict of losses and metrics by name; "
                f"returned {logs!r}"
            )
        outputs = {f"{LOGS}{n}": _scalar(v) for n, v in _flat_logs(logs).items()}
        given = {id(trace.tensor(Value(builder, name)).step): name for name in types}
        ends = [*outputs.values(), *trace.variables.values(), *trace.kept.values()]
        trace.limits = limits_of(steps_to(ends), given)
        return trace.graph(outputs), trace


def _flat_logs(logs: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in logs.items():
        found |= _flat_logs(value) if isinstance(value, Mapping) else {str(name): value}
    return found


def _scalar(value: Any) -> Step:
    """A loss or a metric as one float: the mean of several numbers."""
    tensor = as_tensor(value)
    if not tensor.type.dtype.is_float:
        tensor = as_tensor(tensor, "float32")
    found: Step = (FUNCTIONS["mean"](tensor) if tensor.ndim else tensor).step
    return found


def _filled(structure: Any, tensor: Callable[[str], Any]) -> Any:
    match structure:
        case str():
            return tensor(structure)
        case list() | tuple():
            return type(structure)(_filled(item, tensor) for item in structure)
        case dict():
            return {key: _filled(item, tensor) for key, item in structure.items()}
        case _:
            return map_tensors(lambda t: t, structure)
