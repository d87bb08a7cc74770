"""The tutorials on the real data: `python -m benchmarks.tutorials --mnist mnist.npz --cifar cifar10.npz [--only NAME]`.

Paths may also come from CONVC_MNIST and CONVC_CIFAR; rows without data are left out. It prints a table of accuracies
that the tutorials reach, beside those that they are known for, and keeps it in benchmarks/results/tutorials.json.
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from convc.scripts import LENT_AS, lending

FOLDER = Path(__file__).parents[1] / "examples" / "tutorials"
RESULTS = Path(__file__).with_name("results") / "tutorials.json"


@dataclass(frozen=True)
class Row:
    """A tutorial: how long it trains, with how many seeds, and the accuracy that it should reach."""

    name: str
    data: str
    epochs: int
    wanted: float
    seeds: int = 1
    result: str = "val_accuracy"


ROWS = (
    Row("mnist_dense", "mnist", 10, 0.92, seeds=30),
    Row("mnist_conv", "mnist", 10, 0.975),
    Row("mnist_pool", "mnist", 10, 0.98),
    Row("mnist_callback", "mnist", 10, 0.97),
    Row("mnist_rmsprop", "mnist", 5, 0.99, result="test_accuracy"),
    Row("cifar_augmented", "cifar", 20, 0.0),
)


@dataclass(frozen=True)
class Result:
    """What a row gave: the median over its seeds, and all of them. Accuracies are those after the last epoch.

    `gap` is how much better the training pictures are known than others (the mean of the last three epochs).
    """

    name: str
    parameters: int
    epochs: int
    seconds_per_epoch: float
    accuracy: float
    accuracies: list[float]
    wanted: float
    gap: float | None = None


def measure(row: Row, path: str, epochs: int | None) -> list[Result]:
    with lending(LENT_AS):
        program = runpy.run_path(str(FOLDER / f"{row.name}.py"))
        parameters = int(program["build"]().count_params())
        count = epochs or row.epochs
        histories, start = [], time.perf_counter()
        for seed in range(row.seeds):
            arguments = ["--data", path, "--epochs", str(count), "--seed", str(seed)]
            histories.append(program["main"](arguments))
        seconds = (time.perf_counter() - start) / row.seeds / count
    if row.name == "cifar_augmented":
        return [
            compared(f"{row.name}, {kind}", parameters, count, seconds / 2, histories[0][kind])
            for kind in ("plain", "augmented")
        ]
    found = [float(h[row.result][-1]) for h in histories]
    median = statistics.median(found)
    return [Result(row.name, parameters, count, seconds, median, found, row.wanted)]


def compared(
    name: str, parameters: int, epochs: int, seconds: float, history: dict[str, Any]
) -> Result:
    known, other = (statistics.mean(history[k][-3:]) for k in ("accuracy", "val_accuracy"))
    return Result(name, parameters, epochs, seconds, other, [other], 0.0, known - other)


def table(results: Sequence[Result]) -> str:
    lines = [
        "| tutorial | parameters | epochs | seconds per epoch | accuracy | to reach | gap |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in results:
        several = (
            f" ({min(r.accuracies):.4f} to {max(r.accuracies):.4f})" if r.accuracies[1:] else ""
        )
        wanted = f"{r.wanted:.3f}" if r.wanted else "–"
        gap = "–" if r.gap is None else f"{r.gap:.3f}"
        lines.append(
            f"| {r.name} | {r.parameters:,} | {r.epochs} | {r.seconds_per_epoch:.1f} | {r.accuracy:.4f}{several} | "
            f"{wanted} | {gap} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--mnist", default=os.environ.get("CONVC_MNIST"))
    parser.add_argument("--cifar", default=os.environ.get("CONVC_CIFAR"))
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME")
    parser.add_argument("--epochs", type=int, help="instead of each tutorial's own number")
    options = parser.parse_args()
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    found = {r["name"]: Result(**r) for r in known}
    for row in ROWS:
        path = getattr(options, row.data)
        if path is None or not Path(path).exists():
            print(f"{row.name}: left out, there is no --{row.data} {path or ''}")
        elif not options.only or row.name in options.only:
            found |= {r.name: r for r in measure(row, path, options.epochs)}
            RESULTS.write_text(json.dumps([asdict(r) for r in found.values()], indent=1) + "\n")
    print(table(list(found.values())))


if __name__ == "__main__":
    main()
