"""Functions on tensors against numpy, traced and on constants."""

from typing import Any

import numpy as np
import pytest

from convc import keras
from convc.keras import ops
from tests.keras.running import run

X = np.random.default_rng(5).uniform(0.1, 0.9, (3, 4, 5)).astype(np.float32)
Y = np.random.default_rng(6).uniform(0.1, 0.9, (3, 4, 5)).astype(np.float32)

UNARY = [
    "absolute", "negative", "sign", "square", "sqrt", "exp", "expm1", "log", "log1p", "log2", "log10", "sin", "cos",
    "tan", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "arcsinh", "arctanh", "floor", "ceil", "reciprocal",
    "exp2", "isnan", "isfinite", "isinf",
]  # fmt: skip

BINARY = [
    "add", "subtract", "multiply", "true_divide", "divide", "floor_divide", "mod", "power", "maximum", "minimum",
    "less", "less_equal", "greater", "greater_equal", "equal", "not_equal", "logaddexp",
]  # fmt: skip


def traced(function: Any, *arrays: Any) -> Any:
    inputs = [keras.Input(a.shape[1:], dtype=str(a.dtype)) for a in arrays]
    return run(keras.Model(inputs, function(*inputs)), *arrays)


@pytest.mark.parametrize("name", UNARY)
def test_unary_function_is_numpys(name: str) -> None:
    given = X * 2 - 1 if name in ("absolute", "negative", "sign", "floor", "ceil", "sinh") else X
    found = traced(getattr(ops, name), given)
    np.testing.assert_allclose(found, getattr(np, name)(given), rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("name", BINARY)
def test_binary_function_is_numpys(name: str) -> None:
    found = traced(getattr(ops, name), X, Y)
    np.testing.assert_allclose(found, getattr(np, name)(X, Y), rtol=1e-5, atol=1e-6)


SHAPED: dict[str, Any] = {
    "sum": (lambda m, x: m.sum(x, axis=(1, 2))),
    "mean": (lambda m, x: m.mean(x, axis=-1, keepdims=True)),
    "max": (lambda m, x: m.max(x, axis=1)),
    "min": (lambda m, x: m.min(x, axis=1)),
    "prod": (lambda m, x: m.prod(x, axis=2)),
    "var": (lambda m, x: m.var(x, axis=1)),
    "std": (lambda m, x: m.std(x, axis=(1, 2))),
    "argmax": (lambda m, x: m.argmax(x, axis=-1)),
    "argmin": (lambda m, x: m.argmin(x, axis=1)),
    "any": (lambda m, x: m.any(x > 0.8, axis=1)),
    "all": (lambda m, x: m.all(x > 0.3, axis=1)),
    "transpose": (lambda m, x: m.transpose(x, (0, 2, 1))),
    "swapaxes": (lambda m, x: m.swapaxes(x, 1, 2)),
    "moveaxis": (lambda m, x: m.moveaxis(x, 1, -1)),
    "expand_dims": (lambda m, x: m.expand_dims(x, (1, -1))),
    "squeeze": (lambda m, x: m.squeeze(m.expand_dims(x, 1), 1)),
    "concatenate": (lambda m, x: m.concatenate([x, x], axis=1)),
    "stack": (lambda m, x: m.stack([x, x], axis=-1)),
    "hstack": (lambda m, x: m.hstack([x, x])),
    "split": (lambda m, x: m.split(x, [1, 3], axis=1)[1]),
    "flip": (lambda m, x: m.flip(x, 1)),
    "roll": (lambda m, x: m.roll(x, 2, 1)),
    "pad": (lambda m, x: m.pad(x, ((0, 0), (1, 2), (0, 1)))),
    "reflect": (lambda m, x: m.pad(x, ((0, 0), (1, 2), (0, 1)), "reflect")),
    "repeat": (lambda m, x: m.repeat(x, 2, 1)),
    "tile": (lambda m, x: m.tile(x, (1, 2, 3))),
    "take": (lambda m, x: m.take(x, np.array([2, 0]), axis=1)),
    "clip": (lambda m, x: m.clip(x, 0.3, 0.6)),
    "where": (lambda m, x: m.where(x > 0.5, x, 0.0)),
    "round": (lambda m, x: m.round(x, 1)),
    "matmul": (lambda m, x: m.matmul(x, np.ones((5, 2), np.float32))),
    "vector": (lambda m, x: m.matmul(x, np.ones(5, np.float32))),
    "einsum": (lambda m, x: m.einsum("bij,jk->bki", x, np.ones((5, 2), np.float32))),
    "einsum_batch": (lambda m, x: m.einsum("bij,bkj->bik", x, x)),
    "einsum_one": (lambda m, x: m.einsum("bij->jb", x)),
    "full_like": (lambda m, x: m.full_like(x, 3) + x),
    "logical": (lambda m, x: m.logical_and(x > 0.2, m.logical_not(x > 0.8))),
}


@pytest.mark.parametrize("name", sorted(SHAPED))
def test_shaped_function_is_numpys(name: str) -> None:
    function = SHAPED[name]
    expected = function(np, X)
    np.testing.assert_allclose(
        traced(lambda x: function(ops, x), X), expected, rtol=1e-5, atol=1e-6
    )
    # On constants nothing depends on an input, so that the values can be had at once.
    constant = ops.convert_to_tensor(X)
    np.testing.assert_allclose(np.asarray(function(ops, constant)), expected, rtol=1e-5, atol=1e-6)


KEYS: list[Any] = [
    np.s_[:, 1],
    np.s_[:, -1, 2:],
    np.s_[..., 0],
    np.s_[:, ::-1, ::2],
    np.s_[:, None, 1:3],
    np.s_[:, 1, ..., None],
    np.s_[:, [0, 2]],
]


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_indexing_is_numpys(key: Any) -> None:
    np.testing.assert_array_equal(traced(lambda x: x[key], X), X[key])


OPERATORS: list[Any] = [
    lambda x, y: x + y * 2 - 1,
    lambda x, y: 1 - x / y,
    lambda x, y: 2 / x // y,
    lambda x, y: -x % 0.3,
    lambda x, y: abs(x - y) ** 2 + 2**x,
    lambda x, y: (x < y) & ~(x >= 0.5) | (x > 0.7) ^ (y <= 0.2),
    lambda x, y: (
        x @ y.transpose(0, 2, 1) if isinstance(y, np.ndarray) else x @ ops.transpose(y, (0, 2, 1))
    ),
]


@pytest.mark.parametrize("index", range(len(OPERATORS)))
def test_python_operators_are_numpys(index: int) -> None:
    found = traced(OPERATORS[index], X, Y)
    np.testing.assert_allclose(found, OPERATORS[index](X, Y), rtol=1e-4, atol=1e-5)


def test_numpy_functions_trace() -> None:
    found = traced(lambda x: np.exp(np.float32(2) * x) + np.sum(x, axis=1, keepdims=True), X)
    np.testing.assert_allclose(found, np.exp(2 * X) + X.sum(1, keepdims=True), rtol=1e-5)


def test_types_are_promoted_as_in_keras() -> None:
    i = keras.Input((3,), dtype="int32")
    f = keras.Input((3,), dtype="float16")
    assert (i + 1).dtype == "int32"
    assert (i * 1.5).dtype == "float32"
    assert (i / 2).dtype == "float32"
    assert (f + 1.5).dtype == "float16"
    assert (f + i).dtype == "float16"
    assert ops.cast(i, "uint8").dtype == "uint8"
    assert ops.mean(i).dtype == "float32"


def test_reshape_keeps_the_batch() -> None:
    i = keras.Input((4, 6))
    assert ops.reshape(i, (-1, 24)).shape == (None, 24)
    assert ops.reshape(i, (-1, 6)).shape == (None, 6)
    np.testing.assert_array_equal(
        traced(lambda x: ops.reshape(x, (-1, 2, 10)), X), X.reshape(3, 2, 10)
    )


def test_network_functions_compute() -> None:
    image = np.random.default_rng(0).standard_normal((2, 6, 6, 3)).astype(np.float32)
    kernel = np.random.default_rng(1).standard_normal((3, 3, 3, 4)).astype(np.float32)
    y = traced(lambda x: ops.conv(x, kernel, padding="same"), image)
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = sum(
        padded[:, r : r + 6, c : c + 6] @ kernel[r, c] for r in range(3) for c in range(3)
    )
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
    pooled = traced(lambda x: ops.max_pool(x, 2), image)
    np.testing.assert_array_equal(pooled, image.reshape(2, 3, 2, 3, 2, 3).max((2, 4)))
    total = traced(lambda x: ops.softmax(x, axis=(1, 2)), image).sum((1, 2))
    np.testing.assert_allclose(total, np.ones((2, 3)), rtol=1e-5)
    unit = traced(lambda x: ops.normalize(x, axis=-1), image)
    np.testing.assert_allclose((unit**2).sum(-1), np.ones((2, 6, 6)), rtol=1e-5)
    log = traced(lambda x: ops.logsumexp(x, axis=1), image)
    np.testing.assert_allclose(log, np.log(np.exp(image).sum(1)), rtol=1e-5)
    labels = np.array([[0], [2]], np.int32)
    hot = traced(lambda x: ops.one_hot(x, 3), labels)
    np.testing.assert_array_equal(hot[:, 0], np.eye(3)[[0, 2]])
    mean, variance = run_two(lambda x: ops.moments(x, axes=(1, 2)), image)
    np.testing.assert_allclose(mean, image.mean((1, 2)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(variance, image.var((1, 2)), rtol=1e-4)


def run_two(function: Any, array: Any) -> Any:
    i = keras.Input(array.shape[1:])
    return run(keras.Model(i, list(function(i))), array)
