"""keras.random at once and within models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from convc import keras
from convc.errors import ConvcError
from convc.keras import layers, random


def values(tensor: Any) -> Any:
    return np.asarray(tensor.numpy())


def test_seeds_say_what_is_drawn() -> None:
    np.testing.assert_array_equal(
        values(random.normal((3,), seed=4)), values(random.normal((3,), seed=4))
    )
    generators = [random.SeedGenerator(7) for _ in range(2)]
    series = [[values(random.uniform((3,), seed=g)) for _ in range(2)] for g in generators]
    np.testing.assert_array_equal(series[0], series[1])
    assert not np.array_equal(series[0][0], series[0][1])
    keras.utils.set_random_seed(1)
    first = values(random.normal((3,)))
    keras.utils.set_random_seed(1)
    np.testing.assert_array_equal(values(random.normal((3,))), first)


@pytest.mark.parametrize("inside", [False, True])
def test_distributions(inside: bool) -> None:
    """At once, and from within a layer."""
    draws: dict[str, Any] = {
        "normal": lambda n: random.normal((n, 400), 2.0, 0.5),
        "uniform": lambda n: random.uniform((n, 400), -1.0, 3.0),
        "randint": lambda n: random.randint((n, 400), 2, 6),
        "dropout": lambda n: random.dropout(keras.ops.ones((n, 400)), 0.25),
        "categorical": lambda n: random.categorical(np.log(np.tile([[0.1, 0.2, 0.7]], (n, 1))), 2000),
    }  # fmt: skip

    class Drawing(layers.Layer):
        def call(self, inputs: Any) -> Any:
            return {name: draw(50) for name, draw in draws.items()}

    if inside:
        found = Drawing()(np.zeros((50, 1), np.float32))
    else:
        found = {name: draw(50) for name, draw in draws.items()}
    got = {name: values(v).astype(np.float64) for name, v in found.items()}
    assert got["normal"].mean() == pytest.approx(2, abs=0.02)
    assert got["normal"].std() == pytest.approx(0.5, abs=0.02)
    assert got["uniform"].min() >= -1
    assert got["uniform"].max() < 3
    assert got["uniform"].mean() == pytest.approx(1, abs=0.05)
    assert set(np.unique(got["randint"])) == {2, 3, 4, 5}
    assert (got["dropout"] == 0).mean() == pytest.approx(0.25, abs=0.02)
    assert got["dropout"].max() == pytest.approx(4 / 3)
    assert (got["categorical"] == 2).mean() == pytest.approx(0.7, abs=0.02)


def test_a_layer_s_noise_is_compiled() -> None:
    class Noise(layers.Layer):
        def call(self, inputs: Any) -> Any:
            rows = keras.ops.shape(inputs)[0]
            return inputs + random.normal((rows, inputs.shape[1]))

    start = keras.Input((300,))
    model = keras.Model(start, Noise()(start))
    found = model.predict(np.zeros((40, 300)), batch_size=40, verbose=0)
    assert found.std() == pytest.approx(1, abs=0.03)
    assert abs(found.mean()) < 0.03
    with pytest.raises(ConvcError, match="gamma isn't supported within models"):
        layers.Lambda(lambda x: x + random.gamma((1,), 2.0))(start)


def test_shuffled_rows_are_the_same_rows() -> None:
    x = np.arange(10.0)
    found = values(random.shuffle(x, seed=3))
    assert sorted(found) == list(x)
    assert list(found) != list(x)
