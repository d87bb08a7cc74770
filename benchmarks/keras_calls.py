"""What Keras' methods take as a user calls them, beside Keras itself: `python -m benchmarks.keras_calls --help`.

`fit`, `evaluate`, `predict`, `train_on_batch` and a call of the model, on networks so small that what surrounds the
kernels shows: batches, callbacks, metrics, conversions. All contenders run the same program on the same random
data, each process on its own; contenders take turns, and the result is the median of the processes with their spread.
Keras may live in another environment: `--python keras-tf=/path/to/bin/python`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.inference import RESULTS, machine
from benchmarks.keras_calls_worker import BATCH, IMAGES, Found
from benchmarks.tables import markdown, show

KERAS = {"convc": "convc.keras", "keras-tf": "keras", "keras-torch": "keras", "keras-jax": "keras"}
BACKENDS = {"keras-tf": "tensorflow", "keras-torch": "torch", "keras-jax": "jax"}
ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs" / "keras-calls.md"
KEPT = RESULTS / "keras_calls.json"


def measure(contender: str, python: str) -> dict[str, Found] | None:
    """What one process of a contender finds; None where its Keras isn't installed."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "runtime")]),
        "KERAS_BACKEND": BACKENDS.get(contender, ""),
    }
    command = [python, "-m", "benchmarks.keras_calls_worker", KERAS[contender]]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=900
    )
    if done.returncode:
        print(f"{contender}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")
        return None
    found: dict[str, Found] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(pythons: Mapping[str, str], processes: int) -> dict[str, list[dict[str, Found]]]:
    """What the processes of each contender find, in turns; those that fail take no further part."""
    results: dict[str, list[dict[str, Found]]] = {name: [] for name in pythons}
    for _ in range(processes):
        for name in list(results):
            found = measure(name, pythons[name])
            if found is None:
                del results[name]
            else:
                results[name].append(found)
    return results


def time_text(seconds: float) -> str:
    """Three digits, in a unit that suits them."""
    for unit, scale in (("s", 1.0), ("ms", 1e3)):
        if seconds * scale >= 1:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def ratio_text(ratio: float) -> str:
    """Three digits, or all that stand before the point."""
    return f"{ratio:,.0f}x" if ratio >= 100 else f"{ratio:.3g}x"


def table_of(
    results: Mapping[str, Sequence[Mapping[str, Found]]],
) -> tuple[list[str], list[list[str]]]:
    """Column names and cells: each call's time, and how many times the fastest of the others' that is."""
    ours, *others = results
    columns = ["network", "call", *results, "convc against the best"]
    lines = []
    for network in results[ours][0]:
        for call in results[ours][0][network]:
            medians, cells = {}, []
            for name, runs in results.items():
                times = [run[network][call] for run in runs]
                medians[name] = statistics.median(times)
                spread = max(abs(t / medians[name] - 1) for t in times)
                cells.append(f"{time_text(medians[name])} ±{spread:.0%}")
            best = min((medians[name] for name in others), default=None)
            ratio = "" if best is None else f"{ratio_text(best / medians[ours])} as fast"
            lines.append([network, call, *cells, ratio])
    return columns, lines


def write_docs(facts: Mapping[str, Any], columns: list[str], lines: list[list[str]]) -> None:
    """Writes docs/keras-calls.md."""
    text = [
        "# Keras' methods, as a user calls them",
        "",
        f"The same program with `convc.keras` and with Keras, on {IMAGES:,} random 28x28 images of bytes in batches of "
        f"{BATCH}, measured on {facts['date']} on {facts['cpus']} CPUs of {facts['cpu']} (load average "
        f"{facts['load_before']:.1f} before), Python {facts['python']}. Medians of {facts['processes']} processes of "
        "each, which take turns, ± the largest distance from them. The networks are small, so that what surrounds the "
        "arithmetic shows; [training-benchmarks.md](training-benchmarks.md) has larger ones. `predict` of Keras on one "
        "image is known to be slow, its guide advises the call.",
        "",
        *markdown(columns, lines),
        "",
        "To measure again: `python -m benchmarks.keras_calls --write-docs`, with `--python keras-tf=PATH` for Keras in "
        "another environment.",
    ]  # fmt: skip
    DOCS.write_text("\n".join(text) + "\n")


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("benchmarks.keras_calls", description=__doc__)
    parser.add_argument("--contenders", default="convc,keras-tf", help=f"out of {', '.join(KERAS)}")
    parser.add_argument("--python", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--processes", type=int, default=5, help="of each contender")
    parser.add_argument("--write-docs", action="store_true", help="write docs/keras-calls.md")
    given = parser.parse_args(argv)
    given.contenders = given.contenders.split(",")
    for name in given.contenders:
        if name not in KERAS:
            parser.error(f"unknown contender {name!r}: expected one of {', '.join(KERAS)}")
    if not all("=" in one for one in given.python):
        parser.error("--python: expected NAME=PATH")
    return given


def main(argv: Sequence[str] | None = None) -> None:
    given = arguments(argv)
    chosen = dict(one.split("=", 1) for one in given.python)
    pythons = {name: chosen.get(name, sys.executable) for name in given.contenders}
    facts = machine() | {"load_before": os.getloadavg()[0], "processes": given.processes}
    results = compare(pythons, given.processes)
    columns, lines = table_of(results)
    show(columns, lines)
    if given.write_docs:
        document = {"machine": facts, "results": results}
        KEPT.write_text(json.dumps(document, indent=1) + "\n")
        write_docs(facts, columns, lines)


if __name__ == "__main__":
    main()
