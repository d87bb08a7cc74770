"""docs/exporters.md: models of real exporters beside ONNX Runtime, as a table."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from benchmarks.tables import markdown

TOLERANCE = 5e-5
"""Of the largest output: float32's error after a hundred layers."""
DOCS = Path(__file__).resolve().parents[2] / "docs" / "exporters.md"
EXPORTERS = {
    "torch-dynamo": "torch.onnx.export",
    "torch-script": "torch.onnx.export, TorchScript",
    "keras": "Keras' export, on PyTorch",
    "tf2onnx": "tf2onnx",
}
"""By the last part of a model's name."""


class Measured(Protocol):
    """One model's figures: by engine, the medians of processes in milliseconds and the largest error."""

    model: str
    threads: int
    symbolic: bool
    milliseconds: dict[str, list[float]]
    error: dict[str, float]
    failure: str

    @property
    def ratio(self) -> float: ...


def write_docs(facts: Mapping[str, Any], results: Sequence[Measured]) -> None:
    """Writes docs/exporters.md."""
    good = [r for r in results if not r.failure and r.error["convc"] <= TOLERANCE]
    ratios = [r.ratio for r in good] or [math.nan]
    slower = sorted((r for r in good if r.ratio > 1), key=lambda r: -r.ratio)
    tail = ", ".join(f"{r.model} {r.ratio:.2f}" for r in slower)
    threads = sorted({r.threads for r in results})
    place = (
        f"{facts['cpus']} CPUs of {facts['cpu']} (load average {facts['load_before']:.1f} before)"
    )
    versions = f"Python {facts['python']}, onnxruntime {facts['onnxruntime']}"
    text = [
        "# Models of real exporters",
        "",
        f"{len(results)} files as PyTorch's two exporters, Keras and tf2onnx write them, with random weights, "
        f"compiled by convc and run by ONNX Runtime, measured on {facts['date']} on {place}, {versions}; "
        f"{' and '.join(map(str, threads))} thread{'s' if threads != [1] else ''}, a batch of one.",
        "",
        "Milliseconds are medians of processes' medians, which take turns, ± the largest distance from them. The "
        "ratio is convc's time over ONNX Runtime's. Errors are max\\|y - f\\| / max\\|f\\| against what the framework "
        "itself computed. The batch stays symbolic; * marks models that say a number for it.",
        "",
        f"convc takes {statistics.geometric_mean(ratios):.2f} of ONNX Runtime's time in the geometric mean, "
        f"{max(ratios):.2f} at the most. " + (f"Slower: {tail}." if slower else "None is slower."),
        "",
        *markdown(
            ["model", "exporter", "convc, ms", "onnxruntime, ms", "ratio", "error", "onnxruntime's"],
            [line(r) for r in results],
        ),
        "",
        "To measure again: `python -m benchmarks.exporters.make FOLDER` beside each of the frameworks, then "
        "`python -m benchmarks.exporters FOLDER --write-docs`.",
    ]  # fmt: skip
    DOCS.write_text("\n".join(text) + "\n")


def line(result: Measured) -> list[str]:
    """A row of the table."""
    name, _, exporter = result.model.partition(".")
    first = [
        name.removeprefix("k_") + ("" if result.symbolic else " *"),
        EXPORTERS.get(exporter, exporter),
    ]
    if result.failure:
        return [*first, "failed: " + result.failure.replace("|", "\\|"), "", "", "", ""]
    times = [milliseconds(result.milliseconds[e]) for e in ("convc", "onnxruntime")]
    errors = [f"{result.error[e]:.1e}" for e in ("convc", "onnxruntime")]
    if result.error["convc"] > TOLERANCE:
        errors[0] += " (wrong: not counted)"
    return [*first, *times, f"{result.ratio:.2f}", *errors]


def milliseconds(samples: Sequence[float]) -> str:
    """The median, and how far the farthest lies from it."""
    middle = statistics.median(samples)
    spread = max(abs(s - middle) for s in samples) / middle
    return f"{middle:.3g} ±{spread:.0%}"
