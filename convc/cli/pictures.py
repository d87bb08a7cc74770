"""Inputs of a model from pictures and array files, for `convc features`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convc.cli.files import read_arrays
from convc.errors import DataError, UsageError
from convc.graph.ir import Graph
from convc.keras.applications.imagenet_utils import preprocess_input
from convc.keras.utils.images import img_to_array, load_img
from convc.types import TensorType

Array = NDArray[Any]
COLORS = {1: "grayscale", 3: "rgb", 4: "rgba"}


def gather(graph: Graph, specs: Sequence[str], scale: str, first: bool) -> dict[str, Array]:
    """The arrays of `FILE` and `NAME=FILE` arguments by input name; `first` says that channels come first."""
    expected = ", ".join(f"{name} {graph.types[name]}" for name in graph.inputs)
    arrays: dict[str, Array] = {}
    for spec in specs:
        name, equals, file = spec.partition("=")
        path = Path(file if equals else spec)
        if not equals and path.suffix == ".npz":
            read_now = read_arrays(path)
            found = read_now if isinstance(read_now, dict) else {"arr_0": read_now}
            if list(found) == ["arr_0"] and len(graph.inputs) == 1:
                found = {graph.inputs[0]: found["arr_0"]}
        elif not equals and len(graph.inputs) > 1:
            raise UsageError(f"--input {spec}: expected NAME=FILE for one of {expected}")
        else:
            key = name if equals else graph.inputs[0]
            if key not in graph.inputs:
                raise UsageError(f"--input {spec}: no input {key!r}: expected {expected}")
            found = {key: read(path, graph.types[key], scale, first)}
        if twice := sorted(arrays.keys() & found.keys()):
            raise UsageError(f"--input {spec}: a second array for {', '.join(twice)}")
        arrays |= found
    if missing := [n for n in graph.inputs if n not in arrays]:
        raise DataError(f"no array for {', '.join(missing)}: expected {expected}")
    return {
        name: batched(array, graph.types[name])
        for name, array in arrays.items()
        if name in graph.types
    }


def read(path: Path, type: TensorType, scale: str, first: bool) -> Array:
    """An array file as it is, or a picture in the size and the number of channels that an input has."""
    if path.suffix in (".npy", ".npz"):
        array = read_arrays(path)
        if isinstance(array, dict):
            raise UsageError(f"--input {path}: a .npz brings its own names, expected FILE alone")
        return array
    if len(type.shape) != 4:
        raise DataError(f"{path}: a picture doesn't fit an input {type}: expected a .npy file")
    channels, *sides = type.shape[1:] if first else (type.shape[3], *type.shape[1:3])
    if channels not in COLORS:
        raise DataError(
            f"{path}: a picture doesn't fit an input {type} of {channels} channels: expected a .npy file"
        )
    size = (sides[0], sides[1]) if all(isinstance(s, int) for s in sides) else None
    image = load_img(path, COLORS[channels], size, "bilinear")  # type: ignore[arg-type]
    order = "channels_first" if first else "channels_last"
    pixels = img_to_array(image, order, "float32")
    if scale in ("raw", "unit"):
        return pixels if scale == "raw" else pixels / np.float32(255)
    if scale != "tf" and channels != 3:
        raise UsageError(f"--scale {scale}: expected an input of 3 channels, got {channels}")
    scaled: Array = preprocess_input(pixels, order, scale)
    return scaled


def batched(array: Array, type: TensorType) -> Array:
    """A single image as a batch of one."""
    return array[None] if array.ndim == len(type.shape) - 1 else array
