"""Inputs that a model is measured with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from convc_runtime import Model
from convc_runtime.description import TensorInfo, evaluate
from numpy.typing import NDArray


def random_inputs(model: Model, batch: int, seed: int = 0) -> dict[str, NDArray[Any]]:
    """An array for each input of a model's first entry: normal floats, small integers."""
    rng = np.random.default_rng(seed)
    symbols = dict.fromkeys(model.description.symbols, batch)
    return {info.name: random_array(info, symbols, rng) for info in model.inputs}


def random_array(
    info: TensorInfo, symbols: Mapping[str, int], rng: np.random.Generator
) -> NDArray[Any]:
    """An array for one input, at given values of the symbols."""
    shape = tuple(evaluate(e, symbols) for e in info.shape)
    if "float" in info.dtype:
        return rng.standard_normal(shape).astype(np.float32)
    return rng.integers(0, 2, shape).astype(info.dtype)
