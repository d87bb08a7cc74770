"""Inputs that a command makes itself: numbers for sizes that a model leaves free, and random arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from convc.errors import UsageError
from convc.graph.ir import Array, Graph
from convc.types import Dim, TensorType, evaluate, symbols_of

CANDIDATES = (8, 16, 32, 64, 128, 256, 512)


def free_sizes(graph: Graph, batch: int, known: Mapping[str, int] | None = None) -> dict[str, int]:
    """A number for each symbol of the inputs: the batch, and for others the least at which every value has elements.

    `known` are those that are given. UsageError where none of the usual sizes is large enough.
    """
    shapes = [graph.types[name].shape for name in graph.inputs]
    symbols = sorted(symbols_of(e for shape in shapes for e in shape))
    first = {str(shape[0]) for shape in shapes if shape and isinstance(shape[0], Dim)}
    found = {s: batch for s in symbols if s in first | {"N"}} | dict(known or {})
    others = [s for s in symbols if s not in found]
    for size in (batch, *CANDIDATES) if others else (batch,):
        sizes = found | dict.fromkeys(others, size)
        if not others or has_elements(graph, sizes):
            return sizes
    raise UsageError(
        f"{graph.name}: sizes that are free ({', '.join(others)}): give numbers by --shape: none of "
        f"{batch}, {', '.join(map(str, CANDIDATES))} is large enough for all of them"
    )


def has_elements(graph: Graph, sizes: Mapping[str, int]) -> bool:
    """Whether no value of the graph is empty at these sizes."""
    extents = (e for type in graph.types.values() for e in type.shape if isinstance(e, Dim))
    return all(evaluate(e, sizes) > 0 for e in extents)


def sizes_text(sizes: Mapping[str, int]) -> str:
    """`, at N = 2, width = 8` for a title; nothing where no size is free."""
    return f", at {', '.join(f'{s} = {n}' for s, n in sizes.items())}" if sizes else ""


def random_array(type: TensorType, rng: np.random.Generator) -> Array:
    """An array of a type without symbols: normal floats, small integers."""
    shape: Any = type.shape
    if type.dtype.is_float:
        return np.asarray(rng.standard_normal(shape).astype(type.dtype.numpy))
    return np.asarray(rng.integers(0, 2, shape).astype(type.dtype.numpy))
