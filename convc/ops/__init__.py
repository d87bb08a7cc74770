"""Every operator, one class each, grouped by family. Importing the package registers them all."""

from convc.ops import (
    activations,
    broadcasting,
    conv,
    elementwise,
    indexing,
    integer,
    loss,
    matmul,
    norm,
    pool,
    random,
    reduce,
    resize,
    shape,
    volume,
    winograd,
)

__all__ = [
    "activations",
    "broadcasting",
    "conv",
    "elementwise",
    "indexing",
    "integer",
    "loss",
    "matmul",
    "norm",
    "pool",
    "random",
    "reduce",
    "resize",
    "shape",
    "volume",
    "winograd",
]
