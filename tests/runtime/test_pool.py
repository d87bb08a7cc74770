"""The native thread pool: every task once, whatever runs at the same time."""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from convc_runtime.memory import Mapping, map_code
from convc_runtime.pool import Pool

from convc.codegen.link import Image, link
from convc.codegen.support import support_object
from convc.target import TARGETS

_TASK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
_FOR = ctypes.CFUNCTYPE(None, ctypes.c_void_p, _TASK, ctypes.c_void_p, ctypes.c_int64)
_ROWS = ctypes.CFUNCTYPE(None, ctypes.c_void_p, _TASK, ctypes.c_void_p, *[ctypes.c_int64] * 3)
_BEGIN = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
_STEP = ctypes.CFUNCTYPE(
    None,
    ctypes.c_void_p,
    ctypes.c_void_p,
    _TASK,
    ctypes.c_void_p,
    *[ctypes.c_int64] * 3,
    ctypes.c_bool,
)


@pytest.fixture(scope="module")
def code() -> tuple[Mapping, Image]:
    image = link([support_object(TARGETS["x86-64-v2"], "m")])
    return map_code(image.code), image


@pytest.fixture(params=[1, 2, 3, 7])
def pool(request: pytest.FixtureRequest, code: tuple[Mapping, Image]) -> Iterator[Pool]:
    pool = Pool(code[0], code[1].symbols, "m", request.param)
    assert pool.threads == request.param
    yield pool
    pool.close()


def _run(pool: Pool, task: Callable[[int, int], object], tasks: int) -> None:
    def call(arguments: int | None, begin: int, end: int) -> None:
        task(begin, end)

    _FOR(pool.function)(pool.address, _TASK(call), None, tasks)


@pytest.mark.parametrize("tasks", [0, 1, 2, 6, 7, 100, 1001])
def test_every_task_runs_once(pool: Pool, tasks: int) -> None:
    for _ in range(10):
        runs = np.zeros(tasks, np.int64)

        def count(begin: int, end: int, runs: np.ndarray = runs) -> None:
            np.add.at(runs, np.arange(begin, end), 1)

        _run(pool, count, tasks)
        assert (runs == 1).all()


def test_a_job_inside_a_job_runs_on_its_own_thread(pool: Pool) -> None:
    runs: list[tuple[int, int]] = []

    def inner(outer: int, mine: int) -> None:
        def note(begin: int, end: int) -> None:
            assert threading.get_ident() == mine
            runs.extend((outer, i) for i in range(begin, end))

        _run(pool, note, 5)

    def outer(begin: int, end: int) -> None:
        for i in range(begin, end):
            inner(i, threading.get_ident())

    _run(pool, outer, 20)
    assert sorted(runs) == [(i, j) for i in range(20) for j in range(5)]


def test_two_callers_share_a_pool(pool: Pool) -> None:
    totals = [0, 0]

    def caller(which: int) -> None:
        for _ in range(100):
            runs = np.zeros(50, np.int64)

            def count(begin: int, end: int, runs: np.ndarray = runs) -> None:
                runs[begin:end] += 1

            _run(pool, count, 50)
            totals[which] += int((runs == 1).all())

    threads = [threading.Thread(target=caller, args=(i,)) for i in (0, 1)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert totals == [100, 100]


def test_a_forked_child_runs_jobs_alone(pool: Pool) -> None:
    child = os.fork()
    if child == 0:
        ran: list[tuple[int, int]] = []
        _run(pool, lambda begin, end: ran.append((begin, end)), 10)
        pool.close()
        os._exit(0 if ran == [(0, 10)] and pool.threads == 0 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_workers_that_sleep_are_woken(pool: Pool) -> None:
    for _ in range(20):
        threading.Event().wait(0.002)
        done = np.zeros(40, bool)

        def mark(begin: int, end: int, done: np.ndarray = done) -> None:
            done[begin:end] = True

        _run(pool, mark, 40)
        assert done.all()


def test_a_pool_takes_the_threads_that_it_gets(code: tuple[Mapping, Image]) -> None:
    """The system refuses the third worker: the pool has the caller and two."""
    libc = ctypes.CDLL(None)
    started: list[int] = []
    create_type = ctypes.CFUNCTYPE(
        ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p
    )

    def create(handle: int, attributes: int | None, function: int, argument: int) -> int:
        if len(started) == 2:
            return 11  # EAGAIN
        started.append(argument)
        return int(
            libc.pthread_create(*map(ctypes.c_void_p, (handle, attributes, function, argument)))
        )

    callback = create_type(create)
    memory = mmap.mmap(-1, 8192, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    address = np.frombuffer(memory, np.uint8).ctypes.data

    def pointer(function: object) -> int:
        return ctypes.cast(function, ctypes.c_void_p).value or 0  # type: ignore[arg-type]

    services = (ctypes.c_uint64 * 26)(
        208, pointer(callback), pointer(libc.pthread_join), 0, 0, pointer(libc.syscall), 202
    )
    start = {n: code[0].address + o for n, o in code[1].symbols.items()}
    make = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32)
    assert make(start["m_pool_create"])(address, ctypes.addressof(services), 6) == 3
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(start["m_pool_destroy"])(address)


def test_workers_are_woken_off_the_callers_cpu(code: tuple[Mapping, Image]) -> None:
    cpus = os.sched_getaffinity(0)
    if len(cpus) < 2:
        pytest.skip("one CPU")
    before = set(os.listdir("/proc/self/task"))
    pool = Pool(code[0], code[1].symbols, "m", 3)
    workers = [int(t) for t in set(os.listdir("/proc/self/task")) - before]
    assert len(workers) == 2
    try:
        for mine in sorted(cpus)[:2]:
            os.sched_setaffinity(0, {mine})
            time.sleep(0.01)
            _run(pool, lambda begin, end: None, 10)
            assert [os.sched_getaffinity(w) for w in workers] == [cpus - {mine}] * 2
    finally:
        os.sched_setaffinity(0, cpus)
        pool.close()


@pytest.mark.parametrize(("rows", "length"), [(1, 100), (5, 3), (36, 32), (4, 523), (2, 1), (9, 7)])
@pytest.mark.parametrize("nanoseconds", [0, 1_000_000])
def test_every_task_of_every_row_runs_once(
    pool: Pool, code: tuple[Mapping, Image], rows: int, length: int, nanoseconds: int
) -> None:
    run = _ROWS(code[0].address + code[1].symbols["m_pool_rows"])
    for _ in range(10):
        runs = np.zeros(rows * length, np.int64)
        stretches: list[tuple[int, int]] = []

        def call(arguments: int | None, begin: int, end: int) -> None:
            np.add.at(runs, np.arange(begin, end), 1)  # noqa: B023
            stretches.append((begin, end))  # noqa: B023

        run(pool.address, _TASK(call), None, rows, length, nanoseconds)
        assert (runs == 1).all()
        if 1 < pool.threads <= length:
            assert all(begin // length == (end - 1) // length for begin, end in stretches)


def test_a_thread_has_the_same_stretch_of_every_row(code: tuple[Mapping, Image]) -> None:
    """Unless it is given more: so each thread holds back until both are at work."""
    pool = Pool(code[0], code[1].symbols, "m", 2)
    run = _ROWS(code[0].address + code[1].symbols["m_pool_rows"])
    both = threading.Barrier(2, timeout=10)
    met: dict[int, list[int]] = {}

    def call(arguments: int | None, begin: int, end: int) -> None:
        mine = met.setdefault(threading.get_ident(), [])
        if not mine:
            both.wait()
        mine.extend(task % 10 for task in range(begin, end))

    run(pool.address, _TASK(call), None, 4, 10, 0)
    pool.close()
    assert len(met) == 2
    first = {ident: tasks[:5] for ident, tasks in met.items()}
    assert sorted(map(tuple, first.values())) == [(0, 1, 2, 3, 4), (5, 6, 7, 8, 9)]


@pytest.mark.parametrize("eager", [False, True])
def test_only_what_is_worth_it_is_shared(
    code: tuple[Mapping, Image], eager: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps that aren't run on the caller's thread; so does a small entry whose workers would have to be woken."""
    monkeypatch.setattr(Pool, "eager", eager)
    pool = Pool(code[0], code[1].symbols, "m", 2)
    begin = _BEGIN(code[0].address + code[1].symbols["m_share_begin"])
    step = _STEP(code[0].address + code[1].symbols["m_share_step"])

    def calls(parallel_for: int | None, worth: bool) -> int:
        """How many pieces a step is run in: one where only the caller's thread runs it."""
        ran: list[int] = []
        task = _TASK(lambda arguments, begin, end: ran.append(end - begin))
        step(parallel_for, pool.address, task, None, 1, 100, 10_000, worth)
        assert sum(ran) == 100
        return len(ran)

    assert calls(None, True) == 1
    assert calls(pool.function, True) > 1
    assert (calls(pool.function, False) > 1) is eager
    deadline = time.monotonic() + 10  # workers sleep after 50 microseconds of a CPU
    while not eager and begin(pool.function, pool.address, 50_000) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.02)
    assert (begin(pool.function, pool.address, 50_000) is not None) is eager
    calls(pool.function, True)  # now they are awake, or were a moment ago
    assert (begin(pool.function, pool.address, 20_000) is not None) is eager
    assert begin(pool.function, pool.address, 1_000_000) == pool.function
    assert begin(None, None, 1_000_000) is None
    pool.close()
    assert begin(pool.function, pool.address, 1_000_000) is None


def test_a_host_shares_what_the_pool_would(code: tuple[Mapping, Image]) -> None:
    """A host's own parallel_for gets the steps that are worth it, with all their tasks, and no others."""
    step = _STEP(code[0].address + code[1].symbols["m_share_step"])
    asked: list[int] = []
    ran: list[int] = []
    host = _FOR(lambda pool, function, arguments, tasks: asked.append(tasks))
    task = _TASK(lambda arguments, begin, end: ran.append(end - begin))
    address = ctypes.cast(host, ctypes.c_void_p).value
    for worth in (True, False):
        step(address, None, task, None, 4, 25, 10_000, worth)
    assert (asked, ran) == ([100], [100])


def test_what_an_absent_worker_leaves_is_done_by_others(code: tuple[Mapping, Image]) -> None:
    """A worker that is awake too late joins nothing: all of its share is the caller's, to the last task."""
    pool = Pool(code[0], code[1].symbols, "m", 7)
    for _ in range(50):
        time.sleep(0.0005)  # asleep by now
        runs = np.zeros(700, np.int64)

        def count(begin: int, end: int, runs: np.ndarray = runs) -> None:
            runs[begin:end] += 1

        _run(pool, count, 700)
        assert (runs == 1).all()
    pool.close()


def test_two_pools_run_at_once(code: tuple[Mapping, Image]) -> None:
    """As two contexts of a C program have them: each caller keeps its own workers."""
    totals = [0, 0]

    def caller(which: int) -> None:
        pool = Pool(code[0], code[1].symbols, "m", 3)
        for _ in range(100):
            runs = np.zeros(60, np.int64)

            def count(begin: int, end: int, runs: np.ndarray = runs) -> None:
                runs[begin:end] += 1

            _run(pool, count, 60)
            totals[which] += int((runs == 1).all())
        pool.close()

    threads = [threading.Thread(target=caller, args=(i,)) for i in (0, 1)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert totals == [100, 100]


def test_a_child_forked_while_a_job_runs_runs_its_own_alone(pool: Pool) -> None:
    """The job's tasks are native: a fork while a thread enters Python for the first time may hang CPython 3.11."""
    usleep = ctypes.cast(ctypes.CDLL(None).usleep, _TASK)
    job = threading.Thread(
        target=_FOR(pool.function), args=(pool.address, usleep, ctypes.c_void_p(200_000), 30)
    )
    job.start()
    time.sleep(0.05)
    child = os.fork()
    if child == 0:
        mine: list[tuple[int, int]] = []
        _run(pool, lambda begin, end: mine.append((begin, end)), 10)
        os._exit(0 if mine == [(0, 10)] else 1)
    assert job.is_alive()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    job.join()
    runs = np.zeros(100, np.int64)
    _run(pool, lambda begin, end: np.add.at(runs, np.arange(begin, end), 1), 100)
    assert (runs == 1).all()
