"""A compiled network in a Python application: numpy and convc_runtime, no compiler, no framework."""

from __future__ import annotations

import sys
from pathlib import Path

import convc_runtime
import numpy as np


def main(artifact: Path, images: Path) -> int:
    model = convc_runtime.load(artifact)
    data = np.load(images)
    scores = model((data["images"] / 16).astype(np.float32)[..., None])
    right = scores.argmax(1) == data["labels"]
    print(f"{model.name}: {right.sum()} of {len(right)} right ({right.mean():.1%})")
    print(f"memory for one image: {model.workspace_size(1)} bytes; threads: {model.threads}")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(f"usage: {sys.argv[0]} digits.cvc digits-test.npz")
    try:
        raise SystemExit(main(Path(sys.argv[1]), Path(sys.argv[2])))
    except convc_runtime.ConvcRuntimeError as error:
        raise SystemExit(str(error)) from None
