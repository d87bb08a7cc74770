"""Names for users' own classes, as Keras scripts register them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

_registered: dict[str, Any] = {}
Registered = TypeVar("Registered", bound=Callable[..., Any])


def register_keras_serializable(
    package: str = "Custom", name: str | None = None
) -> Callable[[Registered], Registered]:
    """A decorator that files a class or a function under `package>name`."""

    def register(item: Registered) -> Registered:
        _registered[f"{package}>{name or item.__name__}"] = item
        return item

    return register


def get_custom_objects() -> dict[str, Any]:
    """What was registered, by name; changing the dict changes the registry."""
    return _registered


def get_registered_object(name: str) -> Any:
    """The class or function of that name, or None."""
    return _registered.get(name)
