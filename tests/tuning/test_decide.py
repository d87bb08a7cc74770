"""Which candidate wins, by a clock that the test sets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from convc.tuning.decide import MARGIN, PAIRS, ROUNDS, decide, in_turns


def clock(times: dict[str, float]) -> Callable[[str], float]:
    return lambda candidate: times[candidate]


def test_the_fastest_candidate_wins() -> None:
    verdict = decide("default", ["a", "b"], clock({"default": 10.0, "a": 9.0, "b": 8.0}))
    assert verdict.choice == "b"
    assert (verdict.default_seconds, verdict.seconds) == (10.0, 8.0)


@pytest.mark.parametrize("seconds", [10 * (1 - MARGIN) + 0.01, 10.0, 12.0])
def test_the_default_stays_where_nothing_saves_enough(seconds: float) -> None:
    verdict = decide("default", ["a"], clock({"default": 10.0, "a": seconds}))
    assert verdict.choice == "default"
    assert verdict.default_seconds == verdict.seconds == 10.0


def test_a_candidate_has_to_win_every_round() -> None:
    """One that was lucky in the first round only loses to the next best."""
    calls: Counter[str] = Counter()

    def seconds(candidate: str) -> float:
        calls[candidate] += 1
        lucky = calls["lucky"] <= PAIRS
        return {"default": 10.0, "lucky": 5.0 if lucky else 10.0, "steady": 9.0}[candidate]

    assert decide("default", ["lucky", "steady"], seconds).choice == "steady"
    assert calls["lucky"] == 2 * PAIRS
    assert calls["steady"] == ROUNDS * PAIRS


def test_a_slow_moment_of_the_machine_decides_nothing() -> None:
    """Samples of two candidates alternate, and one outlier is no median."""
    noise: Iterator[float] = iter([0, 0, 50, 0, 0, 0, 0, 0, 0, 50] * 20)
    verdict = decide("default", ["same"], lambda candidate: 10.0 + next(noise))
    assert verdict.choice == "default"


def test_measuring_in_turns_alternates_who_is_first() -> None:
    order: list[str] = []

    def seconds(candidate: str) -> float:
        order.append(candidate)
        return 1.0

    assert in_turns("a", "b", seconds, 3) == (1.0, 1.0)
    assert order == ["a", "b", "b", "a", "a", "b"]


def test_without_time_the_default_stays() -> None:
    left = iter([True, False, False])
    verdict = decide("default", ["a"], clock({"default": 10.0, "a": 1.0}), lambda: next(left))
    assert verdict.choice == "default"
