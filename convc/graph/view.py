"""How an operator's output can be its inputs' memory: what costs nothing where a layout can say it."""

from __future__ import annotations

from dataclasses import dataclass

from convc.types import Shape


@dataclass(frozen=True)
class Permuted:
    """Dimension d is the input's dimension perm[d]."""

    perm: tuple[int, ...]


@dataclass(frozen=True)
class Reshaped:
    """The input's elements in row-major order under another shape."""


@dataclass(frozen=True)
class Part:
    """The box of the input that begins at `starts`."""

    starts: Shape


@dataclass(frozen=True)
class Joined:
    """The inputs one after the other along an axis."""

    axis: int


View = Permuted | Reshaped | Part | Joined
