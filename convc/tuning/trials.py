"""Candidates as native code in this process, to be timed: one scheduled kernel, or a small program."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from convc_runtime.memory import aligned, map_code

from convc.codegen.link import link
from convc.codegen.llvm_module import kernels_module
from convc.codegen.llvmc import compile_object
from convc.graph.ir import Builder, Graph
from convc.loops.ir import Kernel, Role, Space
from convc.loops.tasks import task_count
from convc.ops.activations import Relu
from convc.ops.base import Padding, numbers
from convc.ops.broadcasting import Add
from convc.ops.conv import Conv2d
from convc.passes.boundary_layout import TransposeBoundary
from convc.program.ir import Argument, Entry, Program, Region, RegionKind, Step
from convc.target import Target
from convc.types import TensorType, evaluate

_COLD_BYTES = 64 << 20
"""Weights that are read in turns take at least this much together, so that they come from memory as in a network."""

_SMALL_WEIGHTS = 256 << 10
"""Weights of fewer bytes may stay in a cache, as they may in a network."""

_LEAST_SAMPLE = 300e-6
"""Seconds of a sample at the least: calls are repeated until it takes as long."""

_MOST_CALLS = 100
_SLACK = 4096

_KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


class Trial:
    """A program's steps on memory of their own, on the caller's thread. Every symbol is `batch`.

    Floats are small positive numbers; all weights have `copies` that calls read in turns.
    """

    def __init__(self, program: Program, target: Target, batch: int = 1) -> None:
        symbols = {s: batch for k in program.kernels.values() for s in k.symbols}
        symbols |= dict.fromkeys(program.symbols, batch)
        kernels = [replace(k, name=f"k_{n}") for n, k in program.kernels.items()]
        image = link([compile_object(kernels_module(kernels, target), target)])
        self.code = map_code(image.code)
        functions = {
            n: _KERNEL(self.code.address + image.symbols[f"k_{n}"]) for n in program.kernels
        }
        self.memory = _Memory(program, symbols)
        self.turns = [
            [
                (
                    functions[step.kernel],
                    self.memory.arguments(step, program.kernels[step.kernel], copy),
                    evaluate(task_count(program.kernels[step.kernel]), symbols),
                )
                for step in program.entries[0].steps
            ]
            for copy in range(self.memory.copies)
        ]
        self.turn = 0
        self.calls = 1
        spent = min(self.seconds(), self.seconds())
        self.calls = max(1, min(_MOST_CALLS, int(_LEAST_SAMPLE / max(spent, 1e-9))))

    def seconds(self) -> float:
        """One sample: the seconds of CPU time of one call, the mean of `calls` that follow one another."""
        start = time.thread_time()
        for _ in range(self.calls):
            for function, arguments, tasks in self.turns[self.turn]:
                function(arguments, 0, tasks)
            self.turn = (self.turn + 1) % len(self.turns)
        return (time.thread_time() - start) / self.calls


class _Memory:
    """The regions of a program, weights in copies."""

    def __init__(self, program: Program, symbols: Mapping[str, int]) -> None:
        self.symbols = symbols
        sizes = {r.name: evaluate(r.size, symbols) for r in program.regions}
        weights = [r.name for r in program.regions if r.kind is RegionKind.weight]
        total = sum(sizes[n] for n in weights)
        self.copies = -(-_COLD_BYTES // total) if total >= _SMALL_WEIGHTS else 1
        ends: dict[str, int] = {}
        end = 0
        for name in weights:
            ends[name] = end
            end += -(-sizes[name] // 64) * 64
        self.stride, self.places = end, ends
        self.weights = _filled(end * self.copies + _SLACK)
        arena = evaluate(program.arena, symbols)
        others = {r.name: r for r in program.regions if r.kind is not RegionKind.weight}
        self.arena = _filled(arena + _SLACK)
        self.offsets = {
            n: evaluate(r.offset, symbols)
            for n, r in others.items()
            if r.kind is RegionKind.arena and r.offset is not None
        }
        self.own = {n: _filled(sizes[n] + _SLACK) for n in others if n not in self.offsets}

    def arguments(self, step: Step, kernel: Kernel, copy: int) -> Any:
        values = [self.address(a, copy) for a in step.args]
        values += [self.symbols[s] for s in kernel.symbols]
        return (ctypes.c_int64 * max(1, len(values)))(*values)

    def address(self, argument: Argument, copy: int) -> int:
        name = argument.region
        if name in self.places:
            start = int(self.weights.ctypes.data) + copy * self.stride + self.places[name]
        elif name in self.offsets:
            start = int(self.arena.ctypes.data) + self.offsets[name]
        else:
            start = int(self.own[name].ctypes.data)
        return start + argument.offset


def _filled(size: int) -> np.ndarray:
    """Bytes that are ordinary positive numbers as floats of any width."""
    array = aligned(-(-size // 4) * 4)
    array.view(np.uint32)[:] = 0x3C3C3C3C
    return array


def alone(kernel: Kernel) -> Program:
    """A program that calls one scheduled kernel, whose parameters have memory of their own."""
    kinds = {True: RegionKind.weight, False: RegionKind.input}
    regions = tuple(
        Region(
            b.name,
            kinds[b.space is Space.constant and b.role is Role.in_],
            b.size * b.dtype.itemsize,
        )
        for b in kernel.params
    )
    step = Step("kernel", tuple(Argument(r.name) for r in regions))
    return Program("trial", regions, {"kernel": kernel}, (Entry("run", (), (), (step,)),))


def convolution_graph(x: TensorType, w: TensorType, padding: Padding) -> Graph:
    """relu(conv2d(x, w) + bias) of stride 1, channels last at its boundary, with small random weights."""
    rng = np.random.default_rng(0)
    builder = Builder("trial")
    builder.input("x", x)
    shape = numbers(w.shape)
    scale = np.float32(np.prod(shape[1:]) ** -0.5)
    filters = builder.weight("w", rng.standard_normal(shape, np.float32) * scale)
    bias = builder.weight("b", np.full((shape[0], 1, 1), 0.5, np.float32))
    y = builder.add(
        Relu(), builder.add(Add(), builder.add(Conv2d(padding=padding), "x", filters), bias)
    )
    return TransposeBoundary()(builder.finish((y,)))
