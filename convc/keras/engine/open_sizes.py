"""Sizes that a model leaves open besides the batch: `Input((None, None, 3))`.

convc compiles for known sizes, so such a model is traced once more for the sizes that data have, and compiled for
each that comes. Until then its tensors have nominal sizes, which layers compute with as with any number; they show
as None.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from convc.errors import UsageError
from convc.types import Extent, Shape

NOMINAL = 512
"""Large enough for windows and strides of the usual depths, and divided evenly by them."""

Sizes = Mapping[str, tuple[Extent, ...]]
"""The shapes of a model's inputs by name, the batch first."""


class Open(int):
    """A nominal size; what is computed from one is nominal too."""

    def __new__(cls, value: int = NOMINAL) -> Self:
        return super().__new__(cls, value)

    def __add__(self, other: Any) -> Any:
        return opened(super().__add__(other))

    def __sub__(self, other: Any) -> Any:
        return opened(super().__sub__(other))

    def __rsub__(self, other: Any) -> Any:
        return opened(super().__rsub__(other))

    def __mul__(self, other: Any) -> Any:
        return opened(super().__mul__(other))

    def __floordiv__(self, other: Any) -> Any:
        return opened(super().__floordiv__(other))

    def __rfloordiv__(self, other: Any) -> Any:
        return opened(super().__rfloordiv__(other))

    def __mod__(self, other: Any) -> Any:
        return opened(super().__mod__(other))

    def __neg__(self) -> Any:
        return opened(super().__neg__())

    __radd__, __rmul__ = __add__, __mul__


def opened(result: Any) -> Any:
    return Open(result) if isinstance(result, int) else result


def is_known(extent: Extent) -> bool:
    """True for a number that isn't a nominal one."""
    return isinstance(extent, int) and not isinstance(extent, Open)


def has_open(shape: Shape) -> bool:
    return any(isinstance(e, Open) for e in shape)


def shown(shape: Shape) -> tuple[int | None, ...]:
    """The shape as Keras shows it: None for the batch and for open sizes."""
    return tuple(e if isinstance(e, int) and not isinstance(e, Open) else None for e in shape)


def closed(shape: Shape, given: Shape) -> Shape:
    """The shape with the given sizes where it leaves them open."""
    pairs = zip(shape, given, strict=True)
    return tuple(g if isinstance(own, Open) else own for own, g in pairs)


def sizes_for(shapes: Mapping[str, Shape], given: Mapping[str, Any]) -> Sizes:
    """The inputs' shapes with what is given by input name: a whole shape, one without the batch, or the one open size.

    The batch stays as it is. UsageError for names and shapes that aren't the inputs'.
    """
    for name in given:
        if name not in shapes:
            raise UsageError(
                f"shape of {name!r}: no input is called so: expected {', '.join(shapes)}"
            )
    return {n: sized(n, own, given[n]) if n in given else own for n, own in shapes.items()}


def sized(name: str, own: Shape, given: Any) -> Shape:
    """An input's shape with the given sizes; UsageError where they don't fit."""
    received = (given,) if isinstance(given, int) else tuple(given)
    if isinstance(given, int) and len([e for e in own if isinstance(e, Open)]) == 1:
        received = tuple(given if isinstance(e, Open) else e for e in own)
    elif len(received) == len(own) - 1:
        received = (own[0], *received)
    fits = len(received) == len(own) and all(
        not is_known(e) or e == g for e, g in zip(own[1:], received[1:], strict=False)
    )
    if not fits:
        raise UsageError(f"shape of input {name!r}: expected one like {shown(own)}, got {given}")
    return closed(own, received)
