"""Calling a model: which arrays it takes, which it refuses, and from how many threads."""

from __future__ import annotations

import os
import resource
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from convc_runtime import InputError, Model
from convc_runtime.arrays import address

from convc.artifact import Artifact
from tests.handwritten import expected, scale_model


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    return scale_model()


@pytest.fixture(scope="module")
def model(artifact: Artifact) -> Model:
    return artifact.model(threads=2)


def _x(batch: int) -> np.ndarray:
    return np.random.default_rng(batch).normal(size=(batch, 8)).astype(np.float32)


@pytest.mark.parametrize("batch", [1, 2, 5, 128, 3, 0])
def test_any_batch_runs(model: Model, batch: int) -> None:
    x = _x(batch)
    np.testing.assert_array_equal(model(x), expected(x))


def test_inputs_outputs_and_memory_are_described(model: Model) -> None:
    assert str(model.inputs[0]) == "x float32[N, 8]"
    assert repr(model) == "<convc model scale: x float32[N, 8] -> y float32[N, 8]>"
    assert [model.workspace_size(n) for n in (1, 10)] == [32, 320]


def test_a_dict_by_input_name_does_too(model: Model) -> None:
    np.testing.assert_array_equal(model({"x": _x(3)}), expected(_x(3)))


@pytest.mark.parametrize(
    "change",
    [
        lambda x: np.asfortranarray(x),
        lambda x: np.repeat(x, 2, 0)[::2],
        lambda x: x.astype(">f4"),
        lambda x: x.astype(np.float64),
        lambda x: x.tolist(),
        lambda x: (
            np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(x.shape)
        ),
    ],
    ids=["fortran", "strided", "big endian", "float64", "list", "unaligned"],
)
def test_harmless_differences_are_converted(
    model: Model, change: Callable[[np.ndarray], object]
) -> None:
    x = _x(4)
    np.testing.assert_array_equal(model(change(x)), expected(x))


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, np.bool_])
def test_whole_numbers_are_converted(model: Model, dtype: type) -> None:
    x: np.ndarray = np.ones((2, 8), dtype)
    np.testing.assert_array_equal(model(x), np.full((2, 8), 3, np.float32))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones((4, 7), np.float32),), r"input x: expected shape \(N, 8\) with N = 4, got \(4, 7\)"),
        ((np.ones(8, np.float32),), r"input x: expected shape \(N, 8\), got \(8,\)"),
        ((np.ones((1, 8), np.complex64),), r"input x: expected float32, got complex64"),
        ((np.full((1, 8), "a"),), r"input x: expected float32, got str"),
        ((_x(1), _x(1)), r"scale.predict: expected 1 inputs \(x float32\[N, 8\]\), got 2"),
        (({"y": _x(1)},), r"expected the inputs x, got y"),
        (({},), r"expected the inputs x, got none"),
    ],
)  # fmt: skip
def test_the_rest_is_refused_with_names_and_shapes(
    model: Model, arguments: tuple, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        model(*arguments)


def test_results_go_where_they_are_asked_to(model: Model) -> None:
    out = np.empty((3, 8), np.float32)
    assert model(_x(3), out=out) is out
    np.testing.assert_array_equal(out, expected(_x(3)))
    model(_x(3), out={"y": out})


@pytest.mark.parametrize(
    "out",
    [np.empty((2, 8), np.float32), np.empty((3, 8)), np.empty((8, 3), np.float32).T, [], "y"],
)
def test_results_go_nowhere_else(model: Model, out: object) -> None:
    with pytest.raises(InputError, match="output"):
        model(_x(3), out=out)


def test_every_number_of_threads_gives_the_same_bits(artifact: Artifact) -> None:
    x = _x(1000)
    results = [artifact.model(threads=t)(x).tobytes() for t in (1, 2, 3, 7)]
    assert set(results) == {expected(x).tobytes()}


def test_many_threads_call_one_model(model: Model) -> None:
    def work(i: int) -> bool:
        x = _x(i % 17 + 1)
        return all(np.array_equal(model(x), expected(x)) for _ in range(50))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(32)))


def test_a_forked_child_computes_and_the_parent_goes_on(model: Model) -> None:
    x = _x(64)
    model(x)
    child = os.fork()
    if child == 0:
        ok = all(np.array_equal(model(x), expected(x)) for _ in range(20))
        os._exit(0 if ok else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    np.testing.assert_array_equal(model(x), expected(x))


def test_idle_threads_sleep(artifact: Artifact) -> None:
    model = artifact.model(threads=3)
    model(_x(100))
    time.sleep(0.01)
    before = resource.getrusage(resource.RUSAGE_SELF)
    time.sleep(0.2)
    after = resource.getrusage(resource.RUSAGE_SELF)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert used < 0.02


def test_threads_end_with_the_model(artifact: Artifact) -> None:
    def count() -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    before = count()
    model = artifact.model(threads=5)
    model(_x(9))
    assert count() == before + 4
    model.close()
    assert count() == before
    np.testing.assert_array_equal(model(_x(9)), expected(_x(9)))
    gone = weakref.ref(model)
    del model
    assert gone() is None
    assert count() == before


def test_a_workspace_grows_and_serves_smaller_batches(artifact: Artifact) -> None:
    model = artifact.model(threads=1)
    for batch in (1, 500, 2, 3000, 7):
        np.testing.assert_array_equal(model(_x(batch)), expected(_x(batch)))


def test_no_threads_and_too_many_are_refused(artifact: Artifact) -> None:
    for threads in (0, 1025):
        with pytest.raises(InputError, match=f"threads: expected 1 to 1024, got {threads}"):
            artifact.model(threads=threads)


def test_a_call_from_a_new_thread_while_the_pool_is_busy_is_right(artifact: Artifact) -> None:
    model = artifact.model(threads=2)
    big, small = _x(200_000), _x(3)
    wrong: list[int] = []

    def run(x: np.ndarray) -> None:
        for i in range(10):
            if not np.array_equal(model(x), expected(x)):
                wrong.append(i)

    threads = [threading.Thread(target=run, args=(x,)) for x in (big, small)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_closing_during_calls_harms_none(artifact: Artifact) -> None:
    model = artifact.model(threads=3)
    x = _x(5000)
    wrong: list[int] = []

    def run() -> None:
        wrong.extend(i for i in range(100) if not np.array_equal(model(x), expected(x)))

    thread = threading.Thread(target=run)
    thread.start()
    while thread.is_alive():
        model.close()
    thread.join()
    assert not wrong


def test_a_batch_that_memory_can_not_hold_is_refused(artifact: Artifact) -> None:
    entry = replace(artifact.description.entries[0], workspace=f"{1 << 60}*N")
    model = replace(artifact, description=replace(artifact.description, entries=(entry,))).model()
    with pytest.raises(
        InputError, match=r"scale\.predict: inputs of this size need \d+ bytes of workspace"
    ):
        model(_x(2))


def test_read_only_and_bfloat16_arrays_are_found_in_memory() -> None:
    for dtype in (np.float32, np.dtype(ml_dtypes.bfloat16)):
        array = np.zeros(4, dtype)
        assert address(array) == array.ctypes.data
        array.flags.writeable = False
        assert address(array) == array.ctypes.data
    assert address(np.empty(0, np.float32))
