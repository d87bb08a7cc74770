"""What it costs to build and to load a model: `python -m benchmarks.compile_time [--model ResNet50] [--json FILE]`.

Compile times with an empty cache, with one of kernels alone and with a full one, each in a process of its own and both
in wall-clock and CPU time; the share of them that is spent outside LLVM; import times, sizes, load times and peak
memory.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import convc
from benchmarks.networks import NETWORKS
from convc.driver import Options

IMPORTS = {
    "import convc": "convc",
    "import convc.keras": "convc.keras",
    "import convc_runtime": "convc_runtime",
}
REPEATS = 3


def compile_once(name: str, path: Path, recall: bool = True) -> dict[str, Any]:
    """Builds and compiles a network in this process and saves the artifact; `recall` uses whole compilations."""
    start = time.perf_counter()
    model = NETWORKS[name]()
    built, busy = time.perf_counter(), time.process_time()
    compiled = convc.compile(model, options=Options(recall=recall))
    done, busy = time.perf_counter(), time.process_time() - busy
    phases = compiled.compiled.timings.seconds
    compiled.save(path)
    saved = time.perf_counter()
    return {
        "build the model": built - start,
        "compile": done - built,
        "compile CPU": busy,
        "of it LLVM": phases.get("machine code", 0.0),
        "save": saved - done,
        "peak memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "phases": phases,
    }


def load_once(path: str) -> dict[str, float]:
    """Loads an artifact in this process, with and without the check of its weights."""
    import convc_runtime

    found = {}
    for what, check in (("load", True), ("load unchecked", False)):
        start = time.perf_counter()
        convc_runtime.load(path, 1, check).close()
        found[what] = time.perf_counter() - start
    return found


def in_process(call: str, cache: Path) -> Any:
    """The JSON value of an expression of this module, in a new process with a cache of its own."""
    code = f"import json; from pathlib import Path; from benchmarks.compile_time import *; print(json.dumps({call}))"
    environment = os.environ | {"CONVC_CACHE_DIR": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def import_seconds(module: str) -> float:
    """The median time that an import takes in a new process, the interpreter's start aside."""
    code = f"import time; s = time.perf_counter(); import {module}; print(time.perf_counter() - s)"
    times = [
        float(
            subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=True
            ).stdout
        )
        for _ in range(REPEATS)
    ]
    return statistics.median(times)


def measure(name: str) -> dict[str, Any]:
    """All figures, in seconds and bytes."""
    found: dict[str, Any] = {"model": name}
    found |= {what: import_seconds(module) for what, module in IMPORTS.items()}
    with tempfile.TemporaryDirectory(prefix="convc-bench-") as temporary:
        folder = Path(temporary)
        path, cache = folder / "network.cvc", folder / "cache"
        call = f"compile_once({name!r}, Path({str(path)!r}), {{}})"
        found["cold"] = in_process(call.format(True), cache)
        for kind, recall in (("kernels", False), ("warm", True)):
            runs = [in_process(call.format(recall), cache) for _ in range(REPEATS)]
            found[kind] = min(runs, key=lambda run: run["compile"])
        found["artifact"] = path.stat().st_size
        found["code"] = code_size(path)
        found["cache"] = sum(f.stat().st_size for f in cache.rglob("*") if f.is_file())
        loads = [in_process(f"load_once({str(path)!r})", cache) for _ in range(REPEATS)]
        found |= {what: statistics.median(load[what] for load in loads) for what in loads[0]}
    found["load average"] = os.getloadavg()[0]
    return found


def code_size(path: Path) -> int:
    """The bytes of an artifact's machine code."""
    from convc_runtime.format import read_contents

    with path.open("rb") as file:
        return int(read_contents(file, str(path)).code.size)


def lines_of(found: dict[str, Any]) -> list[tuple[str, str]]:
    """What is measured and its figure."""
    lines = [(what, f"{found[what] * 1e3:.0f} ms") for what in IMPORTS]
    for kind, cache in (
        ("cold", "an empty cache"),
        ("kernels", "a cache of kernels"),
        ("warm", "a full cache"),
    ):
        run = found[kind]
        python = 1 - run["of it LLVM"] / run["compile"]
        phases = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in run["phases"].items())
        lines += [
            (
                f"compile, {cache}",
                f"{run['compile']:.2f} s ({run['compile CPU']:.2f} s of CPU time), {python:.0%} of it outside LLVM",
            ),
            ("  phases", phases),
            ("  peak memory", f"{run['peak memory'] / 2**20:.0f} MiB"),
        ]
    lines += [
        ("build the Keras model", f"{found['warm']['build the model']:.2f} s"),
        ("save", f"{found['warm']['save']:.2f} s"),
        ("artifact", f"{found['artifact'] / 1e6:.1f} MB, {found['code'] / 1e3:.0f} kB of it code"),
        ("cache", f"{found['cache'] / 1e3:.0f} kB"),
        ("load, weights checked", f"{found['load'] * 1e3:.1f} ms"),
        ("load, weights unchecked", f"{found['load unchecked'] * 1e3:.1f} ms"),
        ("load average of the machine", f"{found['load average']:.1f}"),
    ]
    return lines


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser("benchmarks.compile_time", description=__doc__)
    parser.add_argument("--model", default="ResNet50", choices=list(NETWORKS))
    parser.add_argument("--json", type=Path, help="write the figures there")
    given = parser.parse_args(argv)
    found = measure(given.model)
    table = Table(box=None, show_header=False, title=given.model, title_justify="left")
    for line in lines_of(found):
        table.add_row(*line)
    Console(width=160, highlight=False).print(table)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
