"""The dtypes that a mixed policy promises for what a model predicts (see dtype_policies)."""

from __future__ import annotations

from typing import Any

import numpy as np

from convc.keras.engine.call import flatten
from convc.keras.engine.tensor import Array, KerasTensor
from convc.types import DType


def as_declared(array: Array, tensor: KerasTensor, model: Any) -> Array:
    """A model's output in the dtype of the policy of the layer that it comes from, or of the model's own."""
    policy = _policy(tensor, model)
    if not policy.is_mixed or array.dtype != np.float32:
        return array
    with np.errstate(over="ignore"):  # An infinity, as in Keras.
        return array.astype(DType.of(policy.compute_dtype).numpy)


def _policy(tensor: KerasTensor, maker: Any) -> Any:
    """The policy of the layer that made a tensor; functions between layers have that of what they are given."""
    while tensor.history is not None:
        call, place = tensor.history
        operation = call.operation
        network = getattr(operation, "network", None)
        if network is not None:
            tensor, maker = list(flatten(network.outputs))[place], operation
            continue
        if hasattr(operation, "dtype_policy"):
            return operation.dtype_policy
        floats = [t for t in call.inputs if t.type.dtype.is_float]
        if not floats:
            break
        tensor = floats[0]
    return maker.dtype_policy
