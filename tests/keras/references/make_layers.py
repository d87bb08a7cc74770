"""Computes `layers.json` with Keras itself: `python -m tests.keras.references.make_layers`, with Keras installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.keras.references.cases import wave
from tests.keras.references.layer_cases import CASES, UNTRAINED

FILE = Path(__file__).with_name("layers.json")


def computed(keras: Any, name: str) -> dict[str, Any]:
    """The shape and the numbers of a case's prediction, and the losses of its first steps towards a wave."""
    keras.backend.clear_session()
    model, inputs = CASES[name](keras)
    kinds = [np.asarray(w).dtype.kind for w in model.get_weights()]
    model.set_weights(
        [
            np.asarray(wave(*w.shape, start=0.2 + k) * 0.7, np.float32) if kind == "f" else w
            for k, (w, kind) in enumerate(zip(model.get_weights(), kinds, strict=True))
        ]
    )
    found = np.asarray(model.predict(inputs, verbose=0), np.float64)
    result = {"shape": list(found.shape), "values": found.ravel()[:60].tolist(), "losses": []}
    if name not in UNTRAINED:
        model.compile(keras.optimizers.SGD(0.1), "mse")
        target = np.asarray(wave(*found.shape, start=0.8), np.float32)
        history = model.fit(inputs, target, len(found), 4, shuffle=False, verbose=0)
        result["losses"] = [float(v) for v in history.history["loss"]]
    return result


def main() -> None:
    import keras

    lines = []
    for name in CASES:
        found = computed(keras, name)
        found["values"] = [float(f"{v:.7g}") for v in found["values"]]
        found["losses"] = [float(f"{v:.7g}") for v in found["losses"]]
        lines.append(f"{json.dumps(name)}:{json.dumps(found, separators=(',', ':'))}")
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
