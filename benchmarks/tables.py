"""The results of benchmarks.inference as a table, on the terminal and in docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

TIE = 0.05
OUR_LIMIT = 1e-5
PEERS_LIMIT = 1e-4
DOCS = Path(__file__).parents[1] / "docs" / "benchmarks.md"
Row = Mapping[str, Any]


def verdict(ours: Row, peers: Sequence[Row]) -> str:
    """How convc stands against the fastest of the others."""
    others = [p for p in peers if p["medians"]]
    if not ours["medians"] or not others:
        return ""
    best = min(others, key=lambda p: p["milliseconds"])
    ratio = ours["milliseconds"] / best["milliseconds"]
    scattered = max(ours["spread"], best["spread"]) > TIE
    if scattered and overlap(ours["medians"], best["medians"]):
        return f"unclear against {best['contender']}"
    if abs(ratio - 1) < TIE:
        return f"tie with {best['contender']}"
    if ratio < 1:
        return f"{1 / ratio:.2f}x as fast as {best['contender']}"
    return f"{best['contender']} {ratio:.2f}x as fast"


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


def groups(results: Iterable[Row]) -> list[tuple[str, int, dict[str, Row]]]:
    """The rows of each network and number of threads, by contender."""
    found = []
    for (name, threads), rows in groupby(results, key=lambda r: (r["network"], r["threads"])):
        found.append((name, threads, {r["contender"]: r for r in rows}))
    return found


def table_of(results: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Column names and cells."""
    names = list(dict.fromkeys(r["contender"] for r in results))
    columns = ["network", "threads", *names, "convc against the best", "share of peak", "error"]
    lines = []
    for name, threads, rows in groups(results):
        ours = rows.get("convc")
        peers = [r for n, r in rows.items() if n != "convc"]
        measured = ours if ours and ours["medians"] else None
        lines.append(
            [
                name,
                str(threads),
                *(cell(rows.get(n)) for n in names),
                verdict(measured, peers) if measured else "",
                f"{measured['peak_share']:.0%}" if measured else "",
                f"{measured['error']:.1e}" if measured else "",
            ]
        )
    return columns, lines


def notes(results: Iterable[Row], facts: Row) -> list[str]:
    """What the table can't say: failures, errors past the limits, contenders that weren't there."""
    found = [
        f"{name} did not take part: {package} is not installed"
        for name, package in facts["absent"].items()
    ]
    found += facts.get("remarks", [])
    for row in results:
        where = f"{row['network']}, {row['threads']} threads, {row['contender']}"
        if row["failure"]:
            found.append(f"{where} failed: {row['failure']}")
        if row["error"] > limit_of(row):
            found.append(f"{where}: error {row['error']:.1e} is above {limit_of(row):.0e}")
    return found


def report(results: Sequence[Row], facts: Row) -> None:
    """Prints the table and the notes."""
    columns, lines = table_of(results)
    table = Table(box=None, pad_edge=False, title="milliseconds", title_justify="left")
    for column in columns:
        table.add_column(column)
    for line in lines:
        table.add_row(*line)
    console = Console(width=160, highlight=False)
    console.print(table)
    for note in notes(results, facts):
        console.print(note, markup=False)


def write_docs(document: Mapping[str, Any]) -> None:
    """Writes docs/benchmarks.md."""
    facts, results = document["machine"], document["results"]
    columns, lines = table_of(results)
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    rows = [columns, ["---"] * len(columns), *lines]
    text = [
        "# Benchmarks",
        "",
        f"Latency in milliseconds at batch 1 in float32, measured on {facts['date']} on {facts['cpus']} CPUs of "
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
        "network as ONNX with an NCHW image; convc compiles the channels_last model and gets an NHWC image.",
        "",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        *(f"- {note}" for note in notes(results, facts)),
        "",
        "To measure again: `python -m benchmarks.inference --write-docs` "
        "(with `pip install onnxruntime openvino ncnn pnnx` for the others).",
    ]
    DOCS.write_text("\n".join(text) + "\n")
