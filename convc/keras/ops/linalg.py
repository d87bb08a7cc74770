"""Linear algebra: products and norms within models; decompositions of matrices that are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from convc.errors import UnsupportedError
from convc.keras.engine.naming import user_line
from convc.keras.engine.tensor import KerasTensor, as_tensor, floating, recording_now
from convc.keras.ops.reductions import norm


def _at_once(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of numpy on matrices whose values are known."""

    def computed(*args: Any, **kwargs: Any) -> Any:
        matrices = [floating(a) if not isinstance(a, (bool, str)) else a for a in args]
        tensors = [m for m in matrices if isinstance(m, KerasTensor)]
        unknown = any(t.step.symbolic for t in tensors)
        if unknown or (recording_now() is not None and any(t.step.recorded for t in tensors)):
            raise UnsupportedError(
                f"{user_line()}: {name} is computed of known matrices only, not within models or for gradients: "
                f"write it with matmul, sum and other functions of keras.ops"
            )
        dtype = tensors[0].type.dtype.numpy
        arrays = [m.numpy() if isinstance(m, KerasTensor) else m for m in matrices]
        found = function(*arrays, **kwargs)
        if isinstance(found, tuple):
            return tuple(_constant(part, dtype) for part in found)
        return _constant(found, dtype)

    computed.__name__ = name
    computed.__doc__ = f"numpy's {name} of matrices that are known while tracing."
    return computed


def _constant(found: Any, dtype: Any) -> KerasTensor:
    array = np.asarray(found)
    return as_tensor(array.astype(dtype) if array.dtype.kind == "f" else array)


def _cholesky(x: Any, upper: bool = False) -> Any:
    found = np.linalg.cholesky(x)
    return np.swapaxes(found, -1, -2) if upper else found


def _solve(a: Any, b: Any) -> Any:
    vector = b.ndim == a.ndim - 1
    found = np.linalg.solve(a, b[..., None] if vector else b)
    return found[..., 0] if vector else found


def _solve_triangular(a: Any, b: Any, lower: bool = False) -> Any:
    return _solve(np.tril(a) if lower else np.triu(a), b)


def _eigh(x: Any) -> Any:
    return tuple(np.linalg.eigh(x))


def _svd(x: Any, full_matrices: bool = True, compute_uv: bool = True) -> Any:
    if not compute_uv:
        return np.linalg.svd(x, compute_uv=False)
    return tuple(np.linalg.svd(x, full_matrices))


def _qr(x: Any, mode: Any = "reduced") -> Any:
    return tuple(np.linalg.qr(x, mode))


def _lstsq(a: Any, b: Any, rcond: float | None = None) -> Any:
    return np.linalg.lstsq(a, b, rcond=rcond)[0]


def _inverse_of_factor(x: Any, upper: bool = False) -> Any:
    whole = np.swapaxes(x, -1, -2) @ x if upper else x @ np.swapaxes(x, -1, -2)
    return np.linalg.inv(whole)


cholesky = _at_once("cholesky", _cholesky)
cholesky_inverse = _at_once("cholesky_inverse", _inverse_of_factor)
det = _at_once("det", np.linalg.det)
eigh = _at_once("eigh", _eigh)
inv = _at_once("inv", np.linalg.inv)
logdet = _at_once("logdet", lambda x: np.linalg.slogdet(x)[1])
lstsq = _at_once("lstsq", _lstsq)
matrix_rank = _at_once("matrix_rank", np.linalg.matrix_rank)
pinv = _at_once("pinv", np.linalg.pinv)
qr = _at_once("qr", _qr)
slogdet = _at_once("slogdet", lambda x: tuple(np.linalg.slogdet(x)))
solve = _at_once("solve", _solve)
solve_triangular = _at_once("solve_triangular", _solve_triangular)
svd = _at_once("svd", _svd)

__all__ = [
    "cholesky", "cholesky_inverse", "det", "eigh", "inv", "logdet", "lstsq", "matrix_rank", "norm", "pinv", "qr",
    "slogdet", "solve", "solve_triangular", "svd",
]  # fmt: skip
