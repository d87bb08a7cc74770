"""What a compiled model costs besides its latency: `python -m benchmarks.costs [--models ResNet50] [--write-docs]`.

Compile times with an empty cache, with one of kernels alone and with a full one; the artifact's size beside the bytes
of the model's weights, optimised for speed and for size; the memory for activations beside the least that any plan
takes; load time and what loading and running add to a process at its peak. Each figure comes from a process of its
own: times are the least of several, for they say what has to be done and not who else was at work. CPU time of a run
counts all threads, those that wait for work within a call too. All networks take about five minutes on a quiet machine.
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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import convc
from benchmarks.chart import Panel, write_panels
from benchmarks.inference import RESULTS, machine
from benchmarks.networks import NETWORKS
from benchmarks.tables import markdown, show
from benchmarks.worker import resident
from convc.driver import Options
from convc.types import Extent, evaluate, symbols_of

REPEATS = 3
SECONDS = 0.5
IMPORTS = {
    "import convc": "convc",
    "import convc.keras": "convc.keras",
    "import convc_runtime": "convc_runtime",
}
DOCS = Path(__file__).parents[1] / "docs" / "costs.md"
Found = dict[str, Any]


# ---------------------------------------------------------------- in a process of its own


def compile_once(name: str, path: str, optimize: str = "speed", recall: bool = True) -> Found:
    """Builds and compiles a network and saves the artifact; `recall` takes whole compilations from the cache."""
    start = time.perf_counter()
    model = NETWORKS[name]()
    built, busy = time.perf_counter(), time.process_time()
    compiled = convc.compile(model, options=Options(optimize=optimize, recall=recall))
    done, busy = time.perf_counter(), time.process_time() - busy
    phases = compiled.compiled.timings.seconds
    summary = compiled.compiled.summary
    compiled.save(path)
    return {
        "build": built - start,
        "compile": done - built,
        "cpu": busy,
        "llvm": phases.get("machine code", 0.0),
        "save": time.perf_counter() - done,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "artifact": Path(path).stat().st_size,
        "raw weights": summary.raw_weight_bytes,
        "packed weights": summary.weight_bytes,
        "arena": at_batch_1(summary.arena),
        "live": at_batch_1(summary.live),
        "phases": phases,
    }


def at_batch_1(extent: Extent) -> int:
    return evaluate(extent, dict.fromkeys(symbols_of((extent,)), 1))


def run_once(path: str, threads: int = 1) -> Found:
    """Loads an artifact and runs it on one image: seconds, and bytes added to the process at its peak.

    Then again and again for `SECONDS`: CPU seconds and seconds of each run.
    """
    import convc_runtime

    image = np.zeros((1, *input_shape(path)), np.float32)
    before, start = resident(), time.perf_counter()
    model = convc_runtime.load(path, threads)
    loaded = time.perf_counter() - start
    model(image)
    memory = resident() - before
    runs, begin, busy = 0, time.perf_counter(), time.process_time()
    while runs < 3 or time.perf_counter() - begin < SECONDS:
        model(image)
        runs += 1
    spent, busy = time.perf_counter() - begin, time.process_time() - busy
    return {"load": loaded, "memory": memory, "cpu": busy / runs, "latency": spent / runs}


def input_shape(path: str) -> tuple[int, ...]:
    """The shape of one image, read from the artifact's description."""
    from convc_runtime.format import read_contents

    with open(path, "rb") as file:
        description = read_contents(file, path).description
    return tuple(int(n) for n in description.entries[0].inputs[0].shape[1:])


def import_once(module: str) -> float:
    """The seconds that an import takes, the interpreter's start and this module's own imports aside."""
    code = f"import time; s = time.perf_counter(); import {module}; print(time.perf_counter() - s)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


def in_process(call: str, cache: Path) -> Any:
    """The JSON value of a call of this module, in a new process with a cache of its own."""
    code = f"import json; from benchmarks.costs import *; print(json.dumps({call}))"
    environment = os.environ | {"CONVC_CACHE_DIR": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


# ---------------------------------------------------------------- measuring


def measure(name: str) -> Found:
    """All figures of a network, in seconds and bytes."""
    with tempfile.TemporaryDirectory(prefix="convc-bench-") as temporary:
        folder = Path(temporary)
        fast, small, cache = folder / "fast.cvc", folder / "small.cvc", folder / "cache"

        def compiled(path: Path, optimize: str, recall: bool) -> Found:
            call = f"compile_once({name!r}, {str(path)!r}, {optimize!r}, {recall})"
            found: Found = in_process(call, cache)
            return found

        cold = compiled(fast, "speed", True)
        kernels = [compiled(fast, "speed", False) for _ in range(REPEATS)]
        warm = [compiled(fast, "speed", True) for _ in range(REPEATS)]
        runs = [in_process(f"run_once({str(fast)!r})", cache) for _ in range(REPEATS)]
        pairs = [in_process(f"run_once({str(fast)!r}, 2)", cache) for _ in range(REPEATS)]
        return {
            "network": name,
            "cold": cold,
            "kernels": min(kernels, key=lambda run: run["compile"]),
            "warm": min(warm, key=lambda run: run["compile"]),
            "small": compiled(small, "size", True),
            "load": min(run["load"] for run in runs),
            "memory": max(run["memory"] for run in runs),
            "cpu": {n: min(r["cpu"] for r in found) for n, found in (("1", runs), ("2", pairs))},
            "latency": {
                n: min(r["latency"] for r in found) for n, found in (("1", runs), ("2", pairs))
            },
        }


# ---------------------------------------------------------------- telling


def compile_table(results: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Column names and cells: seconds to compile."""
    columns = [
        "network",
        "cold, s",
        "of it LLVM",
        "kernels cached, s",
        "all cached, s",
        "build, save, s",
        "peak, MB",
    ]
    lines = [
        [
            r["network"],
            f"{r['cold']['compile']:.2f}",
            f"{r['cold']['llvm'] / r['cold']['compile']:.0%}",
            f"{r['kernels']['compile']:.2f}",
            f"{r['warm']['compile']:.2f}",
            f"{r['warm']['build'] + r['warm']['save']:.2f}",
            f"{r['cold']['memory'] / 1e6:.0f}",
        ]
        for r in results
    ]
    return columns, lines


def size_table(results: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Column names and cells: bytes on disk and in memory."""
    columns = [
        "network",
        "weights, MB",
        "packed",
        "for size",
        "artifact",
        "for size",
        "activations, MB",
        "least",
        "at its peak, MB",
        "beyond both",
        "load, ms",
    ]
    lines = []
    for r in results:
        fast, small = r["warm"], r["small"]
        raw = fast["raw weights"]
        beyond = r["memory"] - fast["packed weights"] - fast["arena"]
        lines.append(
            [
                r["network"],
                f"{raw / 1e6:.1f}",
                f"{fast['packed weights'] / raw:.2f}x",
                f"{small['packed weights'] / raw:.2f}x",
                f"{fast['artifact'] / raw:.2f}x",
                f"{small['artifact'] / raw:.2f}x",
                f"{fast['arena'] / 1e6:.2f}",
                f"{fast['live'] / 1e6:.2f}",
                f"{r['memory'] / 1e6:.1f}",
                f"{beyond / 1e6:+.1f}",
                f"{r['load'] * 1e3:.1f}",
            ]
        )
    return columns, lines


def run_table(results: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Column names and cells: CPU milliseconds of a run beside the milliseconds that it takes."""
    columns = [
        "network",
        "CPU, ms",
        "run, ms",
        "CPU on two threads, ms",
        "run, ms",
        "CPU beside one thread's",
    ]
    lines = []
    for r in results:
        cpu, latency = r["cpu"], r["latency"]
        cells = [f"{value * 1e3:.3g}" for n in "12" for value in (cpu[n], latency[n])]
        lines.append([r["network"], *cells, f"{cpu['2'] / cpu['1']:.2f}x"])
    return columns, lines


def draw(results: Sequence[Mapping[str, Any]]) -> None:
    """Writes docs/costs.svg: compile times, sizes and CPU time, of each a plain and a further figure."""
    raw = [r["warm"]["raw weights"] for r in results]
    sizes = [
        (r["warm"]["artifact"] / w, r["small"]["artifact"] / w)
        for r, w in zip(results, raw, strict=True)
    ]
    plans = [
        (r["warm"]["arena"] / r["warm"]["live"], r["cpu"]["2"] / r["cpu"]["1"]) for r in results
    ]
    seconds = [(r["cold"]["compile"], r["kernels"]["compile"]) for r in results]
    longest = max(cold for cold, _ in seconds)
    panels = [
        Panel("compile: cold, kernels cached", seconds, " s", longest),
        Panel("artifact / weights: speed, size", sizes, "x", 3.0, 1.0),
        Panel("activations / least; CPU, 2 threads / 1", plans, "x", 3.0, 1.0),
    ]
    write_panels(DOCS.with_suffix(".svg"), [r["network"] for r in results], panels)


def phases_of(result: Mapping[str, Any]) -> str:
    """Where the time of a cold compile went."""
    phases = ", ".join(f"{name} {s:.2f} s" for name, s in result["cold"]["phases"].items())
    return f"{result['network']}, compiled with an empty cache: {phases}"


def write_docs(document: Mapping[str, Any]) -> None:
    """Writes docs/costs.md and its chart."""
    facts, results = document["machine"], document["results"]
    imports = ", ".join(f"`{what}` {seconds:.2f} s" for what, seconds in facts["imports"].items())
    text = [
        "# What a compiled model costs besides its latency",
        "",
        f"Measured on {facts['date']} on {facts['cpus']} CPUs of {facts['cpu']} (load average "
        f"{facts['load_before']:.1f} before), Python {facts['python']}; each figure in a process of its own. "
        f"Imports: {imports}.",
        "",
        "![Compile times, sizes and CPU time](costs.svg)",
        "",
        "## Compiling",
        "",
        "Seconds to compile a Keras model: with an empty cache, with the kernels' machine code cached (another model "
        "of the same layers), and with the whole compilation cached (the same model with any weights).",
        "",
        *markdown(*compile_table(results)),
        "",
        "## Disk and memory",
        "",
        "The packed weights, and the artifact (code, packed weights, description), beside the bytes of the model's own "
        "weights, each by default and with `--optimize size`; the memory for the activations of one image, beside the "
        "largest live set, which no plan can go below; what loading and running add to a process at its peak, and how "
        "much of that is neither packed weights nor activations (negative where a network doesn't touch all that it "
        "has mapped); loading with the check of every weight.",
        "",
        *markdown(*size_table(results)),
        "",
        "## CPU time",
        "",
        "Of one image, runs back to back: the CPU time of all threads, also of those that wait for work within a call, "
        "and the time that a run takes.",
        "",
        *markdown(*run_table(results)),
        "",
        "To measure again: `python -m benchmarks.costs --write-docs`.",
    ]
    DOCS.write_text("\n".join(text) + "\n")
    draw(results)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser("benchmarks.costs", description=__doc__)
    parser.add_argument("--models", default=",".join(NETWORKS), help="names, with commas between")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--write-docs", action="store_true", help="write docs/costs.md")
    given = parser.parse_args(argv)
    names = given.models.split(",")
    if unknown := [name for name in names if name not in NETWORKS]:
        parser.error(f"unknown model {unknown[0]!r}: expected one of {', '.join(NETWORKS)}")
    facts = machine() | {
        "load_before": os.getloadavg()[0],
        "imports": {
            what: min(import_once(module) for _ in range(REPEATS))
            for what, module in IMPORTS.items()
        },
    }
    results = []
    for name in names:
        results.append(measure(name))
        print(phases_of(results[-1]))
    show(*compile_table(results))
    show(*size_table(results))
    show(*run_table(results))
    document = {"machine": facts, "results": results}
    if given.json:
        given.json.write_text(json.dumps(document, indent=1) + "\n")
    if given.write_docs:
        (RESULTS / "costs.json").write_text(json.dumps(document, indent=1) + "\n")
        write_docs(document)


if __name__ == "__main__":
    main()
