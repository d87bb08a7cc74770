"""What compiling takes: `python -m benchmarks.compile_time [--row TEXT] [--rounds 3] [--against FOLDER]`.

Seconds from the start of a process to its first finished step of training, of which: CPU time of the process until the
step was compiled, and of the processes that LLVM runs in. `cold` has an empty cache, `warm` a cache that has the whole
compilation. Least of the rounds: on a machine that others use, CPU seconds are what to compare, and those of another
checkout (`--against`, a folder with its source), whose processes take turns with ours.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.training_networks import ROWS, Row

ROOT = Path(__file__).parents[1]
PROCESS_SECONDS = 600


def cpu_seconds() -> tuple[float, float]:
    """CPU time of this process, and of the processes that it started and that have ended."""
    own, others = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return own.ru_utime + own.ru_stime, others.ru_utime + others.ru_stime


def measured(row: Row, started: float) -> dict[str, Any]:
    """Trains one step of a row: what it took since a time (seconds since the epoch), and what the compiler did."""
    from benchmarks import training_steps as ours  # after the clock has started

    training, compiled = ours.compile_row(row)
    own, llvm = cpu_seconds()
    inputs = ours.given(training.graphs[ours.STEP], training, row.batch)
    context, given = ours.started(compiled.artifact.model(), inputs)
    context.entries[ours.STEP](given)
    return {
        "first_step": time.time() - started,
        "own": own,
        "llvm": llvm,
        "kernels": compiled.summary.kernels,
        "phases": compiled.timings.seconds,
    }


def run(root: Path, row: Row, cache: str) -> dict[str, Any]:
    """One process of a checkout."""
    paths = [str(root), str(root / "runtime"), str(ROOT)]
    done = subprocess.run(
        [sys.executable, str(Path(__file__)), "--child", row.name, str(time.time())],
        env={**os.environ, "CONVC_CACHE_DIR": cache, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=True,
        timeout=PROCESS_SECONDS,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def least(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The least of each figure; phases are those of the quickest round."""
    quickest = min(results, key=lambda r: r["first_step"])
    figures = {key: min(r[key] for r in results) for key in ("first_step", "own", "llvm")}
    return {**quickest, **figures}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--row", default="", help="only rows with this in their names")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--against", type=Path, help="another checkout to compare with")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child is not None:
        name, started = options.child
        (row,) = (r for r in ROWS if r.name == name)
        print(json.dumps(measured(row, float(started))))
        return
    roots = [ROOT, *([options.against.resolve()] if options.against is not None else [])]
    table = Table("network (batch)", "of", "cache", "first step", "CPU", "LLVM CPU", "kernels")
    for row in (r for r in ROWS if options.row in r.name):
        found: dict[tuple[Path, str], list[dict[str, Any]]] = {}
        for _ in range(options.rounds):
            for root in roots:
                with tempfile.TemporaryDirectory() as cache:
                    for state in ("cold", "warm"):
                        found.setdefault((root, state), []).append(run(root, row, cache))
        for (root, state), results in found.items():
            best = least(results)
            table.add_row(
                f"{row.name} ({row.batch})", root.name, state, f"{best['first_step']:.2f}",
                f"{best['own']:.2f}", f"{best['llvm']:.2f}", str(best["kernels"]),
            )  # fmt: skip
            if state == "cold":
                print(row.name, root.name, {k: round(v, 3) for k, v in best["phases"].items()})
    Console().print(table)


if __name__ == "__main__":
    main()
