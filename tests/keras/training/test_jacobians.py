"""`GradientTape.jacobian` and `batch_jacobian` against derivatives by hand and difference quotients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from convc import keras
from convc.errors import ModelError
from convc.keras import layers, ops

R = np.random.default_rng(0)


def test_jacobian_of_a_product_and_its_sources_in_a_structure() -> None:
    a, b, other = R.normal(size=(2, 3)), R.normal(size=(3, 4)), R.normal(size=5)
    x, w = ops.convert_to_tensor(a), keras.Variable(b)
    unused = keras.Variable(other)
    with keras.GradientTape() as tape:
        tape.watch(x)
        y = ops.matmul(x, w)
    found = tape.jacobian(y, {"x": x, "w": w, "unused": unused})
    assert found["unused"] is None
    expected = np.einsum("ik,nj->ijkn", np.eye(2), b)
    np.testing.assert_allclose(found["x"], expected, 1e-12)
    np.testing.assert_allclose(found["w"], np.einsum("in,jm->ijnm", a, np.eye(4)), 1e-12)
    with keras.GradientTape() as tape:
        z = ops.sum(w)
    assert tape.jacobian(z, w).shape == (3, 4)
    with keras.GradientTape() as tape:
        z = w * 2.0
    assert not np.asarray(tape.jacobian(z, unused, unconnected_gradients="zero")).any()


def test_batch_jacobian_of_a_model_is_that_of_each_row() -> None:
    first, second = (layers.Dense(n, a, dtype="float64") for n, a in ((5, "tanh"), (2, None)))

    def model(x: Any) -> Any:
        return ops.reshape(second(first(x)), (4, 2, 1))

    rows = R.normal(size=(4, 3))
    x = ops.convert_to_tensor(rows)
    with keras.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = model(x)
    found = np.asarray(tape.batch_jacobian(y, x))
    assert found.shape == (4, 2, 1, 3)
    whole = np.asarray(tape.jacobian(y, x))
    assert whole.shape == (4, 2, 1, 4, 3)
    np.testing.assert_allclose(found, np.einsum("aijak->aijk", whole), 1e-10)
    for k in range(3):
        step = np.zeros(3)
        step[k] = 1e-5
        quotient = (np.asarray(model(rows + step)) - np.asarray(model(rows - step))) / 2e-5
        np.testing.assert_allclose(found[..., k], quotient, 1e-6, 1e-8)


def test_a_jacobian_of_a_gradient_is_a_hessian() -> None:
    x = ops.convert_to_tensor(R.normal(size=4))
    with keras.GradientTape() as outer:
        outer.watch(x)
        with keras.GradientTape() as inner:
            inner.watch(x)
            y = ops.sum(x**3) + x[0] * x[1]
        slope = inner.gradient(y, x)
    expected = np.diag(6 * np.asarray(x))
    expected[0, 1] = expected[1, 0] = 1
    np.testing.assert_allclose(outer.jacobian(slope, x), expected, 1e-10, 1e-12)


def test_rows_must_be_as_many() -> None:
    x = ops.convert_to_tensor(np.ones((3, 2)))
    with keras.GradientTape() as tape:
        tape.watch(x)
        y = ops.sum(x, axis=0)
    with pytest.raises(ModelError, match=r"as many rows; received shapes \(2,\) and \(3, 2\)"):
        tape.batch_jacobian(y, x)
