"""Calls of layers and functions as a model remembers them, and the structures that their arguments come in."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from convc.keras.engine.naming import entered, scope, unique_name
from convc.keras.engine.tensor import KerasTensor


@dataclass(eq=False)
class Call:
    """One call of a layer or of a function on symbolic tensors."""

    operation: Any
    """The layer, or an `Operation`."""
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: list[KerasTensor] = field(default_factory=list)
    index: int = 0
    """Its position among the calls of the same layer."""
    losses: list[KerasTensor] = field(default_factory=list)
    """What `add_loss` was given during the call."""

    @property
    def inputs(self) -> list[KerasTensor]:
        return [t for t in flatten((self.args, self.kwargs)) if t.step.symbolic]


class Operation:
    """A function of `convc.keras.ops` used between layers; summaries list it like a layer."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name = unique_name(name)
        self.function = function
        self.calls: list[Call] = []
        self.type_name = "".join(part.capitalize() for part in name.split("_"))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with entered(self.name):
            return self.function(*args, **kwargs)


def flatten(structure: Any) -> Iterator[KerasTensor]:
    """The tensors in nested lists, tuples and dicts, in order."""
    match structure:
        case KerasTensor():
            yield structure
        case list() | tuple():
            for item in structure:
                yield from flatten(item)
        case dict():
            for item in structure.values():
                yield from flatten(item)


def map_tensors(function: Callable[[KerasTensor], Any], structure: Any) -> Any:
    """The same structure with each tensor replaced."""
    match structure:
        case KerasTensor():
            return function(structure)
        case list():
            return [map_tensors(function, item) for item in structure]
        case tuple():
            return tuple(map_tensors(function, item) for item in structure)
        case dict():
            return {key: map_tensors(function, item) for key, item in structure.items()}
        case _:
            return structure


def sole(structure: Any) -> Any:
    """A list or tuple of one item as that item: what functional models return for `outputs=[tensor]`, as in Keras."""
    return (
        structure[0] if isinstance(structure, (list, tuple)) and len(structure) == 1 else structure
    )


_losses: ContextVar[list[KerasTensor] | None] = ContextVar("convc_keras_losses", default=None)


@contextmanager
def collecting_losses() -> Iterator[list[KerasTensor]]:
    """Within it `add_loss` adds to the list: that of the outermost call."""
    current = _losses.get()
    if scope() and current is not None:
        yield current
        return
    found: list[KerasTensor] = []
    token = _losses.set(found)
    try:
        yield found
    finally:
        _losses.reset(token)


def collected_losses() -> list[KerasTensor] | None:
    """The list of the call that is being traced."""
    return _losses.get()


def record(
    operation: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    outputs: Any,
    losses: list[KerasTensor] | None = None,
) -> Any:
    """Remembers a call made outside of any other: the outputs again, each with its history.

    An output that doesn't depend on the inputs, such as a table of positions, is a part of the model nevertheless.
    """
    if scope() or not any(t.step.symbolic for t in flatten((args, kwargs, outputs))):
        return outputs
    call = Call(operation, args, kwargs, index=len(operation.calls), losses=losses or [])
    operation.calls.append(call)

    def wrap(tensor: KerasTensor) -> KerasTensor:
        step = tensor.step if tensor.step.symbolic else replace(tensor.step, symbolic=True)
        found = KerasTensor(step, operation.name)
        found.history, found.mask = (call, len(call.outputs)), tensor.mask
        found.step.name = found.step.name or operation.name
        call.outputs.append(found)
        return found

    return map_tensors(wrap, outputs)


FunctionType = TypeVar("FunctionType", bound=Callable[..., Any])


def operation(function: FunctionType) -> FunctionType:
    """A function of tensors whose calls between layers are remembered, so that summaries and models know them."""
    name = function.__name__.rstrip("_")

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        if scope() or not any(t.step.symbolic for t in flatten((args, kwargs))):
            return function(*args, **kwargs)
        traced = Operation(name, function)
        return record(traced, args, kwargs, traced(*args, **kwargs))

    return called  # type: ignore[return-value]
