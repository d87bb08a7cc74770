"""Whole models from `.keras` and `.h5` files."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from convc.errors import ConvcError, InputFileError, UnsupportedError, UsageError
from convc.keras import (
    activations,
    constraints,
    initializers,
    losses,
    metrics,
    optimizers,
    regularizers,
)
from convc.keras.engine import archive, hdf5, legacy_weights, revival, saving_h5
from convc.keras.engine.hdf5 import Hdf5
from convc.keras.engine.registry import (
    FAMILIES,
    custom_object,
    custom_object_scope,
    generation,
    reviving,
)
from convc.keras.engine.revival import LayersError, revived_layer
from convc.keras.engine.serialization import plain
from convc.keras.engine.tensor import Array, Variable
from convc.keras.training.optimizer_files import ordered_as_now, restore_state

SUFFIXES = (".keras", ".h5", ".hdf5")
_STATE = "optimizer/vars"

FAMILIES.update(
    activations=activations.get,
    constraints=constraints.get,
    initializers=initializers.get,
    layers=revived_layer,
    losses=losses.get,
    metrics=metrics.get,
    optimizers=optimizers.get,
    regularizers=regularizers.get,
    schedules=optimizers.schedules.deserialize,
)


def load_model(
    filepath: str | Path,
    custom_objects: Mapping[str, Any] | None = None,
    compile: bool = True,
    safe_mode: bool = True,
    input_shapes: Mapping[str, Any] | None = None,
) -> Any:
    """The model of a `.keras` file (Keras 2.12 and later) or an HDF5 file (Keras 2 and 3), with its weights.

    `custom_objects` are the file's own classes and functions by name, where they aren't registered; a Lambda layer's
    function goes by the layer's name too. Nothing that a file names is imported, and no code in it runs, whatever
    `safe_mode` says. With `compile`, the optimizer, its state, the loss and the metrics come back too.
    `input_shapes` has shapes by input name, where the file leaves sizes open: convc compiles for known ones.
    """
    path = checked_path(filepath)
    given = dict(input_shapes or {})
    with custom_object_scope(custom_objects), revival.input_shapes(given), told(path):
        if is_hdf5(path):
            return _from_hdf5(path, compile)
        parts = archive.read(path)
        with of_version(parts.version), revival.one_file():
            model = _model(parts.config)
        if parts.weights is None:
            raise InputFileError(f"{path}: it has no {archive.WEIGHTS}")
        with hdf5.opened(io.BytesIO(parts.weights), f"{path}: {archive.WEIGHTS}") as file:
            assign(saving_h5.read(model, file))
            _learn(model, parts.vocabularies)
            if compile and parts.config.get("compile_config"):
                _compile(model, parts.config["compile_config"])
                names = file.names(_STATE)
                arrays = [file.array(f"{_STATE}/{k}") for k in range(len(names))]
                _restore(model, arrays, file.name)
        return model


def _learn(model: Any, vocabularies: Mapping[str, str]) -> None:
    """Gives layers the vocabularies that they had learned."""
    for place, layer in saving_h5.layers_of(model) if vocabularies else ():
        inside = (f"{place}_lookup_layer/", place)  # TextVectorization's has a layer of its own
        text = next((vocabularies[p] for p in inside if p in vocabularies), None)
        if text and hasattr(layer, "set_vocabulary"):
            layer.set_vocabulary(text.split("\n"))


def _from_hdf5(path: Path, compile: bool) -> Any:
    with hdf5.opened(path, str(path)) as file:
        with of_version(file.attribute("", "keras_version") or "1"):
            model = _model(hdf5_config(file))
        root = legacy_weights.root_of(file)
        if root is not None:
            assign(legacy_weights.read(model, file, root))
        text = file.attribute("", "training_config")
        if compile and isinstance(text, str):
            config = archive.parsed(text, f"{path}: training_config")
            config["optimizer"] = config.pop("optimizer_config", None)
            for key in ("metrics", "weighted_metrics"):
                config[key] = _unprefixed(config.get(key), model.output_names)
            _compile(model, config)
            group = "optimizer_weights"
            names = file.texts(group, "weight_names")
            arrays = [file.array(f"{group}/{name}") for name in names]
            known = model.trainable_variables
            _restore(model, ordered_as_now(model.optimizer.rule, known, names, arrays), str(path))
        return model


def _unprefixed(metrics: Any, outputs: Sequence[str]) -> Any:
    """Metrics of several outputs without the outputs' names, which Keras 2 writes before theirs."""
    if not isinstance(metrics, list) or len(metrics) != len(outputs) or len(outputs) < 2:
        return metrics

    def without(value: Any, prefix: str) -> Any:
        match value:
            case list():
                return [without(item, prefix) for item in value]
            case {"config": {"name": str() as name} as config}:
                return {**value, "config": {**config, "name": name.removeprefix(prefix)}}
            case _:
                return value

    return [without(own, f"{name}_") for own, name in zip(metrics, outputs, strict=True)]


def _compile(model: Any, config: dict[str, Any]) -> None:
    """Compiles the model as a file says."""
    optimizer = config.get("optimizer")
    if isinstance(optimizer, dict):
        unused = ("jit_compile", "is_legacy_optimizer")
        inner = {k: v for k, v in dict(optimizer.get("config") or {}).items() if k not in unused}
        name = str(optimizer.get("class_name")).removeprefix("Custom>")
        optimizer = {**optimizer, "class_name": name, "config": inner}
    model.compile(
        optimizers.get(optimizer),
        loss=_scored(config.get("loss"), losses.get),
        loss_weights=config.get("loss_weights"),
        metrics=_scored(config.get("metrics"), metrics.get),
        weighted_metrics=_scored(config.get("weighted_metrics"), metrics.get),
    )


def _scored(value: Any, get: Callable[[Any], Any]) -> Any:
    """Losses or metrics in the structure in which `compile` was given them; plain names stay names."""
    match value:
        case [list() as only]:  # Keras 2 keeps the metrics of a single output so
            return _scored(only, get)
        case {"class_name": "function", "config": str() as name}:
            return custom_object(value.get("registered_name"), name) or name
        case {"class_name": "MeanMetricWrapper", "config": {"name": name, "fn": function}}:
            if name in ("accuracy", "acc"):
                return name
            found = get(_scored(function, get))
            if isinstance(found, metrics.Metric):
                found.name = str(name)
            return found
        case {"class_name": str() as name, "config": dict() as config} if "fn" in config:
            if custom_object(value.get("registered_name"), name) is None:  # Keras 2 says it twice
                value = {**value, "config": {k: v for k, v in config.items() if k != "fn"}}
            return get(plain(value))
        case {"class_name": str(), "config": _}:
            return get(plain(value))
        case dict():
            return {key: _scored(item, get) for key, item in value.items()}
        case list() | tuple():
            return [_scored(item, get) for item in value]
        case _:
            return value


def _restore(model: Any, arrays: Sequence[Array], source: str) -> None:
    if arrays:
        restore_state(model, arrays, source)


def model_from_json(json_string: str, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """The model of a text made by `to_json`, here or in Keras; its weights are new."""
    config = archive.parsed(json_string, "model_from_json: the text")
    with custom_object_scope(custom_objects), of_version(config.get("keras_version", "3")):
        return model_from_config(config)


def model_from_config(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """The model of a config with `class_name` and `config`; its weights are new."""
    with custom_object_scope(custom_objects), told("model config"):
        return _model(config)


def problems_of(filepath: str | Path, input_shapes: Mapping[str, Any] | None = None) -> list[str]:
    """Everything that keeps a file's model from being compiled, a line for each; nothing if its graph can be made."""
    try:
        load_model(filepath, compile=False, input_shapes=input_shapes).graphs()
    except LayersError as error:
        return error.problems
    except UnsupportedError as error:
        return [str(error)]
    return []


def checked_path(filepath: str | Path) -> Path:
    """The path of a model file; UsageError for another suffix, InputFileError if there is no such file."""
    path = Path(filepath)
    if path.suffix not in SUFFIXES:
        raise UsageError(f"model file {path}: expected a name that ends in {', '.join(SUFFIXES)}")
    if path.is_dir():
        raise InputFileError(
            f"{path} is a folder: convc reads .keras and .h5 files, not SavedModels"
        )
    if not path.is_file():
        raise InputFileError(f"model file {path} doesn't exist")
    return path


def is_hdf5(path: Path) -> bool:
    """True for a file that begins as HDF5 does; `.keras` files of some versions do."""
    with path.open("rb") as stream:
        return stream.read(8) == b"\x89HDF\r\n\x1a\n" or path.suffix != ".keras"


def hdf5_config(file: Hdf5) -> dict[str, Any]:
    """The model's config in an HDF5 file."""
    text = file.attribute("", "model_config")
    if not isinstance(text, str):
        what = "weights only: build the model, then load_weights()"
        known = legacy_weights.root_of(file) is not None or "layers" in file
        raise InputFileError(
            f"{file.name} has no model_config: {what if known else 'no Keras model'}"
        )
    return archive.parsed(text, f"{file.name}: model_config")


def assign(pairs: list[tuple[Variable, Array]]) -> None:
    for variable, array in pairs:
        variable.assign(array)


def _model(config: Any) -> Any:
    token = reviving.set(True)
    try:
        model = revived_layer(config)
    finally:
        reviving.reset(token)
    if not (hasattr(model, "network") or getattr(model, "stands_alone", False)):
        raise InputFileError(f"expected a model; the file has a {type(model).__name__}")
    return model


@contextmanager
def of_version(version: object) -> Iterator[None]:
    """Within it, names mean what they did in that version of Keras."""
    major = str(version).partition(".")[0]
    token = generation.set(int(major) if major.isdecimal() and len(major) < 4 else 3)
    try:
        yield
    finally:
        generation.reset(token)


@contextmanager
def told(source: object) -> Iterator[None]:
    """Names the file in the errors that come from inside it."""
    try:
        yield
    except LayersError as error:
        told_error = LayersError(error.problems)
        told_error.args = (f"{source}: {error}",)
        raise told_error from None
    except ConvcError as error:
        if str(error).startswith(str(source)):
            raise
        raise type(error)(f"{source}: {error}") from None
    except RecursionError:
        raise InputFileError(f"{source}: its layers nest too deep") from None
    except (TypeError, ValueError, KeyError, AttributeError, IndexError, OverflowError) as error:
        raise InputFileError(
            f"{source}: its config can't be read: {type(error).__name__}: {error}"
        ) from None
