"""One process of one engine: `python -m benchmarks.exporters.worker ENGINE MODEL ARTIFACT THREADS SECONDS`.

Prints a JSON object: the median time of a run, and the error of the first output against the framework's.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import convc_runtime
import numpy as np

from benchmarks.contenders import Run
from benchmarks.worker import spent_for


def arrays_of(model: Path, letter: str) -> list[Any]:
    """The inputs (x) or the framework's outputs (y) that lie beside a model."""
    with np.load(model.with_suffix(".npz")) as kept:
        return [kept[f"{letter}{k}"] for k in range(sum(n[0] == letter for n in kept))]


def load(engine: str, model: Path, artifact: Path, threads: int) -> Run:
    inputs = arrays_of(model, "x")
    if engine == "convc":
        compiled = convc_runtime.load(artifact, threads)
        return lambda: compiled(*inputs)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    feed = {i.name: x for i, x in zip(session.get_inputs(), inputs, strict=True)}
    return lambda: session.run(None, feed)


def errors(found: Any, wanted: list[Any]) -> float:
    """The largest max|y - wanted| / max|wanted| of the outputs."""
    outputs = found if isinstance(found, list | tuple) else [found]
    worst = 0.0
    for y, w in zip(outputs, wanted, strict=True):
        if y.shape != w.shape:
            raise SystemExit(f"shape {y.shape}, expected {w.shape}")
        scale = max(float(np.abs(w).max()), 1e-30)
        worst = max(worst, float(np.abs(y.astype(np.float64) - w).max()) / scale)
    return worst


def main(
    engine: str, model: Path, artifact: Path, threads: int, seconds: float
) -> dict[str, float]:
    run = load(engine, model, artifact, threads)
    error = errors(run(), arrays_of(model, "y"))
    spent_for(run, seconds / 4, 2)
    spent = spent_for(run, seconds, 5)
    return {
        "milliseconds": float(np.median(spent)) * 1e3,
        "least": min(spent) * 1e3,
        "error": error,
    }


if __name__ == "__main__":
    engine, model, artifact, threads, seconds = sys.argv[1:]
    print(json.dumps(main(engine, Path(model), Path(artifact), int(threads), float(seconds))))
