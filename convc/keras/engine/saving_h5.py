"""Keras 3's `.weights.h5` files: every variable at `layers/<class name, counted>/…/vars/<number>`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from convc.errors import InputFileError, UsageError
from convc.keras.engine.layer import Layer
from convc.keras.engine.naming import nearest, snake_case
from convc.keras.engine.tensor import Array, Variable


def paths(model: Any) -> dict[str, Variable]:
    """Every variable by its place in the file; a layer that is used twice is listed where it comes first."""
    found: dict[str, Variable] = {}
    seen: set[int] = set()
    for path, variable in _walk(model, ""):
        if id(variable) not in seen:
            seen.add(id(variable))
            found[path] = variable
    return found


def _walk(layer: Any, prefix: str) -> Iterator[tuple[str, Variable]]:
    own = layer.own_weights
    ordered = [w for w in own if w.trainable] + [w for w in own if not w.trainable]
    for number, variable in enumerate(ordered):
        yield f"{prefix}vars/{number}", variable
    if getattr(layer, "network", None) is not None:
        yield from _container(layer.layers, f"{prefix}layers/")
        return
    for name, value in vars(layer).items():
        match value:
            case Layer():
                yield from _walk(value, f"{prefix}{name}/")
            case list() | tuple():
                yield from _container(value, f"{prefix}{name}/")
            case dict() if name != "init_arguments":
                yield from _container(value.values(), f"{prefix}{name}/")


def _container(items: Iterable[Any], prefix: str) -> Iterator[tuple[str, Variable]]:
    counts: Counter[str] = Counter()
    for item in items:
        if isinstance(item, Layer):
            base = snake_case(getattr(item, "type_name", type(item).__name__))
            name = f"{base}_{counts[base]}" if counts[base] else base
            counts[base] += 1
            yield from _walk(item, f"{prefix}{name}/")


def write(model: Any, path: Path) -> None:
    with _h5py().File(path, "w") as file:
        for place, variable in paths(model).items():
            file.create_dataset(place, data=variable.value)


def read(model: Any, path: Path) -> list[Array]:
    """The arrays in the order of `model.weights`; InputFileError names what is missing or has another shape."""
    wanted = paths(model)
    found: dict[int, Array] = {}
    try:
        with _h5py().File(path, "r") as file:
            present: list[str] = []
            file.visit(present.append)
            for place, variable in wanted.items():
                if place not in file:
                    raise InputFileError(
                        f"{path} doesn't fit the model: {variable.path} is missing at {place}{nearest(place, present)}"
                    )
                found[id(variable)] = np.asarray(file[place])
    except OSError as error:
        raise InputFileError(f"{path} is not a readable HDF5 file: {error}") from None
    for variable in wanted.values():
        if found[id(variable)].shape != variable.shape:
            raise InputFileError(
                f"{path}: {variable.path} has shape {found[id(variable)].shape}; expected {variable.shape}"
            )
    return [found[id(v)] for v in model.weights]


def _h5py() -> ModuleType:
    try:
        import h5py  # optional: the extra "h5"
    except ImportError:
        raise UsageError(
            "weights in .h5 files need the package h5py: install convc[h5], or use .safetensors or .npz"
        ) from None
    module: ModuleType = h5py
    return module
