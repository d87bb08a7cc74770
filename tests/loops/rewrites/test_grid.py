"""The docstrings of the grid rewrites are true, and what they promise holds beyond the example."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from convc.errors import IRError
from convc.loops.interp import run_kernel
from convc.loops.ir import Kernel
from convc.loops.parser import parse_kernel
from convc.loops.printer import print_kernel
from convc.loops.rewrites.grid import Tile, launch, tile_reduction
from convc.loops.simplify import simplify_kernel

SMALL = Tile(rows=4, columns=4, depth=2, patch=(2, 2))


def shown(function: Callable[..., Kernel]) -> tuple[Kernel, Kernel]:
    """The kernels before and after of a rewrite's docstring."""
    assert function.__doc__ is not None
    before, after = function.__doc__.split("Before:")[1].split("After:")
    return parse_kernel(before), parse_kernel(after)


@pytest.mark.parametrize(
    ("rewrite", "arguments"),
    [(launch, ("i", 4)), (tile_reduction, ("i", "j", "k", SMALL))],
)
def test_the_docstring_shows_what_the_rewrite_does(
    rewrite: Callable[..., Kernel], arguments: tuple
) -> None:
    before, after = shown(rewrite)
    result = simplify_kernel(rewrite(before, *arguments))
    assert print_kernel(result) == print_kernel(simplify_kernel(after))


@pytest.mark.parametrize("tile", [SMALL, Tile(8, 4, 3, (4, 1)), Tile(4, 8, 5, (1, 4))])
def test_a_tiled_reduction_gives_the_same_bits(tile: Tile) -> None:
    before, _ = shown(tile_reduction)
    rng = np.random.default_rng(0)
    a = rng.standard_normal((5, 3)).astype(np.float32)
    b = rng.standard_normal((3, 6)).astype(np.float32)
    plain, tiled = np.empty((5, 6), np.float32), np.empty((5, 6), np.float32)
    run_kernel(before, {"a": a, "b": b, "c": plain}, {})
    run_kernel(
        tile_reduction(before, "i", "j", "k", tile), {"a": a, "b": b, "c": tiled}, {}, seed=5
    )
    np.testing.assert_array_equal(tiled, plain)


def test_a_reduction_whose_terms_do_not_part_is_refused() -> None:
    text = """kernel k(in a: float32[4, 4, 3], out c: float32[4, 4]) {
      for i in 4 { for j in 4 {
        alloc s: float32[] register
        s[] = 0.0
        for k in 3 { s[] = s[] + a[i, j, k] }
        c[i, j] = s[] } } }"""
    with pytest.raises(IRError, match="kernel k: the terms don't split into what i and j need"):
        tile_reduction(parse_kernel(text), "i", "j", "k", SMALL)
