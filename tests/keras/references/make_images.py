"""Computes `images.json` with Keras itself, on TensorFlow: `python -m tests.keras.references.make_images`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.keras.references.image_cases import CASES

FILE = Path(__file__).with_name("images.json")
KEPT = 24
"""Numbers kept of each case, spread over it."""


def computed(keras: Any, name: str) -> dict[str, Any]:
    """The shape and some of the numbers of a case."""
    found = np.asarray(CASES[name](keras))
    values = found.ravel().astype(np.float64)
    chosen = values[np.linspace(0, len(values) - 1, min(KEPT, len(values))).astype(int)]
    return {"shape": list(found.shape), "values": chosen.tolist()}


def main() -> None:
    import keras

    lines = []
    for name in CASES:
        found = computed(keras, name)
        found["values"] = [float(f"{v:.6g}") for v in found["values"]]
        lines.append(f"{json.dumps(name)}:{json.dumps(found, separators=(',', ':'))}")
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
