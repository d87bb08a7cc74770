"""Functions on nested lists, tuples and dicts. Dicts are taken in the order of their sorted keys, as in Keras."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def is_nested(structure: Any) -> bool:
    return isinstance(structure, (list, tuple, dict))


def flatten(structure: Any) -> list[Any]:
    """The leaves, in order."""
    match structure:
        case dict():
            return [leaf for key in sorted(structure) for leaf in flatten(structure[key])]
        case list() | tuple():
            return [leaf for item in structure for leaf in flatten(item)]
        case _:
            return [structure]


def map_structure(func: Callable[..., Any], *structures: Any, none_is_leaf: bool = True) -> Any:
    """A function of the leaves of structures of one form, in that form."""
    first = structures[0]
    match first:
        case dict():
            made = {k: map_structure(func, *(s[k] for s in structures)) for k in first}
            return type(first)(made) if type(first) is not dict else made
        case tuple() if hasattr(first, "_fields"):
            return type(first)(*(map_structure(func, *s) for s in zip(*structures, strict=True)))
        case list() | tuple():
            return type(first)(map_structure(func, *s) for s in zip(*structures, strict=True))
        case _:
            return func(*structures)


def pack_sequence_as(structure: Any, flat_sequence: Any) -> Any:
    """The leaves in a structure's form."""
    leaves = iter(flat_sequence)

    def packed(part: Any) -> Any:
        match part:
            case dict():
                found = {key: packed(part[key]) for key in sorted(part)}
                return {key: found[key] for key in part}
            case list() | tuple():
                return type(part)(packed(item) for item in part)
            case _:
                return next(leaves)

    found = packed(structure)
    if next(leaves, leaves) is not leaves:
        raise ValueError("pack_sequence_as: more leaves than the structure has")
    return found


def assert_same_structure(a: Any, b: Any) -> None:
    """ValueError if the structures differ in form."""
    same = is_nested(a) == is_nested(b) and (not is_nested(a) or len(a) == len(b))
    if same and isinstance(a, dict):
        same = isinstance(b, dict) and set(a) == set(b)
    if not same:
        raise ValueError(f"structures differ: {a!r} and {b!r}")
    if is_nested(a):
        parts = [(a[k], b[k]) for k in a] if isinstance(a, dict) else zip(a, b, strict=True)
        for one, two in parts:
            assert_same_structure(one, two)


def lists_to_tuples(structure: Any) -> Any:
    match structure:
        case dict():
            return {k: lists_to_tuples(v) for k, v in structure.items()}
        case list() | tuple():
            return tuple(lists_to_tuples(v) for v in structure)
        case _:
            return structure


__all__ = [
    "assert_same_structure", "flatten", "is_nested", "lists_to_tuples", "map_structure", "pack_sequence_as",
]  # fmt: skip
