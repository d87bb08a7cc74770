"""The search for faster choices, on a network whose times the test sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from convc.passes.choose_algorithm import Algorithm
from convc.schedule.choices import Choice
from convc.target import TARGETS
from convc.tuning.records import Records, Selected, cpu_model, read_records
from convc.tuning.search import Job, Progress, Tuned, tune

TARGET = TARGETS["x86-64-avx2"]
TALL, WIDE = Choice((14, 2)), Choice((6, 4))
DIRECT, WINOGRAD = Algorithm(), Algorithm((4, 4))


@dataclass
class Network:
    """Times of choices by job; a sample takes a second of the test's clock."""

    times: dict[str, dict[Choice | Algorithm, float]]
    whole: tuple[float, float] = (10.0, 9.0)
    now: float = 0.0
    timed: list[str] = field(default_factory=list)

    def jobs(self, kind: type) -> list[Job[Any]]:
        return [
            Job(key, f"what {key} is", (f"layer {key}",), 2, next(iter(times.values())), (*times,))
            for key, times in self.times.items()
            if isinstance(next(iter(times)), kind)
        ]

    def convolutions(self) -> Sequence[Job[Algorithm]]:
        return self.jobs(Algorithm)

    def kernels(self, selected: Selected) -> Sequence[Job[Choice]]:
        return self.jobs(Choice)

    def timer(self, job: Job[Any]) -> Callable[[Any], float]:
        self.timed.append(job.key)

        def seconds(choice: Any) -> float:
            self.now += 1.0
            return self.times[job.key][choice]

        return seconds

    convolution_timer = kernel_timer = timer

    def compare(self, selected: Selected, seconds: float) -> tuple[float, float]:
        return self.whole


def tuned(network: Network, records: Records | None = None, budget: float = 1e6) -> Tuned:
    records = records or Records()
    known = records.selected(cpu_model(), TARGET)
    clock = lambda: network.now  # noqa: E731
    return tune(network, TARGET.name, budget, records, known, clock=clock)


def faster() -> Network:
    return Network({"conv": {DIRECT: 4.0, WINOGRAD: 2.0}, "a": {TALL: 5.0, WIDE: 4.0}})


def test_winners_are_selected_and_their_gain_is_told() -> None:
    found = tuned(faster())
    assert found.selected == Selected((("a", WIDE),), (("conv", WINOGRAD),))
    assert [(g.layers, g.saved) for g in found.gains] == [
        (("layer conv",), 4.0),
        (("layer a",), 2.0),
    ]
    assert (found.default_seconds, found.seconds, found.kept) == (10.0, 9.0, True)


def test_the_default_stays_where_the_whole_network_is_slower(tmp_path: Path) -> None:
    records = Records(tmp_path / "records.json")
    found = tuned(replace(faster(), whole=(10.0, 10.1)), records)
    assert not found.kept
    assert found.selected == Selected((("a", TALL),), (("conv", DIRECT),))
    records.write()
    assert read_records(records.path).selected(cpu_model(), TARGET) == found.selected


def test_what_is_on_record_is_not_timed_again() -> None:
    records = Records()
    first = tuned(faster(), records)
    again = faster()
    found = tuned(again, records)
    assert again.timed == []
    assert found.selected == first.selected
    assert (found.timed, found.recorded) == (0, 2)


def test_records_of_another_cpu_are_ignored() -> None:
    records = Records()
    tuned(faster(), records)
    records.found = {
        r.place: r for r in (replace(r, cpu="another CPU") for r in records.found.values())
    }
    again = faster()
    tuned(again, records)
    assert again.timed == ["conv", "a"]
    assert len(records.found) == 4


def test_the_largest_share_of_the_time_comes_first_and_the_budget_ends_it() -> None:
    network = Network({k: {TALL: s, WIDE: s} for k, s in (("a", 1.0), ("b", 3.0), ("c", 2.0))})
    found = tuned(network, budget=20.0)
    assert network.timed == ["b", "c"]
    assert (found.timed, found.left) == (1, 2)
    assert not found.gains
    assert found.default_seconds is None


def test_progress_says_what_is_timed() -> None:
    network, told = faster(), list[Progress]()
    tune(network, TARGET.name, 1e6, Records(), Selected(), told.append, lambda: network.now)
    assert [p.what for p in told] == ["what conv is", "what a is", "the whole network"]
