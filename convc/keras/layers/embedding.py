"""Whole numbers as vectors."""

from __future__ import annotations

from typing import Any

from convc.keras import constraints, initializers, regularizers
from convc.keras.engine.arguments import positive
from convc.keras.engine.layer import Layer
from convc.keras.engine.ranges import Limit, check_known
from convc.keras.engine.tensor import apply, as_tensor, cast
from convc.ops.broadcasting import NotEqual
from convc.ops.shape import Gather
from convc.types import DType


class Embedding(Layer):
    """Row i of the weight `embeddings` (input_dim, output_dim) for every number i of its input.

    Numbers are from 0 to input_dim - 1; those from -input_dim on count from the end. Others are refused in what a model
    or the layer is fed. A compiled program that is run without Keras takes the last row for larger ones, and the first
    for smaller ones.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer: Any = "uniform",
        embeddings_regularizer: Any = None,
        embeddings_constraint: Any = None,
        mask_zero: bool = False,
        **kwargs: Any,
    ) -> None:
        length = kwargs.pop("input_length", None)
        if length is not None and "input_shape" not in kwargs:
            kwargs["input_shape"] = (length,) if isinstance(length, int) else tuple(length)
        super().__init__(**kwargs)
        self.input_dim = positive(self, "input_dim", input_dim)
        self.output_dim = positive(self, "output_dim", output_dim)
        self.embeddings_initializer = initializers.get(embeddings_initializer)
        self.embeddings_regularizer = regularizers.get(embeddings_regularizer)
        self.embeddings_constraint = constraints.get(embeddings_constraint)
        self.mask_zero = bool(mask_zero)

    def build(self, input_shape: Any) -> None:
        self.embeddings = self.add_weight(
            (self.input_dim, self.output_dim),
            self.embeddings_initializer,
            regularizer=self.embeddings_regularizer,
            constraint=self.embeddings_constraint,
            name="embeddings",
        )

    def call(self, inputs: Any) -> Any:
        x = as_tensor(inputs)
        check_known("inputs", x, Limit(f"layer {self.name!r} (Embedding)", self.input_dim, True))
        numbers = x if x.type.dtype.is_integer else cast(x, DType.int32)
        return apply(Gather(0), self.embeddings, numbers)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """With `mask_zero`, the steps whose number isn't 0."""
        if not self.mask_zero:
            return None
        x = as_tensor(inputs)
        return apply(NotEqual(), x, as_tensor(0, x.dtype))
