"""Weights in HDF5 as Keras 1 and 2 lay them out: a group per layer, attributes that name layers and weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from convc.errors import InputFileError
from convc.keras.engine.hdf5 import Hdf5
from convc.keras.engine.tensor import Array, Variable

GROUP = "model_weights"
TOP = "top_level_model_weights"
_HEADER = 64512
"""HDF5's limit for the attributes of one object, in bytes."""

Pairs = list[tuple[Variable, Array]]


def root_of(file: Hdf5) -> str | None:
    """The group that holds the layers (a whole model's or the file itself), or None for another layout."""
    for root in ("", GROUP):
        if file.texts(root, "layer_names"):
            return root
    return GROUP if GROUP in file else None


def ordered(layer: Any) -> list[Variable]:
    """A layer's weights in the order of these files: all trained ones, then all others."""
    return [*layer.trainable_weights, *layer.non_trainable_weights]


def read(
    model: Any, file: Hdf5, root: str, by_name: bool = False, skip_mismatch: bool = False
) -> Pairs:
    """The variables with the file's arrays, by layers' names or by their order among the layers that have weights."""
    names = file.texts(root, "layer_names")
    turned = file.attribute(root, "backend") == "theano"
    found: Pairs = []
    if by_name:
        index = {layer.name: layer for layer in model.layers}
        chosen = [(name, index[name]) for name in names if name in index]
    else:
        named = [name for name in names if file.texts(_join(root, name), "weight_names")]
        layers = [layer for layer in model.layers if layer.weights]
        if len(named) != len(layers):
            raise InputFileError(
                f"{file.name} doesn't fit the model: it has {len(named)} layers with weights, the model {len(layers)}"
            )
        chosen = list(zip(named, layers, strict=True))
    for name, layer in chosen:
        pairs = _layer(
            file, _join(root, name), f"layer {layer.name!r}", ordered(layer), skip_mismatch
        )
        if turned:
            kernels = {v for part in _parts(layer) for v in _convolved(part)}
            pairs = [(v, _turned(a) if v in kernels else a) for v, a in pairs]
        found += pairs
    own = [w for w in model.own_weights if not any(w in layer.weights for layer in model.layers)]
    if own and _join(root, TOP) in file:
        found += _layer(file, _join(root, TOP), "the model itself", own, skip_mismatch)
    return found


_KERNELS = {"Conv1D": 1, "Conv2D": 1, "Conv3D": 1, "Conv2DTranspose": 1, "ConvLSTM2D": 2}
"""How many kernels layers have that Theano, which convolves in earnest, keeps turned around."""


def _parts(layer: Any) -> list[Any]:
    return [layer, *(part for inner in layer.sublayers for part in _parts(inner))]


def _convolved(layer: Any) -> list[Variable]:
    count = _KERNELS.get(type(layer).__name__, 0)
    return [w for part in _parts(layer) for w in part.own_weights][:count] if count else []


def _turned(kernel: Array) -> Array:
    """A kernel with its spatial axes, all but the last two, the other way round."""
    return np.ascontiguousarray(np.flip(kernel, tuple(range(kernel.ndim - 2))))


def _join(root: str, name: str) -> str:
    return f"{root}/{name}" if root else name


def _layer(
    file: Hdf5, group: str, what: str, variables: list[Variable], skip_mismatch: bool
) -> Pairs:
    names = file.texts(group, "weight_names")
    shapes = [file.shape(f"{group}/{name}") for name in names]
    if len(names) != len(variables):
        if skip_mismatch:
            return []
        raise InputFileError(
            f"{file.name} doesn't fit the model: {what} has {len(variables)} weights, the file {len(names)}"
        )
    found: Pairs = []
    for name, shape, variable in zip(names, shapes, variables, strict=True):
        if shape == variable.shape:
            found.append((variable, file.array(f"{group}/{name}")))
        elif not skip_mismatch:
            raise InputFileError(
                f"{file.name}: {group}/{name} has shape {shape}; {variable.path} expects {variable.shape}"
            )
    return found


def write(model: Any, group: Any, version: str) -> None:
    """Puts all layers' weights into an open h5py group."""
    _write_texts(group, "layer_names", [layer.name for layer in model.layers])
    group.attrs["backend"] = "tensorflow"
    group.attrs["keras_version"] = version
    for layer in sorted(model.layers, key=lambda one: str(one.name)):
        _write_layer(group.create_group(layer.name), ordered(layer))
    own = [w for w in model.own_weights if not any(w in layer.weights for layer in model.layers)]
    _write_layer(group.create_group(TOP), own)


def _write_layer(group: Any, variables: list[Variable]) -> None:
    write_arrays(group, [(variable.path, variable.value) for variable in variables])


def write_arrays(group: Any, named: list[tuple[str, Array]]) -> None:
    """Puts arrays into an open h5py group, and their names, made unique, into its attribute."""
    names: list[str] = []
    for name, _ in named:
        while name in names:
            name += "_1"
        names.append(name)
    _write_texts(group, "weight_names", names)
    for name, (_, array) in zip(names, named, strict=True):
        group.create_dataset(name, data=array)


def _write_texts(group: Any, name: str, texts: list[str]) -> None:
    """An attribute of texts, spread over several where it is too long for one."""
    array = np.array([t.encode() for t in texts]) if texts else np.array([], "S1")
    parts = 1
    while any(a.nbytes > _HEADER for a in np.array_split(array, parts)):
        parts += 1
    if parts == 1:
        group.attrs[name] = array
        return
    for number, part in enumerate(np.array_split(array, parts)):
        group.attrs[f"{name}{number}"] = part
