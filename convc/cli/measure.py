"""Latencies of a model, and what they say about the machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from convc_runtime import Model
from convc_runtime.description import evaluate

from convc.tuning.inputs import random_inputs

__all__ = ["Latency", "fixed_batch", "flops_of", "for_seconds", "latency_of", "random_inputs"]

PERCENTILES = (50, 90, 99)
LEAST_RUNS = 10


@dataclass(frozen=True)
class Latency:
    """Milliseconds of many runs."""

    runs: int
    least: float
    percentiles: Mapping[int, float]
    most: float

    @staticmethod
    def of(seconds: list[float]) -> Latency:
        values = np.array(seconds) * 1e3
        percentiles = {p: float(np.percentile(values, p)) for p in PERCENTILES}
        return Latency(len(values), float(values.min()), percentiles, float(values.max()))

    @property
    def median(self) -> float:
        return self.percentiles[50]


def latency_of(run: Callable[[], object], seconds: float) -> Latency:
    """Runs again and again for about so many seconds, after a tenth of them as warm-up."""
    for_seconds(run, seconds / 10, 2)
    return Latency.of(for_seconds(run, seconds, LEAST_RUNS))


def for_seconds(run: Callable[[], object], seconds: float, least: int) -> list[float]:
    """The seconds of each run, for so many seconds and at least so many runs."""
    spent: list[float] = []
    end = time.perf_counter() + seconds
    while len(spent) < least or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        spent.append(time.perf_counter() - start)
    return spent


def fixed_batch(model: Model) -> int:
    """The first dimension of the first input of a model without symbols; 1 where there is none."""
    shape = model.inputs[0].shape if model.inputs else ()
    return evaluate(shape[0], {}) if shape else 1


def flops_of(model: Model, batch: int) -> int | None:
    """Additions and multiplications of a run, as the artifact says; None if it doesn't."""
    flops = model.description.extra.get("flops", {}).get(model.description.entries[0].name)
    if flops is None:
        return None
    return evaluate(flops, dict.fromkeys(model.description.symbols, batch))
