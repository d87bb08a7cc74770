"""The compiler, from a model to something that runs: read `compile_graphs` as the table of contents."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import convc_runtime

from convc.artifact import Artifact, assemble, c_identifier, entry_info
from convc.codegen import llvm, llvmc
from convc.graph.ir import Graph
from convc.lower.program import lower
from convc.passes.pipelines import PIPELINES
from convc.plan.memory import lower_bound, plan_memory
from convc.program.ir import Array, Entry, Program, RegionKind
from convc.schedule.program import schedule
from convc.target import Target, target as find_target

Trace = Callable[[str, str, object], None]
"""Called after each step with its kind ("graph", "program", "kernel", "llvm"), its name and the result."""


@dataclass(frozen=True)
class Options:
    """What a compilation may choose. `mode` names the pipeline of graph passes; `verify` checks after each step."""

    mode: str = "inference"
    verify: bool = False


@dataclass
class Timings:
    """Seconds spent in each phase, in order."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


@dataclass(frozen=True)
class Compiled:
    """A compilation's results: the artifact, and what every stage made on the way."""

    artifact: Artifact
    program: Program
    graphs: Mapping[str, Graph]
    timings: Timings


def compile_graphs(
    name: str,
    graphs: Mapping[str, Graph],
    target: Target,
    options: Options = Options(),
    trace: Trace | None = None,
) -> Compiled:
    """Compile a model's entry graphs, which share parameters, for a target."""
    timings = Timings()
    note = trace or (lambda kind, name, result: None)
    with timings.phase("passes"):
        pipeline = PIPELINES[options.mode]
        graphs = {
            entry: pipeline.run(graph, lambda n, g: note("graph", n, g), options.verify)
            for entry, graph in graphs.items()
        }
    with timings.phase("lower"):
        program = replace(lower(graphs), name=name)
        note("program", "lowered", program)
    with timings.phase("schedule"):
        program = schedule(program, target, lambda n, k: note("kernel", n, k))
    with timings.phase("plan"):
        program = plan_memory(program)
        note("program", "planned", program)
    with timings.phase("generate"):
        text = llvm.program_module(program, target, c_identifier(name))
        note("llvm", name, text)
    with timings.phase("machine code"):
        code = llvmc.compile_object(text, target)
    with timings.phase("assemble"):
        artifact = assemble_program(program, target, code)
    return Compiled(artifact, program, graphs, timings)


def assemble_program(program: Program, target: Target, code: bytes) -> Artifact:
    """The artifact of a planned program and its machine code."""
    offsets = {r.name: r.offset for r in program.regions}
    weights = [(int(offsets[n]), array) for n, array in program.weights.items()]  # type: ignore[arg-type]
    return assemble(
        program.name,
        target,
        [code],
        [_entry_info(program, e) for e in program.entries],
        weights,
        program.symbols,
        compiler="convc",
    )


def _entry_info(program: Program, entry: Entry) -> Any:
    return entry_info(
        entry.name,
        llvm.entry_name(c_identifier(program.name), entry.name),
        [(p.name, p.type) for p in entry.inputs],
        [(p.name, p.type) for p in entry.outputs],
        program.arena,
    )


def host_target(name: str = "host") -> Target:
    """A target by name; "host" is this machine."""
    features = llvmc.host_cpu()[1] if name == "host" else frozenset()
    return find_target(name, features)


