"""Latency of convc and of other engines side by side: `python -m benchmarks.inference --help`.

Float32. For each network, batch and number of threads, processes of all contenders take turns, equally many of each.
A process loads the network, warms up, runs for some seconds and reports its median; the result is the median of these
with their spread. Differences of less than 5 % are ties. Every output is held against a float64 run of the same graph.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import convc
from benchmarks.contenders import CONTENDERS, ISAS, ONNX_FILE, Contender, environment
from benchmarks.layers import layers_of
from benchmarks.networks import LINES, network
from benchmarks.peer_graph import TO_NCHW, peer_graph
from benchmarks.tables import fallen, layers_table, report, write_docs
from benchmarks.two_cores import round_trip, streaming
from convc.cli.peak import measured_peak
from convc.graph.interp import run_graph
from convc.onnx.exporter import export_graph
from convc.report import total_flops
from convc.types import DType, evaluate

RESULTS = Path(__file__).with_name("results")


@dataclass
class Result:
    """One contender on one network and batch with so many threads; the lists have one entry per process.

    `medians` are the milliseconds of a run back to back, `paused` those of one after 10 ms of sleep, `cpu` the
    milliseconds of CPU time of a run, `load` those of loading; `memory` is in bytes. `round_trips` are the seconds of a
    cache line's way between two CPUs and back, just before the process began; of one thread there are none.
    """

    network: str
    batch: int
    threads: int
    contender: str
    flops: int
    peak: float
    medians: list[float] = field(default_factory=list)
    paused: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    load: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    round_trips: list[float] = field(default_factory=list)
    error: float = 0.0
    failure: str = ""

    @property
    def milliseconds(self) -> float:
        return statistics.median(self.medians)

    @property
    def spread(self) -> float:
        """The largest distance of a process's median from the result, as a share of it."""
        return max(abs(m / self.milliseconds - 1) for m in self.medians)

    @property
    def peak_share(self) -> float:
        return self.flops / (self.milliseconds * 1e-3) / self.peak

    def add(self, found: dict[str, float]) -> None:
        """What one process measured."""
        self.medians.append(found["milliseconds"])
        self.paused.append(found["paused_milliseconds"])
        self.cpu.append(found["cpu_milliseconds"])
        self.load.append(found["load_milliseconds"])
        self.memory.append(found["memory_bytes"])
        self.error = max(self.error, found["error"])

    def to_json(self) -> dict[str, Any]:
        found = asdict(self)
        if self.medians:
            found |= {"milliseconds": self.milliseconds, "spread": self.spread,
                      "peak_share": self.peak_share}  # fmt: skip
        return found


def prepare(
    name: str, batch: int, folder: Path, contenders: Sequence[Contender], target: str
) -> tuple[int, dict[str, str]]:
    """Writes what the workers need. Returns the flops of a run, and why a contender can't take part."""
    graph, image = network(name, batch)
    compiled = convc.compile(graph, target=target)
    compiled.save(folder / "network.cvc")
    for file, array in (("image", image), ("nchw", np.ascontiguousarray(image.transpose(TO_NCHW)))):
        np.save(folder / f"{file}.npy", array)
    onnx.save(export_graph(peer_graph(graph)), str(folder / ONNX_FILE))
    (exact,) = run_graph(graph, {graph.inputs[0]: image.astype(np.float64)}, DType.float64).values()
    np.save(folder / "float64.npy", exact)
    failures = {}
    for contender in contenders:
        try:
            if contender.prepare:
                contender.prepare(folder, tuple(image.transpose(TO_NCHW).shape))
        except (OSError, ValueError) as error:
            failures[contender.name] = str(error)
    return evaluate(total_flops(compiled.report), {"N": batch}), failures


def measure(result: Result, folder: Path, seconds: float, isa: str = "") -> None:
    """Runs one process of a contender and adds its median to the result."""
    arguments = [result.contender, str(folder), str(result.threads), str(seconds)]
    command = [sys.executable, "-m", "benchmarks.worker", *arguments]
    variables = environment(result.threads, result.contender, isa)
    trips = [round_trip()] if result.threads > 1 else []
    done = subprocess.run(command, capture_output=True, text=True, env=variables)
    if done.returncode:
        result.failure = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return
    result.add(json.loads(done.stdout.splitlines()[-1]))
    result.round_trips += trips


def compare(
    name: str,
    batch: int,
    contenders: Sequence[Contender],
    given: argparse.Namespace,
    peaks: dict[int, float],
) -> list[Result]:
    """All contenders on one network and batch, in turns.

    `peaks` keeps the highest peak seen for so many threads: another process's work only ever lowers what is measured.
    """
    with tempfile.TemporaryDirectory(prefix="convc-bench-") as temporary:
        folder = Path(temporary)
        flops, failures = prepare(name, batch, folder, contenders, given.target)
        results = [
            Result(name, batch, t, c.name, flops, 0.0, failure=failures.get(c.name, ""))
            for t in given.threads
            for c in contenders
        ]
        for t in given.threads:
            for _ in range(given.processes):
                peaks[t] = max(peaks.get(t, 0.0), measured_peak(t, given.target))
                for result in results:
                    if result.threads == t and not result.failure:
                        measure(result, folder, given.seconds, given.isa)
    for result in results:
        result.peak = peaks[result.threads]
    return results


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = lines[0].partition(":")[2].strip() if lines else cpu
    return {
        "cpu": cpu,
        "cpus": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "date": datetime.date.today().isoformat(),
    }


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    names = list(dict.fromkeys(name for name, _ in LINES))
    parser = argparse.ArgumentParser("benchmarks.inference", description=__doc__)
    parser.add_argument("--models", default=",".join(names), help="names, with commas between")
    parser.add_argument("--batches", default="1,16,128", help="only lines of these batches")
    parser.add_argument("--contenders", default=",".join(CONTENDERS))
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--processes", type=int, default=5, help="of each contender")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each process")
    parser.add_argument("--target", default="host", help="what convc compiles for")
    parser.add_argument(
        "--isa",
        choices=tuple(ISAS),
        default="",
        help="keep convc and those of the others that can be to an instruction set; the rest stay out",
    )
    parser.add_argument(
        "--layers",
        action="store_true",
        help="only what bounds convc's layers below 70 %% of the peak, on one thread",
    )
    parser.add_argument("--json", type=Path, help="write the results there")
    parser.add_argument("--quick", action="store_true", help="one short process of each")
    parser.add_argument(
        "--write-docs", action="store_true", help="keep the results and write docs/benchmarks.md"
    )
    parser.add_argument(
        "--remark", action="append", default=[], help="a sentence to print under the table"
    )
    given = parser.parse_args(argv)
    given.models, given.contenders = given.models.split(","), given.contenders.split(",")
    given.threads = [int(t) for t in given.threads.split(",")]
    given.batches = [int(b) for b in given.batches.split(",")]
    for what, chosen, known in (
        ("model", given.models, names),
        ("contender", given.contenders, CONTENDERS),
    ):
        for name in chosen:
            if name not in known:
                parser.error(f"unknown {what} {name!r}: expected one of {', '.join(known)}")
    if given.isa:
        given.target = ISAS[given.isa]
        given.contenders = [n for n in given.contenders if n == "convc" or CONTENDERS[n].isa]
    if given.quick:
        given.processes, given.seconds = 1, 0.5
    return given


def write_layers(given: argparse.Namespace) -> None:
    """Prints what bounds convc's layers, and keeps it and writes it to the docs if asked to."""
    lines = [line for line in LINES if line[0] in given.models and line[1] in given.batches]
    found = {
        f"{name}, batch {batch}": layers_of(name, batch, given.target, given.seconds)
        for name, batch in lines
    }
    print("\n".join(layers_table(found)))
    if given.write_docs:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "layers.json").write_text(json.dumps(found, indent=1) + "\n")
        write_docs(RESULTS)


def main(argv: Sequence[str] | None = None) -> None:
    given = arguments(argv)
    if given.layers:
        write_layers(given)
        return
    chosen = [CONTENDERS[n] for n in given.contenders]
    absent = {c.name: c.missing for c in chosen if c.missing}
    present = [c for c in chosen if not c.missing]
    facts = machine() | {
        "versions": {c.name: c.version for c in present},
        "absent": absent,
        "remarks": given.remark,
        "processes": given.processes,
        "seconds": given.seconds,
        "target": given.target,
        "isa": given.isa,
        "load_before": os.getloadavg()[0],
        "streaming": [[t, streaming(t)] for t in given.threads],
        "streaming_round_trip": round_trip() if max(given.threads) > 1 else 0.0,
    }
    results: list[dict[str, Any]] = []
    peaks: dict[int, float] = {}
    for name, batch in LINES:
        if name in given.models and batch in given.batches:
            found = compare(name, batch, present, given, peaks)
            results += [r.to_json() for r in found]
            report(results[-len(found) :], facts)
    facts["load_after"] = os.getloadavg()[0]
    document = {"machine": facts, "results": results}
    kept = RESULTS / (f"inference-{given.isa}.json" if given.isa else "inference.json")
    if kept.exists():
        for line in fallen(results, json.loads(kept.read_text())["results"]):
            print(line)
    if given.json:
        given.json.write_text(json.dumps(document, indent=1) + "\n")
    if given.write_docs:
        RESULTS.mkdir(exist_ok=True)
        kept.write_text(json.dumps(document, indent=1) + "\n")
        write_docs(RESULTS)


if __name__ == "__main__":
    main()
