"""Initial values follow Keras' fan rules and repeat with a seed."""

import math
from typing import Any

import numpy as np
import pytest

from convc.errors import ModelError
from convc.keras import initializers

SHAPE = (3, 3, 40, 60)
FAN_IN, FAN_OUT = 9 * 40, 9 * 60

DEVIATIONS = {
    "glorot_uniform": math.sqrt(2 / (FAN_IN + FAN_OUT)),
    "glorot_normal": math.sqrt(2 / (FAN_IN + FAN_OUT)),
    "he_uniform": math.sqrt(2 / FAN_IN),
    "he_normal": math.sqrt(2 / FAN_IN),
    "lecun_uniform": math.sqrt(1 / FAN_IN),
    "lecun_normal": math.sqrt(1 / FAN_IN),
    "random_normal": 0.05,
    "random_uniform": 0.05 / math.sqrt(3),
    "truncated_normal": 0.05 * 0.87962566,
}


@pytest.mark.parametrize("name", sorted(DEVIATIONS))
def test_deviation_follows_the_fan_rule(name: str) -> None:
    values = initializers.get(name)(SHAPE)
    assert values.dtype == np.float32
    assert values.std() == pytest.approx(DEVIATIONS[name], rel=0.02)
    assert abs(values.mean()) < 0.02 * DEVIATIONS[name] * 5


def test_truncated_values_stay_within_two_deviations() -> None:
    values = initializers.TruncatedNormal(stddev=1.0, seed=1)(SHAPE)
    assert np.abs(values).max() <= 2.0
    assert np.abs(values).max() > 1.9


def test_uniform_limits_are_those_of_glorot() -> None:
    values = initializers.GlorotUniform(seed=1)(SHAPE)
    limit = math.sqrt(6 / (FAN_IN + FAN_OUT))
    assert limit * 0.999 < np.abs(values).max() <= limit


def test_seed_repeats_and_its_absence_does_not() -> None:
    one: Any = initializers.HeNormal(seed=3)
    np.testing.assert_array_equal(one((4, 4)), one((4, 4)))
    two: Any = initializers.HeNormal()
    assert not np.array_equal(two((4, 4)), two((4, 4)))


def test_constants_and_matrices() -> None:
    np.testing.assert_array_equal(initializers.get("zeros")((2,)), [0, 0])
    np.testing.assert_array_equal(initializers.get("Ones")((2,)), [1, 1])
    np.testing.assert_array_equal(initializers.Constant(3)((2,)), [3, 3])
    np.testing.assert_array_equal(initializers.Identity(2)((2, 3)), [[2, 0, 0], [0, 2, 0]])
    q: Any = initializers.Orthogonal(seed=0)((6, 4))
    np.testing.assert_allclose(q.T @ q, np.eye(4), atol=1e-6)
    q = initializers.Orthogonal(seed=0)((2, 2, 6))
    np.testing.assert_allclose(q.reshape(4, 6) @ q.reshape(4, 6).T, np.eye(4), atol=1e-6)


def test_config_makes_the_same_initializer() -> None:
    first = initializers.VarianceScaling(2.0, "fan_out", "uniform", seed=5)
    second = initializers.get(initializers.serialize(first))
    np.testing.assert_array_equal(first((3, 4)), second((3, 4)))


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(
        ModelError, match="mode must be one of 'fan_in', 'fan_out', 'fan_avg'; received 'fan'"
    ):
        initializers.VarianceScaling(mode="fan")
    with pytest.raises(ModelError, match="scale must be positive; received -1"):
        initializers.VarianceScaling(scale=-1)
