"""Lists of different lengths as one array; the wanted arrays are those of Keras 3."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from convc.errors import DataError, UsageError
from convc.keras.preprocessing.sequence import pad_sequences


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, [[0, 0, 1], [0, 2, 3], [4, 5, 6]]),
        ({"value": -1}, [[-1, -1, 1], [-1, 2, 3], [4, 5, 6]]),
        ({"padding": "post"}, [[1, 0, 0], [2, 3, 0], [4, 5, 6]]),
        ({"maxlen": 2}, [[0, 1], [2, 3], [5, 6]]),
        ({"maxlen": 2, "truncating": "post"}, [[0, 1], [2, 3], [4, 5]]),
        ({"maxlen": 4, "padding": "post"}, [[1, 0, 0, 0], [2, 3, 0, 0], [4, 5, 6, 0]]),
        ({"maxlen": 0}, [[], [], []]),
    ],
)
def test_sequences_are_padded_and_cut(settings: dict[str, Any], wanted: list[Any]) -> None:
    found = pad_sequences([[1], [2, 3], [4, 5, 6]], **settings)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, wanted)


def test_items_may_have_axes() -> None:
    found = pad_sequences([[[1, 2]], [], [[3, 4], [5, 6]]], dtype="float32", value=0.5)
    wanted = [[[0.5, 0.5], [1, 2]], [[0.5, 0.5], [0.5, 0.5]], [[3, 4], [5, 6]]]
    np.testing.assert_array_equal(found, np.array(wanted, np.float32))


def test_what_is_wrong_is_named() -> None:
    with pytest.raises(DataError, match="item 1 is 3"):
        pad_sequences([[1], 3])
    with pytest.raises(DataError, match=r"shape \(2,\); sequence 1 has \(1,\)"):
        pad_sequences([[[1, 2]], [[1]]])
    with pytest.raises(UsageError, match="padding must be 'pre' or 'post'; received 'left'"):
        pad_sequences([[1]], padding="left")
