"""Functions made of others, against numpy, at once and in a compiled model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from convc import keras
from convc.keras import ops

X = np.random.default_rng(3).standard_normal((4, 3, 5)).astype(np.float32)
Y = np.random.default_rng(4).standard_normal((5, 2)).astype(np.float32)

CASES: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "tril": (lambda x: ops.tril(x, 1), np.tril(X, 1)),
    "triu": (lambda x: ops.triu(x, -1), np.triu(X, -1)),
    "tensordot": (lambda x: ops.tensordot(x, Y, 1), np.tensordot(X, Y, 1)),
    "tensordot axes": (lambda x: ops.tensordot(x, Y, [[2], [0]]), np.tensordot(X, Y, ([2], [0]))),
    "cumsum": (lambda x: ops.cumsum(x, axis=1), np.cumsum(X, 1)),
    "take_along_axis": (
        lambda x: ops.take_along_axis(x, np.tile([[[2, 0]]], (4, 3, 1)), axis=-1),
        np.take_along_axis(X, np.tile([[[2, 0]]], (4, 3, 1)), -1),
    ),
    "unstack": (lambda x: ops.unstack(x, axis=1)[2], X[:, 2]),
    "isclose": (lambda x: ops.isclose(x, x + 1e-9), np.ones_like(X, bool)),
    "nan_to_num": (
        lambda x: ops.nan_to_num(ops.log(x), nan=3.0),
        np.log(np.where(X > 0, X, np.exp(3.0))),
    ),
    "deg2rad": (ops.deg2rad, np.deg2rad(X)),
    "rad2deg": (ops.rad2deg, np.rad2deg(X)),
    "ptp": (lambda x: ops.ptp(x, axis=2), np.ptp(X, 2)),
    "trace": (lambda x: ops.trace(x, 1, 1, 2), np.trace(X, 1, 1, 2)),
    "rms": (ops.rms_normalization, X / np.sqrt((X**2).mean(-1, keepdims=True) + 1e-7)),
}


@pytest.mark.parametrize("name", CASES)
def test_function_is_numpy_s(name: str) -> None:
    function, wanted = CASES[name]
    np.testing.assert_allclose(np.asarray(function(X)), wanted, 1e-5, 1e-6)


def test_functions_compile() -> None:
    start = keras.Input((3, 5))
    names = ("tril", "tensordot", "cumsum", "nan_to_num", "trace", "rms")
    model = keras.Model(start, [CASES[n][0](start) for n in names])
    for name, found in zip(names, model.predict(X, verbose=0), strict=True):
        np.testing.assert_allclose(found, CASES[name][1], 1e-5, 1e-6, err_msg=name)


def test_small_ones() -> None:
    np.testing.assert_allclose(
        ops.outer(X[0, 0], Y[:, 0]).numpy(), np.outer(X[0, 0], Y[:, 0]), 1e-6
    )
    np.testing.assert_array_equal(ops.tri(3, 4, 1).numpy(), np.tri(3, 4, 1))
    np.testing.assert_array_equal(
        ops.meshgrid(np.arange(3), np.arange(2))[1].numpy(), [[0] * 3, [1] * 3]
    )
    assert float(ops.vdot(X, X)) == pytest.approx((X**2).sum(), rel=1e-5)
    assert bool(ops.allclose(X, X + 1e-9))


def test_attention_of_heads() -> None:
    q, k, v = (np.random.default_rng(n).standard_normal((2, 4, 3, 5)) for n in range(3))
    scores = np.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(5)
    scores = np.where(np.tri(4, dtype=bool), scores, -np.inf)
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    found = ops.dot_product_attention(q, k, v, is_causal=True)
    np.testing.assert_allclose(found.numpy(), np.einsum("bhqk,bkhd->bqhd", weights, v), 1e-6, 1e-7)
