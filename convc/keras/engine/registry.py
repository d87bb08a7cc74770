"""Classes and functions by the names that saved models call them.

Nothing is ever imported because a file names it: a name stands for what convc's own modules list here, for what a
user registered, or for what a call passes as `custom_objects`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, TypeVar

from convc.errors import UsageError

LAYERS: dict[str, type] = {}
"""Layer and model classes by name; convc.keras.layers and engine.model fill it in."""

METRICS: dict[str, type] = {}
"""`Metric` and `Mean`, of which layers make metrics; convc.keras.metrics fills it in."""

FAMILIES: dict[str, Callable[[Any], Any]] = {}
"""What turns a config into an object, by the last part of Keras' module: "initializers", "losses", …"""

registered: dict[str, Any] = {}
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_scope = ContextVar("convc_keras_custom_objects", default=_NOTHING)
Registered = TypeVar("Registered", bound=Callable[..., Any])


def register_keras_serializable(
    package: str = "Custom", name: str | None = None
) -> Callable[[Registered], Registered]:
    """A decorator that files a class or a function under `package>name`."""

    def register(item: Registered) -> Registered:
        registered[f"{package}>{name or item.__name__}"] = item
        return item

    return register


@contextmanager
def custom_object_scope(custom_objects: Mapping[str, Any] | None) -> Iterator[None]:
    """Within it, saved models find these classes and functions too, by name."""
    if custom_objects is not None and not isinstance(custom_objects, Mapping):
        raise UsageError(
            f"custom_objects must be a dict of classes and functions by name; received {custom_objects!r}"
        )
    token = _scope.set({**_scope.get(), **(custom_objects or {})})
    try:
        yield
    finally:
        _scope.reset(token)


def custom_object(*names: Any) -> Any:
    """What one of these names stands for among custom objects, or None.

    A plain name finds a registered `package>name` too: Keras up to 3.6 wrote functions that way.
    """
    given = _scope.get()
    wanted = [name for name in names if isinstance(name, str)]
    for table in (given, registered):
        for name in wanted:
            if name in table:
                return table[name]
    for name in wanted:
        for key, item in registered.items():
            if ">" not in name and key.endswith(f">{name}"):
                return item
    return None


def registered_name(item: Any) -> str | None:
    """The name under which a class or a function was registered or passed, or None."""
    for table in (registered, _scope.get()):
        for name, found in table.items():
            if found is item:
                return name
    return None


def get_custom_objects() -> dict[str, Any]:
    """What was registered, by name; changing the dict changes the registry."""
    return registered


def get_registered_object(name: str) -> Any:
    """The class or function of that name, or None."""
    return custom_object(name)


def custom(identifier: Any) -> Any:
    """The custom object of a name or a config, made if it is a class; None if there is none."""
    config: dict[str, Any] = {}
    match identifier:
        case str():
            found = custom_object(identifier)
        case {"class_name": "function", "config": str() as name}:
            return custom_object(identifier.get("registered_name"), name)
        case {"class_name": str() as name}:
            found = custom_object(identifier.get("registered_name"), name)
            config = identifier.get("config") or {}
        case _:
            return None
    if not isinstance(found, type):
        return found
    make: Any = getattr(found, "from_config", None)
    return found(**config) if make is None else make(config)


reviving: ContextVar[bool] = ContextVar("convc_keras_reviving", default=False)
"""Whether layers are made of a file: those of Keras 2 may have names with "/"."""
generation: ContextVar[int] = ContextVar("convc_keras_generation", default=3)
"""The major version of Keras that wrote the file that is being read: "hard_sigmoid" was another function before 3."""
