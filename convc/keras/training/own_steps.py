"""Steps that users write themselves, `train_step(data)`, traced as a whole into one program.

What such a step does with tensors becomes part of the program: calls of models and layers, losses, gradients from a
`GradientTape`, optimizers' updates, assignments to variables, updates of metrics. It runs once in Python for each shape
of the data, not once for each batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from convc.errors import ModelError
from convc.graph.ir import Builder, Graph, Node
from convc.graph.state import NEXT, next_values
from convc.keras.engine.call import collecting_losses, map_tensors
from convc.keras.engine.naming import entered, outermost
from convc.keras.engine.phase import step_phase
from convc.keras.engine.tensor import (
    FUNCTIONS,
    Array,
    KerasTensor,
    Step,
    Variable,
    apply,
    as_tensor,
    traced_variables,
)
from convc.keras.training.optimizer import NO_CONSTRAINTS, PREFIX, all_slots, slot_name, updated
from convc.keras.training.step import RATE
from convc.keras.training.tracing import Trace
from convc.ops.elementwise import StopGradient
from convc.ops.noise import FreshSeed
from convc.ops.random import SEED
from convc.ops.values import Value
from convc.passes.gradient import add_gradients, with_outputs
from convc.passes.training_mode import SEED_INPUT, drawn, draws
from convc.types import DType, TensorType

LOGS = "logs/"
"""The first part of the names of what a step returns."""
VARIABLES = "variables/"


class _Any(dict[Variable, Step]):
    """Traced variables: all of them, whether they were met before or not."""

    def __contains__(self, key: object) -> bool:
        return True

    def __missing__(self, variable: Variable) -> Step:
        return variable._step


class StepTrace(Trace):
    """A step in the making. `names` are those of variables in the state; new ones are added as the step meets them."""

    def __init__(self, builder: Builder, names: dict[Variable, str]) -> None:
        super().__init__(builder)
        self.names = names
        self.variables = _Any()
        self.state: dict[str, Value] = {}
        """The latest values of what optimizers keep, by name."""
        self.first: dict[str, Array] = {}
        """What that is before the first step."""
        self.optimizers: list[Any] = []
        self.applied: dict[int, int] = {}
        """How often the step applies each optimizer."""
        self.losses: list[KerasTensor] = []
        self._draws = 0

    def _emitted(self, step: Step) -> str:
        source = step.source
        if isinstance(source, Variable):
            return self.builder.input(self.name_of(source), step.type)
        if isinstance(source, FreshSeed) or (step.training and draws(source)):  # type: ignore[arg-type]
            return self._drawn(step)
        return super()._emitted(step)

    def name_of(self, variable: Variable) -> str:
        return self.names.setdefault(variable, f"{VARIABLES}{len(self.names)}")

    def _drawn(self, step: Step) -> str:
        if SEED_INPUT not in self.builder.inputs:
            self.builder.input(SEED_INPUT, SEED)
        name = self.builder.fresh(f"{step.layer}/drawn" if step.layer else "drawn")
        inputs = tuple(self._names[i] for i in step.inputs)
        node = Node(step.source, inputs, (name,), step.layer)  # type: ignore[arg-type]
        drawn(self.builder, node, self._draws)
        self._draws += 1
        return name

    def slot(self, name: str, type: TensorType, value: float) -> Value:
        """What an optimizer keeps under a name, now."""
        if name not in self.state:
            shape: Any = type.shape
            self.first[name] = np.full(shape, value, type.dtype.numpy)
            self.state[name] = Value(self.builder, self.builder.input(name, type))
        return self.state[name]

    def number_of(self, optimizer: Any) -> int:
        """The optimizer's place among those of the step."""
        for k, known in enumerate(self.optimizers):
            if known is optimizer:
                return k
        self.optimizers.append(optimizer)
        return len(self.optimizers) - 1

    def rate(self, number: int, dtype: DType) -> Value:
        name = f"{RATE}/{number}"
        if name not in self.builder.inputs:
            self.builder.input(name, TensorType(dtype, ()))
        return Value(self.builder, name)

    def assign(self, variable: Variable, value: Value) -> None:
        """Gives a variable a value that no gradient goes through: a tape reads variables, not how they came about."""
        variable.assign(apply(StopGradient(), self.tensor(value)))


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


def differentiated(trace: StepTrace, loss: str, sources: Iterable[str]) -> tuple[str, ...]:
    """The gradients of a scalar value for values, by name."""
    return add_gradients(trace.builder, loss, list(sources))


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


def apply_in(trace: StepTrace, optimizer: Any, pairs: Iterable[tuple[Any, Variable]]) -> None:
    """One update of variables by an optimizer, in a step."""
    given = [(g, v) for g, v in pairs if g is not None]
    if not given:
        raise ModelError(f"{type(optimizer).__name__}.apply: expected gradients; received none")
    number, rule = trace.number_of(optimizer), optimizer.rule
    names = {v: f"{number}/{trace.name_of(v)}" for _, v in given}
    parameters = {names[v]: trace.value(as_tensor(v)) for _, v in given}
    gradients = {names[v]: trace.value(as_tensor(g, v.dtype)) for g, v in given}
    kinds = {n: v.type for n, v in parameters.items()}
    first = next(iter(kinds.values())).dtype
    slots = {
        slot_name(n, s): trace.slot(slot_name(n, s), kind, value)
        for n, kind in kinds.items()
        for s, value in all_slots(rule).items()
    }
    scalars = {
        f"{PREFIX}/{n}": trace.slot(f"{PREFIX}/{number}/{n}", TensorType(first, ()), value)
        for n, value in rule.scalars.items()
    }
    kept = [names[v] for v in optimizer.without_decay([v for _, v in given])]
    constraints: dict[str, Callable[[Value], Value]] = dict(NO_CONSTRAINTS)
    for _, variable in given:
        if variable.constraint is not None:
            constraints[names[variable]] = _limited(trace, variable)
    steps = trace.value(as_tensor(optimizer.iterations))
    rate = trace.rate(number, first)
    state = {**slots, **scalars}
    found = updated(rule, parameters, gradients, state, steps, rate, kept, constraints)
    for variable, name in names.items():
        trace.assign(variable, found[name])
    for name in slots:
        trace.state[name] = found.get(name, slots[name])
    for name in rule.scalars:
        trace.state[f"{PREFIX}/{number}/{name}"] = found[f"{PREFIX}/{name}"]
    trace.assign(optimizer.iterations, steps + 1)
    trace.applied[number] = trace.applied.get(number, 0) + 1


def _limited(trace: StepTrace, variable: Variable) -> Callable[[Value], Value]:
    def limited(value: Value) -> Value:
        return trace.value(as_tensor(variable.constraint(trace.tensor(value)), variable.dtype))

    return limited


def traced_step(
    step: Callable[[Any], Any],
    types: Mapping[str, TensorType],
    structure: Any,
    names: dict[Variable, str],
) -> tuple[Graph, StepTrace]:
    """The graph of a step on data of these types, and what was found on the way.

    `structure` is that of the data, with names of inputs in place of arrays. The graph's outputs are what the step
    returns, `logs/name` each, and the next values of all variables and states that it changes.
    """
    builder = Builder(getattr(step, "__name__", "step"))
    for name, type in types.items():
        builder.input(name, type)
    trace = StepTrace(builder, names)
    with tracing(trace):
        data = _filled(structure, lambda name: trace.tensor(Value(builder, name)))
        logs = step(data)
        if not isinstance(logs, Mapping):
            raise ModelError(
                f"{getattr(step, '__qualname__', step)}: expected a dict of losses and metrics by name; "
                f"returned {logs!r}"
            )
        outputs = {f"{LOGS}{n}": _scalar(trace, v).name for n, v in _flat_logs(logs).items()}
        for variable in list(trace.variables):
            value = trace.value(KerasTensor(trace.variables[variable]))
            outputs[f"{NEXT}{trace.name_of(variable)}"] = value.name
            if trace.name_of(variable) not in builder.inputs:
                builder.input(trace.name_of(variable), variable._step.type)
    outputs |= {f"{NEXT}{name}": value.name for name, value in trace.state.items()}
    graph = with_outputs(builder, outputs)
    next_values(graph)
    return graph, trace


def _flat_logs(logs: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in logs.items():
        found |= _flat_logs(value) if isinstance(value, Mapping) else {str(name): value}
    return found


def _scalar(trace: StepTrace, value: Any) -> Value:
    """A loss or a metric as one float: the mean of several numbers."""
    tensor = as_tensor(value)
    if not tensor.type.dtype.is_float:
        tensor = as_tensor(tensor, "float32")
    return trace.value(FUNCTIONS["mean"](tensor) if tensor.ndim else tensor)


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
