"""Branches and loops: taken while tracing where what decides is known, else all of them, chosen by value."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from typing import Any

from convc.errors import ModelError, UnsupportedError
from convc.keras.engine.naming import user_line
from convc.keras.engine.tensor import Operators, as_tensor, recording_now
from convc.keras.ops import elementwise, shaping

LONGEST = 1024
"""Turns that a loop is unrolled over at most."""


def _known(value: Any) -> bool:
    return not as_tensor(value).step.symbolic


def _leaves(structure: Any) -> list[Any]:
    match structure:
        case list() | tuple():
            return [leaf for item in structure for leaf in _leaves(item)]
        case dict():
            return [leaf for item in structure.values() for leaf in _leaves(item)]
        case None:
            return []
        case _:
            return [structure]


def _mapped(function: Callable[..., Any], *structures: Any) -> Any:
    """A function of the leaves of structures of one form, in that form."""
    first = structures[0]
    match first:
        case list() | tuple():
            made = [_mapped(function, *items) for items in zip(*structures, strict=True)]
            fields = hasattr(first, "_fields")
            return type(first)(*made) if fields else type(first)(made)
        case dict():
            return {k: _mapped(function, *(s[k] for s in structures)) for k in first}
        case None:
            return None
        case _:
            return function(*structures)


def _chosen(condition: Any, then: Any, otherwise: Any) -> Any:
    return _mapped(lambda a, b: elementwise.where(condition, a, b), then, otherwise)


def cond(pred: Any, true_fn: Callable[[], Any], false_fn: Callable[[], Any]) -> Any:
    """What one of two functions gives. Both are computed if the condition is known at run time only."""
    if _known(pred):
        return true_fn() if bool(as_tensor(pred)) else false_fn()
    return _chosen(pred, true_fn(), false_fn())


def switch(index: Any, branches: Sequence[Callable[..., Any]], *operands: Any) -> Any:
    """What the function of that number gives; the nearest one for a number outside."""
    if _known(index):
        number = builtins.min(builtins.max(int(as_tensor(index)), 0), len(branches) - 1)
        return branches[number](*operands)
    found = branches[-1](*operands)
    for k in reversed(range(len(branches) - 1)):
        found = _chosen(elementwise.less_equal(index, k), branches[k](*operands), found)
    return found


def fori_loop(lower: Any, upper: Any, body_fun: Callable[[Any, Any], Any], init_val: Any) -> Any:
    """`value = body_fun(i, value)` for i from lower to upper, without it. The loop is unrolled."""
    if not _known(lower) or not _known(upper):
        raise UnsupportedError(
            f"{user_line()}: fori_loop: its bounds are known only at run time; use while_loop with maximum_iterations"
        )
    first, last = int(as_tensor(lower)), int(as_tensor(upper))
    value = init_val
    for k in _turns("fori_loop", last - first, init_val):
        value = body_fun(first + k, value)
    return value


def _turns(owner: str, count: int, values: Any) -> range:
    """The numbers of the turns; too many can't be unrolled into a model."""
    symbolic = any(isinstance(v, Operators) and not _known(v) for v in _leaves(values))
    if count > LONGEST and (symbolic or recording_now() is not None):
        raise UnsupportedError(
            f"{user_line()}: {owner}: expected up to {LONGEST} turns within a model; received {count}"
        )
    return range(builtins.max(count, 0))


def while_loop(
    cond: Callable[..., Any], body: Callable[..., Any], loop_vars: Any, maximum_iterations: int | None = None
) -> Any:  # fmt: skip
    """`loop_vars = body(*loop_vars)` while a condition of them holds.

    If that is known at run time only, maximum_iterations turns are made, of which those count before it fails.
    """
    several = isinstance(loop_vars, (list, tuple))
    values = tuple(loop_vars) if several else (loop_vars,)
    turns, going = 0, None
    while maximum_iterations is None or turns < maximum_iterations:
        test = cond(*values)
        if _known(test):
            if not bool(as_tensor(test)):
                break
        elif maximum_iterations is None:
            raise UnsupportedError(
                f"{user_line()}: while_loop: its condition is known only at run time; give maximum_iterations"
            )
        found = body(*values)
        found = tuple(found) if isinstance(found, (list, tuple)) else (found,)
        if not _known(test):
            going = test if going is None else elementwise.logical_and(going, test)
        values = found if going is None else _chosen(going, found, values)
        turns += 1
        _turns("while_loop", turns, values)
    return (list(values) if isinstance(loop_vars, list) else values) if several else values[0]


def _count(owner: str, xs: Any, length: int | None = None) -> int:
    leaves = [as_tensor(leaf) for leaf in _leaves(xs)]
    sizes = {t.type.shape[0] for t in leaves} | ({length} if length is not None else set())
    if len(sizes) != 1 or not isinstance(next(iter(sizes)), int):
        shapes = ", ".join(str(t.shape) for t in leaves)
        raise ModelError(
            f"{user_line()}: {owner}: expected a first axis of one known size; received shapes {shapes} (a batch "
            f"that is known at run time only can't be taken apart: write the function for all rows at once)"
        )
    return int(next(iter(sizes)))  # type: ignore[arg-type]


def _row(xs: Any, k: int) -> Any:
    return _mapped(lambda leaf: as_tensor(leaf)[k], xs)


def scan(
    f: Callable[[Any, Any], tuple[Any, Any]], init: Any, xs: Any = None, length: int | None = None,
    reverse: bool = False, unroll: Any = 1,
) -> tuple[Any, Any]:  # fmt: skip
    """`carry, y = f(carry, x)` for the rows of xs: the last carry, and all y as rows. The loop is unrolled."""
    count = _count("scan", xs, length)
    turns = _turns("scan", count, (init, xs))
    carry, found = init, []
    for k in reversed(turns) if reverse else turns:
        carry, y = f(carry, None if xs is None else _row(xs, k))
        found.append(y)
    rows = found[::-1] if reverse else found
    return carry, _mapped(lambda *leaves: shaping.stack(list(leaves)), *rows) if rows else None


def map_(f: Callable[[Any], Any], xs: Any) -> Any:
    """What a function gives for each row, as rows."""
    rows = [f(_row(xs, k)) for k in _turns("map", _count("map", xs), xs)]
    return _mapped(lambda *leaves: shaping.stack(list(leaves)), *rows)


def vectorized_map(function: Callable[[Any], Any], elements: Any) -> Any:
    """What a function gives for each row of a known number of them, as rows."""
    return map_(function, elements)


def associative_scan(
    f: Callable[[Any, Any], Any], elems: Any, reverse: bool = False, axis: int = 0
) -> Any:
    """What an associative function makes of all elements so far."""
    moved = _mapped(lambda leaf: shaping.moveaxis(leaf, axis, 0), elems)
    turns = _turns("associative_scan", _count("associative_scan", moved), moved)
    found: list[Any] = []
    for k in reversed(turns) if reverse else turns:
        found.append(f(found[-1], _row(moved, k)) if found else _row(moved, k))
    rows = found[::-1] if reverse else found
    stacked = _mapped(lambda *leaves: shaping.stack(list(leaves)), *rows)
    return _mapped(lambda leaf: shaping.moveaxis(leaf, 0, axis), stacked)


__all__ = [
    "associative_scan", "cond", "fori_loop", "map_", "scan", "switch", "vectorized_map", "while_loop",
]  # fmt: skip
