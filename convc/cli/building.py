"""Compiling for the command line: a model script through the driver, with every stage kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from convc_runtime.writing import write_atomically, write_whole

from convc import driver
from convc.artifact import Artifact, c_identifier
from convc.cli.stages import Stages
from convc.codegen import llvm, llvmc
from convc.codegen.cuda_kernel import printable
from convc.codegen.cuda_program import generate_program
from convc.errors import TargetError, UnsupportedError
from convc.graph.ir import Graph
from convc.loops.printer import print_kernel
from convc.plan.memory import lifetimes_of, lower_bound
from convc.program.ir import Program
from convc.program.printer import print_program
from convc.report import Row, Summary, extent_json, total_flops
from convc.scripts import Shapes
from convc.target import Target
from convc.tuning.search import Progress
from convc.types import Extent, evaluate, symbols_of

__all__ = [
    "Built", "Request", "at_batch", "build", "build_cuda", "emit", "extent_json", "lower_bound", "memory_rows"
]  # fmt: skip

OLDEST_GPU = "cuda-sm80"


@dataclass(frozen=True)
class Request:
    """What to compile, `model.py[:name]` or a file, and how; `keep` keeps every stage to be shown."""

    source: str
    target: str = "host"
    batch: int | str = "dynamic"
    keep: bool = False
    options: driver.Options = field(default_factory=driver.Options)
    shapes: Shapes | None = None


@dataclass(frozen=True)
class Built:
    """A compiled model with what the stages made. `graphs` are the model's own, before any pass.

    For a GPU, the stages end with the planned program: there is no artifact.
    """

    name: str
    target: Target
    graphs: Mapping[str, Graph]
    compiled: driver.Planned | driver.Compiled
    stages: Stages
    seconds: float

    @property
    def artifact(self) -> Artifact:
        if not isinstance(self.compiled, driver.Compiled):
            raise TargetError(
                f"target {self.target.name}: there is no artifact for a {self.target.kind} target"
            )
        return self.compiled.artifact

    @property
    def program(self) -> Program:
        return self.compiled.program

    @property
    def summary(self) -> Summary:
        if isinstance(self.compiled, driver.Compiled):
            return self.compiled.summary
        return driver.summary_of(self.program, self.graphs)

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

    @property
    def python_seconds(self) -> float:
        """Python's own share of the phases, in CPU time."""
        return self.compiled.timings.python


def options_of(exact: bool, verify: bool = False, optimize: str = "speed") -> driver.Options:
    """The driver's options for the flags of a command."""
    options = driver.Options("exact" if exact else "inference", optimize)
    return replace(options, verify=True) if verify else options


def build(request: Request, progress: Callable[[Progress], None] | None = None) -> Built:
    """Compiles for a CPU; `progress` is told what is being tuned."""
    machine = driver.host_target(request.target)
    if machine.kind != "cpu":
        raise TargetError(
            f"target {request.target}: expected a CPU here: only compile --emit cuda makes code for it"
        )
    compiler = partial(driver.compile_graphs, progress=progress)
    return _build(request, machine, compiler)


def build_cuda(request: Request) -> Built:
    """The same road up to a planned program for a GPU: `target`, or the oldest that we know if that is a CPU."""
    machine = driver.host_target(request.target)
    if machine.kind != "cuda":
        machine = driver.host_target(OLDEST_GPU)
    return _build(request, machine, driver.plan_graphs)


def _build(
    request: Request, target: Target, compiler: Callable[..., driver.Planned | driver.Compiled]
) -> Built:
    start = time.perf_counter()
    name, graphs = driver.graphs_of(request.source, request.batch, request.shapes)
    stages = Stages()
    for entry, graph in graphs.items():
        stages("graph", "input" if len(graphs) == 1 else f"{entry}-input", graph)
    compiled = compiler(name, graphs, target, request.options, stages if request.keep else None)
    return Built(name, target, graphs, compiled, stages, time.perf_counter() - start)


def emit(built: Built, kind: str, path: Path, threads: int | None = None) -> list[Path]:
    """Writes one kind of result and returns the files. A .cvc runs on `threads` where its host doesn't say."""
    match kind:
        case "cvc" if threads is not None:
            return built.artifact.with_threads(threads).save(path)
        case "cvc" | "so" | "obj":
            return built.artifact.save(path)
        case "llvm":
            text = llvm_text(built)
        case "asm":
            text = llvmc.assembly(llvm_text(built), built.target)
        case "ir":
            text = program_text(built.program)
        case "cuda":
            return write_cuda(built, path)
        case _:
            raise UnsupportedError(f"--emit {kind} has no writer")
    write_whole(path, text.encode())
    return [path]


def write_cuda(built: Built, path: Path) -> list[Path]:
    """The program's source, and beside it in NAME.weights what `convc_run_…` takes as its weights, byte for byte."""
    program = built.program
    beside = path.with_suffix(".weights")
    parts = [(at, np.ascontiguousarray(array)) for at, array in driver.placed_weights(program)]
    source = f"// Weights: the bytes of {printable(beside.name)}, in device memory.\n"
    source += generate_program(program, built.target)
    write_atomically(beside, parts)
    write_whole(path, source.encode())
    return [path, beside]


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
    lifetimes = lifetimes_of(program, program.entries[0])
    rows: list[dict[str, object]] = []
    for region in program.regions:
        life = lifetimes.get(region.name)
        rows.append(
            {
                "region": region.name,
                "kind": region.kind.value,
                "bytes": extent_json(region.size),
                "offset": None if region.offset is None else extent_json(region.offset),
                "steps": [life.first, life.last] if life else None,
            }
        )
    return rows


def at_batch(extent: Extent, batch: int) -> int:
    """The value of a function of the batch."""
    return evaluate(extent, dict.fromkeys(symbols_of((extent,)), batch))
