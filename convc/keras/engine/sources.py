"""Which inputs a tensor depends on."""

from __future__ import annotations

from typing import Any

from convc.keras.engine.call import flatten
from convc.keras.engine.input import InputLayer
from convc.keras.engine.tensor import KerasTensor


def get_source_inputs(tensor: Any, layer: Any = None, node_index: Any = None) -> list[KerasTensor]:
    """The tensors of the Input layers that a tensor, or several, follow from, in the order in which they are met."""
    found: list[KerasTensor] = []
    seen: set[int] = set()
    waiting = list(flatten([tensor]))
    while waiting:
        current = waiting.pop(0)
        if current.history is None or id(current.history[0]) in seen:
            continue
        call = current.history[0]
        seen.add(id(call))
        if isinstance(call.operation, InputLayer):
            found.append(call.outputs[0])
        waiting[:0] = call.inputs
    return found
