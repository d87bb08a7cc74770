"""Training in float32 stays as near to Keras as Keras' back ends stay to each other."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from convc import keras
from tests.keras.references.single import FILE, NETWORKS, training

RECORD: dict[str, Any] = json.loads(FILE.read_text())


@pytest.mark.parametrize("name", NETWORKS)
def test_loss_curves_lie_within_twice_the_spread_of_torch_and_tensorflow(name: str) -> None:
    """At each of 50 steps, from the same weights; the spread is the largest so far, and at least a unit of rounding."""
    theirs = np.array([RECORD[backend][name] for backend in ("tensorflow", "torch")])
    spread = np.maximum.accumulate(np.abs(theirs[0] - theirs[1]))
    spread = np.maximum(spread, np.finfo(np.float32).eps * theirs.max())
    distance = np.abs(np.array(training(keras, name)) - theirs).max(0)
    assert theirs[0, -1] < 0.9 * theirs[0, 0], (
        "this network learns nothing: the comparison is empty"
    )
    assert (distance <= 2 * spread).all(), (
        f"step {int(np.argmax(distance / spread))}: {distance / spread}"
    )
