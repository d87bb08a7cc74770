"""The importer under coverage guidance, where Atheris is installed (`pip install atheris`).

    python -m tests.onnx.fuzz.guided -max_total_time=60 [CORPUS]

The arguments are libFuzzer's. Inputs are files; half of the mutations are those of fields, so that most still parse.
"""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

try:
    import atheris
except ModuleNotFoundError:
    sys.exit("guided fuzzing needs Atheris: pip install atheris")

with atheris.instrument_imports(include=["convc.onnx", "convc.ops", "convc.graph"]):
    import convc.onnx.importer  # noqa: F401

from tests.onnx.fuzz.hostile import limit_memory, problem_of, seeds
from tests.onnx.fuzz.mutations import mutated_bytes, mutated_model


def mutate(data: bytes, most: int, seed: int) -> bytes:
    """Another file: fields changed where it is a model, else bytes."""
    rng = random.Random(seed)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except (DecodeError, ValueError):
        return mutated_bytes(data, rng)[:most]
    if not model.graph.node or rng.random() < 0.3:
        return mutated_bytes(data, rng)[:most]
    try:
        return bytes(mutated_model(model, rng).SerializeToString()[:most])
    except ValueError:  # a name that no encoding takes
        return data


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="convc-guided-"))
    (folder / "w.bin").write_bytes(bytes(96))
    path = folder / "m.onnx"
    corpus = folder / "corpus"
    corpus.mkdir()
    for k, model in enumerate(seeds()):
        (corpus / f"{k}.onnx").write_bytes(model.SerializeToString())

    def one(data: bytes) -> None:
        path.write_bytes(data)
        problem = problem_of(path)
        if problem:
            raise AssertionError(problem)

    def custom(data: Any, most: int, seed: int) -> bytes:
        return mutate(bytes(data), most, seed)

    limit_memory()
    arguments = [*sys.argv, str(corpus), "-max_len=65536", "-rss_limit_mb=4096", "-timeout=15"]
    atheris.Setup(arguments, one, custom_mutator=custom)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
