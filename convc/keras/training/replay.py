"""Calls of layers, put down once more as they were put down before, without running their Python again.

A call of a layer of convc's own gives the same steps for arguments of the same types, as long as nobody sets an
attribute of it or of the layers within. Layers and functions of the user's run each time: they may do anything.
"""

from __future__ import annotations

import weakref
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np

from convc.graph.op import Op
from convc.keras import backend
from convc.keras.engine.call import collected_losses, map_tensors
from convc.keras.engine.layer import Layer
from convc.keras.engine.phase import said_phase, stepping
from convc.keras.engine.steps import Outputs, Part, Step, Variable
from convc.keras.engine.tensor import KerasTensor, as_tensor
from convc.keras.training.attached import Attached
from convc.keras.training.hand_programs import alive
from convc.ops.noise import FreshSeed
from convc.types import TensorType

OWN = "convc."
TRIES = 16
"""Templates that a layer gets: one whose attributes change in each step does without."""


class UnsuitableError(Exception):
    """A call that can't be repeated."""


@dataclass(frozen=True)
class Made:
    """A step of a template: what it computes from which of those before it."""

    source: Op | tuple[Op, int, int]
    """An operator, or (an operator of several outputs, which of these wholes it is, which output)."""
    inputs: tuple[int, ...]
    type: TensorType
    layer: str
    training: bool


@dataclass
class Template:
    """A call as steps: first come the arguments, then variables, then constants, then what is made of them."""

    variables: list[weakref.ref[Variable]]
    constants: list[Step]
    made: list[Made]
    outputs: Any
    """The call's outputs, with (place, name) for each tensor."""
    assigned: list[tuple[weakref.ref[Variable], int]]
    layers: list[tuple[weakref.ref[Layer], int]]

    @property
    def valid(self) -> bool:
        return all(
            (layer := ref()) is not None and layer._changes == count for ref, count in self.layers
        )

    def replay(self, arguments: list[Step], ledger: Any) -> Any:
        known = ledger.variables
        read = [known[alive(ref)] for ref in self.variables]
        values = [*arguments, *read, *self.constants]
        wholes: dict[int, Outputs] = {}
        for each in self.made:
            source: Any = each.source
            if isinstance(source, tuple):
                op, number, output = source
                source = Part(wholes.setdefault(number, Outputs(op)), output)
            inputs = tuple([values[k] for k in each.inputs])
            step = Step(
                source, inputs, each.type, each.layer, training=each.training, recorded=ledger
            )
            values.append(step)
        for ref, place in self.assigned:
            known[alive(ref)] = values[place]
        return _filled(self.outputs, values)


@dataclass(frozen=True)
class Place:
    """Where an output is among the values."""

    number: int
    name: str


class Memo:
    """The templates of one layer."""

    def __init__(self, layer: Layer, tries: int = 0) -> None:
        layers = _within(layer)
        self.layers = list(map(weakref.ref, layers))
        self.suits = all(map(_own, layers))
        self.templates: dict[Hashable, Template] = {}
        self.tries = tries
        """How often a template was made, or found out of date."""


_memos: Attached[Memo] = Attached()


def called(layer: Layer, args: Any, kwargs: Any, ledger: Any) -> Any:
    """What a call gives that is put down: from its template, if it has one."""
    memo = _memos.get(layer) or _memos.set(layer, Memo(layer))
    if ledger.within is not None or not memo.suits or memo.tries > TRIES or not layer.built:
        return layer._traced_call(args, kwargs)
    leaves: list[KerasTensor] = []
    try:
        args, kwargs = _tensors(args, leaves), _tensors(kwargs, leaves)
        key = (_key(args), _key(kwargs), said_phase(), stepping(), backend.floatx())
    except UnsuitableError:
        return layer._traced_call(args, kwargs)
    arguments = [tensor.step for tensor in leaves]
    found = memo.templates.get(key)
    if found is not None and found.valid:
        layer._recorded_losses = ()
        return found.replay(arguments, ledger)
    if found is not None:
        memo = _memos.set(layer, Memo(layer, memo.tries))
    memo.tries += 1
    losses = collected_losses()
    before = len(losses or ())
    latest = dict(ledger.variables)
    ledger.within = layer
    try:
        outputs = layer._traced_call(args, kwargs)
    finally:
        ledger.within = None
    if len(losses or ()) == before and not layer._recorded_losses:
        template = _template(memo, arguments, outputs, latest, ledger)
        if template is not None:
            memo.templates[key] = template
    return outputs


def _template(
    memo: Memo, arguments: list[Step], outputs: Any, before: dict[Variable, Step], ledger: Any
) -> Template | None:
    """The call as a template; None if it can't be repeated."""
    changed = {v: s for v, s in ledger.variables.items() if before.get(v) is not s}
    assigned = {v: s.inputs[0] for v, s in changed.items() if s.inputs and not _reads(s)}
    roots = []
    map_tensors(lambda t: roots.append(t.step), outputs)
    if any(s.source is not v and v not in assigned for v, s in changed.items()):
        return None  # An assignment of something else than floats that were computed.
    old = {id(s): v for v, s in before.items()}
    places = {id(s): k for k, s in enumerate(arguments)}
    order = _order([*roots, *assigned.values()], set(places) | set(old))
    variables: dict[Variable, list[Step]] = {}
    constants: list[Step] = []
    inner: list[Step] = []
    for step in order:
        variable = old.get(id(step))
        if variable is None and isinstance(step.source, Variable):
            variable = step.source
        if id(step) in places:
            continue
        if variable is not None:
            variables.setdefault(variable, []).append(step)
        elif not step.inputs and not isinstance(step.source, Op):
            constants.append(step)
        else:
            inner.append(step)
    for steps in variables.values():
        places |= {id(s): len(arguments) + list(variables.values()).index(steps) for s in steps}
    start = len(arguments) + len(variables)
    places |= {id(s): start + k for k, s in enumerate(constants)}
    start += len(constants)
    places |= {id(s): start + k for k, s in enumerate(inner)}
    wholes: dict[int, int] = {}
    made = []
    for step in inner:
        source: Any = step.source
        if isinstance(source, Part):
            if not isinstance(source.whole, Outputs):
                return None
            number = wholes.setdefault(id(source.whole), len(wholes))
            source = (source.whole.op, number, source.number)
        elif not isinstance(source, Op) or isinstance(source, FreshSeed):
            return None
        inputs = tuple(places[id(i)] for i in step.inputs)
        made.append(Made(source, inputs, step.type, step.layer, step.training))
    layers = [(ref, layer._changes) for ref in memo.layers if (layer := ref()) is not None]
    shown = map_tensors(lambda t: Place(places[id(t.step)], t.name), outputs)
    if any(t.mask is not None for t in _flat(outputs)):
        return None
    ends = [(weakref.ref(v), places[id(s)]) for v, s in assigned.items()]
    return Template(list(map(weakref.ref, variables)), constants, made, shown, ends, layers)


def _reads(step: Step) -> bool:
    return isinstance(step.source, Variable)


def _order(roots: list[Step], stops: set[int]) -> list[Step]:
    """The steps that are needed, each after its inputs; stops need nothing."""
    order: list[Step] = []
    done: set[int] = set()
    stack = [(root, False) for root in reversed(roots)]
    while stack:
        step, ready = stack.pop()
        if ready:
            order.append(step)
        elif id(step) not in done:
            done.add(id(step))
            stack.append((step, True))
            if id(step) not in stops:
                stack.extend([(i, False) for i in reversed(step.inputs)])
    return order


def _tensors(value: Any, leaves: list[KerasTensor]) -> Any:
    """Arguments with tensors for arrays; UnsuitableError for what isn't known by its type."""
    match value:
        case KerasTensor() | np.ndarray() | np.generic() | Variable():
            tensor = as_tensor(value)
            if tensor.mask is not None or tensor.step.symbolic:
                raise UnsuitableError
            leaves.append(tensor)
            return tensor
        case list() | tuple():
            found = [_tensors(item, leaves) for item in value]
            return found if isinstance(value, list) else tuple(found)
        case dict():
            return {key: _tensors(item, leaves) for key, item in value.items()}
        case None | bool() | int() | float() | str():
            return value
        case _:
            raise UnsuitableError


def _key(value: Any) -> Hashable:
    match value:
        case KerasTensor(type=type_):
            return type_
        case list() | tuple():
            return (type(value), *map(_key, value))
        case dict():
            return tuple((key, _key(item)) for key, item in value.items())
        case _:
            return type(value), value


def _filled(structure: Any, values: list[Step]) -> Any:
    match structure:
        case Place(number, name):
            return KerasTensor(values[number], name)
        case list():
            return [_filled(item, values) for item in structure]
        case tuple():
            return tuple(_filled(item, values) for item in structure)
        case dict():
            return {key: _filled(item, values) for key, item in structure.items()}
        case _:
            return structure


def _flat(outputs: Any) -> list[KerasTensor]:
    found: list[KerasTensor] = []
    map_tensors(found.append, outputs)
    return found


def _within(layer: Layer) -> list[Layer]:
    found = [layer]
    for inner in layer.sublayers:
        found.extend(_within(inner))
    return list(dict.fromkeys(found))


def _own(layer: Layer) -> bool:
    """Whether a layer is convc's, and so are the functions that it was given; and whether it keeps nothing besides."""
    if not type(layer).__module__.startswith(OWN) or getattr(layer, "stateful", False):
        return False
    return all(_known(value) for value in vars(layer).values())


def _known(value: Any) -> bool:
    if isinstance(value, Layer) or not callable(value):
        return True
    module = getattr(value, "__module__", None) or type(value).__module__
    return str(module).startswith(OWN)
