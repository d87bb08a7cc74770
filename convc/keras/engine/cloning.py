"""Models copied layer by layer, with new weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from convc.errors import UsageError
from convc.keras.engine.call import Operation, flatten, map_tensors, record
from convc.keras.engine.input import InputLayer
from convc.keras.engine.layer import Layer
from convc.keras.engine.model import Model, Sequential
from convc.keras.engine.naming import outermost
from convc.keras.engine.registry import LAYERS
from convc.keras.engine.tensor import KerasTensor

Clone = Callable[[Any], Any]


def clone_model(
    model: Any,
    input_tensors: Any = None,
    clone_function: Clone | None = None,
    call_function: Callable[..., Any] | None = None,
    recursive: bool = False,
) -> Any:
    """A model of the same layers with new weights.

    `clone_function(layer)` gives what takes a layer's place: by default a layer of the same class and config.
    `call_function(layer, *args, **kwargs)` calls them. With `recursive`, both reach into models that are layers.
    `input_tensors` take the place of a functional model's inputs. A subclass of Model is made again of its config.
    """
    if not isinstance(model, Model):
        raise UsageError(f"clone_model: expected a model; received {model!r}")
    call = call_function or _called
    if recursive and clone_function is not None:
        outer = clone_function
        clone_function = _into_models(lambda layer: outer(layer), call)
    clone = clone_function or copied
    if isinstance(model, Sequential):
        return _sequential(model, input_tensors, clone)
    if model.network is None or type(model).__init__ is not Model.__init__:
        if input_tensors is not None or clone_function is not None:
            raise UsageError(
                f"clone_model: {type(model).__name__} defines its layers itself: expected a Sequential or functional "
                f"model with input_tensors or clone_function"
            )
        return type(model).from_config(model.get_config())
    return _functional(model, input_tensors, clone, call)


def copied(layer: Any) -> Any:
    """A layer of the same class and config with new weights; a Lambda layer has the same function."""
    if isinstance(layer, Model):
        return clone_model(layer)
    cls: Any = type(layer)
    if cls is LAYERS["Lambda"]:
        return cls(**{**layer.init_arguments, "name": layer.name})
    return cls.from_config(layer.get_config())


def _into_models(clone: Clone, call: Callable[..., Any]) -> Clone:
    def found(layer: Any) -> Any:
        plain = isinstance(layer, Model) and (
            isinstance(layer, Sequential) or layer.network is not None
        )
        return clone_model(layer, None, found, call) if plain else clone(layer)

    return found


def _called(layer: Any, *args: Any, **kwargs: Any) -> Any:
    return layer(*args, **kwargs)


def _checked(layer: Any, found: Any) -> Layer:
    if not isinstance(found, Layer):
        raise UsageError(
            f"clone_model: clone_function must return a layer; for {layer.name!r} it returned {found!r}"
        )
    return found


def _sequential(model: Sequential, input_tensors: Any, clone: Clone) -> Any:
    first = [] if model._first is None else [copied(model._first)]
    if input_tensors is not None:
        (tensor,) = flatten(input_tensors)
        first = [InputLayer(batch_shape=tensor.shape, dtype=tensor.dtype)]
    layers = [_checked(layer, clone(layer)) for layer in model.layers]
    return Sequential([*first, *layers], trainable=model.trainable, name=model.name)


def _functional(model: Any, input_tensors: Any, clone: Clone, call: Callable[..., Any]) -> Any:
    network = model.network
    made: dict[int, Any] = {}
    values: dict[tuple[int, int], Any] = {}
    if input_tensors is not None:
        given, wanted = list(flatten(input_tensors)), list(flatten(network.inputs))
        if len(given) != len(wanted):
            raise UsageError(
                f"clone_model: model {model.name!r} has {len(wanted)} inputs; received {len(given)} input_tensors"
            )
        values = {_place(mine): tensor for mine, tensor in zip(wanted, given, strict=True)}

    def new(tensor: KerasTensor) -> KerasTensor:
        found: KerasTensor = values.get(_place(tensor), tensor)
        return found

    with outermost():
        for each in network.calls:
            if (id(each), 0) in values:
                continue
            operation = each.operation
            if id(operation) not in made:
                made[id(operation)] = _again(operation, clone)
            again = made[id(operation)]
            if isinstance(again, InputLayer):
                values[id(each), 0] = again.input
                continue
            args, kwargs = map_tensors(new, (each.args, each.kwargs))
            if isinstance(again, Operation):
                outputs = record(again, args, kwargs, again(*args, **kwargs))
            else:
                outputs = call(again, *args, **kwargs)
            values.update({(id(each), k): t for k, t in enumerate(flatten(outputs))})
        inputs = map_tensors(new, network.inputs)
        outputs = map_tensors(new, network.outputs)
        return type(model)(inputs, outputs, name=model.name, trainable=model.trainable)


def _again(operation: Any, clone: Clone) -> Any:
    if isinstance(operation, Operation):
        found = Operation(operation.function.__name__, operation.function)
        found.name, found.type_name = operation.name, operation.type_name
        return found
    if isinstance(operation, InputLayer):
        return copied(operation)
    return _checked(operation, clone(operation))


def _place(tensor: KerasTensor) -> tuple[int, int]:
    """The same for all handles of one output."""
    if tensor.history is None:
        return id(tensor.step), -1
    call, position = tensor.history
    return id(call), position
