"""Losses, metrics, optimizers and the like by their names, configs, classes or themselves."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from convc.errors import ModelError
from convc.keras.engine.naming import nearest
from convc.keras.engine.registry import custom_object, custom_object_scope, registered_name

FEW = 24
"""So many names are all told."""
PLACES = {"loss": "losses", "metric": "metrics", "initializer": "initializers"}


def resolved(
    kind: str, identifier: Any, known: Mapping[str, Any], custom: Mapping[str, Any] | None = None
) -> Any:
    """The object that an identifier means; classes are made with their defaults, None stays None.

    `kind` is what errors call it ("loss"). Registered objects and `custom` ones are found too.
    """
    with custom_object_scope(custom):
        match identifier:
            case None:
                return None
            case {"class_name": str() as name}:
                config = identifier.get("config")
                found = _named(kind, name, identifier.get("registered_name"), known, True)
                return _made(found, config if isinstance(config, Mapping) else {})
            case str():
                found = _named(kind, identifier, None, known)
                return _by_name(kind, identifier, found) if inspect.isclass(found) else found
            case _ if inspect.isclass(identifier):
                return identifier()
            case _ if callable(identifier):
                return identifier
            case _:
                raise ModelError(
                    f"expected a {kind}, its name, class or config, or a function; received {identifier!r}"
                )


def _named(
    kind: str, name: str, filed_under: Any, known: Mapping[str, Any], filed: bool = False
) -> Any:
    found = custom_object(filed_under, name)
    if found is not None:
        return found
    if name in known:
        return known[name]
    hint = f": a class of your own goes in custom_objects={{{name!r}: …}}" if filed else ""
    raise ModelError(f"unknown {kind} {name!r}{_suggested(kind, name, known)}{hint}")


def _by_name(kind: str, name: str, cls: type) -> Any:
    """An object of a class, which needs no arguments."""
    try:
        return cls()
    except TypeError as error:
        raise ModelError(
            f"{kind} {name!r}: {error}: pass an object of the class instead of its name"
        ) from None


def _suggested(kind: str, name: str, known: Mapping[str, Any]) -> str:
    """What could have been meant: all names where there are few, else the nearest ones."""
    if len(known) <= FEW:
        return f"{nearest(name, known)}; known are {', '.join(sorted(known))}"
    folded: dict[str, str] = {}
    for each in sorted(known, key=lambda k: difflib.SequenceMatcher(None, name, k).ratio()):
        folded[each.replace("_", "").lower()] = each  # of two spellings the one that is nearer
    near = difflib.get_close_matches(name.replace("_", "").lower(), folded, 4, 0.5)
    if not near:
        return f"; it is none of the {len(folded)} that there are: their names are in keras.{PLACES.get(kind, kind)}"
    first, *others = (folded[n] for n in near)
    return f" (did you mean {first!r}?)" + (
        f"; {', '.join(others)} are near, too" if others else ""
    )


def _made(found: Any, config: Mapping[str, Any]) -> Any:
    if not inspect.isclass(found):
        return found
    make: Callable[..., Any] = getattr(found, "from_config", lambda c: found(**c))
    return make(dict(config))


def config_of(module: str, item: Any) -> Any:
    """What `resolved` turns back into the object: Keras 3's config of an object, a function's name."""
    if item is None or isinstance(item, (str, dict)):
        return item
    if not hasattr(item, "get_config"):
        return registered_name(item) or getattr(item, "__name__", repr(item))
    cls = type(item)
    own = cls.__module__.startswith("convc.")
    return {
        "module": module if own else cls.__module__,
        "class_name": cls.__name__,
        "config": item.get_config(),
        "registered_name": registered_name(cls) or (None if own else cls.__name__),
    }
