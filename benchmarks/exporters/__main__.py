"""Models of real exporters, beside ONNX Runtime: `python -m benchmarks.exporters FOLDER`.

FOLDER is filled by `python -m benchmarks.exporters.make FOLDER` where PyTorch, Keras or tf2onnx are installed. Every
model is imported with its symbolic batch (or with the batch's number where only that works, marked *), compiled, run
beside ONNX Runtime in processes that take turns, and held against the framework's own outputs.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

import convc
from benchmarks.contenders import environment
from benchmarks.exporters.page import TOLERANCE, write_docs
from benchmarks.exporters.worker import arrays_of
from benchmarks.inference import machine
from convc.errors import ConvcError
from convc.onnx.importer import import_model

ENGINES = ("convc", "onnxruntime")


@dataclass
class Result:
    """One model: medians of processes in milliseconds by engine, the largest errors, and what went wrong."""

    model: str
    threads: int
    symbolic: bool = True
    milliseconds: dict[str, list[float]] = field(default_factory=dict)
    error: dict[str, float] = field(default_factory=dict)
    failure: str = ""

    @property
    def ratio(self) -> float:
        """Our time over ONNX Runtime's."""
        ours, theirs = (statistics.median(self.milliseconds[e]) for e in ENGINES)
        return ours / theirs

    def __str__(self) -> str:
        name = self.model + ("" if self.symbolic else " *")
        if self.failure:
            return f"{name:34s} {self.threads}  FAILED {self.failure}"
        ours, theirs = (statistics.median(self.milliseconds[e]) for e in ENGINES)
        note = "" if self.error["convc"] <= TOLERANCE else "  WRONG"
        return (
            f"{name:34s} {self.threads} {ours:9.3f} {theirs:9.3f} {self.ratio:6.2f}"
            f"  {self.error['convc']:.1e} {self.error['onnxruntime']:.1e}{note}"
        )


def compiled(model: Path, artifact: Path) -> bool:
    """Compiles a model; whether its batch could stay symbolic. ConvcError if neither form works."""
    try:
        convc.compile(import_model(model)).save(artifact)
        return True
    except ConvcError as error:
        shapes = {
            n: a.shape for n, a in zip(input_names(model), arrays_of(model, "x"), strict=True)
        }
        try:
            convc.compile(import_model(model, shapes)).save(artifact)
        except ConvcError:
            raise error from None
        return False


def input_names(model: Path) -> list[str]:
    import onnx

    graph = onnx.load(str(model), load_external_data=False).graph
    weights = {w.name for w in graph.initializer}
    return [i.name for i in graph.input if i.name not in weights]


def measure(model: Path, threads: int, processes: int, seconds: float, folder: Path) -> Result:
    result = Result(model.stem, threads)
    artifact = folder / f"{model.stem}.cvc"
    try:
        result.symbolic = compiled(model, artifact)
    except ConvcError as error:
        result.failure = str(error)
        return result
    for _ in range(processes):
        for engine in ENGINES:
            command = [sys.executable, "-m", "benchmarks.exporters.worker", engine, str(model)]
            command += [str(artifact), str(threads), str(seconds)]
            done = subprocess.run(command, capture_output=True, text=True, env=environment(threads))
            if done.returncode:
                lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
                result.failure = f"{engine}: {lines[-1]}"
                return result
            found = json.loads(done.stdout.splitlines()[-1])
            result.milliseconds.setdefault(engine, []).append(found["milliseconds"])
            result.error[engine] = max(result.error.get(engine, 0.0), found["error"])
    return result


def main() -> None:
    parser = argparse.ArgumentParser("benchmarks.exporters", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", help="a part of the names, like `resnet` or `dynamo`")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--processes", type=int, default=3, help="of each engine")
    parser.add_argument("--seconds", type=float, default=1.5, help="of each process")
    parser.add_argument("--json", type=Path, help="write the results there")
    parser.add_argument("--write-docs", action="store_true", help="write docs/exporters.md")
    given = parser.parse_args()
    facts = machine() | {
        "load_before": os.getloadavg()[0],
        "onnxruntime": importlib.metadata.version("onnxruntime"),
    }
    print(f"{'model':34s} T  convc ms    ORT ms  ratio  errors: convc, ORT")
    results = []
    with tempfile.TemporaryDirectory(prefix="convc-exporters-") as folder:
        for model in sorted(given.folder.glob("*.onnx")):
            if given.only in model.stem:
                result = measure(model, given.threads, given.processes, given.seconds, Path(folder))
                results.append(result)
                print(result, flush=True)
                for artifact in Path(folder).iterdir():
                    artifact.unlink()
    if given.json:
        given.json.write_text(json.dumps([asdict(r) for r in results], indent=1) + "\n")
    if given.write_docs:
        write_docs(facts, results)
    bad = [r.model for r in results if r.failure or r.error["convc"] > TOLERANCE]
    if bad:
        raise SystemExit(f"failed or wrong: {', '.join(bad)}")


if __name__ == "__main__":
    main()
