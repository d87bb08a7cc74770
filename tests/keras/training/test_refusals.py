"""What a training can't do says so, with what to do instead."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from convc import keras
from convc.errors import ModelError
from convc.keras import layers

X = np.zeros((6, 4), np.float32)
LABELS = np.array([0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize(
    ("loss", "targets", "hint"),
    [
        ("categorical_crossentropy", LABELS, "need sparse_categorical_crossentropy or"),
        ("sparse_categorical_crossentropy", np.eye(3)[LABELS], "need categorical_crossentropy"),
        (
            "binary_crossentropy",
            LABELS,
            r"shape \(None, 3\); received shape \(None,.*class numbers",
        ),
    ],
)
def test_labels_of_another_form_are_told_the_loss_that_takes_them(
    loss: str, targets: Any, hint: str
) -> None:
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, activation="softmax")])
    model.compile("sgd", loss)
    with pytest.raises(ModelError, match=hint):
        model.fit(X, targets, verbose=0)
