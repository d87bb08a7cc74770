"""Weights in HDF5: Keras 3's layout, every variable at `layers/<class name, counted>/…/vars/<number>`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np

from convc.errors import InputFileError
from convc.keras.engine.layer import Layer
from convc.keras.engine.naming import nearest, snake_case
from convc.keras.engine.tensor import Array, Variable
from convc.types import DType

_OLD_LAYERS = "_layer_checkpoint_dependencies"
"""What Keras 2.12 and 2.13 called `layers`."""
_PRIVATE = re.compile("/((?:query|key|value|output)_dense)/")
"""What Keras 2 keeps under names with an underscore before them."""
_OURS = frozenset({"init_arguments", "calls", "network", "_first", "_chain", "optimizer"})


def paths(model: Any) -> dict[str, Variable]:
    """Every variable by its place in the file; a layer that is used twice is listed where it comes first."""
    return _paths(model)[0]


def _paths(model: Any) -> tuple[dict[str, Variable], dict[str, Layer]]:
    """The places of variables, and those of layers that write and read theirs in a way of their own."""
    found: dict[str, Variable] = {}
    special: dict[str, Layer] = {}
    seen: set[int] = set()
    for place, layer in _walk(model, "", set()):
        if type(layer).load_own_variables is not Layer.load_own_variables:
            special[f"{place}vars"] = layer
            continue
        own = layer.own_weights
        ordered = [w for w in own if w.trainable] + [w for w in own if not w.trainable]
        for number, variable in enumerate(ordered):
            if id(variable) not in seen:
                seen.add(id(variable))
                found[f"{place}vars/{number}"] = variable
    return found, special


def layers_of(model: Any) -> Iterator[tuple[str, Any]]:
    """Every layer with its place in the file, the model itself first."""
    return _walk(model, "", set())


def _walk(layer: Any, prefix: str, visited: set[int]) -> Iterator[tuple[str, Any]]:
    """Keras' order: a model's layers, then attributes by name, private ones last; each layer once."""
    if id(layer) in visited:
        return
    visited.add(id(layer))
    yield prefix, layer
    if getattr(layer, "network", None) is not None:
        yield from _container(layer.layers, f"{prefix}layers/", visited)
    attributes = vars(layer)
    if hasattr(layer, "network"):  # a subclassed model's property comes among its attributes
        attributes = {**attributes, "layers": layer.layers}
    for name in sorted(attributes, key=lambda n: (n.startswith("_"), n)):
        value = attributes[name]
        if name in _OURS:
            continue
        if isinstance(value, Layer):
            yield from _walk(value, f"{prefix}{name}/", visited)
        elif isinstance(value, (list, tuple, dict)):
            yield from _container(value, f"{prefix}{name}/", visited)


def _container(items: Iterable[Any], prefix: str, visited: set[int]) -> Iterator[tuple[str, Any]]:
    counts: Counter[str] = Counter()
    for item in items.values() if isinstance(items, dict) else items:
        if isinstance(item, Layer):
            base = snake_case(getattr(item, "type_name", type(item).__name__))
        elif isinstance(item, (list, tuple, dict)):
            base = "container"
        else:
            continue
        name = f"{base}_{counts[base]}" if counts[base] else base
        counts[base] += 1
        if isinstance(item, Layer):
            yield from _walk(item, f"{prefix}{name}/", visited)
        else:
            yield from _container(item, f"{prefix}{name}/", visited)


def arrays_of(model: Any) -> dict[str, Array]:
    """What a file has of a model: arrays by place; those of a layer's own way as it puts them down."""
    variables, special = _paths(model)
    found = {place: variable.value for place, variable in variables.items()}
    for place, layer in special.items():
        store: dict[str, Any] = {}
        layer.save_own_variables(store)
        found |= {f"{place}/{name}": np.asarray(value) for name, value in store.items()}
    return found


def write(model: Any, file: Any) -> None:
    """Puts all variables into an open h5py file."""
    for place, array in arrays_of(model).items():
        put(file, place, array)


def put(file: Any, place: str, array: Array) -> None:
    """Puts an array into an open h5py file."""
    dataset = file.create_dataset(place, data=array)
    if array.dtype == DType.bfloat16.numpy:
        dataset.attrs["dtype"] = "bfloat16"


class Source(Protocol):
    """Files of arrays by path."""

    name: str

    def names(self, path: str = "") -> list[str]: ...
    def shape(self, path: str) -> tuple[int, ...] | None: ...
    def array(self, path: str) -> Array: ...


def read(model: Any, file: Source, skip_mismatch: bool = False) -> list[tuple[Variable, Array]]:
    """The variables with the file's arrays; InputFileError names what is missing or has another shape.

    Layers with a `load_own_variables` of their own take theirs at once, when all others are known to fit.
    """
    wanted, special = _paths(model)
    found: list[tuple[Variable, Array]] = []
    old = _OLD_LAYERS in file.names()
    for place, variable in wanted.items():
        path = _path(place, old)
        shape = file.shape(path)
        if shape is None and (shape := file.shape(private := _PRIVATE.sub(r"/_\1/", path))):
            path = private
        if skip_mismatch and shape != variable.shape:
            continue
        if shape is None:
            near = nearest(path.split("/vars/")[0], _groups(file))
            raise InputFileError(
                f"{file.name} doesn't fit the model: {variable.path} is missing at {path}{near}"
            )
        if shape != variable.shape:
            raise InputFileError(
                f"{file.name}: {variable.path} has shape {shape}; expected {variable.shape}"
            )
        found.append((variable, file.array(path)))
    for place, layer in special.items():
        path = _path(place, old)
        layer.load_own_variables({n: file.array(f"{path}/{n}") for n in file.names(path)})
    return found


def _path(place: str, old: bool) -> str:
    return place.replace("layers/", f"{_OLD_LAYERS}/") if old else place


def _groups(file: Source) -> list[str]:
    return [f"layers/{name}" for name in file.names("layers")]
