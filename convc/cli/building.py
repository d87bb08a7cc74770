"""Compiling for the command line: a model script through the driver, with every stage kept."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from convc_runtime.format import write_atomically

from convc import driver
from convc.artifact import Artifact, c_identifier
from convc.cli.stages import Stages
from convc.codegen import cuda, llvm, llvmc
from convc.errors import TargetError, UnsupportedError
from convc.graph.ir import Graph
from convc.loops.printer import print_kernel
from convc.plan.memory import lifetimes_of, lower_bound, plan_memory
from convc.program.ir import Program
from convc.program.printer import print_program
from convc.report import Row, rows_of, total_flops
from convc.schedule.cuda import schedule_program
from convc.target import Target
from convc.types import Extent, evaluate, symbols_of

__all__ = ["Built", "at_batch", "build", "build_cuda", "emit", "lower_bound", "memory_rows"]

OLDEST_GPU = "cuda-sm80"
NATIVE = "host"
"""The CPU that the road runs for on the way to a GPU's source: its machine code is thrown away."""


@dataclass(frozen=True)
class Built:
    """A compiled model with what the stages made. `graphs` are the model's own, before any pass."""

    name: str
    target: Target
    graphs: Mapping[str, Graph]
    compiled: driver.Compiled
    stages: Stages
    seconds: float

    @property
    def artifact(self) -> Artifact:
        return self.compiled.artifact

    @property
    def program(self) -> Program:
        return self.compiled.program

    @property
    def rows(self) -> Mapping[str, list[Row]]:
        return self.compiled.rows

    @property
    def flops(self) -> Extent:
        """Additions and multiplications of the first entry."""
        return total_flops(next(iter(self.rows.values())))

    @property
    def phases(self) -> dict[str, float]:
        return self.compiled.timings.seconds


def build(source: str, target: str, batch: int | str, keep: bool = False) -> Built:
    """Compiles `model.py[:name]` for a target; with `keep`, every stage is kept to be shown."""
    machine = driver.host_target(target)
    if machine.kind != "cpu":
        raise TargetError(
            f"target {target}: expected a CPU here: only compile --emit cuda makes code for it"
        )
    start = time.perf_counter()
    name, graphs = driver.graphs_of(source, batch)
    stages = Stages()
    for entry, graph in graphs.items():
        stages("graph", "input" if len(graphs) == 1 else f"{entry}-input", graph)
    compiled = driver.compile_graphs(name, graphs, machine, trace=stages if keep else None)
    return Built(name, machine, graphs, compiled, stages, time.perf_counter() - start)


def build_cuda(source: str, target: str, batch: int | str, keep: bool = False) -> Built:
    """The same road up to the plain kernels, which are then scheduled for a GPU (`target`, or any newer one)."""
    machine = driver.host_target(target)
    if machine.kind != "cuda":
        machine = driver.host_target(OLDEST_GPU)
    start = time.perf_counter()
    built = build(source, NATIVE, batch, keep)
    program = schedule_program(built.compiled.lowered)
    rows = rows_of(program, built.compiled.lowered.kernels)
    compiled = replace(built.compiled, program=plan_memory(program), rows=rows)
    seconds = time.perf_counter() - start
    return replace(built, target=machine, compiled=compiled, seconds=seconds)


def emit(built: Built, kind: str, path: Path) -> list[Path]:
    """Writes one kind of result and returns the files."""
    match kind:
        case "cvc" | "so" | "obj":
            return built.artifact.save(path)
        case "llvm":
            text = llvm_text(built)
        case "asm":
            text = llvmc.assembly(llvm_text(built), built.target)
        case "ir":
            text = program_text(built.program)
        case "cuda":
            text = cuda.generate(list(built.program.kernels.values()))
        case _:
            raise UnsupportedError(f"--emit {kind} has no writer")
    write_atomically(path, [(0, text.encode())])
    return [path]


def llvm_text(built: Built) -> str:
    return llvm.program_module(built.program, built.target, c_identifier(built.name))


def program_text(program: Program) -> str:
    """The program and its scheduled kernels."""
    return (
        "\n\n".join([print_program(program), *map(print_kernel, program.kernels.values())]) + "\n"
    )


def memory_rows(built: Built) -> list[dict[str, object]]:
    """Each region of the first entry, with its place and the steps that it lives through."""
    program = built.program
    lifetimes = lifetimes_of(program.entries[0])
    rows: list[dict[str, object]] = []
    for region in program.regions:
        life = lifetimes.get(region.name)
        rows.append(
            {
                "region": region.name,
                "kind": region.kind.value,
                "bytes": str(region.size),
                "offset": "" if region.offset is None else str(region.offset),
                "steps": f"{life.first}-{life.last}" if life else "",
            }
        )
    return rows


def at_batch(extent: Extent, batch: int) -> int:
    """The value of a function of the batch."""
    return evaluate(extent, dict.fromkeys(symbols_of((extent,)), batch))
