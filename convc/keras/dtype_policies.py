"""In which dtypes layers compute and keep their weights.

"mixed_float16" and "mixed_bfloat16" are names here that files keep: layers of such a policy compute in float32.
"""

from __future__ import annotations

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
        """What layers compute in."""
        return "float32" if self.startswith("mixed_") else str(self)

    @property
    def variable_dtype(self) -> str:
        """What weights are kept in."""
        return self.compute_dtype

    def get_config(self) -> dict[str, Any]:
        return {"name": str(self)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> DTypePolicy:
        return cls(**config)


FloatDTypePolicy = DTypePolicy


def dtype_policy() -> DTypePolicy:
    """That of layers which say nothing."""
    return DTypePolicy(backend.policy())


def set_dtype_policy(policy: Any) -> None:
    """Makes a policy that of the layers made from now on."""
    backend.set_policy(DTypePolicy(policy))


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
