"""One process of one contender: `python -m benchmarks.worker CONTENDER FOLDER THREADS SECONDS` prints a JSON object."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.contenders import CONTENDERS


def main(name: str, folder: Path, threads: int, seconds: float) -> dict[str, float]:
    """Loads, warms up, runs for so long; the error is max|y - y64| / max|y64|."""
    contender = CONTENDERS[name]
    image = np.load(folder / ("nchw.npy" if contender.channels_first else "image.npy"))
    exact = np.load(folder / "float64.npy")
    start = time.perf_counter()
    run = contender.load(folder, threads, image)
    loaded = time.perf_counter()
    y = np.asarray(run(), np.float64).reshape(exact.shape)
    error = float(np.abs(y - exact).max() / np.abs(exact).max())
    spent_for(run, seconds / 4, 3)
    spent = spent_for(run, seconds, 10)
    return {
        "milliseconds": float(np.median(spent)) * 1e3,
        "least": min(spent) * 1e3,
        "runs": len(spent),
        "load_milliseconds": (loaded - start) * 1e3,
        "error": error,
    }


def spent_for(run: Callable[[], object], seconds: float, least: int) -> list[float]:
    """The seconds of each run, for so long and at least so many."""
    spent: list[float] = []
    end = time.perf_counter() + seconds
    while len(spent) < least or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        spent.append(time.perf_counter() - start)
    return spent


if __name__ == "__main__":
    name, folder, threads, seconds = sys.argv[1:]
    print(json.dumps(main(name, Path(folder), int(threads), float(seconds))))
