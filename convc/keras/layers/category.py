"""Numbers as classes: bins, and rows with a one for each class. They compute on data, or within models."""

from __future__ import annotations

from typing import Any

import numpy as np

from convc.errors import ModelError
from convc.keras import ops
from convc.keras.engine.arguments import choice, positive, refuse, title
from convc.keras.engine.layer import Layer
from convc.keras.engine.tensor import KerasTensor, as_tensor, cast
from convc.keras.layers.lookup import batches_of
from convc.keras.layers.quantiles import NOTHING, boundaries, joined, summarized
from convc.types import DType

MODES = ("int", "one_hot", "multi_hot", "count")


def rows_of(ids: KerasTensor, mode: str, depth: int, weights: Any = None) -> KerasTensor:
    """Numbers as rows of floats over `depth` classes."""
    single = ids.ndim > 1 and ids.shape[-1] == 1
    if mode == "one_hot":
        found: KerasTensor = ops.one_hot(ops.squeeze(ids, -1) if single else ids, depth)
        return found
    each = ops.one_hot(ids, depth)
    if weights is not None:
        each = each * ops.expand_dims(ops.cast(weights, each.dtype), -1)
    return ops.max(each, axis=-2) if mode == "multi_hot" else ops.sum(each, axis=-2)


class CategoryEncoding(Layer):
    """Class numbers below `num_tokens` as rows: a one for each (`one_hot`), those that occur (`multi_hot`), how often
    they do (`count`, with weights if given)."""

    def __init__(
        self,
        num_tokens: int | None = None,
        output_mode: str = "multi_hot",
        sparse: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if sparse:
            refuse(self, "sparse", "False", sparse)
        self.num_tokens = positive(self, "num_tokens", num_tokens)
        self.output_mode = choice(self, "output_mode", output_mode, MODES[1:])

    def call(self, inputs: Any, count_weights: Any = None) -> Any:
        if count_weights is not None and self.output_mode != "count":
            raise ModelError(
                f"{title(self)}: count_weights need output_mode 'count'; it is {self.output_mode!r}"
            )
        x = as_tensor(inputs)
        ids = x if x.type.dtype.is_integer else cast(x, DType.int32)
        return rows_of(ids, self.output_mode, self.num_tokens, count_weights)


class Discretization(Layer):
    """The number of the bin that each value is in: how many of the sorted boundaries are not above it.

    `adapt` finds boundaries of `num_bins` bins with equally many values each.
    """

    def __init__(
        self,
        bin_boundaries: Any = None,
        num_bins: int | None = None,
        epsilon: float = 0.01,
        output_mode: str = "int",
        sparse: bool = False,
        dtype: Any = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, dtype=dtype, **kwargs)
        if sparse:
            refuse(self, "sparse", "False", sparse)
        if (bin_boundaries is None) == (num_bins is None):
            raise ModelError(
                f"{title(self)}: give either bin_boundaries or num_bins; received {bin_boundaries!r} and {num_bins!r}"
            )
        self.bin_boundaries = None if bin_boundaries is None else sorted(map(float, bin_boundaries))
        self.num_bins = None if num_bins is None else positive(self, "num_bins", num_bins)
        self.epsilon = epsilon
        self.output_mode = choice(self, "output_mode", output_mode, MODES)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.pop("trainable")  # Keras 3's takes none
        return config

    def adapt(self, data: Any, steps: int | None = None) -> None:
        """Boundaries at the quantiles of data."""
        if self.num_bins is None:
            raise ModelError(f"{title(self)}: adapt() needs num_bins; it has bin_boundaries")
        found = NOTHING
        for batch in batches_of(data, steps):
            found = joined(summarized(batch, self.epsilon), found, self.epsilon)
        self.bin_boundaries = boundaries(found, self.num_bins)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Discretization:
        """A layer whose boundaries were found, too: its config has both arguments."""
        rest = dict(config)
        found = rest.pop("bin_boundaries", None)
        if found is None or rest.get("num_bins") is None:
            return cls(**config)
        layer = cls(**rest)
        layer.bin_boundaries = [float(v) for v in found]
        return layer

    def call(self, inputs: Any) -> Any:
        if self.bin_boundaries is None:
            raise ModelError(f"{title(self)}: call adapt(data) first, or give bin_boundaries")
        x = as_tensor(inputs, "float32")
        limits = np.asarray(self.bin_boundaries, np.float32)
        above = ops.greater_equal(ops.expand_dims(x, -1), limits)
        ids = cast(ops.sum(ops.cast(above, "float32"), axis=-1), DType.int32)
        if self.output_mode == "int":
            return ids
        return rows_of(ids, self.output_mode, len(limits) + 1)
