"""The names outside of `tf.keras` that guides to training use, for programs that import tensorflow where it isn't."""

from __future__ import annotations

from typing import Any

import numpy as np

from convc.keras import (
    initializers,
    losses,
    metrics,
    ops,
    optimizers,
    random,
    tensorflow_distribute,
    tensorflow_functions,
    tensorflow_further,
    tensorflow_images,
)
from convc.keras.tensorflow_text import NAMES as TEXT
from convc.keras.tensorflow_text import joined, or_text, whole
from convc.keras.training.hand_functions import function
from convc.keras.training.tape import GradientTape
from convc.keras.utils.seeding import set_random_seed
from convc.types import Dim, DType


def constant(value: Any, dtype: Any = None, shape: Any = None, name: str = "Const") -> Any:
    """The value as a tensor; of a shape, a single number fills it."""
    del name
    found = ops.convert_to_tensor(value, dtype)
    if shape is None:
        return found
    return ops.broadcast_to(found, shape) if found.ndim == 0 else ops.reshape(found, shape)


_concatenated = or_text(ops.concatenate, joined, several=True)


def concat(values: Any, axis: Any = 0, name: str = "concat") -> Any:
    """Tensors one after the other; parts of shapes as a shape, of which the batch may be a part."""
    del name
    parts = list(values)
    sizes = [size for part in parts if isinstance(part, (list, tuple)) for size in part]
    if any(isinstance(size, Dim) for size in sizes):
        return tuple(size for part in parts for size in part)
    return _concatenated(parts, axis)


def categorical(
    logits: Any, num_samples: int, dtype: Any = None, seed: Any = None, name: Any = None
) -> Any:
    """Classes drawn by each row of logits."""
    del name
    return random.categorical(logits, num_samples, dtype or "int64", seed)


def list_physical_devices(device_type: str | None = None) -> list[Any]:
    """None: the processor needs no choice."""
    del device_type
    return []


NAMES: dict[str, Any] = {
    **tensorflow_distribute.NAMES,
    **tensorflow_functions.NAMES,
    **tensorflow_further.NAMES,
    **tensorflow_images.NAMES,
    "GradientTape": GradientTape,
    "__version__": "2.16.0+convc",
    "concat": concat,
    "config.list_physical_devices": list_physical_devices,
    "constant": or_text(constant, whole),
    "convert_to_tensor": or_text(ops.convert_to_tensor, whole),
    "expand_dims": or_text(ops.expand_dims, np.expand_dims),
    "function": function,
    "random.categorical": categorical,
    "random.set_seed": set_random_seed,
    "reshape": or_text(ops.reshape, np.reshape),
    "shape": ops.shape,
    "squeeze": or_text(tensorflow_functions.NAMES["squeeze"], np.squeeze),
    "string": "string",
    **{kind.value: kind.value for kind in DType},
    **TEXT,
    **{
        f"{module.__name__.rpartition('.')[2]}.{name}": getattr(module, name)
        for module in (initializers, losses, metrics, optimizers)
        for name in getattr(module, "__all__", dir(module))
        if name[0] != "_"
    },
}
"""What convc lends by its dotted name under `tensorflow`. Element types are their names."""
