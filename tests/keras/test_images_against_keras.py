"""Functions and layers on images against numbers that Keras (on TensorFlow) has computed."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from convc import keras
from tests.keras.references.image_cases import CASES
from tests.keras.references.make_images import FILE, computed

STORED: dict[str, Any] = json.loads(FILE.read_text())


@pytest.mark.parametrize("name", CASES)
def test_numbers_are_those_of_keras(name: str) -> None:
    found, wanted = computed(keras, name), STORED[name]
    assert found["shape"] == wanted["shape"]
    largest = max(1.0, float(np.abs(wanted["values"]).max()))
    # Bytes may round the other way.
    slack = 1.0 if "bytes" in name else 2e-5 * largest
    np.testing.assert_allclose(found["values"], wanted["values"], rtol=2e-4, atol=slack)
