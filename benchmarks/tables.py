"""The results of benchmarks.inference as tables, on the terminal and in docs/benchmarks.md, and what fell since."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.chart import write_chart
from benchmarks.two_cores import FAR

TIE = 0.05
OUR_LIMIT = 1e-5
PEERS_LIMIT = 1e-4
DOCS = Path(__file__).parents[1] / "docs" / "benchmarks.md"
CHART = "benchmarks.svg"
Row = Mapping[str, Any]


def verdict(ours: Row, peers: Sequence[Row]) -> str:
    """How convc stands against the fastest of the others."""
    best = fastest(peers)
    if not ours["medians"] or best is None:
        return ""
    if ours["error"] > limit_of(ours):
        return "not counted"
    ratio = ours["milliseconds"] / best["milliseconds"]
    scattered = max(ours["spread"], best["spread"]) > TIE
    if scattered and overlap(ours["medians"], best["medians"]):
        return f"unclear against {best['contender']}"
    if abs(ratio - 1) < TIE:
        return f"tie with {best['contender']}"
    if ratio < 1:
        return f"{1 / ratio:.2f}x as fast as {best['contender']}"
    return f"{best['contender']} {ratio:.2f}x as fast"


def fastest(peers: Iterable[Row]) -> Row | None:
    """The fastest of those that were measured and whose results are right."""
    counted = [p for p in peers if p["medians"] and p["error"] <= limit_of(p)]
    return min(counted, key=lambda p: p["milliseconds"], default=None)


def overlap(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether the slowest process of one was slower than the fastest of the other, and the other way round."""
    return max(min(a), min(b)) <= min(max(a), max(b))


def limit_of(row: Row) -> float:
    return OUR_LIMIT if row["contender"] == "convc" else PEERS_LIMIT


def cell(row: Row | None) -> str:
    """Milliseconds with their spread; an error past the limit is marked."""
    if row is None or not row["medians"]:
        return "-"
    mark = "!" if row["error"] > limit_of(row) else ""
    return f"{row['milliseconds']:.3g} ±{row['spread']:.0%}{mark}"


def threads_text(threads: int, rows: Iterable[Row]) -> str:
    """So many threads, and how many of the processes began while their CPUs were far apart, if any did."""
    trips = [trip for row in rows for trip in row.get("round_trips", [])]
    far = sum(trip > FAR for trip in trips)
    return f"{threads} ({far}/{len(trips)} far)" if far else str(threads)


def distance(results: Iterable[Row]) -> list[str]:
    """How far the CPUs were apart when the processes with several threads began, and what that did to convc."""
    rows = [r for r in results if r.get("round_trips")]
    trips = sorted(trip for r in rows for trip in r["round_trips"])
    if not trips:
        return []
    far = sum(trip > FAR for trip in trips)
    said = (
        f"Before each process of several threads a cache line took {nanoseconds(statistics.median(trips))} from one "
        f"CPU to another and back ({nanoseconds(trips[0])} to {nanoseconds(trips[-1])}). In {far} of {len(trips)} it "
        f"took more than {nanoseconds(FAR)}: the host had put the CPUs far apart, where neither finds in its caches "
        'what the other wrote ("far" beside the threads).'
    )
    ratios = [ratio for r in rows if r["contender"] == "convc" for ratio in slower_far(r)]
    if ratios:
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        said += f" There convc took {mean:.2f} times as long (lines that had both: {len(ratios)})."
    return [said]


def nanoseconds(seconds: float) -> str:
    return f"{seconds * 1e9:.0f} ns"


def slower_far(row: Row) -> list[float]:
    """How many times as long a line's processes took that began far, in the median; nothing if there weren't both."""
    pairs = list(zip(row["medians"], row["round_trips"], strict=True))
    near, far = [m for m, t in pairs if t <= FAR], [m for m, t in pairs if t > FAR]
    return [statistics.median(far) / statistics.median(near)] if near and far else []


def streams(facts: Row) -> list[str]:
    """What memory gives to threads, which bounds layers whose weights are in no cache."""
    speeds = {threads: speed * 1e-9 for threads, speed in facts.get("streaming", [])}
    if not speeds:
        return []
    parts = [f"{s:.0f} GB/s to {t} thread{'s' if t > 1 else ''}" for t, s in speeds.items()]
    trip = facts.get("streaming_round_trip", 0.0)
    where = f", at {nanoseconds(trip)} from one CPU to another and back" if trip else ""
    said = f"Memory gave {' and '.join(parts)} before the first process{where}"
    if {1, 2} <= speeds.keys():
        said += (
            ": layers whose weights are in no cache, as VGG16's dense ones of 494 MB, are at most "
            f"{max(1.0, speeds[2] / speeds[1]):.2f} times as fast on two threads"
        )
    return [f"{said}."]


def groups(results: Iterable[Row]) -> list[tuple[str, int, int, dict[str, Row]]]:
    """The rows of each network, batch and number of threads, by contender."""
    found = []
    for key, rows in groupby(results, key=lambda r: (r["network"], r["batch"], r["threads"])):
        found.append((*key, {r["contender"]: r for r in rows}))
    return found


def peers_of(rows: Mapping[str, Row]) -> list[Row]:
    return [r for n, r in rows.items() if n != "convc"]


def table_of(results: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Column names and cells: latencies of all, and how convc stands."""
    names = list(dict.fromkeys(r["contender"] for r in results))
    verdict_column = "convc against the best"
    columns = ["network", "batch", "threads", *names, verdict_column, "share of peak", "error"]
    lines = []
    for name, batch, threads, rows in groups(results):
        ours = rows.get("convc")
        measured = ours if ours and ours["medians"] else None
        lines.append(
            [
                name,
                str(batch),
                threads_text(threads, rows.values()),
                *(cell(rows.get(n)) for n in names),
                verdict(measured, peers_of(rows)) if measured else "",
                f"{measured['peak_share']:.0%}" if measured else "",
                f"{measured['error']:.1e}" if measured else "",
            ]
        )
    return columns, lines


def further_table(results: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Column names and cells of what else is measured at batch 1: convc, and the best of the others by each column."""
    columns = [
        "network",
        "threads",
        "after 10 ms of sleep, ms",
        "CPU, ms",
        "load, ms",
        "memory, MB",
    ]
    lines = []
    for name, batch, threads, rows in groups(results):
        ours = rows.get("convc")
        if batch != 1 or ours is None or not ours["medians"]:
            continue
        cells = []
        for key, scale in (("paused", 1.0), ("cpu", 1.0), ("load", 1.0), ("memory", 1e-6)):
            others = [statistics.median(p[key]) * scale for p in peers_of(rows) if p["medians"]]
            least = f" ({min(others):.3g})" if others else ""
            cells.append(f"{statistics.median(ours[key]) * scale:.3g}{least}")
        lines.append([name, str(threads), *cells])
    return columns, lines


def ratios(results: Iterable[Row]) -> dict[tuple[str, int, int], float]:
    """By how much convc is faster than the fastest of the others, on each line."""
    found = {}
    for name, batch, threads, rows in groups(results):
        ours, best = rows.get("convc"), fastest(peers_of(rows))
        if ours and ours["medians"] and ours["error"] <= limit_of(ours) and best is not None:
            found[name, batch, threads] = best["milliseconds"] / ours["milliseconds"]
    return found


def means(results: Sequence[Row]) -> list[str]:
    """The geometric mean of the ratios, per number of threads."""
    found = []
    for threads in sorted({r["threads"] for r in results}):
        values = [v for (_, _, t), v in ratios(results).items() if t == threads]
        if values:
            mean = math.exp(sum(map(math.log, values)) / len(values))
            found.append(
                f"On {threads} thread{'s' if threads > 1 else ''} convc is {mean:.2f}x as fast as the best of the "
                f"others in the geometric mean of {len(values)} lines, {min(values):.2f}x on the least of them."
            )
    return found


def fallen(results: Iterable[Row], before: Iterable[Row]) -> list[str]:
    """The lines on which convc lost more than a tie against the fastest of the others since the results before."""
    old = ratios({"batch": 1, **row} for row in before)
    return [
        f"FELL: {line[0]}, batch {line[1]}, {line[2]} threads: {ratio:.2f}x the best, it was {old[line]:.2f}x"
        for line, ratio in ratios(results).items()
        if ratio < old.get(line, 0.0) * (1 - TIE)
    ]


def notes(results: Iterable[Row], facts: Row) -> list[str]:
    """What the table can't say: failures, errors past the limits, contenders that weren't there."""
    found = [
        f"{name} did not take part: {package} is not installed"
        for name, package in facts["absent"].items()
    ]
    found += facts.get("remarks", [])
    for row in results:
        where = (
            f"{row['network']}, batch {row['batch']}, {row['threads']} threads, {row['contender']}"
        )
        if row["failure"]:
            found.append(f"{where} failed: {row['failure']}")
        if row["error"] > limit_of(row):
            found.append(f"{where}: error {row['error']:.1e} is above {limit_of(row):.0e}")
    return found


def report(results: Sequence[Row], facts: Row) -> None:
    """Prints the table, the notes, and what two threads have of the machine."""
    show(*table_of(results), title="milliseconds")
    for note in (*notes(results, facts), *distance(results), *streams(facts)):
        Console(width=160, highlight=False).print(note, markup=False)


def show(columns: Iterable[str], lines: Iterable[Sequence[str]], title: str = "") -> None:
    """Prints a table."""
    table = Table(box=None, pad_edge=False, title=title or None, title_justify="left")
    for column in columns:
        table.add_column(column)
    for line in lines:
        table.add_row(*line)
    Console(width=160, highlight=False).print(table)


def markdown(columns: Sequence[str], lines: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (columns, ["---"] * len(columns), *lines)]


def layers_table(layers: Mapping[str, Sequence[Row]]) -> list[str]:
    """Per network what bounds the kernels below 70 % of the peak, those of the same kind together, as markdown."""
    columns = ["network", "share of peak", "bound", "kernels", "of the time", "their share of peak"]
    lines = []
    for name, rows in layers.items():
        whole = next(r for r in rows if not r["bound"])
        shown = [name, f"{whole['share_of_peak']:.0%}"]
        for row in (r for r in rows if r["bound"]):
            own = f"{row['share_of_peak']:.0%}" if row["share_of_peak"] else "-"
            lines.append([*shown, row["bound"], row["kind"], f"{row['time_share']:.0%}", own])
            shown = ["", ""]
    return markdown(columns, lines)


def narrow_section(document: Mapping[str, Any]) -> list[str]:
    """The lines about an instruction set to which convc and some of the others were kept."""
    facts, results = document["machine"], document["results"]
    return [
        f"## Kept to {facts['isa'].upper()}",
        "",
        f"The same with convc compiled for {facts['target']}, measured on {facts['date']}; OpenVINO with "
        f"`ONEDNN_MAX_CPU_ISA` and `OV_CPU_MAX_ISA` set to {facts['isa'].upper()} (oneDNN's kernels heed the first; "
        "releases of OpenVINO before the second was opened to them take other instructions in a few of their own). "
        "ONNX Runtime and ncnn have no such setting. The share is of the peak of these instructions.",
        "",
        *means(results),
        "",
        *markdown(*table_of(results)),
        "",
        *(f"- {note}" for note in notes(results, facts)),
        "",
    ]


def layers_section(layers: Mapping[str, Sequence[Row]]) -> list[str]:
    return [
        "## What bounds the layers",
        "",
        "convc's kernels below 70 % of the peak on one thread, those that take 1 % of a network's time or more: "
        "what explains at least half of their time is where their bytes come from, at the speeds that one core was "
        "measured to read from its caches and from memory; failing that, a name for what else there is. A kernel in a "
        "profile finds the caches as the one before left them.",
        "",
        *layers_table(layers),
        "",
    ]


def write_docs(folder: Path) -> None:
    """Writes docs/benchmarks.md and its chart from the results kept in a folder."""
    document = json.loads((folder / "inference.json").read_text())
    others = sorted(folder.glob("inference-*.json"))
    layers = folder / "layers.json"
    facts, results = document["machine"], document["results"]
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    write_chart(DOCS.with_name(CHART), ratios(results))
    text = [
        "# Benchmarks",
        "",
        f"Latency in milliseconds in float32, measured on {facts['date']} on {facts['cpus']} CPUs of "
        f"{facts['cpu']} (load average {facts['load_before']:.1f} before, {facts['load_after']:.1f} after), "
        f"Python {facts['python']}: {versions}.",
        "",
        f"Each figure is the median of {facts['processes']} processes' medians, each over {facts['seconds']} s after a "
        "warm-up; ± is the largest distance of a process from it. Contenders take turns. Less than 5 % is a tie; where "
        "the processes of both overlap, the difference says nothing.",
        "The share is that of the peak that fused multiply-adds reach on as many threads, counting what convc's "
        "kernels compute (with Winograd's transforms less than a convolution by definition); the error is "
        "max\\|y - y64\\| / max\\|y64\\| of convc's logits against a float64 run.",
        "Weights are random, batch norm statistics too, such that activations keep their size. Other engines get the "
        "network as ONNX with NCHW images (ncnn one image after the other); convc compiles the channels_last model and "
        "gets NHWC images.",
        *distance(results),
        *streams(facts),
        "",
        *means(results),
        "",
        f"![How many times as fast as the best of the others]({CHART})",
        "",
        *markdown(*table_of(results)),
        "",
        *(f"- {note}" for note in notes(results, facts)),
        "",
        "## Also measured",
        "",
        "Of convc, and in brackets the least of the others: a run after 10 ms of sleep, the CPU time of a run, "
        "loading, and what loading and running add to a process's memory at its peak.",
        "",
        *markdown(*further_table(results)),
        "",
        *(line for f in others for line in narrow_section(json.loads(f.read_text()))),
        *(layers_section(json.loads(layers.read_text())) if layers.exists() else ()),
        "To measure again: `python -m benchmarks.inference --write-docs` "
        "(with `pip install onnxruntime openvino ncnn pnnx` for the others), with `--isa avx2` or `--layers` for the "
        "further tables.",
    ]  # fmt: skip
    DOCS.write_text("\n".join(text) + "\n")
