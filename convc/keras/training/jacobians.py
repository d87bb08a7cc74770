"""Jacobians by reverse mode: a gradient for each element of the target."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from convc.errors import ModelError
from convc.keras.engine.naming import user_line
from convc.keras.engine.tensor import FUNCTIONS, KerasTensor, as_tensor
from convc.keras.training.own_steps import leaves, rebuilt


class Jacobians:
    """What a tape has besides `gradient`; one backward pass for each element makes them costly for large targets."""

    def gradient(
        self,
        target: Any,
        sources: Any,
        output_gradients: Any = None,
        unconnected_gradients: Any = "none",
    ) -> Any:
        """The gradients of the target's sum, its elements weighed by `output_gradients`."""
        raise NotImplementedError

    def jacobian(
        self,
        target: Any,
        sources: Any,
        unconnected_gradients: Any = "none",
        parallel_iterations: int | None = None,
        experimental_use_pfor: bool = True,
    ) -> Any:
        """The derivatives of each element of a tensor, (*target, *source) for each of the sources in a structure.

        None for a source that the target doesn't depend on, or zeros, as `gradient` has it. The last two arguments are
        TensorFlow's and change nothing. ModelError if the target's sizes aren't known.
        """
        y = as_tensor(target)
        sizes = _sizes("jacobian", "target", y)
        flat = list(leaves(sources))
        rows = [
            self.gradient(y, flat, _unit(k, sizes), unconnected_gradients)
            for k in range(math.prod(sizes))
        ]
        found = [_stacked([row[j] for row in rows], sizes, 0) for j in range(len(flat))]
        return rebuilt(sources, iter(found))

    def batch_jacobian(
        self,
        target: Any,
        source: Any,
        unconnected_gradients: Any = "none",
        parallel_iterations: int | None = None,
        experimental_use_pfor: bool = True,
    ) -> Any:
        """The Jacobian of each row, (batch, *target, *source): row i of the target depends on row i of the source only.

        ModelError if the two have other numbers of rows, or sizes that aren't known.
        """
        y, x = as_tensor(target), as_tensor(source)
        if y.ndim == 0 or x.ndim == 0 or y.shape[0] != x.shape[0]:
            raise ModelError(
                f"{user_line()}: GradientTape.batch_jacobian: expected a target and a source of as many rows; received "
                f"shapes {y.shape} and {x.shape}"
            )
        sizes = _sizes("batch_jacobian", "target", y)
        inner = sizes[1:]
        columns = [
            self.gradient(y, source, np.broadcast_to(_unit(k, inner), sizes), unconnected_gradients)
            for k in range(math.prod(inner))
        ]
        return _stacked(columns, inner, 1)


def _sizes(method: str, what: str, tensor: KerasTensor) -> tuple[int, ...]:
    if any(size is None for size in tensor.shape):
        raise ModelError(
            f"{user_line()}: GradientTape.{method}: expected a {what} of known sizes; received shape {tensor.shape}"
        )
    return tuple(size for size in tensor.shape if size is not None)


def _unit(k: int, sizes: tuple[int, ...]) -> Any:
    """Zeros with a one in the k-th place."""
    found = np.zeros(math.prod(sizes), np.float32)
    found[k] = 1
    return found.reshape(sizes)


def _stacked(parts: list[Any], sizes: tuple[int, ...], axis: int) -> Any:
    """Gradients one beside the other, as an array over the elements that they are of."""
    if any(part is None for part in parts):
        return None
    both = FUNCTIONS["stack"](parts, axis=axis)
    rest = tuple(parts[0].shape)
    return FUNCTIONS["reshape"](both, (*rest[:axis], *sizes, *rest[axis:]))
