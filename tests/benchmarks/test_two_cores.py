"""The measurements of two CPUs: a line that both count in, and memory that both read."""

from __future__ import annotations

import ctypes
import os
import threading

import pytest

from benchmarks import two_cores


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
def test_a_line_goes_to_another_cpu_and_back() -> None:
    before = os.sched_getaffinity(0)
    assert two_cores.round_trip() > 1e-9
    assert os.sched_getaffinity(0) == before


def test_threads_count_in_turns() -> None:
    code, offset = two_cores._bounce()
    bounce = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(
        code.address + offset
    )
    line = (ctypes.c_int64 * 16)()
    other = threading.Thread(target=bounce, args=(ctypes.addressof(line), 1, 100))
    other.start()
    bounce(ctypes.addressof(line), 0, 100)
    other.join()
    assert line[0] == 200


def test_one_cpu_has_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    assert two_cores.round_trip() == 0.0


def test_runs_together_have_a_span_each() -> None:
    spans = two_cores.together([lambda: None, lambda: None, lambda: None])
    assert len(spans) == 3
    assert all(begin <= end for begin, end in spans)


@pytest.mark.parametrize("threads", [1, 2])
def test_memory_is_read(threads: int) -> None:
    assert 1e8 < two_cores.streaming(threads) < 1e13
