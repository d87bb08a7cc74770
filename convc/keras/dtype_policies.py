"""In which dtypes layers compute and keep their weights.

Layers of a mixed policy say what they say in Keras, and models of them predict arrays of that dtype; they compute in
float32, which is faster here than 16 bits in training, and more exact. A warning says so once.
"""

from __future__ import annotations

import warnings
from typing import Any

from convc.keras import backend


class DTypePolicy(str):
    """A policy by its name: a dtype's, or "mixed_float16" or "mixed_bfloat16"."""

    __slots__ = ()

    def __new__(cls, name: Any = "float32") -> DTypePolicy:
        return super().__new__(cls, backend.standardize_policy(getattr(name, "name", name)))

    @property
    def name(self) -> str:
        return str(self)

    @property
    def compute_dtype(self) -> str:
        """What layers compute in (those of a mixed policy say so), and the dtype of what models predict."""
        return self.removeprefix("mixed_")

    @property
    def variable_dtype(self) -> str:
        """What weights are kept in."""
        return "float32" if self.is_mixed else str(self)

    @property
    def is_mixed(self) -> bool:
        return self.startswith("mixed_")

    def get_config(self) -> dict[str, Any]:
        return {"name": str(self)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> DTypePolicy:
        return cls(**config)


FloatDTypePolicy = DTypePolicy

_told: set[str] = set()


def tell_of_mixed(policy: DTypePolicy) -> None:
    """Warns, the first time, that a mixed policy computes in float32."""
    if policy.is_mixed and policy not in _told:
        _told.add(policy)
        warnings.warn(
            f"dtype policy {policy.name!r}: layers compute in float32; what models predict is "
            f"{policy.compute_dtype}",
            stacklevel=3,
        )


def dtype_policy() -> DTypePolicy:
    """That of layers which say nothing."""
    return DTypePolicy(backend.policy())


def set_dtype_policy(policy: Any) -> None:
    """Makes a policy that of the layers made from now on."""
    found = DTypePolicy(policy)
    tell_of_mixed(found)
    backend.set_policy(found)


def get(identifier: Any) -> DTypePolicy:
    if isinstance(identifier, dict):
        identifier = (identifier.get("config") or identifier).get("name")
    return dtype_policy() if identifier is None else DTypePolicy(identifier)


def serialize(policy: Any) -> dict[str, Any]:
    return {
        "module": "keras",
        "class_name": "DTypePolicy",
        "config": {"name": str(get(policy))},
        "registered_name": None,
    }


def deserialize(config: Any, custom_objects: Any = None) -> DTypePolicy:
    return get(config)


__all__ = [
    "DTypePolicy", "FloatDTypePolicy", "deserialize", "dtype_policy", "get", "serialize", "set_dtype_policy",
]  # fmt: skip
