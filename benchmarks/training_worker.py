"""One process of one contender: `python -m benchmarks.training_worker CONTENDER ROW THREADS SECONDS WEIGHTS STARTED`.

Prints a JSON object. `WEIGHTS` is a file of benchmarks.training_weights, `STARTED` the time (seconds since the epoch)
at which the process was started. Imports nothing of convc, so that interpreters without it can run other contenders.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.training_contenders import STARTERS
from benchmarks.training_networks import ROWS, Row
from benchmarks.training_weights import load_weights

SEED = 7
LOSS_STEPS = 20
"""After how many steps on the same batch the loss is reported."""


def batch_of(row: Row) -> tuple[Any, Any]:
    """Random images in 0..1 (float32, NHWC) and labels (int64)."""
    rng = np.random.default_rng(SEED)
    images = rng.uniform(0, 1, (row.batch, *row.shape)).astype(np.float32)
    return images, rng.integers(0, 10, row.batch)


def main(
    name: str, row: Row, threads: int, seconds: float, weights: Path, started: float
) -> dict[str, Any]:
    """Trains for so many seconds, of which the first quarter is no more than a warm-up."""
    limit_processors(threads)
    images, labels = batch_of(row)
    trainer = STARTERS[name](row, threads, images, labels, load_weights(weights))
    losses = [trainer.step()]
    first = time.time() - started
    begin = time.perf_counter()
    while len(losses) < 3 or time.perf_counter() - begin < seconds / 4:
        losses.append(trainer.step())
    spent: list[float] = []
    while len(spent) < 3 or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        losses.append(trainer.step())
        spent.append(time.perf_counter() - start)
    return {
        "milliseconds": statistics.median(spent) * 1e3,
        "least": min(spent) * 1e3,
        "steps": len(losses),
        "first_step_seconds": first,
        "memory_bytes": resident(),
        "parameters": trainer.parameters,
        "flops": trainer.flops,
        "losses": [losses[0], losses[min(LOSS_STEPS, len(losses)) - 1]],
    }


def limit_processors(threads: int) -> None:
    """Takes as many processors as threads: what starts more threads gains nothing from them."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])


def resident() -> int:
    """The most bytes of memory that this process has had (0 where the system doesn't tell)."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    (line,) = (x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    contender, row_name, threads, seconds, weights, started = sys.argv[1:]
    (row,) = (r for r in ROWS if r.name == row_name)
    given = (int(threads), float(seconds), Path(weights), float(started))
    print(json.dumps(main(contender, row, *given)))
