"""Automatic names (`conv2d`, `conv2d_1`, …), the layer that is being traced, and the user's line."""

from __future__ import annotations

import difflib
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import numpy as np

from convc.errors import UnsupportedError

_counts: Counter[str] = Counter()
_scope: ContextVar[tuple[str, ...]] = ContextVar("convc_keras_scope", default=())
_FOREIGN = (str(Path(__file__).resolve().parents[2]), str(Path(np.__file__).resolve().parent))


def snake_case(name: str) -> str:
    """A class name as Keras turns it into a layer name: MaxPooling2D -> max_pooling2d."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def unique_name(base: str) -> str:
    """`base`, then `base_1`, `base_2`, … since the last `clear_names`."""
    count = _counts[base]
    _counts[base] += 1
    return f"{base}_{count}" if count else base


def clear_names() -> None:
    """Makes automatic names start again."""
    _counts.clear()


def scope() -> tuple[str, ...]:
    """The names of the layers whose `call` is being traced, outermost first."""
    return _scope.get()


def scope_name() -> str:
    """The path of the layer that is being traced, empty outside of all layers."""
    return "/".join(filter(None, _scope.get()))


@contextmanager
def entered(name: str) -> Iterator[None]:
    """Traces what follows inside the layer `name`; an empty name counts as a layer but shows in no path."""
    token = _scope.set((*_scope.get(), name))
    try:
        yield
    finally:
        _scope.reset(token)


@contextmanager
def outermost() -> Iterator[None]:
    """Traces what follows as if no layer were being traced."""
    token = _scope.set(())
    try:
        yield
    finally:
        _scope.reset(token)


def user_line() -> str:
    """`file.py:12`, the innermost line on the stack that is the user's own code."""
    frame = sys._getframe(1)
    while frame is not None:
        path = frame.f_code.co_filename
        if not path.startswith(_FOREIGN) and not path.startswith("<"):
            return f"{path}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return "<unknown>"


class MissingNameError(UnsupportedError, AttributeError):
    """A layer or function that Keras may have and convc has not; `hasattr` says False."""


def missing(module: str, name: str, known: Iterable[str]) -> MissingNameError:
    """The error for a name that a module lacks."""
    if name.startswith("_"):
        return MissingNameError(f"module {module!r} has no attribute {name!r}")
    return MissingNameError(
        f"{module} has no {name!r}{nearest(name, known)}: convc can't compile it yet"
    )


def nearest(name: object, known: Iterable[str]) -> str:
    """ " (did you mean 'x'?)" for the closest known name, or nothing."""
    found = difflib.get_close_matches(str(name), list(known), n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""
