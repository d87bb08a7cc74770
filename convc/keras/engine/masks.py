"""Masks: which steps of a sequence count. They travel with tensors from layer to layer, by Keras' rules.

A mask is a tensor of booleans, (batch, steps) for a value (batch, steps, …). `Masking` and `Embedding(mask_zero=True)`
begin one; a layer whose `call` takes `mask` gets its input's, one that is given several inputs `name_mask` for each
(no `mask` then: a recurrent layer with `initial_state` has to be given its mask);
a layer that `supports_masking` passes on what its `compute_mask(inputs, mask)` gives. Others end it.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from convc.keras.engine.call import flatten, map_tensors
from convc.keras.engine.tensor import KerasTensor


def masks_of(structure: Any) -> Any:
    """The masks of tensors in their structure; None where none of them has one."""
    if all(t.mask is None for t in flatten(structure)):
        return None
    return map_tensors(lambda t: t.mask, structure)


def masked(tensor: KerasTensor, mask: KerasTensor | None) -> KerasTensor:
    """The tensor with a mask (a new one where it had another)."""
    if tensor.mask is mask:
        return tensor
    found = KerasTensor(tensor.step, tensor.name)
    found.history, found.mask = tensor.history, mask
    return found


def with_masks(
    parameters: Mapping[str, inspect.Parameter], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """The keyword arguments of a `call` with its tensors' masks, where it takes them and none were given."""
    names = [n for n in parameters if n not in kwargs]
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    tensors = {n: v for n, v in given.items() if any(True for _ in flatten(v))}
    found = dict(kwargs)
    for name, value in tensors.items():
        wanted = "mask" if len(tensors) == 1 else f"{name}_mask"
        if wanted in parameters and given.get(wanted) is None:
            masks = masks_of(value)
            if masks is not None:
                found[wanted] = masks
    return found


def passed_on(layer: Any, first: Any, mask: Any, outputs: Any) -> Any:
    """The outputs with the masks that a layer's `compute_mask` gives for its first argument and that one's mask."""
    if all(t.mask is not None for t in flatten(outputs)):
        return outputs
    computed = layer.compute_mask(first, mask)
    if computed is None:
        return outputs
    found = iter(computed if isinstance(computed, (list, tuple)) else [computed])

    def with_its_own(tensor: KerasTensor) -> KerasTensor:
        mask = next(found, None)
        return tensor if tensor.mask is not None else masked(tensor, mask)

    return map_tensors(with_its_own, outputs)
