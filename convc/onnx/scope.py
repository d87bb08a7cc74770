"""The names that nodes read while a model is imported, and the problems that are found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from onnx import GraphProto

from convc.errors import InputFileError, UnsupportedError

DEEPEST = 24
"""Subgraphs and functions inside one another."""


@dataclass(frozen=True)
class Broken:
    """A value that could not be imported, for a reason that is listed already."""


@dataclass
class Scope:
    """The names that a graph's nodes may read."""

    values: dict[str, Any]
    outer: Scope | None = None
    opsets: Mapping[str, int] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """Attributes of the call of the function whose body this is."""

    def find(self, name: str) -> Any:
        scope: Scope | None = self
        while scope is not None:
            if name in scope.values:
                return scope.values[name]
            scope = scope.outer
        raise InputFileError(f"value {name!r} is read before any node defines it")


class Incomplete(UnsupportedError):  # noqa: N818  # said by the message
    """All the problems of an import. `needed` are inputs whose values would solve some."""

    def __init__(self, problems: tuple[str, ...], needed: tuple[str, ...]) -> None:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        super().__init__(f"{count}: {'; '.join(problems)}")
        self.problems = problems
        self.needed = needed


@dataclass(frozen=True)
class Subgraph:
    """A body of If, Loop or Scan with the names that it may read."""

    proto: GraphProto
    scope: Scope


class Depth:
    """Counts bodies inside one another: `with depth:` around each."""

    def __init__(self) -> None:
        self.now = 0

    def __enter__(self) -> None:
        self.now += 1
        if self.now > DEEPEST:
            raise UnsupportedError(f"more than {DEEPEST} bodies inside one another")

    def __exit__(self, *_: object) -> None:
        self.now -= 1
