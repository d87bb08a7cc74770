"""A layer of sums of products by index letters."""

from __future__ import annotations

import math
from typing import Any

from convc.errors import ModelError
from convc.keras import activations, constraints, initializers, ops, regularizers
from convc.keras.engine.arguments import is_integer, refuse, title
from convc.keras.engine.layer import Layer
from convc.keras.engine.tensor import Variable, as_tensor, floating
from convc.keras.layers.weights import add_weight

_LETTERS = "zyxwvutsrqponmlkjihgfedcbaZYXWVUTSRQPONMLKJIHGFEDCBA"


class EinsumDense(Layer):
    """activation(einsum(equation, x, kernel) + bias), for example "abc,cd->abd".

    `output_shape` has the sizes of the output without its first axis, None where they are the input's; `bias_axes` the
    letters of the output that the bias has. Weights are `kernel` and `bias`. "..." stands for any axes of the input.
    """

    def __init__(
        self,
        equation: str,
        output_shape: Any,
        activation: Any = None,
        bias_axes: str | None = None,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        parts = equation.replace(" ", "").replace("->", ",").split(",")
        if len(parts) != 3 or "->" not in equation or "..." in parts[1]:
            refuse(self, "equation", "of the form 'abc,cd->abd'", equation)
        self.equation = equation
        sizes = (output_shape,) if is_integer(output_shape) else tuple(output_shape)
        self.partial_output_shape = sizes
        self.activation = activations.get(activation)
        self.bias_axes = bias_axes
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        self.bias: Variable | None = None

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "output_shape": list(self.partial_output_shape)}

    def build(self, input_shape: Any) -> None:
        x, kernel, y = self._terms(len(input_shape))
        sizes = dict(zip(x, input_shape, strict=True))
        sizes |= {c: s for c, s in zip(y[1:], self._sizes(len(y)), strict=True) if s is not None}
        unknown = [c for c in kernel if sizes.get(c) is None]
        if unknown:
            raise ModelError(
                f"{title(self)}: index {unknown[0]!r} of {self.equation!r} has no known size for input {input_shape}: "
                f"give it in output_shape; received {self.partial_output_shape}"
            )
        shape = tuple(sizes[c] for c in kernel)
        fan_in = math.prod(sizes[c] for c in kernel if c in x and c not in y)
        initializer = self.kernel_initializer
        if isinstance(initializer, initializers.VarianceScaling):
            initializer = Fanned(initializer, fan_in)
        self.kernel = add_weight(self, "kernel", shape, initializer=initializer)
        if self.bias_axes is None:
            return
        if any(c not in y for c in self.bias_axes):
            refuse(self, "bias_axes", f"letters of the output {y!r}", self.bias_axes)
        first = min(y.index(c) for c in self.bias_axes)
        shape = tuple(sizes[c] if c in self.bias_axes else 1 for c in y[first:])
        self.bias = add_weight(self, "bias", shape)

    def _sizes(self, rank: int) -> tuple[Any, ...]:
        """The sizes of the output but for the first axis; those that "..." stands for are the input's."""
        given = self.partial_output_shape
        missing = rank - 1 - len(given)
        if missing < 0 or (missing and "..." not in self.equation):
            refuse(self, "output_shape", f"{rank - 1} sizes for {self.equation!r}", given)
        return (None,) * missing + given

    def _terms(self, rank: int) -> tuple[str, str, str]:
        """The letters of input, kernel and output, for an input of that rank."""
        x, kernel, y = self.equation.replace(" ", "").replace("->", ",").split(",")
        free = [c for c in _LETTERS if c not in self.equation]
        hidden = "".join(free[: rank - len(x) + 3]) if "..." in x else ""
        x, y = x.replace("...", hidden), y.replace("...", hidden)
        if len(x) != rank:
            raise ModelError(
                f"{title(self)}: equation {self.equation!r} expects an input of rank {len(x)}; received rank {rank}"
            )
        return x, kernel, y

    def call(self, inputs: Any) -> Any:
        x = floating(inputs)
        a, b, c = self._terms(x.type.rank)
        y = ops.einsum(f"{a},{b}->{c}", x, self.kernel)
        if self.bias is not None:
            y = ops.add(y, self.bias)
        return y if self.activation is None else as_tensor(self.activation(y))  # type: ignore[redundant-expr]


class Fanned(initializers.Initializer):
    """Another initializer's values as for a matrix with that many rows, whatever the shape."""

    def __init__(self, other: Any, fan_in: int) -> None:
        self.other, self.fan_in = other, fan_in

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        columns = math.prod(shape) // max(1, self.fan_in)
        return self.other((self.fan_in, columns), dtype=dtype).reshape(tuple(shape))
