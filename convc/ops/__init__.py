"""Every operator, one class each, grouped by family. Importing the package registers them all."""

from convc.ops import (
    activations,
    broadcasting,
    conv,
    elementwise,
    indexing,
    matmul,
    norm,
    pool,
    reduce,
    resize,
    shape,
    winograd,
)

__all__ = [
    "activations",
    "broadcasting",
    "conv",
    "elementwise",
    "indexing",
    "matmul",
    "norm",
    "pool",
    "reduce",
    "resize",
    "shape",
    "winograd",
]
