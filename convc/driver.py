"""The compiler, from a model to something that runs: read `compile_untuned` as the table of contents."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

from convc_runtime import InputError, Model, cpu
from convc_runtime.model import checked_threads

from convc import compilations
from convc.artifact import Artifact, assemble, c_identifier, entry_info
from convc.codegen import llvm, llvmc
from convc.codegen.cache import Cache, default_folder
from convc.codegen.objects import Objects
from convc.codegen.pool import is_foreign
from convc.collector import uncollected
from convc.errors import IRError, UsageError, type_text
from convc.graph.ir import Graph
from convc.loops.ir import Kernel
from convc.loops.verify import verify_kernel
from convc.lower.program import lower
from convc.passes.defer_weights import defer_weights
from convc.passes.fix_batch import fix_batch
from convc.passes.manager import Pipeline
from convc.passes.pipelines import before_algorithms, pipeline_for, with_algorithms
from convc.plan.in_place import copies_to_state, reuse_in_place, states_in_place
from convc.plan.memory import lower_bound, plan_memory
from convc.plan.one_by_one import one_by_one
from convc.plan.recompute import recompute
from convc.plan.reorder import shorten_lifetimes
from convc.plan.sharing import share_steps
from convc.program.deferred import deferred
from convc.program.ir import Array, Entry, Program
from convc.program.verify import verify_program
from convc.report import Row, Summary, extent_json, rows_of, total_flops
from convc.schedule.choices import NO_CHOICES
from convc.schedule.program import schedule
from convc.scripts import Model as Source
from convc.scripts import Shapes, load_model
from convc.target import Target
from convc.target import target as find_target
from convc.tuning.network import Network
from convc.tuning.records import Records, Selected, cpu_model, read_records
from convc.tuning.search import Progress, Tuned, tune

T = TypeVar("T")

MANY_KERNELS = 8
"""From so many on, LLVM's memory is given back behind a compilation: it takes 4 ms to give it and to fetch it again."""

NODES_OF_A_KERNEL = 4
"""So many of a graph as it comes make a kernel unlike all others: 2 to 4 in small networks, 6 to 11 in large ones."""

Kernels = Mapping[str, Kernel]
Trace = Callable[[str, str, object], None]
"""Called after each step with its kind ("graph", "program", "kernel", "llvm"), its name and the result."""


@dataclass(frozen=True)
class Options:
    """What a compilation may choose. `mode` names the pipeline of graph passes; `verify` checks after each step.

    `optimize` is "speed", or "size" for weights that take about what the model's take. `recall` takes the whole
    compilation out of the cache, and keeps it there; single kernels come out of it anyway.

    `tune` are seconds to spend on this machine for choices that are faster than the estimates'; `records` is the file
    that keeps them, by default in the cache's folder, and gives them to later compilations. `selected` are such
    choices; where there are any, neither file nor machine is asked.

    With `in_place`, inputs `p` that have a next value, the output `next/p`, are state of the model's contexts.

    Where `verify` isn't given, the environment's CONVC_VERIFY decides.
    """

    mode: str = "inference"
    optimize: str = "speed"
    verify: bool = field(
        default_factory=lambda: os.environ.get("CONVC_VERIFY", "0") not in ("", "0")
    )
    in_place: bool = False
    recall: bool = True
    tune: float | None = None
    records: Path | None = None
    selected: Selected | None = None

    @property
    def keeps(self) -> bool:
        """Whether the whole compilation is kept: not where every step is to be checked."""
        return self.recall and not self.verify

    def deferred(self, graphs: Mapping[str, Graph]) -> Mapping[str, Graph]:
        """The graphs, their weights read only where a pass must; a training step's parameters are no weights."""
        return graphs if self.mode == "training" else defer_weights(graphs)


@dataclass
class Timings:
    """Seconds spent in each phase, in order.

    `python` are the seconds of CPU time that Python took itself: all phases but LLVM's machine code.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    python: float = 0.0
    _inside: list[tuple[float, float]] = field(default_factory=list, repr=False)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measures the block, but for the phases inside it."""
        start, busy = time.perf_counter(), time.thread_time()
        outer, self._inside = self._inside, []
        yield
        took, used = time.perf_counter() - start, time.thread_time() - busy
        inner, self._inside = self._inside, outer
        outer.append((took, used))
        self.seconds[name] = self.seconds.get(name, 0.0) + took - sum(t for t, _ in inner)
        if name != "machine code":
            self.python += used - sum(u for _, u in inner)


@dataclass(frozen=True)
class Planned:
    """A scheduled and planned program, and what every stage made on the way: ready for a generator."""

    name: str
    program: Program
    lowered: Program  # before schedules: what the formulas say
    graphs: Mapping[str, Graph]
    rows: Mapping[str, list[Row]]
    timings: Timings


@dataclass(frozen=True)
class Compiled:
    """A compilation's results. If the artifact was kept from before, the stages run when somebody asks for theirs."""

    name: str
    artifact: Artifact
    rows: Mapping[str, list[Row]]
    summary: Summary
    timings: Timings
    plan: Callable[[], Planned]
    tuned: Tuned | None = None

    @cached_property
    def planned(self) -> Planned:
        return self.plan()

    @property
    def program(self) -> Program:
        return self.planned.program

    @property
    def lowered(self) -> Program:
        return self.planned.lowered

    @property
    def graphs(self) -> Mapping[str, Graph]:
        return self.planned.graphs


def compile_graphs(
    name: str,
    graphs: Mapping[str, Graph],
    target: Target,
    options: Options | None = None,
    trace: Trace | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Compiled:
    """Compile a model's entry graphs, which share parameters, for a CPU: out of the cache if that was done before.

    `progress` is told what is being tuned, where the options say so.
    """
    options = options or Options()
    if options.tune is not None:
        return tune_graphs(name, graphs, target, options, trace, progress)
    with uncollected():
        return compile_untuned(name, graphs, target, with_records(options, target), trace)


def compile_untuned(
    name: str,
    graphs: Mapping[str, Graph],
    target: Target,
    options: Options,
    trace: Trace | None,
) -> Compiled:
    """The stages in order, without tuning anything and without asking for records."""
    timings, key = Timings(), None
    cache = Cache(default_folder())
    if cache.folder is not None and options.keeps and trace is None:
        with timings.phase("cache"):
            graphs = options.deferred(graphs)
            key = compilations.key_of(graphs, target, name, repr(options), llvmc.package_version())
            found = compilations.recall(cache, key, graphs, target)
        if found is not None:
            plan = partial(plan_graphs, name, graphs, target, options)
            with timings.phase("assemble"):
                artifact = found.artifact()
            return Compiled(name, artifact, found.rows, found.summary, timings, plan)
    with Objects(target, cache, timings.phase) as objects:
        objects.foresee(sum(len(g.nodes) for g in graphs.values()) // NODES_OF_A_KERNEL)
        planned = plan_graphs(name, graphs, target, options, trace, timings, objects)
        artifact = generate(planned, target, objects, trace)
    summary = summary_of(planned.program, graphs)
    if key is not None:
        with timings.phase("cache"):
            weights = [(offset, deferred(a)) for offset, a in placed_weights(planned.program)]
            compilations.keep(cache, key, graphs, artifact, weights, summary)
    return Compiled(name, artifact, planned.rows, summary, timings, lambda: planned)


def generate(planned: Planned, target: Target, objects: Objects, trace: Trace | None) -> Artifact:
    """The machine code of a planned program, with its weights."""
    program, timings = planned.program, planned.timings
    prefix = c_identifier(planned.name)
    if trace is not None:
        trace("llvm", planned.name, llvm.program_module(program, target, prefix))
    with timings.phase("generate"):
        units = objects.units(prefix).of_program(program)
        support = llvm.support_unit(target, prefix)
    *codes, helper = objects.of([*units, support])
    if len(units) >= MANY_KERNELS:
        llvmc.give_back()
    with timings.phase("assemble"):
        return assemble_program(program, target, codes, helper, planned.rows)


def plan_graphs(
    name: str,
    graphs: Mapping[str, Graph],
    target: Target,
    options: Options | None = None,
    trace: Trace | None = None,
    timings: Timings | None = None,
    objects: Objects | None = None,
) -> Planned:
    """The stages that every kind of target shares: from a model's graphs to a program for a generator.

    The code of kernels is begun in `objects` as soon as they are scheduled.
    """
    options, timings = options or Options(), timings or Timings()
    note = checked(trace) if options.verify else trace or (lambda kind, name, result: None)
    with timings.phase("passes"):
        graphs = options.deferred(graphs)
        pipeline = pipeline_of(options, target)
        graphs = {
            entry: pipeline.run(graph, lambda n, g: note("graph", n, g), options.verify)
            for entry, graph in graphs.items()
        }
    with timings.phase("lower"):
        lowered = replace(lower(graphs, options.in_place), name=name)
        note("program", "lowered", lowered)
        if trace is not None:  # and no check: they were in the program
            for kernel in lowered.kernels.values():
                trace("kernel", f"lowered/{kernel.name}", kernel)
    with timings.phase("schedule"):
        small = options.optimize == "size"
        begin = beginning(lowered, target, objects) if objects is not None else lambda kernel: None

        def scheduled(name: str, kernel: Kernel) -> None:
            note("kernel", name, kernel)
            begin(kernel)

        program = schedule(
            lowered,
            target,
            scheduled,
            compact=small,
            choices=dict(options.selected.kernels) if options.selected else NO_CHOICES,
        )
    with timings.phase("plan"):
        program = states_in_place(program)
        if options.mode == "training":
            program = shorten_lifetimes(recompute(program))
        program = reuse_in_place(program)
        if target.kind == "cpu" and options.mode != "training":
            program = one_by_one(program, lowered.kernels, target)
        program = plan_memory(program)
        if target.kind == "cpu":
            program = share_steps(program)
        note("program", "planned", program)
    with timings.phase("report"):
        rows = rows_of(program, lowered.kernels)
    return Planned(name, program, lowered, graphs, rows, timings)


def beginning(lowered: Program, target: Target, objects: Objects) -> Callable[[Kernel], None]:
    """What begins the code of each scheduled kernel of a program, but of copies that the plan may drop."""
    prefix, following = c_identifier(lowered.name), len(lowered.kernels)
    units = objects.units(prefix)
    postponed = copies_to_state(lowered)
    objects.begin(llvm.support_unit(target, prefix), following)

    def begin(kernel: Kernel) -> None:
        nonlocal following
        following -= 1
        if kernel.name not in postponed:
            objects.begin(units.of(kernel), following)

    return begin


def pipeline_of(options: Options, target: Target) -> Pipeline:
    """The graph passes of a compilation, with the algorithms that were selected for it."""
    pipeline = pipeline_for(options.mode, target.kind, options.optimize)
    chosen = options.selected.convolutions if options.selected else ()
    return with_algorithms(pipeline, chosen) if chosen else pipeline


def with_records(options: Options, target: Target) -> Options:
    """The options with what earlier tuning on this CPU selected; UsageError for a damaged file that the user named."""
    selected = options.selected
    if selected is None and target.kind == "cpu":
        selected = records_of(options).selected(cpu_model(), target)
    return replace(options, records=None, selected=selected or None)


def records_of(options: Options) -> Records:
    """The records that a compilation may use: a warning for a damaged file, a UsageError if the user named it."""
    named = options.records is not None
    records = read_records(options.records or default_records(), strict=named)
    if records.warning:
        warnings.warn(records.warning, stacklevel=2)
    return records


def tune_graphs(
    name: str,
    graphs: Mapping[str, Graph],
    target: Target,
    options: Options,
    trace: Trace | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Compiled:
    """Compile with choices that are timed on this machine first, and put on record. UsageError where it can't be."""
    budget = checked_budget(options, target)
    records = records_of(options)
    plain = replace(options, tune=None, records=None, selected=Selected())

    def with_selected(selected: Selected) -> Options:
        return replace(plain, selected=selected)

    def planned(graphs: Mapping[str, Graph], selected: Selected) -> tuple[Program, Kernels]:
        made = plan_graphs(name, graphs, target, with_selected(selected))
        return made.program, made.lowered.kernels

    def model(selected: Selected) -> Model:
        return compile_graphs(name, graphs, target, with_selected(selected)).artifact.model(1)

    graphs = defer_weights(graphs)
    pipeline, choose = before_algorithms(pipeline_of(plain, target))
    before = {entry: pipeline.run(graph) for entry, graph in graphs.items()} if choose else {}
    network = Network(graphs, before, choose, target, planned, model)
    known = records.selected(cpu_model(), target)
    tuned = tune(network, target.name, budget, records, known, progress or (lambda progress: None))
    records.write()
    compiled = compile_graphs(name, graphs, target, with_selected(tuned.selected), trace)
    return replace(compiled, tuned=tuned)


def checked_budget(options: Options, target: Target) -> float:
    """The seconds to tune for; UsageError where this machine can't run the target, or there is nothing to tune."""
    budget = options.tune
    if not isinstance(budget, int | float) or isinstance(budget, bool) or not 0 < budget < 1e6:
        raise UsageError(f"tune: expected a number of seconds above 0, got {budget!r}")
    if options.mode == "training":
        raise UsageError("tune: expected an inference model, got a step of training")
    here = cpu.features() or llvmc.host_cpu()[1]
    if target.kind != "cpu" or is_foreign(target) or not set(target.features) <= here:
        raise UsageError(
            f"tune: this machine can't run {target.name} to time it: tune on one that can"
        )
    return float(budget)


def default_records() -> Path | None:
    """The file of tuning records in the cache's folder; None without one."""
    folder = default_folder()
    return None if folder is None else folder / "tuning" / "records.json"


def checked(trace: Trace | None) -> Trace:
    """A trace that verifies programs and kernels first: IRError names the step whose result breaks a rule.

    Graphs are left to their pipeline, which knows the pass and what it was given.
    """

    def note(kind: str, name: str, result: object) -> None:
        match result:
            case Kernel():
                _verify(f"schedule of {name}", verify_kernel, result)
            case Program():
                for kernel in result.kernels.values():
                    _verify(f"{name} program", verify_kernel, kernel)
                _verify(f"{name} program", verify_program, result)
        if trace is not None:
            trace(kind, name, result)

    return note


def _verify(step: str, verify: Callable[[T], None], result: T) -> None:
    try:
        verify(result)
    except IRError as error:
        raise IRError(f"{step}: {error}") from error


def assemble_program(
    program: Program,
    target: Target,
    objects: list[bytes],
    support: bytes,
    rows: Mapping[str, list[Row]],
) -> Artifact:
    """The artifact of a planned program and its machine code. Its `extra` has the rows and flops of each entry."""
    return assemble(
        program.name,
        target,
        objects,
        [_entry_info(program, e) for e in program.entries],
        placed_weights(program),
        program.symbols,
        compiler="convc",
        extra={
            "flops": {entry: extent_json(total_flops(r)) for entry, r in rows.items()},
            "rows": {entry: [row.to_json() for row in r] for entry, r in rows.items()},
            "requirements": {e.name: e.requirements for e in program.entries if e.requirements},
        },
        support=support,
        states=program.states,
    )


def placed_weights(program: Program) -> list[tuple[int, Array]]:
    """The weights of a planned program, each with its offset in the block that holds them all."""
    offsets = {r.name: r.offset for r in program.regions}
    return [(int(offsets[n]), array) for n, array in program.weights.items()]  # type: ignore[arg-type]


def summary_of(program: Program, graphs: Mapping[str, Graph]) -> Summary:
    """A planned program in numbers; `graphs` are the model's own."""
    return Summary(
        kernels=len(program.kernels),
        steps=sum(len(entry.steps) for entry in program.entries),
        arena=program.arena,
        live=lower_bound(program),
        weight_bytes=sum(array.nbytes for array in program.weights.values()),
        raw_weight_bytes=sum(array.nbytes for array in compilations.originals(graphs)),
    )


def _entry_info(program: Program, entry: Entry) -> Any:
    return entry_info(
        entry.name,
        llvm.entry_name(c_identifier(program.name), entry.name),
        [(p.name, p.type) for p in entry.inputs],
        [(p.name, p.type) for p in entry.results],
        program.workspace(entry),
    )


def host_target(name: str = "host") -> Target:
    """A target by name; "host" is this machine."""
    features = cpu.features() or llvmc.host_cpu()[1] if name == "host" else frozenset()
    return find_target(name, features)


class CompiledModel:
    """A compiled model: call it with arrays, or save it for `convc_runtime`. `report` has a row per kernel call."""

    def __init__(self, compiled: Compiled, threads: int | None = None) -> None:
        self.compiled = compiled
        self.threads = threads

    @cached_property
    def model(self) -> Model:
        """The model in this process. CpuError where this machine can't run its target."""
        return self.compiled.artifact.model(self.threads)

    def __call__(self, *arrays: Any) -> Any:
        """The first entry on one array per input, or on one dict by input name."""
        return self.model(*arrays)

    def save(self, path: str | os.PathLike[str]) -> list[Path]:
        """Writes a .cvc, .so or .o file and returns what was written."""
        return self.compiled.artifact.save(path)

    @property
    def report(self) -> list[Row]:
        """What became of the layers of the first entry."""
        return next(iter(self.compiled.rows.values()))

    def __repr__(self) -> str:
        return f"<compiled {self.compiled.name} for {self.compiled.artifact.target.name}>"


def compile(
    model: Source | Graph | str | os.PathLike[str],
    target: str = "host",
    batch: int | str = "dynamic",
    threads: int | None = None,
    trace: Trace | None = None,
    options: Options | None = None,
    optimize: str | None = None,
    tune: float | None = None,
) -> CompiledModel:
    """Compiles a model or a graph, or the model that a script `path.py[:name]` defines.

    `batch` is a number, or "dynamic" for any at run time; `threads` are those of a call, also of a saved .cvc (default:
    one per CPU that the process may use). `optimize` is "speed" or "size" (weights that take about what the
    model's take); where it isn't given, the options say it. `tune` are seconds to spend on this machine for choices
    that are faster than estimated ones; later compilations take them from their records. A ConvcError says what does
    not fit.
    """
    if tune is not None:
        options = replace(options or Options(), tune=tune)
    if optimize is not None:
        options = replace(options or Options(), optimize=optimize)
    machine = host_target(target)
    _require_threads(threads)
    name, graphs = graphs_of(model, batch)
    compiled = compile_graphs(name, graphs, machine, options, trace)
    if threads is not None:
        compiled = replace(compiled, artifact=compiled.artifact.with_threads(threads))
    return CompiledModel(compiled, threads)


def _require_threads(threads: object) -> None:
    try:
        if threads is not None:
            checked_threads(threads)
    except InputError as error:
        raise UsageError(str(error)) from None


def graphs_of(
    model: Source | Graph | str | os.PathLike[str],
    batch: int | str = "dynamic",
    shapes: Shapes | None = None,
) -> tuple[str, Mapping[str, Graph]]:
    """The name of a model and its entry graphs, for a fixed batch or any; `shapes` are for an ONNX model."""
    if batch != "dynamic" and not (isinstance(batch, int) and batch > 0):
        raise UsageError(f"batch: expected a number from 1 or 'dynamic', got {batch!r}")
    if isinstance(model, Graph):
        graphs: Mapping[str, Graph] = {"predict": model}
        return model.name, at_batch(graphs, batch)
    source = load_model(str(model), shapes) if isinstance(model, str | os.PathLike) else model
    if not isinstance(source, Source):
        raise UsageError(f"expected a model or a path, got {type_text(source)}")
    graphs = source.graphs()
    return str(getattr(source, "name", "") or next(iter(graphs))), at_batch(graphs, batch)


def at_batch(graphs: Mapping[str, Graph], batch: int | str) -> Mapping[str, Graph]:
    """The graphs with a number for the symbol N, if `batch` is one."""
    if not isinstance(batch, int):
        return graphs
    return {entry: fix_batch(graph, {"N": batch}) for entry, graph in graphs.items()}
