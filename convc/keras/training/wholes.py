"""What gives several values at once in steps of a user's own: gradients, updates, operators of several outputs.

They are steps like operators, so that a step is known as a whole before the first of its gradients is derived.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from convc.errors import ConvcError, ModelError
from convc.keras.engine.naming import user_line
from convc.keras.engine.steps import Part, Step, recording_now
from convc.keras.engine.tensor import KerasTensor, Variable, as_tensor
from convc.keras.training.optimizer import NO_CONSTRAINTS, PREFIX, slot_name, updated
from convc.keras.training.rules import Rule
from convc.ops.differentiation import add_gradients
from convc.ops.elementwise import StopGradient
from convc.ops.shape import Transpose
from convc.ops.values import Value


class Gradients:
    """The gradients of a scalar, the first input, for the others."""

    def __init__(self) -> None:
        self.line = user_line()

    @property
    def key(self) -> Hashable:
        """What two of them that compute alike have in common."""
        return "gradients"

    def emit(self, trace: Any, inputs: Sequence[str]) -> Sequence[str]:
        total, *sources = inputs
        places = [trace.viewed.get(source, source) for source in sources]
        try:
            found = add_gradients(trace.builder, total, places)
        except ConvcError as error:
            raise type(error)(f"{self.line}: {error}") from None
        return [
            name if place == source else trace.back(name, place)
            for name, place, source in zip(found, places, sources, strict=True)
        ]


def gradients(total: KerasTensor, sources: Sequence[Step]) -> list[Step]:
    """The gradients of a float scalar for steps, as steps."""
    for what, step in (("the loss", total.step), *(("a source", s) for s in sources)):
        if not step.type.dtype.is_float:
            raise ModelError(
                f"{user_line()}: gradient: {what} expects a float dtype, got {step.type}"
            )
    inputs = (total.step, *sources)
    whole = Gradients()
    return [part(whole, k, inputs, source) for k, source in enumerate(sources)]


def part(whole: Any, number: int, inputs: tuple[Step, ...], like: Step) -> Step:
    """A value of another one's type."""
    symbolic = any(s.symbolic for s in inputs)
    found = Step(Part(whole, number), inputs, like.type, symbolic=symbolic)
    found.recorded = recording_now()
    return found


@dataclass(eq=False)
class Update:
    """The next values of variables after one step of an optimizer's rule, with its slots, scalars and the steps made.

    Inputs: the steps made before, the rate, then the variables, their gradients, the slots of each and the scalars.
    Outputs: the variables, the slots and the scalars, then the steps made.
    """

    rule: Rule
    variables: tuple[Variable, ...]
    """What is updated: for their constraints."""
    slots: tuple[str, ...]
    fixed: tuple[int, ...]
    """Which of the variables don't decay."""

    @property
    def key(self) -> Hashable:
        limits = tuple(None if v.constraint is None else id(v.constraint) for v in self.variables)
        return type(self.rule), self.rule, len(self.variables), self.fixed, limits

    @property
    def state(self) -> list[str]:
        """The names of the slots and the scalars, in their order."""
        count = range(len(self.variables))
        slots = [slot_name(str(k), s) for k in count for s in self.slots]
        return [*slots, *(f"{PREFIX}/{n}" for n in self.rule.scalars)]

    def slots_of(self, inputs: Sequence[Any]) -> list[tuple[Variable, Sequence[Any]]]:
        """Each variable with those of the inputs that are its slots."""
        first, each = 2 + 2 * len(self.variables), len(self.slots)
        starts = range(first, first + each * len(self.variables), each or 1)
        return [
            (v, inputs[k : k + each]) for v, k in zip(self.variables, starts, strict=bool(each))
        ]

    def emit(self, trace: Any, inputs: Sequence[str]) -> Sequence[str]:
        perms = [trace.views.get(trace.viewed.get(n)) for n in inputs[2 : 2 + len(self.variables)]]
        groups = [(2 + k, 2 + len(perms) + k) for k in range(len(perms))]
        slots = self.slots_of(range(len(inputs)))
        given_names = list(inputs)
        for k, perm in enumerate(perms):
            if perm is not None:
                for place in (*groups[k], *(slots[k][1] if slots else ())):
                    given_names[place] = trace.transposed(inputs[place], perm)
        after = self._updated(trace, given_names)
        count, each = len(perms), len(self.slots)
        for k, perm in enumerate(perms):
            if perm is not None:
                for place in (k, *range(count + k * each, count + (k + 1) * each)):
                    after[place] = trace.builder.add(Transpose(inverse(perm)), after[place])
        floats = [trace.builder.types[name].dtype.is_float for name in after]
        return [
            trace.builder.add(StopGradient(), name) if is_float else name
            for name, is_float in zip(after, floats, strict=True)
        ]

    def _updated(self, trace: Any, inputs: Sequence[str]) -> list[str]:
        names = [str(k) for k in range(len(self.variables))]
        given = iter(Value(trace.builder, name) for name in inputs)
        iterations, rate = next(given), next(given)
        parameters = {n: next(given) for n in names}
        gradients = {n: next(given) for n in names}
        state = {n: next(given) for n in self.state}
        constraints: dict[str, Callable[[Value], Value]] = dict(NO_CONSTRAINTS)
        for name, variable in zip(names, self.variables, strict=True):
            if variable.constraint is not None:
                constraints[name] = _limited(trace, variable)
        fixed = [names[k] for k in self.fixed]
        found = updated(
            self.rule, parameters, gradients, state, iterations, rate, fixed, constraints
        )
        after = [found[n] for n in names] + [found.get(n, state[n]) for n in self.state]
        return [value.name for value in (*after, iterations + 1)]


def inverse(perm: tuple[int, ...]) -> tuple[int, ...]:
    """The permutation that undoes another one."""
    return tuple(sorted(range(len(perm)), key=perm.__getitem__))


def _limited(trace: Any, variable: Variable) -> Callable[[Value], Value]:
    def limited(value: Value) -> Value:
        found = as_tensor(variable.constraint(trace.tensor(value)), variable.dtype)
        result: Value = trace.value(found)
        return result

    return limited
