"""What belongs to objects for as long as they live."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")


class Attached(Generic[Value]):
    """Values by object, told apart by identity: variables compare element by element."""

    def __init__(self) -> None:
        self._found: dict[int, tuple[weakref.ref[Any], Value]] = {}

    def get(self, owner: Any) -> Value | None:
        found = self._found.get(id(owner))
        return None if found is None else found[1]

    def set(self, owner: Any, value: Value) -> Value:
        number = id(owner)
        ref = weakref.ref(owner, lambda _: self._found.pop(number, None))
        self._found[number] = (ref, value)
        return value

    def items(self) -> Iterator[tuple[Any, Value]]:
        for ref, value in list(self._found.values()):
            owner = ref()
            if owner is not None:
                yield owner, value
