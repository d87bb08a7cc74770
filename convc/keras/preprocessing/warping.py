"""Batches of images under affine maps, by a compiled kernel."""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convc import driver
from convc.graph.ir import Builder
from convc.ops.warp import AffineWarp
from convc.types import Dim, DType, TensorType

Array = NDArray[Any]
_compiling = threading.Lock()


def warped(images: Array, matrices: Array, op: AffineWarp, out: Array | None = None) -> Array:
    """images[n, …] as `op` sees them through matrices[n, 2, 3]: floats keep their type, integers become `op.dtype`.

    The kernel runs in the caller's thread and holds no lock: threads may call at once. It is compiled when a size of
    image is first met.
    """
    if images.dtype not in (np.uint8, np.float32, np.float64):
        images = images.astype(op.dtype.numpy)
    kind = DType.of(images.dtype)
    with _compiling:
        model = _kernel(op, kind, images.shape[1:])
        native = model.model
    return np.asarray(native(images, np.asarray(matrices, np.float64), out=out))


@lru_cache(maxsize=64)
def _kernel(op: AffineWarp, dtype: DType, shape: tuple[int, ...]) -> driver.CompiledModel:
    builder = Builder("warp")
    batch = Dim.symbol("N")
    x = builder.input("images", TensorType(dtype, (batch, *shape)))
    matrix = builder.input("matrices", TensorType(DType.float64, (batch, 2, 3)))
    return driver.compile(builder.finish([builder.add(op, x, matrix, name="warped")]), threads=1)
