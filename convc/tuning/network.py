"""A network as the subject of tuning: its stages come from the driver, its timers are native code."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from convc_runtime import Model

from convc.graph.ir import Graph
from convc.loops.ir import Kernel
from convc.passes.choose_algorithm import Algorithm, ChooseAlgorithm
from convc.program.ir import Program
from convc.schedule.choices import Choice
from convc.schedule.program import schedule_kernel
from convc.target import Target
from convc.tuning.candidates import Convolution, convolution_jobs, kernel_jobs
from convc.tuning.inputs import random_inputs
from convc.tuning.records import Selected
from convc.tuning.search import Job
from convc.tuning.trials import Trial, alone, convolution_graph

Plan = Callable[[Mapping[str, Graph], Selected], tuple[Program, Mapping[str, Kernel]]]
"""Passes, lowering and schedules with what was selected: the planned program, and its kernels before schedules."""

_PAIRS = (5, 50)
"""Runs of the whole network with the default and with what was selected, in turns: at least and at most."""


@dataclass
class Network:
    """`before` are the graphs as `choose` meets them, None where a pipeline chooses no algorithms."""

    graphs: Mapping[str, Graph]
    before: Mapping[str, Graph]
    choose: ChooseAlgorithm | None
    target: Target
    plan: Plan
    model: Callable[[Selected], Model]
    _types: dict[str, Convolution] = field(default_factory=dict)
    _kernels: dict[str, Kernel] = field(default_factory=dict)

    def convolutions(self) -> Sequence[Job[Algorithm]]:
        if self.choose is None:
            return []
        jobs, self._types = convolution_jobs(self.before.values(), self.choose)
        return jobs

    def kernels(self, selected: Selected) -> Sequence[Job[Choice]]:
        program, lowered = self.plan(self.graphs, selected)
        jobs, self._kernels = kernel_jobs(program, lowered, self.target)
        return jobs

    def convolution_timer(self, job: Job[Algorithm]) -> Callable[[Algorithm], float]:
        types = self._types[job.key]
        graphs = {"predict": convolution_graph(types.x, types.w, types.padding)}

        @functools.cache
        def trial(algorithm: Algorithm) -> Trial:
            program, _ = self.plan(graphs, Selected().with_convolution(job.key, algorithm))
            return Trial(program, self.target)

        return lambda algorithm: trial(algorithm).seconds()

    def kernel_timer(self, job: Job[Choice]) -> Callable[[Choice], float]:
        @functools.cache
        def trial(choice: Choice) -> Trial:
            kernel = schedule_kernel(self._kernels[job.key], self.target, choice)
            return Trial(alone(kernel), self.target)

        return lambda choice: trial(choice).seconds()

    def compare(self, selected: Selected, seconds: float) -> tuple[float, float]:
        end = time.perf_counter() + seconds
        runs = [timed_run(self.model(chosen)) for chosen in (Selected(), selected)]
        for run in runs:
            run()
        times: list[tuple[float, float]] = []
        least, most = _PAIRS
        while len(times) < least or (len(times) < most and time.perf_counter() < end):
            first, second = runs if len(times) % 2 else runs[::-1]
            pair = first(), second()
            times.append(pair if len(times) % 2 else pair[::-1])
        before, after = zip(*times, strict=True)
        return statistics.median(before), statistics.median(after)


def timed_run(model: Model) -> Callable[[], float]:
    """Runs of a model's first entry on random inputs, which return their seconds.

    Those of CPU time: the model runs on the caller's thread, and others may run beside it.
    """
    inputs = random_inputs(model, 1)

    def run() -> float:
        start = time.thread_time()
        model(inputs)
        return time.thread_time() - start

    return run
