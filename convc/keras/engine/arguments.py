"""Checks of layer arguments. Every message names the layer, the argument, the expectation and the value."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn

import numpy as np

from convc.errors import ModelError
from convc.keras.engine.naming import nearest


def refuse(owner: object, argument: str, expected: str, value: object) -> NoReturn:
    raise ModelError(f"{title(owner)}: {argument} must be {expected}; received {value!r}")


def title(owner: object) -> str:
    """`Conv2D 'conv1'` for a layer, the text itself for text."""
    if isinstance(owner, str):
        return owner
    name = getattr(owner, "name", None)
    return f"{type(owner).__name__} {name!r}" if name else type(owner).__name__


def is_integer(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def positive(owner: object, argument: str, value: Any) -> int:
    """A positive integer."""
    if not is_integer(value) or value < 1:
        refuse(owner, argument, "a positive integer", value)
    return int(value)


def whole(owner: object, argument: str, value: Any, least: int = 0) -> int:
    """An integer of at least `least`."""
    if not is_integer(value) or value < least:
        refuse(owner, argument, f"an integer ≥ {least}", value)
    return int(value)


def real(owner: object, argument: str, value: Any) -> Any:
    """Any number, as it came."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        refuse(owner, argument, "a number", value)
    return value


def pair(owner: object, argument: str, value: Any, least: int = 1) -> tuple[int, int]:
    """An integer, used twice, or two integers; none below `least`."""
    kind = {0: "non-negative", 1: "positive"}[least]
    expected = f"an integer or a tuple of 2 {kind} integers"
    both = (value, value) if is_integer(value) else value
    if not isinstance(both, (tuple, list)) or len(both) != 2:
        refuse(owner, argument, expected, value)
    if not all(is_integer(v) and v >= least for v in both):
        refuse(owner, argument, expected, value)
    return int(both[0]), int(both[1])


def borders(owner: object, argument: str, value: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    """((top, bottom), (left, right)) from an integer, two integers or two pairs."""
    expected = (
        "an integer, 2 integers or 2 pairs ((top, bottom), (left, right)) of non-negative integers"
    )
    both = (value, value) if is_integer(value) else value
    if not isinstance(both, (tuple, list)) or len(both) != 2:
        refuse(owner, argument, expected, value)
    sides = [(v, v) if is_integer(v) else v for v in both]
    for side in sides:
        if not isinstance(side, (tuple, list)) or len(side) != 2:
            refuse(owner, argument, expected, value)
        if not all(is_integer(v) and v >= 0 for v in side):
            refuse(owner, argument, expected, value)
    (top, bottom), (left, right) = sides
    return (int(top), int(bottom)), (int(left), int(right))


def choice(owner: object, argument: str, value: Any, known: Iterable[str]) -> str:
    """One of the known words, in lower case."""
    known = tuple(known)
    text = value.lower() if isinstance(value, str) else value
    if text not in known:
        words = (
            " or ".join(map(repr, known))
            if len(known) < 3
            else "one of " + ", ".join(map(repr, known))
        )
        raise ModelError(
            f"{title(owner)}: {argument} must be {words}; received {value!r}{nearest(value, known)}"
        )
    return str(text)


def number(owner: object, argument: str, value: Any, expected: str, least: float = 0.0) -> float:
    """A number of at least `least` (more than 0 for an expected "positive number")."""
    known = not isinstance(value, bool) and isinstance(value, (int, float, np.number))
    if not known or not value >= least or (value == 0 and expected.startswith("a positive")):
        refuse(owner, argument, expected, value)
    return float(value)


def fraction(owner: object, argument: str, value: Any) -> float:
    """A number from 0 to 1."""
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float, np.number))
        or not 0 <= value <= 1
    ):
        refuse(owner, argument, "a number from 0 to 1", value)
    return float(value)


def axis_of(owner: object, axis: Any, rank: int) -> int:
    """A non-negative axis of a tensor of that rank."""
    if not is_integer(axis) or not -rank <= axis < rank:
        refuse(owner, "axis", f"an integer from {-rank} to {rank - 1}", axis)
    return int(axis) % rank
