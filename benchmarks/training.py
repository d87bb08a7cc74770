"""Training step times of convc and of other frameworks side by side: `python -m benchmarks.training --help`.

Float32. In each round every contender takes its turn on every network and number of threads, in a process of its own
that reports the median of its steps; the result is the median of the rounds with their spread. Differences of less than
5 % are ties. Other frameworks may live in other environments: `--python torch=/path/to/bin/python` (a contender's
name, or its beginning: `keras` is for keras-tf and keras-jax). What each kernel of ours takes:
`python -m benchmarks.training_steps --kernels`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.inference import RESULTS, machine
from benchmarks.tables import fallen
from benchmarks.training_contenders import PACKAGES
from benchmarks.training_networks import ROWS, Row
from benchmarks.training_tables import Result, judge, report, write_docs
from benchmarks.training_weights import save_weights
from convc import keras
from convc.cli.peak import fma_peak

ROOT = Path(__file__).parents[1]
KEPT = RESULTS / "training.json"
DEFAULT = ("convc", "torch", "keras-tf", "keras-jax")
PROCESS_SECONDS = 600
WEIGHTS_SEED = 7
ASK = """
import importlib.metadata as m, sys
names = {"tensorflow": ("tensorflow", "tensorflow-cpu")}.get(sys.argv[1], (sys.argv[1],))
print(next((d.version for n in names for d in m.distributions(name=n)), ""))
"""


def python_of(contender: str, given: Mapping[str, str]) -> str:
    """The interpreter for a contender: the one given for the longest beginning of its name."""
    fitting = [name for name in given if contender == name or contender.startswith(f"{name}-")]
    return given[max(fitting, key=len)] if fitting else sys.executable


def version_of(contender: str, python: str) -> str:
    """The version of a contender's package in an interpreter; empty where it isn't installed."""
    command = [python, "-c", ASK, PACKAGES[contender]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.stdout.strip()


def environment(threads: int, cache: str) -> dict[str, str]:
    """Variables of a worker: our cache is empty at first; OpenMP's threads don't wait busily for long.

    Modules are compiled once, as installing a package compiles them, whatever this process is told.
    """
    inherited = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return inherited | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "runtime")]),
        "CONVC_CACHE_DIR": cache,
        "OMP_NUM_THREADS": str(threads),
        "GOMP_SPINCOUNT": "20000",
    }


def drawn_weights(rows: Sequence[Row], folder: Path) -> dict[str, Path]:
    """A file of initial weights for each network, by its name."""
    found = {}
    for n, row in enumerate(rows):
        keras.utils.set_random_seed(WEIGHTS_SEED)
        found[row.name] = folder / f"weights{n}.npz"
        save_weights(found[row.name], row.network(keras).get_weights())
    return found


def measure(result: Result, python: str, seconds: float, weights: Path, cache: str) -> None:
    """Runs one process and adds what it found."""
    command = [python, "-m", "benchmarks.training_worker", result.contender, result.network]
    command += [str(result.threads), str(seconds), str(weights), repr(time.time())]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PROCESS_SECONDS, cwd=ROOT,
            env=environment(result.threads, cache),
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        result.failure = f"a process took more than {PROCESS_SECONDS} s"
        return
    if done.returncode:
        result.failure = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return
    result.add(json.loads(done.stdout.splitlines()[-1]))


def compare(
    rows: Sequence[Row], pythons: Mapping[str, str], given: argparse.Namespace
) -> list[Result]:
    """Whole rounds, so that all have equally many processes: `--processes`, or those that fit into `--minutes`."""
    results = [
        Result(row.name, row.batch, t, name, row.draws)
        for row in rows
        for t in given.threads
        for name in pythons
    ]
    peaks: dict[int, float] = {}
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="convc-bench-") as folder:
        weights = drawn_weights(rows, Path(folder))
        cache = str(Path(folder) / "cache")
        for done in range(given.processes):
            spent = time.monotonic() - began
            if done and spent * (done + 1) / done > given.minutes * 60:
                break
            for t in given.threads:
                peaks[t] = max(peaks.get(t, 0.0), fma_peak.__wrapped__(t))
            for result in results:
                if not result.failure:
                    python = pythons[result.contender]
                    measure(result, python, given.seconds, weights[result.network], cache)
            print(f"round {done + 1}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    judge(results, peaks)
    return results


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("benchmarks.training", description=__doc__)
    parser.add_argument("--row", default="", help="only networks with this in their names")
    parser.add_argument(
        "--contenders",
        help=f"names out of {', '.join(PACKAGES)}; default: those of {', '.join(DEFAULT)} that are there",
    )
    parser.add_argument("--python", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--processes", type=int, default=5, help="of each contender")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each process's steps")
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="begin no round that would end later"
    )
    parser.add_argument("--json", type=Path, help="write the results there")
    parser.add_argument("--quick", action="store_true", help="one short process of each")
    parser.add_argument(
        "--write-docs",
        action="store_true",
        help="keep the results and write docs/training-benchmarks.md",
    )
    parser.add_argument("--remark", action="append", default=[], help="a sentence for the notes")
    given = parser.parse_args(argv)
    names = given.contenders.split(",") if given.contenders else list(DEFAULT)
    for name in names:
        if name not in PACKAGES:
            parser.error(f"unknown contender {name!r}: expected one of {', '.join(PACKAGES)}")
    if not all("=" in one for one in given.python):
        parser.error("--python: expected NAME=PATH")
    given.contenders = names
    given.python = dict(one.split("=", 1) for one in given.python)
    if given.quick:
        given.processes, given.seconds = 1, 0.3
    return given


def main(argv: Sequence[str] | None = None) -> None:
    given = arguments(argv)
    pythons = {name: python_of(name, given.python) for name in given.contenders}
    versions = {name: version_of(name, python) for name, python in pythons.items()}
    versions["convc"] = versions.get("convc") or "from its source"
    present = {n: p for n, p in pythons.items() if versions[n]}
    facts: dict[str, Any] = machine() | {
        "versions": {n: versions[n] for n in present},
        "absent": {n: PACKAGES[n] for n in pythons if n not in present},
        "remarks": given.remark,
        "seconds": given.seconds,
        "load_before": os.getloadavg()[0],
    }
    rows = [row for row in ROWS if given.row in row.name]
    results = [r.to_json() for r in compare(rows, present, given)]
    facts["processes"] = max((len(r["medians"]) for r in results), default=0)
    facts["load_after"] = os.getloadavg()[0]
    report(results, facts)
    document = {"machine": facts, "results": results}
    if KEPT.exists():
        for line in fallen(results, json.loads(KEPT.read_text())["results"]):
            print(line)
    if given.json:
        given.json.write_text(json.dumps(document, indent=1) + "\n")
    if given.write_docs:
        RESULTS.mkdir(exist_ok=True)
        KEPT.write_text(json.dumps(document, indent=1) + "\n")
        write_docs(document)


if __name__ == "__main__":
    main()
