"""Programs of single operators, compiled and ready to call: many graphs as the entries of one native module."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from convc_runtime import Model
from convc_runtime.memory import map_code
from numpy.typing import NDArray

from convc.artifact import Artifact, assemble, entry_info
from convc.codegen import llvm
from convc.codegen.link import link
from convc.codegen.llvm_module import kernels_module
from convc.codegen.llvmc import compile_object, host_cpu
from convc.graph.ir import Graph
from convc.loops.ir import Kernel, Role
from convc.loops.memory import pack, unpack
from convc.loops.tasks import task_count
from convc.lower.program import lower
from convc.passes.decompose import Decompose
from convc.plan.memory import plan_memory
from convc.plan.sharing import share_steps
from convc.program.interp import run_program
from convc.program.ir import Program
from convc.program.verify import verify_program
from convc.schedule.program import schedule
from convc.target import TARGETS, Target
from convc.types import evaluate

Array = NDArray[Any]
HOST_FEATURES = host_cpu()[1]
RUNNABLE = [
    name
    for name, target in TARGETS.items()
    if target.triple.startswith("x86_64") and set(target.features) <= HOST_FEATURES
]
"""The targets whose code this machine runs, smallest first."""


def program_of(graphs: Mapping[str, Graph], target: Target, name: str = "m") -> Program:
    """The scheduled, planned and verified program of graphs by entry."""
    decompose = Decompose()
    program = lower({entry: decompose(graph) for entry, graph in graphs.items()})
    verify_program(program)
    program = share_steps(plan_memory(schedule(replace(program, name=name), target)))
    verify_program(program)
    return program


def run_native(kernel: Kernel, target: Target, arrays: Mapping[str, Array]) -> None:
    """Runs a scheduled kernel's machine code on logical arrays, all tasks in one call; writes outputs in place."""
    image = link([compile_object(kernels_module([kernel], target), target)])
    code = map_code(image.code)
    memory = {b.name: pack(arrays[b.name], b, {}) for b in kernel.params}
    pointers = (ctypes.c_void_p * len(memory))(*(m.ctypes.data for m in memory.values()))
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    tasks = evaluate(task_count(kernel), {})
    function(code.address + image.symbols[kernel.name])(ctypes.addressof(pointers), 0, tasks)
    for buffer in kernel.params:
        if buffer.role is not Role.in_:
            arrays[buffer.name][...] = unpack(memory[buffer.name], buffer, {})


def object_of(program: Program, target: Target) -> bytes:
    return compile_object(llvm.program_module(program, target, program.name), target)


def artifact_of(program: Program, target: Target) -> Artifact:
    """The program's machine code, assembled for calls in this process."""
    offsets = {r.name: r.offset for r in program.regions}
    entries = [
        entry_info(
            e.name,
            llvm.entry_name(program.name, e.name),
            [(p.name, p.type) for p in e.inputs],
            [(p.name, p.type) for p in e.outputs],
            program.workspace(e),
        )
        for e in program.entries
    ]
    weights = []
    for name, array in program.weights.items():
        offset = offsets[name]
        assert isinstance(offset, int)
        weights.append((offset, array))
    code = object_of(program, target)
    return assemble(program.name, target, [code], entries, weights, program.symbols)


@dataclass(frozen=True)
class Native:
    """A program with its artifact; `model(threads)` is cached."""

    program: Program
    artifact: Artifact

    @staticmethod
    def of(graphs: Mapping[str, Graph], target: str) -> Native:
        program = program_of(graphs, TARGETS[target])
        return Native(program, artifact_of(program, TARGETS[target]))

    def model(self, threads: int = 1) -> Model:
        return self.artifact.model(threads=threads)

    def interpret(
        self, entry: str, inputs: Mapping[str, Any], symbols: Mapping[str, int]
    ) -> list[Any]:
        return list(run_program(self.program, inputs, symbols, entry).values())


def call(model: Model, entry: str, inputs: Mapping[str, Any]) -> list[Any]:
    """The outputs of an entry, in a list even if there is one."""
    result = model.entries[entry](inputs)
    return result if isinstance(result, list) else [result]


def assert_same_bits(actual: Any, expected: Any) -> None:
    """Equal to the last bit, the sign of zero too; any NaN equals any other."""
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    if actual.tobytes() == expected.tobytes():
        return
    bits = np.dtype(f"u{actual.dtype.itemsize}")
    with np.errstate(all="ignore"):
        nan = (actual != actual) & (expected != expected)
    differs = (np.atleast_1d(actual).view(bits) != np.atleast_1d(expected).view(bits)) & ~nan
    places = [tuple(map(int, i)) for i in np.argwhere(differs)[:4]]
    shown = [(i, np.atleast_1d(actual)[i], np.atleast_1d(expected)[i]) for i in places]
    assert not differs.any(), f"{int(differs.sum())} of {differs.size} differ: {shown}"
