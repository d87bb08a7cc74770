"""`@tf.function`: functions of arrays that are traced once for each structure of their arguments, and run compiled.

A function may do what a `train_step` may: call models, take gradients, apply optimizers, update metrics and other
variables. Where tracing it fails, because it asks for a value while it runs or because it is no function of its
arguments, it runs by hand, operator by operator.
"""

from __future__ import annotations

import functools
import types
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from convc.graph.ir import Builder
from convc.keras.engine.naming import scope
from convc.keras.engine.tensor import Array, KerasTensor, Step, Variable, recording_now
from convc.keras.training.hand_programs import Bound, Program
from convc.keras.training.hand_slots import kept_for
from convc.keras.training.optimizer import PREFIX, all_slots, slot_name
from convc.keras.training.own_steps import StepTrace, tracing, tracing_step
from convc.keras.training.seeds import next_key
from convc.keras.training.step import RATE
from convc.ops.values import Value
from convc.passes.training_mode import SEED_INPUT
from convc.types import DType, TensorType

TRACES = 16
"""Structures of arguments whose traces a function keeps. One that is called with more of them in turn, such as with
another number each time, runs by hand from then on."""

NODES = 20_000
"""Operators of the largest function that is compiled: a larger one has loops over data in it."""

RESULT = "result/"


@dataclass(eq=False)
class Traced:
    """A function for one structure of arguments."""

    program: Program
    result: Any
    """What the function returned, with `Result`s in place of tensors."""
    optimizers: list[tuple[Any, str, Any]]
    """Each with the name and the dtype of its rate."""
    variables: dict[str, weakref.ref[Variable]]
    slots: list[tuple[str, Any, weakref.ref[Variable] | None, str, Array]]
    """The state of optimizers: its name, the optimizer, whose it is (None: of all), what it is, and how it begins."""
    refs: list[weakref.ref[Any]]
    """The objects among the arguments."""
    draws: bool
    bound: Bound | None = None

    @property
    def alive(self) -> bool:
        """Whether all that it was traced with is still there."""
        return all(ref() is not None for ref in (*self.refs, *self.variables.values()))

    def run(self, feeds: dict[str, Array]) -> Any:
        for optimizer, name, dtype in self.optimizers:
            kept_for(optimizer)
            feeds[name] = np.array(optimizer.rate_at(int(optimizer.step_count.array)), dtype)
        if self.draws:
            feeds[SEED_INPUT] = np.array([next_key(), next_key()], np.uint32)
        if self.bound is None or not self.bound.alive:
            self.bound = self.program.bound(self._named())
        return _filled(self.result, self.program.run(self.bound, feeds))

    def _named(self) -> dict[str, Variable]:
        """All that the program reads and replaces, by its names."""
        found = {n: v for n, ref in self.variables.items() if (v := ref()) is not None}
        for name, optimizer, ref, slot, first in self.slots:
            kept, variable = kept_for(optimizer), None if ref is None else ref()
            found[name] = (
                kept.number(slot, first) if variable is None else kept.slot(variable, slot, first)
            )
        return found


@dataclass(frozen=True)
class Result:
    """Which of a program's outputs a tensor is."""

    number: int


class Function:
    """A function that is compiled for each structure of its arguments; within what is traced it is a part of that."""

    def __init__(self, python: Callable[..., Any]) -> None:
        functools.update_wrapper(self, python)
        self.python_function = python
        self._traces: dict[Any, Traced] = {}
        self._by_hand = False

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._by_hand or tracing_step() is not None or recording_now() is not None or scope():
            return self.python_function(*args, **kwargs)
        arguments = Arguments()
        try:
            key = arguments.key_of((args, kwargs))
        except NoDataError:
            return self.python_function(*args, **kwargs)
        traced = self._traces.get(key)
        if traced is None or not (traced.bound is None or traced.bound.alive or traced.alive):
            traced = self._traced(key, arguments, args, kwargs)
        if traced is None:
            return self.python_function(*args, **kwargs)
        return traced.run(arguments.feeds)

    def _traced(self, key: Any, arguments: Arguments, args: Any, kwargs: Any) -> Traced | None:
        """The function's trace; None where it has to run by hand, from now on."""
        if len(self._traces) >= TRACES:
            self._traces.pop(next(iter(self._traces))).program.release()
            self._misses = getattr(self, "_misses", 0) + 1
        if getattr(self, "_misses", 0) > TRACES:
            self._by_hand = True
        try:
            found = None if self._by_hand else traced(self.python_function, arguments, args, kwargs)
        except Exception:
            found = None  # Arrays may do what tensors can't: then it works by hand, or fails there.
        if found is None:
            self._by_hand = True
            return None
        self._traces[key] = found
        return found


class NoDataError(Exception):
    """An argument that no compiled function takes: it runs by hand."""


class Arguments:
    """The arrays among a call's arguments by the names of inputs, and what else tells calls apart."""

    def __init__(self) -> None:
        self.feeds: dict[str, Array] = {}
        self.objects: list[Any] = []

    def key_of(self, value: Any) -> Any:
        """What calls that share a trace have in common."""
        kind = type(value)
        if kind is np.ndarray or isinstance(value, np.generic):
            return self._array(np.asarray(value))
        if kind is KerasTensor:
            if value.step.symbolic or value.mask is not None:
                raise NoDataError
            return self._array(value.__array__())
        if kind is tuple or kind is list:
            return (kind, *map(self.key_of, value))
        if kind is dict:
            return (kind, *((k, self.key_of(v)) for k, v in value.items()))
        if value is None or kind in (bool, int, float, str):
            return kind, value
        self.objects.append(value)
        return kind, id(value)

    def _array(self, array: Array) -> Any:
        if array.dtype.kind not in "fiub":
            raise NoDataError
        self.feeds[f"argument/{len(self.feeds)}"] = array
        return array.dtype, array.shape


def traced(
    python: Callable[..., Any], arguments: Arguments, args: Any, kwargs: Any
) -> Traced | None:
    """A function on arrays like these; None where it is too large to compile, or not of what it is given."""
    try:
        refs = [weakref.ref(each) for each in arguments.objects]
    except TypeError:
        return None
    builder = Builder(getattr(python, "__name__", "function"))
    for name, array in arguments.feeds.items():
        builder.input(name, TensorType(DType.of(array.dtype), array.shape))
    trace = StepTrace(builder, {})
    trace.views_state = True
    results: list[Step] = []

    def result(tensor: KerasTensor) -> Result:
        results.append(tensor.step)
        return Result(len(results) - 1)

    with tracing(trace):
        names = iter(arguments.feeds)
        given = _map(lambda _: trace.tensor(Value(builder, next(names))), (args, kwargs))
        returned = _map(result, python(*given[0], **given[1]))
        graph = trace.graph({f"{RESULT}{k}": step for k, step in enumerate(results)})
    if len(graph.nodes) > NODES:
        return None
    builder = trace.builder
    rates = [
        (o, f"{RATE}/{k}", builder.types[f"{RATE}/{k}"].dtype.numpy)
        for k, o in enumerate(trace.optimizers)
    ]
    variables = {n: weakref.ref(v) for v, n in trace.names.items()}
    drawing = SEED_INPUT in builder.inputs
    return Traced(
        Program(builder.name, graph, trace.views),
        returned,
        rates,
        variables,
        slots_of(trace),
        refs,
        drawing,
    )


def slots_of(trace: StepTrace) -> list[tuple[str, Any, weakref.ref[Variable] | None, str, Array]]:
    """What the optimizers of a trace keep: its name, the optimizer, whose it is, what it is, and how it begins."""
    found: list[tuple[str, Any, weakref.ref[Variable] | None, str, Array]] = []
    for number, optimizer in enumerate(trace.optimizers):
        rule = optimizer.rule
        for name in rule.scalars:
            full = f"{PREFIX}/{number}/{name}"
            found.append((full, optimizer, None, name, trace.first[full]))
        for variable, name in trace.names.items():
            for slot in all_slots(rule):
                full = slot_name(f"{number}/{name}", slot)
                if full in trace.first:
                    found.append((full, optimizer, weakref.ref(variable), slot, trace.first[full]))
    return found


def _map(function: Callable[[Any], Any], structure: Any) -> Any:
    """The structure with arrays and tensors replaced."""
    match structure:
        case KerasTensor() | np.ndarray() | np.generic():
            return function(structure)
        case list():
            return [_map(function, item) for item in structure]
        case tuple():
            made = [_map(function, item) for item in structure]
            return type(structure)(*made) if hasattr(structure, "_fields") else tuple(made)
        case Mapping():
            return {key: _map(function, item) for key, item in structure.items()}
        case _:
            return structure


def _filled(structure: Any, arrays: list[Array]) -> Any:
    match structure:
        case Result(number):
            array = arrays[number]
            return KerasTensor(Step(array, (), TensorType(DType.of(array.dtype), array.shape)))
        case list() | tuple() | dict():
            return _map_results(structure, arrays)
        case _:
            return structure


def _map_results(structure: Any, arrays: list[Array]) -> Any:
    if isinstance(structure, dict):
        return {key: _filled(item, arrays) for key, item in structure.items()}
    made = [_filled(item, arrays) for item in structure]
    if hasattr(structure, "_fields"):
        return type(structure)(*made)
    return made if isinstance(structure, list) else tuple(made)


def function(func: Callable[..., Any] | None = None, **options: Any) -> Any:
    """`@tf.function`, with or without arguments (which change nothing)."""
    del options
    return Function(func) if func is not None else Function
