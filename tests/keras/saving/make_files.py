"""Makes keras3.zip or keras2.zip: files that Keras itself saved, with inputs and what Keras predicts.

KERAS_BACKEND=torch python -m tests.keras.saving.make_files keras keras3.zip        (Keras 3.15.1)
python -m tests.keras.saving.make_files tf_keras keras2.zip                         (tf-keras 2.21.0)
"""

from __future__ import annotations

import importlib
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from tests.keras.saving.networks import arrays, networks, with_functions, with_random_weights


def main(package: str, target: str) -> None:
    keras = importlib.import_module(package)
    builders = networks(keras)
    if package == "keras":
        builders["with_functions"] = lambda: with_functions(keras)
    with (
        tempfile.TemporaryDirectory() as folder,
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
    ):
        for name, build in builders.items():
            keras.backend.clear_session()
            for path in saved(with_random_weights(build()), Path(folder), name):
                archive.write(path, path.name)
        for path in trained(keras, Path(folder)):
            archive.write(path, path.name)


def saved(model: Any, folder: Path, name: str) -> list[Path]:
    """The model's files and its predictions."""
    inputs = arrays(model)
    outputs = model.predict(inputs if len(inputs) > 1 else inputs[0], verbose=0)
    outputs = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
    paths = [folder / f"{name}{suffix}" for suffix in (".keras", ".h5", ".weights.h5", ".npz")]
    model.save(paths[0])
    model.save(paths[1])
    model.save_weights(paths[2])
    named = {f"in{k}": a for k, a in enumerate(inputs)} | {
        f"out{k}": a for k, a in enumerate(outputs)
    }
    np.savez(paths[3], **named)
    return paths


def trained(keras: Any, folder: Path) -> list[Path]:
    """A model after 3 steps of Adam, saved with its optimizer, and its weights after 3 steps more."""
    keras.backend.clear_session()
    model = with_random_weights(networks(keras)["sequential"]())
    model.layers[2].rate = 0.0
    model.compile(keras.optimizers.Adam(0.01), "categorical_crossentropy", metrics=["accuracy"])
    x = np.random.default_rng(3).normal(size=(8, 5)).astype(np.float32)
    y = np.eye(3, dtype=np.float32)[np.arange(8) % 3]
    for _ in range(3):
        model.train_on_batch(x, y)
    paths = [folder / f"trained{suffix}" for suffix in (".keras", ".h5", ".npz")]
    model.save(paths[0])
    model.save(paths[1])
    for _ in range(3):
        model.train_on_batch(x, y)
    np.savez(paths[2], x=x, y=y, **{f"after{k}": w for k, w in enumerate(model.get_weights())})
    return paths


if __name__ == "__main__":
    main(*sys.argv[1:])
