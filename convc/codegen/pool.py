"""LLVM texts to objects, by workers beside this process where that is worth their start, and by this process.

One thread does it all: pipes are written and read as far as they go without waiting, whenever there is a new text and
between the modules that this process compiles itself. A text goes to a worker at once, and the worker has them from
first to last; when no more come, this process compiles from the last to the first, until they meet.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO

from convc_runtime.cpu import available_cpus, instruction_set, machine

from convc.codegen import llvmc
from convc.codegen.llvm_module import llvm_text
from convc.codegen.support import baseline
from convc.codegen.worker import LENGTH, MADE, greeting, request
from convc.errors import IRError
from convc.target import Target

# Measured on two cores at 2.6 GHz: LLVM takes 4 ms for a kernel of a step of training, and up to 20 ms for a large one;
# a worker costs 0.1 s until its first object, on a core that would do nothing else.
SECONDS_PER_KERNEL = 0.004
WORTH_A_WORKER = 0.15

WORTH_LOADING = 0.03
"""Seconds of a worker's time below which this process waits rather than load LLVM, of which 7 MB stay besides."""

_PIPE_BYTES = 1 << 20
"""What a pipe holds, where the system lets it: a worker has that much to read while this process does other things."""


@dataclass(frozen=True)
class Job:
    """A module to compile: LLVM text, or a kernel in loop IR. `index` is the caller's, `name` what an error calls it; a
    worker keeps its object in the cache under `key`. `baseline` ones run on every machine of the instruction set."""

    index: int
    name: str
    text: str
    key: str = ""
    baseline: bool = False


@dataclass
class Worker:
    """A process with what is under way to and from it."""

    process: subprocess.Popen[bytes]
    messages: IO[bytes]  # its error stream
    jobs: deque[Job] = field(default_factory=deque)
    outgoing: bytearray = field(default_factory=bytearray)
    incoming: bytearray = field(default_factory=bytearray)


class Pool:
    """Compiles modules for a target. A context manager: no process outlives it.

    A machine other than ours always gets a worker: LLVM ends the process at some errors, above all for machines that it
    was not built for, and must not take the user's session with it.
    """

    def __init__(
        self,
        target: Target,
        expected: int,
        processors: int | None = None,
        folder: Path | None = None,
    ) -> None:
        """`expected` modules will come; `processors` default to those that this process may use.

        Workers keep what they make in the cache's `folder`, if one is given.
        """
        self.target = target
        self.folder = folder
        self.processors = processors or available_cpus()
        self.objects: dict[int, bytes] = {}
        self.here: set[int] = set()  # those that this process made, and no worker keeps
        self.waiting: deque[Job] = deque()  # those that no worker has
        self.local = not is_foreign(target)
        self.workers: list[Worker] = []
        self.started = 0
        self.expect(expected)

    def expect(self, modules: int) -> None:
        """Starts the workers that so many modules are worth, as far as there were fewer until now.

        What can't be started isn't tried again: this process then does the work, or raises IRError if it may not.
        """
        count = workers_for(modules, self.processors)
        for _ in range((count if self.local else max(1, count)) - self.started):
            self.started += 1
            try:
                self.workers.append(start(self.target, self.folder))
            except OSError as error:
                if not self.local:
                    raise IRError(f"no compiler for {self.target.name} starts: {error}") from error

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self.workers:
            stop(worker)
        self.workers = []

    def add(self, index: int, name: str, text: str, key: str = "", baseline: bool = False) -> None:
        """Takes a module. IRError if an earlier one turned out to be refused by LLVM."""
        self.waiting.append(Job(index, name, text, key, baseline))
        self.exchange(0)

    def finish(self) -> dict[int, bytes]:
        """The objects of all modules by their index. IRError names the kernel that LLVM refuses."""
        while self.waiting or any(w.jobs for w in self.workers):
            job = self.next_here()
            if job is not None:
                self.compile_here(job)
                self.exchange(0)
            else:
                self.exchange(None)
        return self.objects

    def next_here(self) -> Job | None:
        """What this process compiles next, if anything: what no worker has, or the last one that a worker didn't begin.

        The worker compiles it again, unless all is done before.
        """
        if not self.local and self.workers:
            return None
        if self.waiting:
            return self.waiting.popleft()
        fullest = max(self.workers, key=lambda w: len(w.jobs))
        if not llvmc.is_loaded() and len(fullest.jobs) * SECONDS_PER_KERNEL < WORTH_LOADING:
            return None
        return fullest.jobs.pop() if len(fullest.jobs) > 1 else None

    def compile_here(self, job: Job) -> None:
        if not self.local:
            raise IRError(f"kernel {job.name}: the compilers for {self.target.name} ended early")
        target = baseline(self.target) if job.baseline else self.target
        try:
            self.objects[job.index] = llvmc.compile_object(llvm_text(job.text, target), target)
            self.here.add(job.index)
        except IRError as error:
            raise IRError(f"kernel {job.name}: {error}") from error

    # ------------------------------------------------------------ pipes

    def exchange(self, timeout: float | None) -> None:
        """Hands out texts, writes and reads what the pipes take and hold; `timeout` None waits for something."""
        while self.waiting and self.workers:
            worker = min(self.workers, key=lambda w: len(w.jobs))
            job = self.waiting.popleft()
            worker.jobs.append(job)
            worker.outgoing += request(job.index, job.text, job.key, job.baseline)
        busy = [w for w in self.workers if w.jobs or w.outgoing]
        if not busy:
            return
        pipes = select.poll()  # `select` takes no descriptor from 1024 on
        for worker in busy:
            pipes.register(_output(worker), select.POLLIN)
            if worker.outgoing:
                pipes.register(_input(worker), select.POLLOUT)
        ready = {pipe for pipe, _ in pipes.poll(None if timeout is None else timeout * 1000)}
        for worker in busy:
            if _input(worker) in ready:
                self.write(worker)
            if _output(worker) in ready:
                self.read(worker)

    def write(self, worker: Worker) -> None:
        try:
            written = os.write(_input(worker), worker.outgoing)
        except BrokenPipeError:
            worker.outgoing.clear()  # it is gone: reading says so too
            return
        except BlockingIOError:
            return
        del worker.outgoing[:written]

    def read(self, worker: Worker) -> None:
        try:
            data = os.read(_output(worker), 1 << 20)
        except BlockingIOError:
            return
        if not data:
            self.bury(worker)
            return
        worker.incoming += data
        while len(worker.incoming) >= LENGTH:
            end = LENGTH + int.from_bytes(worker.incoming[:LENGTH], "little")
            if len(worker.incoming) < end:
                return
            answer = bytes(worker.incoming[LENGTH:end])
            del worker.incoming[:end]
            index, code = int.from_bytes(answer[:LENGTH], "little"), answer[LENGTH + 1 :]
            job = worker.jobs[0] if worker.jobs else None
            if job is None or job.index != index:
                continue  # compiled here meanwhile
            worker.jobs.popleft()
            if answer[LENGTH : LENGTH + 1] != MADE:
                raise IRError(f"kernel {job.name}: {code.decode(errors='replace')}")
            self.objects[index] = code

    def bury(self, worker: Worker) -> None:
        """Takes back what a dead worker had. IRError if LLVM itself ended it: here it would end this process."""
        self.workers.remove(worker)
        code = worker.process.wait()
        said = stop(worker)
        if worker.jobs and code in (
            -signal.SIGABRT,
            -signal.SIGSEGV,
            -signal.SIGILL,
            -signal.SIGBUS,
        ):
            raise IRError(f"kernel {worker.jobs[0].name}: LLVM gave up on it: {said or code}")
        self.waiting.extendleft(reversed(worker.jobs))


def workers_for(modules: int, processors: int) -> int:
    """Workers that are worth their start, beside this process."""
    return max(0, min(processors - 1, int(modules * SECONDS_PER_KERNEL / WORTH_A_WORKER)))


def is_foreign(target: Target) -> bool:
    """True for a target of another instruction set than this machine's."""
    return instruction_set(target.triple.partition("-")[0]) != machine()


def start(target: Target, folder: Path | None = None) -> Worker:
    """A worker that knows its target and its cache. It finds convc where this process has found it.

    OSError if the system doesn't let this process start one.
    """
    if not sys.executable:
        raise OSError("Python doesn't know its own executable")
    root = str(Path(__file__).parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    with contextlib.ExitStack() as undo:
        messages = undo.enter_context(tempfile.TemporaryFile())
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "convc.codegen.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=messages,
            bufsize=0,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
        undo.pop_all()  # `stop` closes it
    worker = Worker(process, messages)
    for pipe in (_input(worker), _output(worker)):
        os.set_blocking(pipe, False)
        _widen(pipe)
    worker.outgoing += greeting(target, baseline(target), folder)
    return worker


def stop(worker: Worker) -> str:
    """Ends a worker, and what it had to say on its error stream, in one line."""
    for pipe in (worker.process.stdin, worker.process.stdout):
        if pipe is not None:
            pipe.close()
    worker.process.kill()
    worker.process.wait()
    worker.messages.seek(0)
    said = worker.messages.read()[-500:].decode(errors="replace")
    worker.messages.close()
    return " ".join(said.split())


def _widen(pipe: int) -> None:
    """Lets a pipe hold more, if the system has that and the user's pipes aren't too many for it."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _input(worker: Worker) -> int:
    assert worker.process.stdin is not None
    return worker.process.stdin.fileno()


def _output(worker: Worker) -> int:
    assert worker.process.stdout is not None
    return worker.process.stdout.fileno()
