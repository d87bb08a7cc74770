"""Which of several candidates is faster than the default: by measuring in turns, again and again."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

Timer = Callable[[T], float]
"""One sample: the seconds of one call of a candidate."""

MARGIN = 0.03
"""The share of the default's time that a winner has to save."""

PAIRS = 5
"""Samples of each of two candidates per round, in turns."""

ROUNDS = 3
"""Rounds that a winner has to win, one after the other."""


@dataclass(frozen=True)
class Verdict(Generic[T]):
    """What to use, and the median seconds of a call with the default and with that."""

    choice: T
    default_seconds: float
    seconds: float


def decide(
    default: T, others: Sequence[T], seconds: Timer[T], more: Callable[[], bool] = lambda: True
) -> Verdict[T]:
    """The first of `others` by time that wins every round against the default by `MARGIN`; else the default.

    One round ranks them; what saved enough in it is confirmed in further ones. `more` says whether there is time for
    another candidate: without any, the default stays.
    """
    ranked: list[tuple[float, T]] = []
    first = math.nan
    for other in others:
        if not more():
            break
        before, after = in_turns(default, other, seconds)
        first = before if math.isnan(first) else min(first, before)
        if after < before * (1 - MARGIN):
            ranked.append((after / before, other))
    for _, other in sorted(ranked, key=lambda pair: pair[0]):
        rounds = []
        for _ in range(ROUNDS - 1):
            if not more():
                return Verdict(default, first, first)
            rounds.append(in_turns(default, other, seconds))
            if rounds[-1][1] >= rounds[-1][0] * (1 - MARGIN):
                break
        else:
            before, after = (statistics.median(times) for times in zip(*rounds, strict=True))
            return Verdict(other, before, after)
    return Verdict(default, first, first)


def in_turns(a: T, b: T, seconds: Timer[T], pairs: int = PAIRS) -> tuple[float, float]:
    """The median seconds of two candidates that are measured in turns, so that both meet the same moments."""
    times: list[tuple[float, float]] = []
    for i in range(pairs):
        if i % 2:
            after, before = seconds(b), seconds(a)
        else:
            before, after = seconds(a), seconds(b)
        times.append((before, after))
    first, second = zip(*times, strict=True)
    return statistics.median(first), statistics.median(second)
