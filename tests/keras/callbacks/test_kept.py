"""What callbacks remember: damaged states are refused by name, before anything has changed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from convc.errors import DataError
from convc.keras.callbacks import EarlyStopping
from convc.keras.callbacks.kept import remembered, remind


def stopping() -> Any:
    made: Any = EarlyStopping("loss")
    made.wait, made.best, made.best_weights = 2, 0.5, [np.zeros(2), np.ones((2, 3))]
    return made


def test_what_is_remembered_comes_back() -> None:
    fresh: Any = EarlyStopping("loss")
    remind([fresh], remembered([stopping()]))
    assert (fresh.wait, fresh.best) == (2, 0.5)
    np.testing.assert_array_equal(fresh.best_weights[1], np.ones((2, 3)))


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("wait", np.zeros(3), r"EarlyStopping/wait: expected one number; received \(3,\)"),
        ("best_weights/0", None, r"best_weights: expected parts 0 to 0; received \['1'\]"),
        ("best_weights/x", np.zeros(1), r"best_weights: expected parts 0 to 2"),
    ],
)
def test_a_damaged_state_is_refused(name: str, array: Any, message: str) -> None:
    arrays = remembered([stopping()])
    if array is None:
        del arrays[f"callbacks/0/EarlyStopping/{name}"]
    else:
        arrays[f"callbacks/0/EarlyStopping/{name}"] = array
    fresh: Any = EarlyStopping("loss")
    before = dict(vars(fresh))
    with pytest.raises(DataError, match=message):
        remind([fresh], arrays)
    assert vars(fresh) == before
