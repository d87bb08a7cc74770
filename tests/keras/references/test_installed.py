"""The stored numbers are those of the Keras that is installed, if there is one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.keras.references import make
from tests.keras.references.cases import LOSSES, METRICS, OPTIMIZERS
from tests.keras.references.stored import STORED, assert_same

keras: Any = pytest.importorskip("keras", reason="Keras isn't installed")

PARTS: dict[str, tuple[Any, Any]] = {
    "losses": (LOSSES, make.loss),
    "metrics": (METRICS, make.metric),
    "optimizers": (OPTIMIZERS, make.optimizer),
}


@pytest.fixture(autouse=True)
def in_float64() -> Iterator[None]:
    before = keras.backend.floatx()
    keras.backend.set_floatx("float64")
    yield
    keras.backend.set_floatx(before)


@pytest.mark.parametrize("part", PARTS)
def test_numbers_are_those_of_keras(part: str) -> None:
    cases, compute = PARTS[part]
    for name in cases:
        # Its back ends round hyperparameters differently.
        assert_same(compute(keras, name), STORED[part][name], 1e-4, name)
