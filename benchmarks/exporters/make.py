"""Writes the models: `python -m benchmarks.exporters.make FOLDER` beside the frameworks (PyTorch, Keras, tf2onnx).

Of each network and exporter that is installed here: NAME.EXPORTER.onnx, and .npz with inputs `x0`, `x1`, … and the
framework's outputs `y0`, … for them. Nothing of convc is imported.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

SEED = 11
Maker = Callable[[Path, str], Any]


def makers() -> dict[str, Maker]:
    """What can be made here: a function of the folder and the network's name by `NAME.EXPORTER`."""
    found: dict[str, Maker] = {}
    if importlib.util.find_spec("torch") is not None:
        from benchmarks.exporters import torch_export

        for name in torch_export.NETWORKS:
            found[f"{name}.torch-dynamo"] = torch_export.by_dynamo
            found[f"{name}.torch-script"] = torch_export.by_script
    if importlib.util.find_spec("keras") is not None:
        tensorflow = importlib.util.find_spec("tensorflow") is not None
        os.environ.setdefault("KERAS_BACKEND", "tensorflow" if tensorflow else "torch")
        from benchmarks.exporters import keras_export

        tf2onnx = tensorflow and importlib.util.find_spec("tf2onnx") is not None
        for name in keras_export.NETWORKS:
            if not tensorflow and name in keras_export.BY_KERAS:
                found[f"{name}.keras"] = keras_export.by_keras
            if tf2onnx and name in keras_export.BY_TF2ONNX:
                found[f"{name}.tf2onnx"] = keras_export.by_tf2onnx
    return found


def keep(path: Path, inputs: Iterable[Any], outputs: Iterable[Any]) -> None:
    """Writes the arrays beside the model."""
    arrays = {f"x{k}": np.asarray(a) for k, a in enumerate(inputs)}
    arrays |= {f"y{k}": np.asarray(a) for k, a in enumerate(outputs)}
    np.savez(path.with_suffix(".npz"), **arrays)  # type: ignore[arg-type]


def main() -> None:
    parser = argparse.ArgumentParser("benchmarks.exporters.make", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", help="a part of the names, like `resnet` or `dynamo`")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    failed = []
    for key, make in makers().items():
        if given.only not in key:
            continue
        name = key.partition(".")[0]
        try:
            make(given.folder / f"{key}.onnx", name)
            print(f"{key}: made", flush=True)
        except Exception:
            failed.append(key)
            print(f"{key}: {traceback.format_exc()}", flush=True)
    if failed:
        raise SystemExit(f"not made: {', '.join(failed)}")


if __name__ == "__main__":
    main()
