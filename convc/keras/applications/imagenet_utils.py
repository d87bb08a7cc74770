"""ImageNet's classes, and how images are prepared for networks trained on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from convc.errors import DataError, InputFileError
from convc.keras.applications import frame
from convc.keras.engine.arguments import choice, positive
from convc.keras.utils.files import get_file

_FILE = "imagenet_class_index.json"
_URL = f"https://storage.googleapis.com/download.tensorflow.org/data/{_FILE}"
_MD5 = "c2c37ea517e94d9795004a39431a14cb"
CLASSES = 1000

_known: dict[str, list[tuple[str, str]]] = {}


def preprocess_input(x: Any, data_format: str | None = None, mode: str = "caffe") -> Any:
    """Images of 0 … 255 as networks of a `mode` were trained on them: "caffe", "tf" or "torch"."""
    mode = choice("preprocess_input", "mode", mode, ("caffe", "tf", "torch"))
    return frame.preprocess(x, data_format, mode)


def decode_predictions(preds: Any, top: int = 5) -> list[list[tuple[str, str, float]]]:
    """The `top` classes of each row of scores (rows, 1000): (WordNet id, name, score), the largest first.

    The names are in `models/imagenet_class_index.json` of Keras' cache folder, downloaded when first needed;
    InputFileError says what to put where if that fails.
    """
    scores = np.asarray(preds)
    if scores.ndim != 2 or scores.shape[1] != CLASSES:
        raise DataError(
            f"decode_predictions: expected scores of shape (rows, {CLASSES}); received {scores.shape}"
        )
    top = min(positive("decode_predictions", "top", top), CLASSES)
    names = _names()
    found = []
    for row in scores:
        best = np.argsort(-row, kind="stable")[:top]
        found.append([(*names[i], float(row[i])) for i in best])
    return found


def _names() -> list[tuple[str, str]]:
    """(WordNet id, name) of every class, from the file in the cache."""
    path = get_file(_FILE, _URL, cache_subdir="models", file_hash=_MD5)
    if path not in _known:
        try:
            table = json.loads(Path(path).read_text())
            _known[path] = [(str(table[str(k)][0]), str(table[str(k)][1])) for k in range(CLASSES)]
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise InputFileError(f"{path}: not ImageNet's class index: {error}") from None
    return _known[path]
