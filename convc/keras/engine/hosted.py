"""What layers make of text before a model's graph begins: the graph takes their numbers in place of the text.

Layers that look words up compute in Python, on arrays. Called on a model's input they give a placeholder, which says
which layer makes its values of what; a model fed with data has these layers make them, batch by batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np

from convc.errors import UnsupportedError
from convc.keras.engine.naming import user_line
from convc.keras.engine.tensor import Array, KerasTensor, Placeholder, Step, steps_to
from convc.types import Shape, TensorType


@dataclass(eq=False)
class Text(Placeholder):
    """A model input of strings."""


@dataclass(eq=False)
class Hosted(Placeholder):
    """What a layer computes, in Python, of other placeholders' values."""

    layer: Any = None
    given: tuple[Step, ...] = ()


_sizes: ContextVar[Mapping[str, Shape] | None] = ContextVar(
    "convc_keras_hosted_sizes", default=None
)


@contextmanager
def hosted_sizes(sizes: Mapping[str, Shape]) -> Iterator[None]:
    """Within it layers that make text into numbers do so in these shapes, by their names."""
    token = _sizes.set(sizes)
    try:
        yield
    finally:
        _sizes.reset(token)


def hosted(layer: Any, type: TensorType, *given: KerasTensor) -> KerasTensor:
    """A tensor that a layer is to compute of inputs; UnsupportedError where one isn't an input."""
    for tensor in given:
        if not isinstance(tensor.step.source, Placeholder):
            raise UnsupportedError(
                f"{user_line()}: layer {layer.name!r} ({layer_class(layer)}) computes on a model's inputs, in Python: "
                f"call it on an Input or on another such layer's output; received {tensor}"
            )
    shape = (_sizes.get() or {}).get(layer.name, type.shape)
    source = Hosted(layer.name, layer, tuple(t.step for t in given))
    step = Step(
        source, (), TensorType(type.dtype, shape), layer.name, symbolic=True, name=layer.name
    )
    return KerasTensor(step, layer.name)


def made_before(tensor: KerasTensor) -> KerasTensor:
    """What a layer makes of an input as a value that Python makes, for another layer that computes in Python."""
    if isinstance(tensor.step.source, Placeholder) or tensor.history is None:
        return tensor
    call = tensor.history[0]
    (given, *others) = call.inputs
    if others or not hasattr(call.operation, "compute_output_shape"):
        return tensor
    return hosted(Before(call.operation), tensor.type, made_before(given))


class Before:
    """A layer that computes in Python here, though it can in a graph."""

    def __init__(self, layer: Any) -> None:
        self.layer, self.name = layer, layer.name

    def compute(self, x: Array) -> Array:
        return np.asarray(self.layer(x))


def layer_class(layer: Any) -> str:
    return type(layer).__name__


def fed(
    names: Sequence[str], inputs: Sequence[KerasTensor], outputs: Iterable[KerasTensor]
) -> list[tuple[str, KerasTensor]]:
    """What a graph takes: the model's inputs but for those that only layers in Python read, then what these make."""
    reached = steps_to([t.step for t in outputs], [t.step for t in inputs])
    made = [s for s in reached if isinstance(s.source, Hosted)]
    if not made:
        return list(zip(names, inputs, strict=True))
    here = {id(s) for s in reached}
    read = {id(s) for step in made for s in _sources(step)}
    kept = [
        (name, tensor)
        for name, tensor in zip(names, inputs, strict=True)
        if id(tensor.step) in here or id(tensor.step) not in read
    ]
    taken = {name for name, _ in kept}
    for step in made:
        name, count = step.name, 1
        while name in taken:
            name, count = f"{step.name}_{count}", count + 1
        taken.add(name)
        kept.append((name, KerasTensor(step, name)))
    return kept


def _sources(step: Step) -> Iterator[Step]:
    """The placeholders that a hosted one is computed of."""
    if isinstance(step.source, Hosted):
        for given in step.source.given:
            yield given
            yield from _sources(given)


def prepared(
    wanted: Sequence[tuple[str, KerasTensor]], inputs: Sequence[KerasTensor], arrays: Sequence[Any]
) -> dict[str, Array]:
    """What a graph takes, by name, of the data for a model's inputs."""
    values = {id(t.step): fitting(np.asarray(a), t) for t, a in zip(inputs, arrays, strict=True)}

    def value(step: Step) -> Array:
        if id(step) not in values:
            source = step.source
            assert isinstance(source, Hosted)
            values[id(step)] = np.asarray(source.layer.compute(*map(value, source.given)))
        return values[id(step)]

    return {name: value(tensor.step) for name, tensor in wanted}


def fitting(array: Array, tensor: KerasTensor) -> Array:
    """Data (batch) for an input (batch, 1) with its last axis."""
    return array[:, None] if array.ndim == 1 and tensor.shape[1:] == (1,) else array
