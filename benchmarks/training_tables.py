"""The results of benchmarks.training: what they say, as tables on the terminal and in docs/training-benchmarks.md."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.chart import write_chart
from benchmarks.tables import DOCS as INFERENCE_DOCS
from benchmarks.tables import Row, cell, groups, markdown, means, peers_of, ratios, verdict

DOCS = INFERENCE_DOCS.with_name("training-benchmarks.md")
CHART = "training-benchmarks.svg"
RISE = 1.05
"""By what factor the loss of the later step may exceed the first: a process may have done a few steps only."""
FAR = 1e-3
"""How far, as a share, a first loss may be from the others': all have the same weights, images and labels."""
FAR_IF_DRAWN = 0.25
"""The same, where each draws its own dropout."""


@dataclass
class Result:
    """One contender on one network with so many threads; the lists have one entry per process.

    `medians` are milliseconds of a step, `first` the seconds from a process's start to its first finished step,
    `memory` the bytes that the whole process took at its peak, `losses` those of the first and of a later step.
    `error` is infinite where it did not do the same work as the others: then it counts for nothing.
    """

    network: str
    batch: int
    threads: int
    contender: str
    draws: bool
    flops: int = 0
    peak: float = 0.0
    parameters: int = 0
    medians: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    losses: list[list[float]] = field(default_factory=list)
    error: float = 0.0
    doubt: str = ""
    failure: str = ""

    @property
    def milliseconds(self) -> float:
        return statistics.median(self.medians)

    @property
    def first_loss(self) -> float:
        """The median of the processes' first losses."""
        return statistics.median(first for first, _ in self.losses)

    @property
    def spread(self) -> float:
        """The largest distance of a process's median from the result, as a share of it."""
        return max(abs(m / self.milliseconds - 1) for m in self.medians)

    def add(self, found: Mapping[str, Any]) -> None:
        """What one process measured."""
        self.medians.append(found["milliseconds"])
        self.first.append(found["first_step_seconds"])
        self.memory.append(found["memory_bytes"])
        self.losses.append(found["losses"])
        self.parameters, self.flops = found["parameters"], found["flops"]

    def to_json(self) -> dict[str, Any]:
        found = asdict(self)
        if self.medians:
            rate = self.flops / (self.milliseconds * 1e-3)
            found |= {"milliseconds": self.milliseconds, "spread": self.spread, "gflops": rate * 1e-9,
                      "peak_share": rate / self.peak}  # fmt: skip
        return found


def judge(results: Sequence[Result], peaks: Mapping[int, float]) -> None:
    """Fills in the peaks and our flops, which hold for all, and what speaks against a contender's figures."""
    for result in results:
        same = [
            r
            for r in results
            if (r.network, r.threads) == (result.network, result.threads) and r.medians
        ]
        result.peak = peaks[result.threads]
        result.flops = max((r.flops for r in same), default=0)
        if result.medians:
            counts = [r.parameters for r in same]
            first = statistics.median(r.first_loss for r in same)
            result.doubt = doubt_of(result, statistics.mode(counts), first)
            result.error = math.inf if result.doubt else 0.0


def doubt_of(result: Result, parameters: int, usual: float) -> str:
    """Why the work isn't that of the others, whose first loss is the `usual`; empty if nothing speaks against it."""
    if result.parameters != parameters:
        return f"{result.parameters:,} parameters, others {parameters:,}"
    far = FAR_IF_DRAWN if result.draws else FAR
    for first, later in result.losses:
        if not abs(first / usual - 1) <= far:
            return f"its first loss is {first:.6g}, the contenders' median {usual:.6g}"
        if not later < first * RISE:
            return f"its loss does not fall: {first:.3g}, then {later:.3g}"
    return ""


def table_of(results: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Column names and cells: step times of all, and how convc stands."""
    names = list(dict.fromkeys(r["contender"] for r in results))
    columns = ["network (batch)", "GFLOP", "threads", *names, "convc against the best", "GFLOP/s"]
    lines = []
    for name, batch, threads, rows in groups(results):
        ours = rows.get("convc")
        measured = ours if ours and ours["medians"] else None
        flops = max(r["flops"] for r in rows.values())
        lines.append(
            [
                f"{name} ({batch})",
                f"{flops * 1e-9:.3g}" if flops else "",
                str(threads),
                *(cell(rows.get(n)) for n in names),
                verdict(measured, peers_of(rows)) if measured else "",
                f"{measured['gflops']:.0f}" if measured else "",
            ]
        )
    shares = shares_of(results)
    return [*columns, "share of peak"], [
        [*line, share] for line, share in zip(lines, shares, strict=True)
    ]


def shares_of(results: Sequence[Row]) -> list[str]:
    """convc's share of the FMA peak on each line, and in brackets that of the fastest other."""
    found = []
    for _, _, _, rows in groups(results):
        ours = rows.get("convc")
        theirs = [r["peak_share"] for r in peers_of(rows) if r["medians"] and not r["error"]]
        mine = f"{ours['peak_share']:.0%}" if ours and ours["medians"] else "-"
        found.append(f"{mine} ({max(theirs):.0%})" if theirs else mine)
    return found


def further_table(results: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Column names and cells: seconds to the first step and peak memory of all, on the most threads."""
    names = list(dict.fromkeys(r["contender"] for r in results))
    most = max((r["threads"] for r in results), default=1)
    columns = ["network (batch)", *(f"{n}, s" for n in names), *(f"{n}, MB" for n in names)]
    lines = []
    for name, batch, threads, rows in groups(results):
        if threads == most:
            first = [value(rows.get(n), "first", 1.0, "{:.2f}") for n in names]
            memory = [value(rows.get(n), "memory", 1e-6, "{:.0f}") for n in names]
            lines.append([f"{name} ({batch})", *first, *memory])
    return columns, lines


def value(row: Row | None, key: str, scale: float, form: str) -> str:
    return form.format(statistics.median(row[key]) * scale) if row and row["medians"] else "-"


def work_table(results: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Column names and cells: trained parameters, and the loss of the first and of a later step of all."""
    names = list(dict.fromkeys(r["contender"] for r in results))
    most = max((r["threads"] for r in results), default=1)
    lines = []
    for name, batch, threads, rows in groups(results):
        if threads != most:
            continue
        counts = sorted({r["parameters"] for r in rows.values() if r["medians"]})
        cells = []
        for n in names:
            row = rows.get(n)
            losses = row["losses"][0] if row and row["medians"] else None
            cells.append(f"{losses[0]:.5g}, {losses[1]:.3g}" if losses else "-")
        lines.append([f"{name} ({batch})", " / ".join(f"{c:,}" for c in counts), *cells])
    return ["network (batch)", "parameters", *names], lines


def compile_seconds(results: Iterable[Row]) -> str:
    """How long convc takes to its first step when nothing is in its cache: the first process of each network."""
    cold: dict[str, float] = {}
    for row in results:
        if row["contender"] == "convc" and row["medians"]:
            cold.setdefault(row["network"], row["first"][0])
    listed = ", ".join(f"{name} {seconds:.1f}" for name, seconds in cold.items())
    return f"Seconds to convc's first step with an empty cache: {listed}." if cold else ""


def notes(results: Iterable[Row], facts: Row) -> list[str]:
    """What the tables can't say: failures, doubts, contenders that weren't there."""
    found = [
        f"{name} did not take part: {package} is not installed"
        for name, package in facts["absent"].items()
    ]
    found += facts["remarks"]
    for row in results:
        where = f"{row['network']}, {row['threads']} threads, {row['contender']}"
        if row["failure"]:
            found.append(f"{where} failed: {row['failure']}")
        if row["doubt"]:
            found.append(f"{where} is not counted: {row['doubt']}")
    return found


def report(results: Sequence[Row], facts: Row) -> None:
    """Prints all tables and the notes."""
    console = Console(width=170, highlight=False)
    for title, (columns, lines) in (
        ("milliseconds of a step", table_of(results)),
        ("seconds to the first step, memory at its peak", further_table(results)),
        ("the work: first loss, later loss", work_table(results)),
    ):
        table = Table(box=None, pad_edge=False, title=title, title_justify="left")
        for column in columns:
            table.add_column(column)
        for line in lines:
            table.add_row(*line)
        console.print(table)
    for note in [*means(results), compile_seconds(results), *notes(results, facts)]:
        console.print(note, markup=False)


def write_docs(document: Mapping[str, Any]) -> None:
    """Writes docs/training-benchmarks.md and its chart."""
    facts, results = document["machine"], document["results"]
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    write_chart(DOCS.with_name(CHART), ratios(results))
    text = [
        "# Training benchmarks",
        "",
        f"Milliseconds of a training step (forward, backward, update, loss and accuracy) in float32, measured on "
        f"{facts['date']} on {facts['cpus']} CPUs of {facts['cpu']} (load average {facts['load_before']:.1f} before, "
        f"{facts['load_after']:.1f} after), Python {facts['python']}: {versions}.",
        "",
        f"Each figure is the median of {facts['processes']} processes' medians, each over {facts['seconds']} s, a "
        "quarter of it a warm-up; ± is the largest distance of a process from it. Contenders take turns, each process "
        "on as many CPUs as threads. Less than 5 % is a tie; where the processes of both overlap, the difference says "
        "nothing.",
        "PyTorch runs eagerly in channels_last, Keras through the function that its `fit` runs (on TensorFlow without "
        "XLA), convc the compiled step that its `fit` runs. The batch is in memory; no callbacks, no progress.",
        "GFLOP counts what convc's kernels compute (with Winograd's transforms less than a convolution by definition); "
        "the share is that of the peak which fused multiply-adds reach on as many threads, in brackets the best of the "
        "others by the same count. A share far below the others' lines means that memory, not arithmetic, is the "
        "bound: batch norm, depthwise convolutions and small layers read and write more than they compute.",
        "",
        *means(results),
        "",
        f"![How many times as fast as the best of the others]({CHART})",
        "",
        *markdown(*table_of(results)),
        "",
        *(f"- {note}" for note in notes(results, facts)),
        "",
        "## To the first step, and memory",
        "",
        "Seconds from the start of the process to its first finished step, and what the whole process takes at its "
        "peak, imports included. convc finds its kernels in its cache, but for the first process of each network. Its "
        "process has let the model go, as one that trains an artifact has; under `fit` the model stays. "
        + compile_seconds(results),
        "",
        *markdown(*further_table(results)),
        "",
        "## The same work",
        "",
        "Trained parameters, and the loss on the one random batch at the first step and after 20 steps (fewer where a "
        "process has done fewer). All begin with the same weights, so that first losses agree but for dropout's.",
        "",
        *markdown(*work_table(results)),
        "",
        "To measure again: `python -m benchmarks.training --write-docs`, "
        "with `--python torch=PATH --python keras-tf=PATH` for frameworks in other environments.",
    ]  # fmt: skip
    DOCS.write_text("\n".join(text) + "\n")
