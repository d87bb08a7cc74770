"""What two threads have of a machine: how far their CPUs are apart, and how fast memory feeds them together.

Hosts move the CPUs of a virtual machine, together or apart, between groups of cores with a last-level cache of their
own. Near, a core reads what the other has written from a cache that both have; far, over the links between the groups.
"""

from __future__ import annotations

import ctypes
import functools
import os
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
from convc_runtime.memory import Mapping, aligned, map_code

from convc.cli.bounds import SUMS, read_kernel
from convc.cli.peak import rate
from convc.codegen.link import link
from convc.codegen.llvm_module import kernels_module
from convc.codegen.llvmc import compile_object, host_cpu
from convc.target import Target, target

FAR = 200e-9
"""Seconds of a cache line's way to another core and back from which on the two have no cache in common.

Measured between cores of Zen 5: 75 to 135 ns or 290 to 430 ns, and nothing between.
"""

_TURNS = 4_000
_BURSTS = 5
_RUNS = 12

# Two threads count to 2 * %turns in one line of memory, in turns: %mine is 0 for the one that begins, 1 for the other.
_BOUNCE = """
define void @bounce(ptr %line, i64 %mine, i64 %turns) {
entry:
  br label %turn

turn:
  %k = phi i64 [ 0, %entry ], [ %k.next, %mine.now ]
  %twice = shl i64 %k, 1
  %expected = add i64 %twice, %mine
  br label %wait

wait:
  %seen = load atomic i64, ptr %line acquire, align 8
  %come = icmp eq i64 %seen, %expected
  br i1 %come, label %mine.now, label %wait

mine.now:
  %following = add i64 %expected, 1
  store atomic i64 %following, ptr %line release, align 8
  %k.next = add i64 %k, 1
  %more = icmp ult i64 %k.next, %turns
  br i1 %more, label %turn, label %done

done:
  ret void
}
"""


def round_trip() -> float:
    """Seconds in which a cache line goes from this process's first CPU to its second and back; 0 if it has but one.

    The least of a few short bursts: whatever else runs on the CPUs only makes it longer.
    """
    if len(os.sched_getaffinity(0)) < 2:
        return 0.0
    code, offset = _bounce()
    bounce = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(
        code.address + offset
    )
    line = aligned(128)

    def burst() -> float:
        line[:] = 0
        spans = together([functools.partial(bounce, line.ctypes.data, i, _TURNS) for i in (0, 1)])
        return min(end - begin for begin, end in spans) / _TURNS

    return min(burst() for _ in range(_BURSTS))


def streaming(threads: int) -> float:
    """Bytes per second that so many threads read from memory, each from a part of its own: the best of several runs."""
    machine = target("host", host_cpu()[1])
    size = 8 * machine.l3 // threads
    lanes = machine.lanes(4)
    kernel = read_kernel(lanes, size // (SUMS * lanes * 4))
    image = link([compile_object(kernels_module([kernel], machine), machine)])
    code = map_code(image.code)
    read = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(
        code.address + image.symbols["read"]
    )
    memory = [(aligned(size), np.zeros(SUMS * lanes, np.float32)) for _ in range(threads)]
    for x, _ in memory:
        x[:] = 0
    arguments = [(ctypes.c_void_p * 2)(x.ctypes.data, y.ctypes.data) for x, y in memory]
    runs = [functools.partial(read, a, 0, 1) for a in arguments]
    return size * max(rate(together(runs)) for _ in range(_RUNS))


def together(runs: Sequence[Callable[[], object]]) -> list[tuple[float, float]]:
    """When each run began and ended, in seconds: all at the same time, on CPUs of their own as far as there are any."""
    gate = threading.Barrier(len(runs))
    spans: list[tuple[float, float]] = []
    cpus = sorted(os.sched_getaffinity(0))

    def work(number: int) -> None:
        os.sched_setaffinity(0, {cpus[number % len(cpus)]})  # of this thread
        gate.wait()
        begin = time.perf_counter()
        runs[number]()
        spans.append((begin, time.perf_counter()))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(runs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return spans


@functools.cache
def _bounce() -> tuple[Mapping, int]:
    machine: Target = target("host", host_cpu()[1])
    image = link([compile_object(f'target triple = "{machine.triple}"\n{_BOUNCE}', machine)])
    return map_code(image.code), image.symbols["bounce"]
