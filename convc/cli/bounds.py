"""What bounds a kernel's time: a roofline of its operations and of its bytes, each from where they come."""

from __future__ import annotations

import ctypes
import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from convc_runtime.memory import aligned, map_code

from convc.codegen.link import link
from convc.codegen.llvm_module import kernels_module
from convc.codegen.llvmc import compile_object, host_cpu
from convc.loops.ir import (
    Alloc,
    Buffer,
    Call,
    For,
    Kernel,
    Load,
    LoopKind,
    Role,
    Space,
    Store,
    Var,
    const,
    index,
    walk,
)
from convc.loops.walking import expressions, subexpressions
from convc.program.ir import Program, RegionKind, Step
from convc.target import Target, target
from convc.types import DType, evaluate

GOOD = 0.7
"""The share of the FMA peak from which nothing needs a name."""

_MOSTLY = 0.5  # a roof is named where it explains this share of the time
_LATENCY = 3e-6  # seconds: a kernel that takes less has hardly begun
SUMS = 8  # vectors of partial sums of the kernel that reads memory
_FLOAT = DType.float32

_TRANSCENDENTAL = {"exp", "log", "tanh", "erf", "sin", "cos", "pow", "sigmoid"}


@dataclass(frozen=True)
class Bandwidths:
    """Bytes per second that one core reads from its second-level cache, from the last level and from memory."""

    l2: float
    l3: float
    memory: float

    def of(self, size: int, machine: Target) -> tuple[str, float]:
        """Where so many bytes are, if they were used before, and how fast they come from there."""
        if size <= machine.l2 // 2:
            return "L2", self.l2
        return ("L3", self.l3) if size <= machine.l3 // 2 else ("memory", self.memory)


def read_kernel(lanes: int, rows: int) -> Kernel:
    """`y[c, l] += x[i, c, l]` for all i: reads `rows` x `SUMS` vectors."""
    x = Buffer("x", _FLOAT, (rows, SUMS, lanes), role=Role.in_)
    y = Buffer("y", _FLOAT, (SUMS, lanes), role=Role.out)
    acc = Buffer("acc", _FLOAT, (SUMS, lanes), space=Space.register)
    at = (Var("c"), Var("l"))

    def each(store: Store) -> For:
        inner = For("l", index(lanes), (store,), LoopKind.vectorized)
        return For("c", index(SUMS), (inner,), LoopKind.unrolled)

    now = Load("acc", at, _FLOAT)
    total = now + Load("x", (Var("i"), *at), _FLOAT)
    body = (
        Alloc(acc),
        each(Store("acc", at, const(0, _FLOAT))),
        For("i", index(rows), (each(Store("acc", at, total)),)),
        each(Store("y", at, now)),
    )
    return Kernel("read", (x, y), body)


@functools.cache
def bandwidths() -> Bandwidths:
    """What this machine's caches and memory give to one core: the best of several runs."""
    machine = target("host", host_cpu()[1])
    sizes = (machine.l2 // 2, machine.l3 // 2, 8 * machine.l3)
    return Bandwidths(*(_bandwidth(machine, size) for size in sizes))


def _bandwidth(machine: Target, size: int) -> float:
    lanes = machine.lanes(_FLOAT.itemsize)
    rows = size // (SUMS * lanes * _FLOAT.itemsize)
    image = link([compile_object(kernels_module([read_kernel(lanes, rows)], machine), machine)])
    code = map_code(image.code)
    run = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(
        code.address + image.symbols["read"]
    )
    x, y = aligned(size), np.zeros(SUMS * lanes, np.float32)
    x[:] = 0
    arguments = (ctypes.c_void_p * 2)(x.ctypes.data, y.ctypes.data)
    best = float("inf")
    for _ in range(20 if size > machine.l3 else 200):
        start = time.perf_counter()
        run(arguments, 0, 1)
        best = min(best, time.perf_counter() - start)
    return size / best


def bound_of(
    program: Program,
    step: Step,
    plain: Kernel,
    symbols: Mapping[str, int],
    seconds: float,
    share: float,
    speeds: Bandwidths,
    machine: Target,
) -> str:
    """What a step's time is bounded by, "" where it reaches `GOOD` of the peak. `plain` is its unscheduled kernel."""
    if share >= GOOD:
        return ""
    roofs = _roofs(program, step, symbols, speeds, machine)
    total = sum(roofs.values())
    if total >= _MOSTLY * seconds:
        return max(roofs, key=roofs.__getitem__)
    if seconds < _LATENCY:
        return "latency"
    calls = {e.function for s in walk(plain.body) for x in expressions(s) for e in subexpressions(x)
             if isinstance(e, Call)}  # fmt: skip
    if calls & _TRANSCENDENTAL:
        return "functions"
    kernel = program.kernels[step.kernel]
    if dict(kernel.notes).get("strategy") == "tiled" and _filled(kernel) <= GOOD + 0.1:
        return "few channels"
    return "loads and stores"


def _roofs(
    program: Program,
    step: Step,
    symbols: Mapping[str, int],
    speeds: Bandwidths,
    machine: Target,
) -> dict[str, float]:
    """Seconds that a step's bytes take at the least, by what they are and where they are."""
    all_weights = sum(a.nbytes for a in program.weights.values())
    inside = {**symbols, step.each: 1} if step.each else symbols
    times = symbols[step.each] if step.each else 1
    kinds = {r.name: r.kind for r in program.regions}
    found: dict[str, float] = {}
    for buffer, argument in zip(program.kernels[step.kernel].params, step.args, strict=True):
        size = evaluate(buffer.size, inside) * buffer.dtype.itemsize
        if kinds[argument.region] is RegionKind.weight:
            place, speed = speeds.of(max(size, all_weights), machine)
            name = f"weights from {place}"
        else:
            place, speed = speeds.of(size, machine)
            name = f"maps in {place}"
        found[name] = found.get(name, 0.0) + times * size / speed
    return found


def _filled(kernel: Kernel) -> float:
    """The share of a register tile's columns that the output has."""
    tile = dict(kernel.notes).get("tile", "").split("x")
    channels = kernel.params[-1].shape[1] if len(kernel.params[-1].shape) > 1 else 1
    if len(tile) < 3 or not isinstance(channels, int):
        return 1.0
    width = int(tile[-1]) * int(tile[-2])
    return channels / (-(-channels // width) * width)
