"""Random operators of ONNX: what they draw has the right distribution, and is the same in every run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from convc.onnx.backend import CompiledRep
from tests.onnx.models import model_of, node

X = np.zeros((200, 300), np.float32)


def drawn(kind: str, x: Any = X, **given: Any) -> Any:
    model = model_of(
        [node(kind, "x" if "Like" in kind or kind == "Bernoulli" else "", **given)], {"x": x}
    )
    first, second = (CompiledRep(model, threads=t).run([x])[0] for t in (1, 3))
    np.testing.assert_array_equal(first, second)
    return first


@pytest.mark.parametrize("dtype", [1, 11])
def test_uniform_numbers(dtype: int) -> None:
    y = drawn("RandomUniform", shape=[200, 300], low=-2.0, high=6.0, dtype=dtype)
    assert y.dtype == (np.float32 if dtype == 1 else np.float64)
    assert -2 <= y.min() < -1.99
    assert 5.99 < y.max() <= 6
    counts, _ = np.histogram(y, 8, (-2, 6))
    np.testing.assert_allclose(counts, y.size / 8, atol=5 * np.sqrt(y.size / 8))


def test_normal_numbers() -> None:
    y = drawn("RandomNormalLike", mean=3.0, scale=2.0, seed=7.0)
    assert y.dtype == np.float32
    z = (y - 3) / 2
    assert abs(z.mean()) < 5 / np.sqrt(y.size)
    assert abs(z.std() - 1) < 5 / np.sqrt(2 * y.size)
    assert abs((np.abs(z) < 1).mean() - 0.6827) < 0.01
    assert abs(np.corrcoef(y[:, 1:].ravel(), y[:, :-1].ravel())[0, 1]) < 0.02


def test_seeds_and_names_make_numbers_of_their_own() -> None:
    def of(name: str, **given: Any) -> Any:
        model = model_of([node("RandomUniformLike", "x", name, **given)], {"x": X}, [name])
        return CompiledRep(model).run([X])[0]

    np.testing.assert_array_equal(of("a", seed=1.0), of("b", seed=1.0))
    assert (of("a", seed=1.0) != of("a", seed=2.0)).mean() > 0.99
    assert (of("a") != of("b")).mean() > 0.99


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_coins(dtype: Any) -> None:
    chance = np.tile(np.array([0, 0.25, 0.75, 1], dtype), (20_000, 1))
    y = drawn("Bernoulli", chance)
    assert set(np.unique(y)) == {0, 1}
    np.testing.assert_allclose(y.mean(0), chance[0], atol=0.02)
    assert y[:, 0].max() == 0
    assert y[:, 3].min() == 1


def test_dropout_in_training() -> None:
    x = np.ones((200, 300), np.float32)
    given = {"x": x, "r": np.array(0.25, np.float32), "t": np.array(True)}
    rep = CompiledRep(model_of([node("Dropout", "x r t", "y m")], given, ["y", "m"]))
    y, mask = rep.run(list(given.values()))
    np.testing.assert_allclose(y, np.where(mask, np.float32(1 / 0.75), 0))
    assert abs(mask.mean() - 0.75) < 0.01
    y, mask = rep.run([x, np.array(0, np.float32), np.array(True)])
    np.testing.assert_array_equal(y, x)
    assert mask.all()
