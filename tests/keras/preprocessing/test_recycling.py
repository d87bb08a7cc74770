"""Memory of batches: nobody's is given to somebody else, and what is dropped is used again."""

from __future__ import annotations

import numpy as np
import pytest

from convc.keras.preprocessing import recycling
from convc.keras.preprocessing.recycling import empty

SHAPE = (32, 32, 32, 3)


@pytest.fixture(autouse=True)
def pool(monkeypatch: pytest.MonkeyPatch) -> recycling._Pool:
    fresh = recycling._Pool()
    monkeypatch.setattr(recycling, "_pool", fresh)
    return fresh


def address(x: np.ndarray) -> int:
    return int(x.ctypes.data)


def test_dropped_memory_is_used_again() -> None:
    first = empty(SHAPE, np.float32)
    assert first.shape == SHAPE
    assert first.dtype == np.float32
    assert first.flags.writeable
    assert first.flags.c_contiguous
    where = address(first)
    del first
    again = empty((32 * 32 * 32 * 3,), np.int32)
    assert address(again) == where


def test_a_view_keeps_its_memory() -> None:
    view = empty(SHAPE, np.float32)[3, ::2].T
    view[...] = 7.0
    others = [empty(SHAPE, np.float32) for _ in range(3)]
    for other in others:
        other[...] = 1.0
    assert np.all(view == 7.0)
    assert len({address(o) for o in others}) == 3


def test_no_more_is_kept_than_asked_for(
    pool: recycling._Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = empty(SHAPE, np.float32).nbytes
    monkeypatch.setattr(recycling, "KEPT", 2 * size)
    arrays = [empty(SHAPE, np.float32) for _ in range(4)]
    del arrays
    assert pool.kept == 2 * size
    assert [len(v) for v in pool.waiting.values()] == [2]
    assert empty((4,), np.float32).base is None
