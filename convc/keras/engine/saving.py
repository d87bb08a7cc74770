"""Weights and models into files, weights out of them."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from convc_runtime import WriteError
from convc_runtime.writing import appearing

from convc.errors import DAMAGED_ARRAYS, InputFileError, ModelError, OutputError, UsageError
from convc.keras.engine import archive, hdf5, legacy_weights, saving_h5, shards
from convc.keras.engine.naming import nearest
from convc.keras.engine.serialization import serialize_keras_object
from convc.keras.engine.tensor import Array, Variable
from convc.keras.training.optimizer_files import saved_state

VERSION = "3.0.0"
"""The version of Keras whose files these are."""
_SUFFIXES = (".safetensors", ".npz", ".h5", ".hdf5", ".keras")


def weight_names(variables: Sequence[Variable]) -> list[str]:
    """The path of every variable, made unique by a number."""
    names: list[str] = []
    taken: set[str] = set()
    for variable in variables:
        name, count = variable.path, 0
        while name in taken:
            count += 1
            name = f"{variable.path}_{count}"
        taken.add(name)
        names.append(name)
    return names


def save_weights(
    model: Any, path: Path, overwrite: bool, max_shard_size: float | None = None
) -> None:
    """Writes the weights; the file appears whole or not at all.

    `.weights.h5` is Keras 3's layout, another `.h5` that of Keras 1 and 2. `.weights.json` names files of at most
    `max_shard_size` GiB each, which are written beside it, before it.
    """
    sharded = path.name.endswith(shards.SUFFIX)
    if sharded != (max_shard_size is not None):
        raise UsageError(
            f"save_weights: max_shard_size and a name that ends in {shards.SUFFIX} go together; received "
            f"{max_shard_size!r} and {str(path)!r}"
        )
    suffix = path.suffix if sharded else _suffix(path)
    if not model.built:
        raise ModelError(
            f"save_weights: model {model.name!r} has no weights yet: build it or call it first"
        )
    if max_shard_size is not None:
        _save_shards(model, path, overwrite, max_shard_size)
        return
    names = weight_names(model.weights)
    with _appearing(path, overwrite) as scratch:
        if suffix == ".h5":
            with hdf5.h5py().File(scratch, "w") as file:
                if path.name.endswith(".weights.h5"):
                    saving_h5.write(model, file)
                else:
                    legacy_weights.write(model, file, VERSION)
            return
        arrays = dict(zip(names, (w.value for w in model.weights), strict=True))
        if suffix == ".npz":
            np.savez(scratch, **arrays)
        else:
            metadata = {"format": "convc", "order": json.dumps(names)}
            safetensors.numpy.save_file(arrays, scratch, metadata)


def _save_shards(model: Any, path: Path, overwrite: bool, size: float) -> None:
    stem = path.name.removesuffix(shards.SUFFIX)
    files, text = shards.planned(saving_h5.arrays_of(model), size, stem)
    for number, arrays in enumerate(files):
        with (
            _appearing(path.with_name(f"{stem}_{number:05d}.weights.h5"), overwrite) as scratch,
            hdf5.h5py().File(scratch, "w") as file,
        ):
            shards.write(file, arrays)
    with _appearing(path, overwrite) as scratch:
        scratch.write_text(text)


def save_model(
    model: Any, filepath: str | Path, overwrite: bool = True, include_optimizer: bool = True
) -> None:
    """Writes architecture and weights to a `.keras` file, as Keras 3 does, or to an HDF5 file, as Keras 2 did."""
    path = Path(filepath)
    if path.suffix not in (".keras", ".h5", ".hdf5"):
        raise UsageError(f"model file {path}: expected a name that ends in .keras or .h5")
    if not model.built:
        raise ModelError(
            f"save: model {model.name!r} has no weights yet: build it or call it first"
        )
    config = serialize_keras_object(model)
    compiled = config.pop("compile_config", None)
    compiled = compiled if include_optimizer else None
    config |= {} if compiled is None else {"compile_config": compiled}
    state = [] if compiled is None else saved_state(model)
    with _appearing(path, overwrite) as scratch:
        if path.suffix == ".keras":
            archive.write(model, scratch, config, VERSION, [array for _, array in state])
            return
        with hdf5.h5py().File(scratch, "w") as file:
            file.attrs["keras_version"] = VERSION
            file.attrs["backend"] = "tensorflow"
            entry = {"class_name": config["class_name"], "config": config["config"]}
            file.attrs["model_config"] = json.dumps(entry)
            legacy_weights.write(model, file.create_group(legacy_weights.GROUP), VERSION)
            if compiled is not None:
                training = {**compiled, "optimizer_config": compiled["optimizer"]}
                del training["optimizer"]
                file.attrs["training_config"] = json.dumps(training)
                named = [(f"{model.optimizer.name}/{name}", array) for name, array in state]
                legacy_weights.write_arrays(file.create_group("optimizer_weights"), named)


@contextmanager
def _appearing(path: Path, overwrite: bool) -> Iterator[Path]:
    """A file beside the path that takes its place once it is whole; OutputError if it can't."""
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists already; pass overwrite=True to replace it")
    try:
        with appearing(path) as scratch:
            yield scratch
    except safetensors.SafetensorError as error:
        raise OutputError(f"can't write {path}: {error}") from None
    except WriteError as error:
        raise OutputError(str(error)) from None


def load_weights(model: Any, path: Path, skip_mismatch: bool, by_name: bool = False) -> None:
    """Assigns the weights of a file by name or, where no name fits but all shapes do, by order."""
    sharded = path.name.endswith(shards.SUFFIX)
    suffix = path.suffix if sharded else _suffix(path)
    if not path.is_file():
        raise InputFileError(f"weights file {path} doesn't exist")
    if not model.built:
        raise ModelError(
            f"load_weights: model {model.name!r} has no weights yet: build it or call it first"
        )
    if sharded:
        with shards.opened(path) as files:
            pairs = saving_h5.read(model, files, skip_mismatch)
        for variable, array in pairs:
            variable.assign(array)
        return
    if suffix in (".h5", ".keras"):
        for variable, array in _hdf5_weights(model, path, skip_mismatch, by_name):
            variable.assign(array)
        return
    arrays = _read_npz(path) if suffix == ".npz" else _read_safetensors(path)
    variables = model.weights
    names = weight_names(variables)
    if set(names) != set(arrays) and not skip_mismatch and not by_name:
        _assign_by_order(path, variables, names, arrays)
        return
    for name, variable in zip(names, variables, strict=True):
        if name in arrays and arrays[name].shape != variable.shape and not skip_mismatch:
            raise InputFileError(
                f"{path}: {name} has shape {arrays[name].shape}; expected {variable.shape}"
            )
    for name, variable in zip(names, variables, strict=True):
        if name in arrays and arrays[name].shape == variable.shape:
            variable.assign(arrays[name])


def _hdf5_weights(
    model: Any, path: Path, skip_mismatch: bool, by_name: bool
) -> list[tuple[Variable, Array]]:
    """The variables with their arrays, in whichever layout the file has."""
    source: Path | io.BytesIO = path
    if path.suffix == ".keras":
        source = io.BytesIO(archive.read(path).weights or b"")
    with hdf5.opened(source, str(path)) as file:
        root = legacy_weights.root_of(file)
        if root is not None:
            return legacy_weights.read(model, file, root, by_name, skip_mismatch)
        if by_name:
            raise UsageError(
                f"{path}: by_name=True is for files of Keras 1 and 2; this is one of Keras 3"
            )
        return saving_h5.read(model, file, skip_mismatch)


def _assign_by_order(
    path: Path, variables: Sequence[Variable], names: list[str], arrays: dict[str, Array]
) -> None:
    """For models whose layers got other automatic names: everything but the names must agree."""
    if [a.shape for a in arrays.values()] != [v.shape for v in variables]:
        missing = [n for n in names if n not in arrays]
        unknown = [n for n in arrays if n not in names]
        if missing:
            what = f"weight {missing[0]!r} is missing{nearest(missing[0], unknown)}"
        elif unknown:
            what = f"the model has no weight {unknown[0]!r}{nearest(unknown[0], names)}"
        else:
            what = "the weights' names and shapes differ"
        raise InputFileError(
            f"{path} doesn't fit the model: {what} ({len(arrays)} weights in the file, {len(names)} in the model)"
        )
    for variable, array in zip(variables, arrays.values(), strict=True):
        variable.assign(array)


def _read_npz(path: Path) -> dict[str, Array]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except DAMAGED_ARRAYS as error:
        raise InputFileError(f"{path} is not a readable .npz file: {error}") from None


def _read_safetensors(path: Path) -> dict[str, Array]:
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            names = list(file.keys())
            if "order" in metadata:
                names = [n for n in json.loads(metadata["order"]) if n in set(names)]
            return {name: file.get_tensor(name) for name in names}
    except (OSError, ValueError, TypeError, safetensors.SafetensorError) as error:
        raise InputFileError(f"{path} is not a readable .safetensors file: {error}") from None


def _suffix(path: Path) -> str:
    if path.suffix not in _SUFFIXES:
        raise UsageError(
            f"weights file {path}: expected a name that ends in {', '.join(_SUFFIXES)}"
        )
    return ".h5" if path.suffix == ".hdf5" else path.suffix
