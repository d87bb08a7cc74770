"""Modules compiled by workers: the same bytes, whatever becomes of the workers."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from convc import driver, keras
from convc.codegen import llvm, llvmc, pool
from convc.codegen.cache import Cache
from convc.codegen.objects import Objects
from convc.codegen.pool import Pool, workers_for
from convc.codegen.worker import frame
from convc.errors import IRError
from convc.loops.families import family_of
from convc.target import TARGETS, Target

V2 = TARGETS["x86-64-v2"]
NEON = TARGETS["aarch64-neon"]


def text(n: int, target: Target = V2) -> str:
    """A module with one function and so much of a comment that a pipe doesn't take it at once."""
    return (
        f'target triple = "{target.triple}"\n; {"x" * 100_000}\n'
        f"define i64 @f{n}(i64 %a) {{\n  %b = mul i64 %a, {n + 3}\n  ret i64 %b\n}}\n"
    )


@pytest.fixture
def two_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "workers_for", lambda modules, processors: 2)


def compiled(count: int, target: Target = V2) -> dict[int, bytes]:
    with Pool(target, count) as running:
        for n in range(count):
            running.add(n, f"kernel_{n}", text(n, target))
        return running.finish()


def alive(process: int) -> bool:
    """True for a process that runs: a zombie doesn't."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.usefixtures("two_workers")
def test_workers_make_the_same_bytes() -> None:
    assert compiled(30) == {n: llvmc.compile_object(text(n), V2) for n in range(30)}


def test_workers_start_only_for_much_work() -> None:
    assert workers_for(8, 64) == 0
    assert workers_for(100, 1) == 0
    assert workers_for(100, 2) == 1
    assert 2 <= workers_for(100, 64) < 20


@pytest.mark.usefixtures("two_workers")
def test_a_killed_worker_leaves_its_modules_to_others() -> None:
    with Pool(V2, 30) as running:
        for n in range(30):
            running.add(n, f"kernel_{n}", text(n))
            if n == 8:
                os.kill(running.workers[0].process.pid, signal.SIGKILL)
        assert running.finish() == {n: llvmc.compile_object(text(n), V2) for n in range(30)}


@pytest.mark.usefixtures("two_workers")
def test_a_refused_module_is_named_wherever_it_is_compiled() -> None:
    with Pool(V2, 3) as running:
        running.add(0, "bad", "define nonsense")
        with pytest.raises(IRError, match=r"kernel bad: LLVM refuses"):
            running.finish()
    here = Pool(V2, 1, processors=1)
    here.workers = []
    here.add(0, "bad", "define nonsense")
    with pytest.raises(IRError, match=r"kernel bad: LLVM refuses"):
        here.finish()


@pytest.mark.usefixtures("two_workers")
def test_what_a_worker_did_not_begin_is_compiled_here() -> None:
    with Pool(V2, 9) as running:
        for worker in running.workers:
            os.kill(worker.process.pid, signal.SIGSTOP)
        for n in range(9):
            running.add(n, f"kernel_{n}", text(n))
        while (job := running.next_here()) is not None:
            running.compile_here(job)
        assert len(running.here) == 7  # each worker has its first one
        for worker in running.workers:
            os.kill(worker.process.pid, signal.SIGCONT)
        assert running.finish() == {n: llvmc.compile_object(text(n), V2) for n in range(9)}


@pytest.mark.usefixtures("two_workers")
def test_workers_keep_what_they_made(tmp_path: Path) -> None:
    with Pool(V2, 2, folder=tmp_path) as running:
        for n in range(2):
            running.add(n, f"kernel_{n}", text(n), key=str(n) * 64)
        made = running.finish()
    assert not running.here
    assert [Cache(tmp_path).get(str(n) * 64) for n in range(2)] == [made[0], made[1]]


def test_a_program_is_compiled_while_it_is_scheduled(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []
    begin = Objects.begin

    def noted(self: Objects, unit: llvm.Unit, following: int = 0) -> str:
        begun.append(unit.name)
        return begin(self, unit, following)

    monkeypatch.setattr(Objects, "begin", noted)
    graph = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Softmax()])
    with Objects(V2, Cache(None), driver.Timings().phase) as objects:
        planned = driver.plan_graphs("net", graph.graphs(), V2, objects=objects)
        assert begun == ["support", *(family_of(k).name for k in planned.program.kernels.values())]
        units = objects.units("net").of_program(planned.program)
        made = objects.of(units)
        assert made == [llvmc.compile_object(unit.text(), V2) for unit in units]
        assert len(objects.missing) == len(units) + 1


def test_llvm_giving_up_ends_a_worker_and_not_this_process() -> None:
    with Pool(NEON, 1) as running:
        (worker,) = running.workers
        running.add(0, "fatal", text(0, NEON))
        os.kill(worker.process.pid, signal.SIGABRT)
        worker.process.wait()
        with pytest.raises(IRError, match="kernel fatal: LLVM gave up on it"):
            running.finish()


def test_another_machines_modules_are_compiled_by_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = llvmc.compile_object(text(1, NEON), NEON)
    monkeypatch.setattr(llvmc, "compile_object", lambda *_: pytest.fail("compiled in this process"))
    assert compiled(2, NEON)[1] == expected


def test_another_machines_worker_that_is_killed_is_an_error() -> None:
    with Pool(NEON, 1) as running:
        running.workers[0].process.kill()
        running.workers[0].process.wait()
        running.add(0, "kernel_0", text(0, NEON))
        with pytest.raises(
            IRError, match="kernel kernel_0: the compilers for aarch64-neon ended early"
        ):
            running.finish()


@pytest.mark.usefixtures("two_workers")
def test_no_process_outlives_the_pool_when_it_is_left_early() -> None:
    started: list[int] = []

    def interrupted() -> None:
        with Pool(V2, 50) as running:
            started.extend(w.process.pid for w in running.workers)
            for n in range(10):
                running.add(n, f"kernel_{n}", text(n))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(started) == 2
    assert not any(alive(process) for process in started)


@pytest.mark.usefixtures("two_workers")
def test_pipes_are_as_large_as_the_system_lets_them_be(monkeypatch: pytest.MonkeyPatch) -> None:
    def limited(pipe: int, command: int, *values: int) -> int:
        if command == getattr(fcntl, "F_SETPIPE_SZ", None):
            raise PermissionError(1, "Operation not permitted")  # pipe-user-pages-soft
        return control(pipe, command, *values)

    control = fcntl.fcntl
    monkeypatch.setattr(fcntl, "fcntl", limited)
    assert compiled(4) == {n: llvmc.compile_object(text(n), V2) for n in range(4)}


@pytest.mark.usefixtures("two_workers")
@pytest.mark.parametrize("executable", ["", "/nowhere/python"])
def test_without_processes_this_one_does_the_work(
    monkeypatch: pytest.MonkeyPatch, executable: str
) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    assert compiled(4) == {n: llvmc.compile_object(text(n), V2) for n in range(4)}
    with pytest.raises(IRError, match="no compiler for aarch64-neon starts"):
        Pool(NEON, 1)


@pytest.mark.usefixtures("two_workers")
def test_workers_import_nothing_from_where_the_user_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("open('imported', 'w').close()\n")
    monkeypatch.chdir(tmp_path)
    with Pool(V2, 2) as running:
        for n in range(2):
            running.add(n, f"kernel_{n}", text(n))
        running.finish()
        assert not running.here
    assert not (tmp_path / "imported").exists()


@pytest.mark.usefixtures("two_workers")
def test_processes_with_many_open_files_have_workers() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    many = 1100
    if hard < many + 200:
        pytest.skip(f"this user may open {hard} files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, many + 200), hard))
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(many)]
    try:
        assert compiled(4) == {n: llvmc.compile_object(text(n), V2) for n in range(4)}
    finally:
        for number in opened:
            os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


SCRIPT = """
import sys
print("imported as", __name__, flush=True)
from convc.codegen import pool
from convc.target import TARGETS
pool.workers_for = lambda modules, processors: 2
running = pool.Pool(TARGETS["x86-64-v2"], 2)
print(*(w.process.pid for w in running.workers), flush=True)
text = 'target triple = "x86_64-unknown-linux-gnu"\\ndefine void @f() {\\n  ret void\\n}\\n'
with running:
    while True:
        running.add(0, "f", text)
        running.exchange(0.01)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_a_script_that_is_stopped_and_do_not_run_it_again(
    tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    script = subprocess.Popen(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert script.stdout is not None
    assert script.stdout.readline() == b"imported as __main__\n"
    workers = [int(word) for word in script.stdout.readline().split()]
    script.send_signal(number)
    rest, _ = script.communicate()
    assert b"imported" not in rest
    for _ in range(500):
        if not any(alive(process) for process in workers):
            return
        time.sleep(0.02)
    pytest.fail("a worker outlived its parent")


def test_a_worker_ends_with_its_input_even_within_a_message() -> None:
    started = pool.start(V2)
    assert started.process.stdin is not None
    started.process.stdin.write(bytes(started.outgoing) + frame(b"define")[:-2])
    started.process.stdin.close()
    assert started.process.wait(timeout=60) == 0
    pool.stop(started)


def test_a_model_is_the_same_with_and_without_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    image = keras.Input((9, 9, 3), name="image")
    hidden = keras.layers.Conv2D(8, 3, activation="relu", name="conv")(image)
    outputs = keras.layers.Dense(4, name="dense")(keras.layers.Flatten(name="flat")(hidden))
    graphs = keras.Model(image, outputs).graphs()
    made = []
    for count in (0, 2):
        monkeypatch.setattr(pool, "workers_for", lambda modules, processors, n=count: n)
        timings = driver.Timings()
        program = driver.plan_graphs("net", graphs, V2).program
        units = llvm.Units(V2, "net").of_program(program)
        with Objects(V2, Cache(None), timings.phase) as objects:
            made.append(objects.of(units))
        assert set(timings.seconds) == {"cache", "generate", "machine code"}
    assert made[0] == made[1]
    assert len(made[0]) == len(program.kernels) + 1


@pytest.mark.usefixtures("two_workers")
def test_workers_start_before_the_first_module_where_nothing_can_be_in_the_cache(
    tmp_path: Path,
) -> None:
    phase = driver.Timings().phase
    for cache, modules, count in ((None, 50, 2), (tmp_path, 50, 2), (tmp_path, 0, 0)):
        with Objects(V2, Cache(cache), phase) as objects:
            objects.foresee(modules)
            running = [] if objects.pool is None else [w.process.pid for w in objects.pool.workers]
            assert len(running) == count
        assert not any(map(alive, running))
    Cache(tmp_path).put("something", b"else")
    with Objects(V2, Cache(tmp_path), phase) as objects:
        objects.foresee(50)
        assert objects.pool is None


@pytest.mark.usefixtures("two_workers")
def test_llvm_is_not_loaded_for_the_last_few_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    made = compiled(6)
    monkeypatch.setattr(llvmc, "is_loaded", lambda: False)
    with monkeypatch.context() as patch:
        patch.setattr(llvmc, "compile_object", lambda *_: pytest.fail("compiled in this process"))
        assert compiled(6) == made
    with Pool(V2, 60) as running:  # as many as are worth it, though the workers are held up
        for worker in running.workers:
            os.kill(worker.process.pid, signal.SIGSTOP)
        for n in range(60):
            running.add(n, f"kernel_{n}", text(n))
        assert running.next_here() is not None
        for worker in running.workers:
            os.kill(worker.process.pid, signal.SIGCONT)


def test_foreign_targets_are_known_without_llvm() -> None:
    script = (
        "import sys; from convc.codegen.pool import is_foreign; from convc.target import TARGETS\n"
        "print(*(is_foreign(TARGETS[n]) for n in ('x86-64-v2', 'aarch64-neon')), 'llvmlite' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    here = llvmc.host_triple().partition("-")[0]
    assert done.stdout.split() == [str(here != "x86_64"), str(here != "aarch64"), "False"]
