"""Functions written with KerasTensors (`keras.ops`, Python's operators, the old `K.*`), run inside a graph's builder.

Losses, metrics, regularizers and constraints are such functions: here they become nodes of a training step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from convc.graph.ir import Builder, Node
from convc.graph.op import Op
from convc.keras.engine.call import map_tensors
from convc.keras.engine.graphs import Viewed
from convc.keras.engine.naming import entered, outermost
from convc.keras.engine.tensor import (
    KerasTensor,
    Placeholder,
    Step,
    Variable,
    reshape,
    steps_to,
    traced_variables,
    transpose,
)
from convc.ops.activations import Sigmoid
from convc.ops.norm import Softmax
from convc.ops.shape import Transpose
from convc.ops.values import Value
from convc.types import TensorType

STATE = "metrics"
"""The first part of the names of metrics' state."""


class Trace:
    """Tensors for the values of a builder, and nodes for what is computed with them."""

    def __init__(self, builder: Builder) -> None:
        self.builder = builder
        self._names: dict[Step, str] = {}
        self._tensors: dict[str, KerasTensor] = {}
        self.variables: dict[Variable, Step] = {}
        """Variables that are values of the builder, and what they are at the moment."""

    def tensor(self, value: Value) -> KerasTensor:
        """The value as a tensor. One that a softmax or a sigmoid made shows its logits, so that losses find them."""
        if value.name not in self._tensors:
            step = Step(Placeholder(value.name), (), value.type, symbolic=True, name=value.name)
            producer = self._producer(value.name)
            if producer is not None and isinstance(producer.op, (Softmax, Sigmoid)):
                step.source = producer.op
                step.inputs = (self.tensor(Value(self.builder, producer.inputs[0])).step,)
            self._names[step] = value.name
            self._tensors[value.name] = KerasTensor(step, value.name)
        return self._tensors[value.name]

    def bind(self, variable: Variable, value: Value, views: Sequence[Op] = ()) -> None:
        """Makes the variable read as the value in functions that are run here.

        With `views`, the value is the variable after these transposes and reshapes.
        """
        shapes = [variable.shape]
        for view in views:
            (type_,) = view.infer(TensorType(value.dtype, shapes[-1]))
            shapes.append(type_.shape)  # type: ignore[arg-type]
        tensor = self.tensor(value)
        for view, shape in zip(reversed(views), reversed(shapes[:-1]), strict=True):
            if isinstance(view, Transpose):
                tensor = transpose(tensor, tuple(int(d) for d in np.argsort(view.perm)))
            else:
                tensor = reshape(tensor, shape)
        self.variables[variable] = tensor.step

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """What the function gives for arguments whose values are tensors to it: its tensors as values."""
        given = [self.tensor(a) if isinstance(a, Value) else a for a in args]
        name = getattr(function, "name", None) or getattr(function, "__name__", "function")
        with outermost(), entered(str(name)), traced_variables(self.variables):
            found = function(*given)
        return map_tensors(self.value, found)

    def value(self, tensor: KerasTensor) -> Value:
        """The tensor as a value: its steps become nodes."""
        for step in steps_to([tensor.step], self._names):
            if step not in self._names:
                self._names[step] = self._emitted(step)
        return Value(self.builder, self._names[tensor.step])

    def _producer(self, name: str) -> Node | None:
        return next((n for n in reversed(self.builder.nodes) if name in n.outputs), None)

    def _emitted(self, step: Step) -> str:
        match step.source:
            case Op() as op:
                inputs = [self._names[i] for i in step.inputs]
                name = f"{step.layer}/{op.mnemonic}" if step.layer else op.mnemonic
                return self.builder.add(op, *inputs, name=self.builder.fresh(name))
            case Placeholder(name):
                return name
            case Variable() as variable:
                return self.builder.weight(variable.path, variable.value)
            case array:
                return self.builder.weight(f"{step.layer}/constant", np.asarray(array))


def trace_of(builder: Builder, weights: Mapping[str, Viewed]) -> Trace:
    """A trace in which the variables whose weights are the builder's inputs read as these."""
    trace = Trace(builder)
    for name, weight in weights.items():
        if name in builder.inputs:
            trace.bind(weight.variable, Value(builder, name), weight.views)
    return trace


def traced(builder: Builder, function: Callable[..., Any], *args: Any) -> Any:
    """What a function of tensors gives for values of the builder (or other arguments), as values."""
    return Trace(builder).run(function, *args)


def state_names(key: str, metric: Any) -> dict[str, Variable]:
    """A metric's variables by their names in the step's state."""
    return {f"{STATE}/{key}/{k}": v for k, v in enumerate(metric.variables)}


def updated_metric(trace: Trace, key: str, metric: Any, *args: Value | None) -> dict[str, Value]:
    """The next values of a metric's variables after `update_state(*args)`, by the names of the inputs that they get."""
    metric.ensure_built(*(None if a is None else trace.tensor(a) for a in args))
    names = state_names(key, metric)
    for name, variable in names.items():
        trace.bind(variable, Value(trace.builder, trace.builder.input(name, variable.step.type)))
    trace.run(metric.update_state, *args)
    return {n: trace.value(KerasTensor(trace.variables[v])) for n, v in names.items()}
