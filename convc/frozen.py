"""Classes of values: what the IRs are made of, half a million objects in a compilation."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: type[T]) -> type[T]:
    """A dataclass with slots, of values: equal if their fields are, and with a hash of them unless it has its own.

    Nothing may be assigned to a field. The type checker sees to that, and not Python as for `dataclass(frozen=True)`,
    whose objects take three times as long to make. So a hash can be kept: an expression's is that of all in it.
    """
    if "__hash__" in vars(cls):
        return dataclass(slots=True)(cls)
    cls.__annotations__["_hash"] = int | None
    cls._hash = field(default=None, init=False, repr=False, compare=False)  # type: ignore[attr-defined]
    made = dataclass(slots=True, unsafe_hash=True)(cls)
    of_fields = made.__hash__

    def kept(self: Any) -> int:
        if self._hash is None:
            self._hash = of_fields(self)
        return self._hash  # type: ignore[no-any-return]

    def reduced(self: Any) -> tuple[Any, tuple[Any, ...]]:
        # Without the hash: texts have another one in another process.
        return made, tuple(getattr(self, f.name) for f in fields(self) if f.init)

    made.__hash__ = kept  # type: ignore[method-assign]
    made.__reduce__ = reduced  # type: ignore[method-assign]
    return made
