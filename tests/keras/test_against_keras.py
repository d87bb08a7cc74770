"""Layers against the numbers that Keras computes with them, forwards and in training."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from convc import keras
from tests.keras.references.layer_cases import CASES
from tests.keras.references.make_layers import FILE, computed

STORED: dict[str, Any] = json.loads(FILE.read_text())


@pytest.mark.parametrize("name", CASES)
def test_layer_computes_as_in_keras(name: str) -> None:
    found, wanted = computed(keras, name), STORED[name]
    assert found["shape"] == wanted["shape"]
    np.testing.assert_allclose(found["values"][:60], wanted["values"], 2e-5, 2e-6)
    np.testing.assert_allclose(found["losses"], wanted["losses"], 1e-4, 1e-6)
