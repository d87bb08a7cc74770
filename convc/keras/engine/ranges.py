"""Whole numbers that must be below a size: places in a table, and classes. Data are checked before a step reads them.

Compiled programs don't check: they take the last row for a number that is too large (see `Embedding`). So what is fed
to a model as it is, or is known when a layer or a loss is called, is looked at in Python, where it costs microseconds.
Keras raises on TensorFlow's CPU and on torch, and goes on with NaN on JAX.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from convc.errors import DataError
from convc.keras.engine.steps import Array, Placeholder, Step, Variable
from convc.keras.engine.tensor import KerasTensor
from convc.ops.elementwise import Cast, Identity
from convc.ops.loss import SparseSoftmaxCrossentropy
from convc.ops.shape import Gather, Reshape

VIEWS = (Cast, Identity, Reshape)
"""What leaves numbers as they are."""


@dataclass(frozen=True)
class Limit:
    """Numbers from 0 to below `count`, and with `wraps` those from -count on, which count from the end."""

    owner: str
    count: int
    wraps: bool

    def check(self, name: str, numbers: Array) -> None:
        """DataError for a number that is outside."""
        if numbers.size == 0 or numbers.dtype.kind not in "iuf":
            return
        given: Any = numbers
        low, high = given.min(), given.max()
        if low >= (-self.count if self.wraps else 0) and high < self.count:
            return
        if numbers.dtype.kind == "f" and not np.isfinite(given).all():
            return  # which is told as such
        wrong = high if high >= self.count else low
        raise DataError(
            f"{name}: expected numbers from 0 to {self.count - 1}, for {self.owner}; received {wrong:g}"
        )


def limits_of(steps: Iterable[Step], names: Mapping[int, str]) -> dict[str, list[Limit]]:
    """What the steps want of inputs that they read as they are; `names` has the inputs' names by their steps' ids."""
    found: dict[str, list[Limit]] = {}
    for step in steps:
        limit, numbers = _limit(step)
        if limit is not None and id(_root(numbers)) in names:
            found.setdefault(names[id(_root(numbers))], []).append(limit)
    return {name: list(dict.fromkeys(limits)) for name, limits in found.items()}


def _limit(step: Step) -> tuple[Limit | None, Step]:
    match step.source:
        case Gather(axis=0) if isinstance(step.inputs[0].source, Variable):
            table, numbers = step.inputs
            count = table.type.shape[0]
            owner = f"layer {step.layer!r}" if step.layer else f"the rows of {table.source.path!r}"  # type: ignore[union-attr]
            known = isinstance(count, int)
            return (Limit(owner, count, True) if known else None), numbers  # type: ignore[arg-type]
        case SparseSoftmaxCrossentropy():
            logits, numbers = step.inputs
            count = logits.type.shape[-1]
            known = isinstance(count, int)
            return (Limit(f"{count} classes", count, False) if known else None), numbers  # type: ignore[arg-type]
        case _:
            return None, step


def _root(step: Step) -> Step:
    while isinstance(step.source, VIEWS):
        (step,) = step.inputs
    return step


def check_known(name: str, numbers: KerasTensor, limit: Limit, ignored: int | None = None) -> None:
    """DataError for numbers outside, where they are known already."""
    root = _root(numbers.step)
    array = root.known if root.known is not None else root.source
    if not isinstance(array, np.ndarray) or isinstance(root.source, Placeholder):
        return
    limit.check(name, array if ignored is None else array[array != ignored])


def check_fed(feeds: Mapping[str, Array], limits: Mapping[str, list[Limit]]) -> None:
    """DataError for fed numbers that are outside of what is wanted of them."""
    for name, wanted in limits.items():
        if name in feeds:
            for limit in wanted:
                limit.check(f"input {name!r}", feeds[name])
