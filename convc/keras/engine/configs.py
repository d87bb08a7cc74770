"""Models as the configs that Keras 3 writes."""

from __future__ import annotations

from typing import Any

from convc.keras.engine.call import Call, Operation
from convc.keras.engine.functions import divided, operation_entry, variadic
from convc.keras.engine.serialization import serialize_keras_object
from convc.keras.engine.tensor import KerasTensor, Variable, evaluate


def functional_config(model: Any) -> dict[str, Any]:
    """The layers of a functional model with their calls, and which outputs are the model's."""
    network = model.network
    known = {id(call) for call in network.calls}
    indices: dict[int, int] = {}
    for operation in network.operations:
        calls = [call for call in operation.calls if id(call) in known]
        indices.update({id(call): number for number, call in enumerate(calls)})
    entries = []
    for operation in network.operations:
        calls = [call for call in operation.calls if id(call) in known]
        entries.append(_entry(operation, calls, indices))
    return {
        "name": model.name,
        "trainable": model.trainable,
        "layers": entries,
        "input_layers": _places(network.inputs, indices),
        "output_layers": _places(network.outputs, indices),
    }


def _entry(operation: Any, calls: list[Call], indices: dict[int, int]) -> dict[str, Any]:
    is_function = isinstance(operation, Operation)
    entry = operation_entry(calls[0]) if is_function else serialize_keras_object(operation)
    entry["config"] = serialize_keras_object(entry["config"])
    entry["name"] = operation.name
    entry["inbound_nodes"] = [_node(call, indices) for call in calls if call.inputs]
    return entry


def _node(call: Call, indices: dict[int, int]) -> dict[str, Any]:
    args, kwargs = list(call.args), dict(call.kwargs)
    if isinstance(call.operation, Operation):
        called, _ = divided(call)
        several = variadic(call.operation.function)
        args, kwargs = [], {}
        for name, value in called.items():
            args += value if name == several else [value]
    return {
        "args": [_argument(a, indices) for a in args],
        "kwargs": {k: _argument(v, indices) for k, v in kwargs.items()},
    }


def _argument(value: Any, indices: dict[int, int]) -> Any:
    match value:
        case KerasTensor() if value.step.symbolic:
            return {
                "class_name": "__keras_tensor__",
                "config": {
                    "shape": list(value.shape),
                    "dtype": value.dtype,
                    "keras_history": _place(value, indices),
                },
            }
        case KerasTensor() | Variable():
            array = evaluate(value.step)
            return {
                "class_name": "__tensor__",
                "config": {"value": array.tolist(), "dtype": str(array.dtype)},
            }
        case list() | tuple():
            return [_argument(v, indices) for v in value]
        case dict():
            return {k: _argument(v, indices) for k, v in value.items()}
        case _:
            return serialize_keras_object(value)


def _place(tensor: KerasTensor, indices: dict[int, int]) -> list[Any]:
    assert tensor.history is not None
    call, position = tensor.history
    return [call.operation.name, indices[id(call)], position]


def _places(structure: Any, indices: dict[int, int]) -> Any:
    match structure:
        case KerasTensor():
            name, number, position = _place(structure, indices)
            return [name, number + _is_functional(structure), position]
        case dict():
            return {key: _places(value, indices) for key, value in structure.items()}
        case _:
            return [_places(value, indices) for value in structure]


def _is_functional(tensor: KerasTensor) -> bool:
    """True for outputs of functional models: Keras 3 counts their calls from 1 where it names a model's outputs."""
    assert tensor.history is not None
    operation = tensor.history[0].operation
    return getattr(operation, "network", None) is not None and not hasattr(operation, "_chain")
