"""Tuning within a budget of seconds: the best few candidates of the hottest kernels, timed on this machine.

First the convolutions, each alone in a small program: directly, or with one of Winograd's tiles, in strips or whole.
Then the kernels that follow from that: tiles and orders of loops. What takes the largest share of the
predicted time comes first. At the end the whole network is timed with all winners against the default.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from convc.passes.choose_algorithm import Algorithm
from convc.schedule.choices import Choice
from convc.tuning.decide import Verdict, decide
from convc.tuning.records import Record, Records, Selected, cpu_model

C = TypeVar("C")

_CONVOLUTIONS = 0.45
"""The share of the budget that may go to algorithms of convolutions."""
_KERNELS = 0.85
"""The share that may be spent once kernels are timed as well: the rest is for the whole network."""


@dataclass(frozen=True)
class Job(Generic[C]):
    """What may be tuned: calls that share a choice. `candidates` begin with the default; `seconds` are predicted."""

    key: str
    what: str
    layers: tuple[str, ...]
    calls: int
    seconds: float
    candidates: tuple[C, ...]


@dataclass(frozen=True)
class Gain:
    """What tuning found for one job: the median seconds of one call with the default and with the choice."""

    what: str
    layers: tuple[str, ...]
    calls: int
    default: str
    choice: str
    default_seconds: float
    seconds: float

    @property
    def saved(self) -> float:
        """Seconds of a run that the choice saves, as measured alone."""
        return self.calls * (self.default_seconds - self.seconds)


@dataclass(frozen=True)
class Progress:
    """How far tuning is: seconds of the budget that are spent, and what is being timed."""

    spent: float
    budget: float
    what: str


@dataclass(frozen=True)
class Tuned:
    """The result. `seconds` of a run of the first entry are medians, alternating; both None where nothing changed.

    `kept` is False where the whole network wasn't faster with the winners: then `selected` has the defaults.
    """

    selected: Selected
    gains: list[Gain] = field(default_factory=list)
    timed: int = 0
    recorded: int = 0
    left: int = 0
    default_seconds: float | None = None
    seconds: float | None = None
    kept: bool = True
    spent: float = 0.0
    warning: str = ""


class Subject(Protocol):
    """What is tuned: the driver's stages, and timers. Seconds are those of one call on this machine."""

    def convolutions(self) -> Sequence[Job[Algorithm]]:
        """What Winograd's algorithm could compute; the default is what the estimate chooses."""
        ...

    def kernels(self, selected: Selected) -> Sequence[Job[Choice]]:
        """The kernels that follow from chosen algorithms."""
        ...

    def convolution_timer(self, job: Job[Algorithm]) -> Callable[[Algorithm], float]: ...

    def kernel_timer(self, job: Job[Choice]) -> Callable[[Choice], float]: ...

    def compare(self, selected: Selected, seconds: float) -> tuple[float, float]:
        """Median seconds of a run of the whole network with the default and with choices, for about so long."""
        ...


def tune(
    subject: Subject,
    target: str,
    budget: float,
    records: Records,
    selected: Selected,
    progress: Callable[[Progress], None] = lambda progress: None,
    clock: Callable[[], float] = time.perf_counter,
) -> Tuned:
    """Tunes within `budget` seconds and puts what it finds into `records`, which begin with `selected`."""
    search = _Search(subject, target, budget, records, progress, clock)
    return search.run(selected)


@dataclass
class _Search:
    subject: Subject
    target: str
    budget: float
    records: Records
    progress: Callable[[Progress], None]
    clock: Callable[[], float]
    gains: list[Gain] = field(default_factory=list)
    timed: int = 0
    recorded: int = 0
    left: int = 0
    changed: bool = False
    defaults: list[Record] = field(default_factory=list)
    """A record for each job that has one, with the default in its choice's place."""

    def __post_init__(self) -> None:
        self.start = self.clock()

    def run(self, selected: Selected) -> Tuned:
        for job in self.jobs(self.subject.convolutions(), selected.convolutions):
            algorithm = self.time(job, self.subject.convolution_timer, _CONVOLUTIONS)
            if algorithm is not None:
                selected = selected.with_convolution(job.key, algorithm)
        for kernel in self.jobs(self.subject.kernels(selected), selected.kernels):
            choice = self.time(kernel, self.subject.kernel_timer, _KERNELS)
            if choice is not None:
                selected = selected.with_kernel(kernel.key, choice)
        return self.compared(selected)

    def jobs(self, jobs: Sequence[Job[C]], selected: Sequence[tuple[str, C]]) -> list[Job[C]]:
        """The jobs without a record, the largest share of predicted time first."""
        known = dict(selected)
        new = []
        for job in jobs:
            if job.key in known:
                self.recorded += 1
                self.changed |= known[job.key] != job.candidates[0]
                self.defaults.append(self.record(job, job.candidates[0], 0.0, 0.0))
            elif len(job.candidates) > 1:
                new.append(job)
        return sorted(new, key=lambda job: -job.seconds * job.calls)

    def spent(self) -> float:
        return self.clock() - self.start

    def time(
        self, job: Job[C], timer: Callable[[Job[C]], Callable[[C], float]], share: float
    ) -> C | None:
        """The choice for a job, put on record; None where the budget's share is spent before that is clear."""

        def more() -> bool:
            return self.spent() < share * self.budget

        if not more():
            self.left += 1
            return None
        self.progress(Progress(self.spent(), self.budget, job.what))
        default, *others = job.candidates
        verdict: Verdict[C] = decide(default, others, timer(job), more)
        if verdict.choice == default and not more():
            self.left += 1
            return None
        self.note(job, default, verdict)
        return verdict.choice

    def note(self, job: Job[C], default: C, verdict: Verdict[C]) -> None:
        before, after = verdict.default_seconds, verdict.seconds
        self.timed += 1
        self.records.add([self.record(job, verdict.choice, before, after)])
        self.defaults.append(self.record(job, default, before, before))
        if verdict.choice != default:
            self.changed = True
            texts = (str(default), str(verdict.choice))
            self.gains.append(Gain(job.what, job.layers, job.calls, *texts, before, after))

    def record(self, job: Job[C], choice: C, before: float, after: float) -> Record:
        assert isinstance(choice, Choice | Algorithm)
        return Record(cpu_model(), self.target, job.key, job.what, choice, before, after)

    def compared(self, selected: Selected) -> Tuned:
        """The result, after the whole network was timed with what was selected."""
        before = after = None
        kept = True
        if self.changed:
            self.progress(Progress(self.spent(), self.budget, "the whole network"))
            rest = max(self.budget - self.spent(), 0.1 * self.budget)
            before, after = self.subject.compare(selected, rest)
            kept = after <= before
        if not kept:
            self.records.add(self.defaults)
            selected = defaults_in(selected, self.defaults)
        return Tuned(
            selected,
            sorted(self.gains, key=lambda gain: -gain.saved),
            timed=self.timed,
            recorded=self.recorded,
            left=self.left,
            default_seconds=before,
            seconds=after,
            kept=kept,
            spent=self.spent(),
            warning=self.records.warning,
        )


def defaults_in(selected: Selected, defaults: Sequence[Record]) -> Selected:
    """The choices with those of records in their place."""
    for record in defaults:
        match record.choice:
            case Choice():
                selected = selected.with_kernel(record.key, record.choice)
            case Algorithm():
                selected = selected.with_convolution(record.key, record.choice)
    return selected
