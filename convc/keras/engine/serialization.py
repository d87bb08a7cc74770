"""Objects as Keras writes them in JSON, and back: `{"module", "class_name", "config", "registered_name"}`."""

from __future__ import annotations

import base64
import json
import marshal
import types
from collections.abc import Mapping
from typing import Any

import numpy as np

from convc.errors import InputFileError, ModelError, UnsupportedError
from convc.keras.engine.naming import nearest
from convc.keras.engine.registry import (
    FAMILIES,
    LAYERS,
    custom_object,
    custom_object_scope,
    registered_name,
)
from convc.types import DType

OWN = "convc.keras."
_PLACES = {
    "convc.keras.engine.model": "keras",
    "convc.keras.engine.input": "keras.layers",
    "convc.keras.optimizers.schedules": "keras.optimizers.schedules",
    "convc.keras.applications.convnext": "keras.src.applications.convnext",
    "convc.keras.applications.inception_resnet_v2": "keras.src.applications.inception_resnet_v2",
}


def serialize_keras_object(value: Any) -> Any:
    """A value that JSON can hold: plain ones as they are, objects by class and `get_config()`, functions by name.

    ModelError for what has no name that a file could keep: lambdas, and objects without `get_config`.
    """
    match value:
        case None | bool() | int() | float() | str():
            return value
        case np.generic():
            return value.item()
        case np.ndarray():
            return _tagged("__numpy__", value=value.tolist(), dtype=str(value.dtype))
        case DType():
            return value.value
        case bytes():
            return _tagged("__bytes__", value=value.decode("latin-1"))
        case slice():
            return _tagged("__slice__", start=value.start, stop=value.stop, step=value.step)
        case list() | tuple():
            return [serialize_keras_object(v) for v in value]
        case Mapping():
            return {str(k): serialize_keras_object(v) for k, v in value.items()}
    if value is Ellipsis:
        return _tagged("__ellipsis__")
    if isinstance(value, types.FunctionType):
        return _function(value)
    if hasattr(value, "get_config") and not isinstance(value, type):
        return _object(value)
    raise ModelError(
        f"{value!r} can't be saved: expected plain values, named functions, or objects with get_config()"
    )


def _tagged(tag: str, **config: Any) -> dict[str, Any]:
    return {"class_name": tag, "config": config}


def _function(function: Any) -> Any:
    """The name of one of convc's functions; others as Keras writes them, to be found by name when loaded."""
    name = registered_name(function)
    if name is None and function.__module__.startswith(OWN):
        return function.__name__
    if name is None and function.__name__ == "<lambda>":
        return _lambda(function)
    name = name or function.__name__
    return {
        "module": function.__module__,
        "class_name": "function",
        "config": name,
        "registered_name": name,
    }


_lambdas: dict[str, types.FunctionType] = {}
"""The lambdas that this process has saved, by what files have of them."""


def _lambda(function: types.FunctionType) -> dict[str, Any]:
    """A lambda as Keras writes it, marshalled; what it refers to outside must be plain values."""
    closure = tuple(cell.cell_contents for cell in function.__closure__ or ()) or None
    try:
        kept = serialize_keras_object([function.__defaults__, closure])
    except ModelError:
        raise ModelError(
            "a lambda that refers to objects outside can't be saved: use a named function, under "
            "@register_keras_serializable() or custom_objects"
        ) from None
    code = base64.encodebytes(marshal.dumps(function.__code__)).decode("ascii")
    config = {"code": code, "defaults": kept[0], "closure": kept[1]}
    _lambdas[json.dumps(config)] = function
    return _tagged("__lambda__", **config)


def saved_lambda(config: Any) -> types.FunctionType | None:
    """The lambda itself, if this process saved it: bytecode that comes from elsewhere isn't run."""
    return _lambdas.get(json.dumps(config))


def _object(value: Any) -> dict[str, Any]:
    cls = type(value)
    entry = {**class_entry(cls), "config": serialize_keras_object(value.get_config())}
    special = getattr(value, "saved_as", None)
    if special is not None:
        entry.update(special)
    for key in ("build_config", "compile_config"):
        get = getattr(value, f"get_{key}", None)
        found = None if get is None else get()
        if found is not None:
            entry[key] = serialize_keras_object(found)
    return entry


def class_entry(cls: type) -> dict[str, Any]:
    """How a file names a class: Keras' public module, or the name that it was registered under."""
    if cls.__module__.startswith(OWN):
        part = cls.__module__.split(".")[2]
        module = _PLACES.get(cls.__module__, f"keras.{part}")
        return {"module": module, "class_name": cls.__name__, "config": {}, "registered_name": None}
    name = registered_name(cls) or cls.__name__
    return {
        "module": cls.__module__,
        "class_name": cls.__name__,
        "config": {},
        "registered_name": name,
    }


def deserialize_keras_object(
    config: Any, custom_objects: Mapping[str, Any] | None = None, safe_mode: bool = True
) -> Any:
    """The object of a config made by `serialize_keras_object` or by Keras itself."""
    with custom_object_scope(custom_objects):
        return revived(config)


def revived(value: Any) -> Any:
    """A value as it was before `serialize_keras_object`."""
    match value:
        case list() | tuple():
            return [revived(v) for v in value]
        case {"class_name": str(), "config": _}:
            return _revived_entry(value)
        case dict():
            return {key: revived(v) for key, v in value.items()}
        case _:
            return value


def _revived_entry(entry: dict[str, Any]) -> Any:
    simple, found = tagged_value(entry)
    if simple:
        return found
    name, config = entry["class_name"], entry["config"]
    if name == "function":
        return _revived_function(entry)
    custom = custom_object(entry.get("registered_name"), name)
    if custom is not None:
        return from_config(custom, config)
    module = str(entry.get("module") or "keras.layers")
    family = module.split(".")[-1] if is_keras(module) else ""
    for part in module.split(".") if is_keras(module) else ():
        family = part if part in FAMILIES else family
    if family in FAMILIES:
        return FAMILIES[family](entry)
    if is_keras(module) and name in LAYERS:
        return from_config(LAYERS[name], config)
    raise UnsupportedError(unknown_class(entry))


def _revived_function(entry: dict[str, Any]) -> Any:
    name = entry["config"]
    custom = custom_object(entry.get("registered_name"), name)
    if custom is not None:
        return custom
    for family in FAMILIES.values():
        try:
            return family(name)
        except ModelError:
            continue
    raise UnsupportedError(
        f"function {name!r} is unknown: pass custom_objects={{{name!r}: …}}; {BY_SCRIPT}"
    )


BY_SCRIPT = (
    "on the command line give, in place of the file, a script that does so: "
    "model = keras.models.load_model(…)"
)
"""What a user of the command line can do about a file with code of its own."""


def tagged_value(entry: dict[str, Any]) -> tuple[bool, Any]:
    """(True, value) for an entry that stands for a plain value; InputFileError for code."""
    config = entry.get("config")
    match entry["class_name"], config:
        case "__numpy__" | "__tensor__", {"value": value, "dtype": str() as kind}:
            return True, np.asarray(value, DType.of(kind).numpy)
        case "__bytes__", {"value": str() as text}:
            return True, text.encode("latin-1", "replace")
        case "__slice__", {"start": start, "stop": stop, "step": step}:
            return True, slice(revived(start), revived(stop), revived(step))
        case "__ellipsis__", _:
            return True, Ellipsis
        case "SeedGenerator", dict():
            return True, config.get("seed")
        case "DTypePolicy" | "Policy" | "FloatDTypePolicy", dict():
            return True, config.get("name")
        case "__lambda__", _:
            known = saved_lambda(config)
            if known is not None:
                return True, known
            raise UnsupportedError(MARSHALLED)
    return False, None


MARSHALLED = (
    "its function is marshalled Python bytecode, which convc never runs, whatever safe_mode says: it could do anything "
    "and fits one version of Python only; pass custom_objects={'<layer name>': function}, or save the model again with "
    "a named function under @register_keras_serializable(); " + BY_SCRIPT
)


def plain(value: Any) -> Any:
    """A layer's config with the spellings of all generations of Keras turned into plain values."""
    match value:
        case {"class_name": "__tuple__" | "ListWrapper" | "TensorShape", "items": list() as items}:
            return [plain(v) for v in items]
        case {"type": "ndarray", "value": array}:
            return plain(array)
        case {"class_name": str(), "config": _}:
            simple, found = tagged_value(value)
            return found if simple else {k: plain(v) for k, v in value.items()}
        case dict():
            return {k: plain(v) for k, v in value.items()}
        case list() | tuple():
            return [plain(v) for v in value]
        case _:
            return value


def is_keras(module: str) -> bool:
    """True for the modules of Keras in its distributions."""
    return module.removeprefix("tensorflow.python.").split(".")[0] in ("keras", "tf_keras")


def from_config(item: Any, config: Any) -> Any:
    """An object of a class; functions are themselves."""
    if not isinstance(item, type):
        return item
    if hasattr(item, "from_config"):
        return item.from_config(config or {})
    return item(**(config or {}))


def unknown_class(entry: dict[str, Any]) -> str:
    """Why a class can't be found, in one line."""
    name, module = str(entry["class_name"]), entry.get("module")
    if module is None or is_keras(str(module)):
        near = nearest(name, LAYERS)
        return f"class {name!r} isn't known{near}: convc has no such layer, and none is registered"
    return (
        f"class {name!r} of {module!r} isn't known: register it with @register_keras_serializable(), or pass "
        f"custom_objects={{{name!r}: …}}; {BY_SCRIPT}; convc imports nothing that a file names"
    )


def entry_of(value: Any, what: str) -> dict[str, Any]:
    """A checked `{"class_name", "config"}` entry."""
    match value:
        case {"class_name": str(), "config": dict() | list() | str() | None}:
            return dict(value)
        case _:
            raise InputFileError(
                f"{what}: expected an entry with class_name and config; received {str(value)[:60]!r}"
            )
