"""One process of one contender: `python -m benchmarks.worker CONTENDER FOLDER THREADS SECONDS` prints a JSON object."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.contenders import CONTENDERS

PAUSE = 0.01
"""Seconds between the runs of an application that infers now and then: threads have gone to sleep."""


def main(name: str, folder: Path, threads: int, seconds: float) -> dict[str, float]:
    """Loads, warms up, runs for so long, then with pauses; the error is max|y - y64| / max|y64|.

    Memory is what loading and running add to the process at its peak.
    """
    contender = CONTENDERS[name]
    image = np.load(folder / ("nchw.npy" if contender.channels_first else "image.npy"))
    exact = np.load(folder / "float64.npy")
    before, start = resident(), time.perf_counter()
    run = contender.load(folder, threads, image)
    loaded = time.perf_counter()
    y = np.asarray(run(), np.float64).reshape(exact.shape)
    error = float(np.abs(y - exact).max() / np.abs(exact).max())
    spent_for(run, seconds / 4, 3)
    memory = resident() - before
    busy = time.process_time()
    spent = spent_for(run, seconds, 10)
    busy = time.process_time() - busy
    paused = spent_for(run, min(seconds / 4, 1.0), 5, PAUSE)
    return {
        "milliseconds": float(np.median(spent)) * 1e3,
        "least": min(spent) * 1e3,
        "runs": len(spent),
        "paused_milliseconds": float(np.median(paused)) * 1e3,
        "cpu_milliseconds": busy / len(spent) * 1e3,
        "memory_bytes": memory,
        "load_milliseconds": (loaded - start) * 1e3,
        "error": error,
    }


def spent_for(
    run: Callable[[], object], seconds: float, least: int, pause: float = 0.0
) -> list[float]:
    """The seconds of each run, for so long and at least so many, with pauses between."""
    spent: list[float] = []
    end = time.perf_counter() + seconds
    while len(spent) < least or time.perf_counter() < end:
        if pause:
            time.sleep(pause)
        start = time.perf_counter()
        run()
        spent.append(time.perf_counter() - start)
    return spent


def resident() -> int:
    """The most bytes of memory that this process has had (0 where the system doesn't tell)."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    (line,) = (x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    name, folder, threads, seconds = sys.argv[1:]
    print(json.dumps(main(name, Path(folder), int(threads), float(seconds))))
