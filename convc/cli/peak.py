"""This machine's FMA peak, measured with a kernel of independent chains that the loop IR says itself."""

from __future__ import annotations

import ctypes
import functools
import threading
import time
from collections.abc import Sequence

import numpy as np
from convc_runtime.memory import map_code

from convc.codegen.link import link
from convc.codegen.llvm_module import kernels_module
from convc.codegen.llvmc import compile_object, host_cpu
from convc.loops.ir import (
    INDEX,
    Alloc,
    Block,
    Buffer,
    Expr,
    For,
    Kernel,
    Load,
    LoopKind,
    Role,
    Space,
    Store,
    Var,
    call,
    const,
    index,
)
from convc.target import Target, target
from convc.types import DType

CHAINS = 12
STEPS = 400_000  # 0.6 ms
RUNS = 100
TOGETHER = 0.95
"""The part of the longest run for which all threads must have run, if their own times are to count."""
FLOAT = DType.float32


def fma_kernel(lanes: int, chains: int = CHAINS, steps: int = STEPS) -> Kernel:
    """`acc[c, l] = fma(acc[c, l], factor, factor)`, `steps` times, for independent chains in registers.

    One fused multiply-add needs the one before it in its chain only, so that `chains` of them are in flight:
    enough for a latency of 4 to 6 cycles on two units.
    """
    factor = Buffer("factor", FLOAT, (1,), role=Role.in_)
    y = Buffer("y", FLOAT, (chains, lanes), role=Role.out)
    acc = Buffer("acc", FLOAT, (chains, lanes), space=Space.register)
    at = (Var("c"), Var("l"))
    once = Load("factor", (const(0, INDEX),), FLOAT)
    now = Load("acc", at, FLOAT)

    def each(store: Store) -> Block:
        inner = For("l", index(lanes), (store,), LoopKind.vectorized)
        return (For("c", index(chains), (inner,), LoopKind.unrolled),)

    start: Expr = const(1, FLOAT)
    body: Block = (
        Alloc(acc),
        *each(Store("acc", at, start)),
        For("t", index(steps), each(Store("acc", at, call("fma", now, once, once)))),
        *each(Store("y", at, now)),
    )
    return Kernel("fma_peak", (factor, y), body)


@functools.cache
def fma_peak(threads: int) -> float:
    """FLOP/s of this machine with so many threads: the best of several short runs."""
    return measured_peak(threads)


def measured_peak(threads: int, name: str = "host") -> float:
    """The same, measured now: another program may have taken its share of the CPUs the last time.

    `name` is the target whose instructions are used.
    """
    lanes, runs = _runners(threads, name)
    best = max(rate(_spans(runs)) for _ in range(RUNS))
    return 2.0 * CHAINS * lanes * STEPS * best


@functools.cache
def _runners(threads: int, name: str) -> tuple[int, list[_Runner]]:
    machine = target(name, host_cpu()[1])
    lanes = machine.lanes(FLOAT.itemsize)
    return lanes, [_Runner(machine, lanes) for _ in range(threads)]


class _Runner:
    """The kernel on memory of its own."""

    def __init__(self, machine: Target, lanes: int) -> None:
        image = link([compile_object(kernels_module([fma_kernel(lanes)], machine), machine)])
        self.code = map_code(image.code)
        kernel = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
        self.kernel = kernel(self.code.address + image.symbols["fma_peak"])
        self.factor = np.full(1, 0.5, np.float32)
        self.y = np.zeros((CHAINS, lanes), np.float32)
        self.arguments = (ctypes.c_void_p * 2)(self.factor.ctypes.data, self.y.ctypes.data)

    def __call__(self) -> None:
        self.kernel(self.arguments, 0, 1)


def rate(spans: Sequence[tuple[float, float]]) -> float:
    """Runs per second of threads that made one each, from its beginning to its end in seconds.

    Threads leave a barrier 12 to 15 microseconds after one another, which is no fault of the machine: where all of them
    ran at the same time but for that, their speeds are added up. Otherwise it is all runs over all of the time.
    """
    begins, ends = [begin for begin, _ in spans], [end for _, end in spans]
    longest = max(end - begin for begin, end in spans)
    if min(ends) - max(begins) >= TOGETHER * longest:
        return sum(1 / (end - begin) for begin, end in spans)
    return len(spans) / (max(ends) - min(begins))


def _spans(runs: list[_Runner]) -> list[tuple[float, float]]:
    """When each thread's run began and ended, all let go together."""
    gate = threading.Barrier(len(runs))
    spans: list[tuple[float, float]] = []

    def work(run: _Runner) -> None:
        gate.wait()
        start = time.perf_counter()
        run()
        spans.append((start, time.perf_counter()))

    others = [threading.Thread(target=work, args=(run,)) for run in runs[1:]]
    for thread in others:
        thread.start()
    work(runs[0])
    for thread in others:
        thread.join()
    return spans
