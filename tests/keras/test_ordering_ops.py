"""Functions that order, place, branch and loop, against numpy; their gradients in training against differences."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from convc import keras
from convc.errors import ModelError, UnsupportedError
from convc.keras import layers, ops

X = np.random.RandomState(0).permutation(24).reshape(4, 6).astype(np.float32) / 7


def functions() -> dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]]:
    ids = np.array([0, 2, 2, 0])
    return {
        "sort": (lambda x: ops.sort(x, 0), lambda x: np.sort(x, 0)),
        "argsort": (ops.argsort, np.argsort),
        "top_k": (lambda x: ops.top_k(x, 2)[0], lambda x: np.sort(x)[:, :-3:-1]),
        "median": (lambda x: ops.median(x, 1), lambda x: np.median(x, 1)),
        "quantile": (
            lambda x: ops.quantile(x, [0.1, 0.6], (0, 1)),
            lambda x: np.quantile(x, [0.1, 0.6]),
        ),
        "nearest": (
            lambda x: ops.quantile(x, 0.3, 1, "nearest", True),
            lambda x: np.quantile(x, 0.3, 1, method="nearest", keepdims=True),
        ),
        "searchsorted": (
            lambda x: ops.searchsorted([0.5, 1.0, 2.0], x),
            lambda x: np.searchsorted([0.5, 1, 2], x),
        ),
        "segment_sum": (
            lambda x: ops.segment_sum(x, ids, 3),
            lambda x: np.stack([x[0] + x[3], 0 * x[0], x[1] + x[2]]),
        ),
        "segment_max": (
            lambda x: ops.segment_max(x, [0, 1, 1, 0], 2),
            lambda x: np.stack([np.maximum(x[0], x[3]), np.maximum(x[1], x[2])]),
        ),
        "cumprod": (lambda x: ops.cumprod(x + 1, 1), lambda x: np.cumprod(x + 1, 1)),
        "diff": (lambda x: ops.diff(x, 2, 0), lambda x: np.diff(x, 2, 0)),
        "arctan2": (lambda x: ops.arctan2(x - 1.5, 1 - x), lambda x: np.arctan2(x - 1.5, 1 - x)),
        "hypot": (lambda x: ops.hypot(x, 2.0), lambda x: np.hypot(x, 2)),
        "kron": (lambda x: ops.kron(x, [[1.0, 2.0]]), lambda x: np.kron(x, [[1, 2]])),
        "cross": (
            lambda x: ops.cross(x[:, :3], x[:, 3:]),
            lambda x: np.cross(x[:, :3], x[:, 3:]),
        ),
        "diagonal": (lambda x: ops.diagonal(x, 1), lambda x: np.diagonal(x, 1)),
        "diagflat": (lambda x: ops.diagflat(x[0], -1), lambda x: np.diagflat(x[0], -1)),
        "rot90": (lambda x: ops.rot90(x, 3), lambda x: np.rot90(x, 3)),
        "slice": (lambda x: ops.slice(x, (1, 2), (2, 3)), lambda x: x[1:3, 2:5]),
        "slice_update": (
            lambda x: ops.slice_update(x, (1, 2), x[:2, :3] * 2),
            lambda x: np.block([[x[:1]], [x[1:3, :2], x[:2, :3] * 2, x[1:3, 5:]], [x[3:]]]),
        ),
        "scatter_update": (
            lambda x: ops.scatter_update(x, [[0, 1], [2, 3]], x[0, :2]),
            lambda x: x + placed(x.shape, {(0, 1): x[0, 0] - x[0, 1], (2, 3): x[0, 1] - x[2, 3]}),
        ),
        "scan": (
            lambda x: ops.scan(lambda c, v: (c * 0.5 + v, c * v), ops.zeros((6,)), x)[1],
            scanned,
        ),
        "while": (
            lambda x: ops.while_loop(
                lambda i, v: ops.sum(v) < 50, lambda i, v: (i + 1, v * 2), (0, x), 5
            )[1],
            lambda x: x * 2 if x.sum() < 50 else x,
        ),
        "cond": (
            lambda x: ops.cond(ops.sum(x) > 3, lambda: x * 2, lambda: x * 3),
            lambda x: x * 2 if x.sum() > 3 else x * 3,
        ),
        "fori": (lambda x: ops.fori_loop(0, 3, lambda i, v: v * 0.5 + i, x), looped),
        "nanmean": (lambda x: ops.nanmean(x, 0), lambda x: np.nanmean(x, 0)),
    }


def placed(shape: Any, values: dict[Any, Any]) -> Any:
    found = np.zeros(shape)
    for place, value in values.items():
        found[place] = value
    return found


def scanned(x: Any) -> Any:
    carry, found = np.zeros(6), []
    for row in x:
        found.append(carry * row)
        carry = carry * 0.5 + row
    return np.stack(found)


def looped(x: Any) -> Any:
    for k in range(3):
        x = x * 0.5 + k
    return x


@pytest.mark.parametrize("name", functions())
def test_a_function_is_numpys_at_once_and_in_a_model(name: str) -> None:
    ours, numpys = functions()[name]
    wanted = numpys(X.astype(np.float64))
    np.testing.assert_allclose(np.asarray(ours(X)), wanted, rtol=2e-5, atol=1e-6)
    inputs = keras.Input(batch_shape=(4, 6))
    model = keras.Model(inputs, layers.Lambda(ours)(inputs))
    np.testing.assert_allclose(convc_run(model), wanted, rtol=2e-5, atol=1e-6)


def convc_run(model: Any) -> Any:
    return model.native()(X)


@pytest.mark.parametrize("name", [n for n in functions() if n not in ("argsort", "searchsorted")])
def test_its_gradient_is_the_limit_of_differences(name: str) -> None:
    ours, numpys = functions()[name]
    v = keras.Variable(X)
    with keras.GradientTape() as tape:
        y = ours(v)
        weights = np.cos(np.arange(np.size(y))).reshape(y.shape).astype(np.float32)
        loss = ops.sum(y * weights)
    gradient = tape.gradient(loss, v).numpy()
    x = X.astype(np.float64)
    for place in [(0, 1), (1, 4), (2, 3), (3, 5)]:
        step = placed(X.shape, {place: 1}).astype(np.float64) * 1e-6
        slope = ((numpys(x + step) - numpys(x - step)) * weights).sum() / 2e-6
        np.testing.assert_allclose(gradient[place], slope, rtol=2e-4, atol=2e-5)


def test_training_goes_through_a_sort() -> None:
    inputs = keras.Input((6,))
    h = layers.Dense(6, kernel_initializer="identity")(inputs)
    model = keras.Model(inputs, ops.cumsum(ops.top_k(h, 3)[0], axis=1))
    model.compile("sgd", "mse")
    model.fit(X, np.zeros((4, 3)), verbose=0)
    kernel = np.eye(6)
    for row in X.astype(np.float64):
        chosen = np.argsort(-row)[:3]
        partial = np.cumsum(row[chosen])
        slope = np.cumsum(partial[::-1])[::-1] * 2 / 12
        for unit, s in zip(chosen, slope, strict=True):
            kernel[:, unit] -= 0.01 * s * row
    np.testing.assert_allclose(model.get_weights()[0], kernel, rtol=1e-5, atol=1e-6)


def test_matrices_are_decomposed_where_they_are_known() -> None:
    a = X[:, :4] @ X[:, :4].T + np.eye(4, dtype=np.float32)
    np.testing.assert_allclose(ops.linalg.inv(a) @ a, np.eye(4), atol=1e-3)
    np.testing.assert_allclose(ops.cholesky(a), np.linalg.cholesky(a), rtol=1e-5)
    q, r = ops.qr(a)
    np.testing.assert_allclose(q @ r, a, rtol=1e-4)
    inputs = keras.Input(batch_shape=(4, 4))
    with pytest.raises(UnsupportedError, match="write it with matmul"):
        layers.Lambda(ops.inv)(inputs)


def test_what_cannot_be_unrolled_says_why() -> None:
    inputs = keras.Input((6,))
    with pytest.raises(UnsupportedError, match="give maximum_iterations"):
        ops.while_loop(lambda v: ops.sum(v) > 0, lambda v: v - 1, inputs)
    with pytest.raises(ModelError, match="write the function for all rows"):
        ops.vectorized_map(lambda row: row * 2, inputs)


def test_crossentropies_are_those_of_the_losses() -> None:
    p, y = np.array([[0.2, 0.7, 0.1], [0.5, 0.25, 0.25]], np.float32), np.array([1, 2])
    wanted = -np.log([0.7, 0.25])
    np.testing.assert_allclose(ops.sparse_categorical_crossentropy(y, p), wanted, rtol=1e-5)
    np.testing.assert_allclose(
        ops.categorical_crossentropy(np.eye(3)[y], np.log(p), from_logits=True), wanted, rtol=1e-5
    )
    np.testing.assert_allclose(
        ops.binary_crossentropy([1.0, 0.0], [0.7, 0.25]), -np.log([0.7, 0.75]), rtol=1e-5
    )
