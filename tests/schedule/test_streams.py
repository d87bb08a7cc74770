"""Where the loop over images stands, and which weights are asked for ahead."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from convc.loops.interp import run_kernel
from convc.loops.ir import For, Intrinsic, Kernel, walk
from convc.loops.parser import parse_kernel
from convc.loops.tasks import parallel_loops
from convc.schedule.cpu import schedule_kernel
from convc.target import TARGETS, Target

AVX2 = TARGETS["x86-64-avx2"]


def product(rows: int, depth: int, columns: int, layout: str = "") -> Kernel:
    """For every image and each of two taps a product of rows x depth with weights."""
    return parse_kernel(
        f"""kernel k(in x: float32[N, 2, {rows}, {depth}] {layout}, in w: float32[2, {depth}, {columns}] constant,
        out y: float32[N, 2, {rows}, {columns}] {layout}) {{
          for n in N {{ for t in 2 {{ for i in {rows} {{ for o in {columns} {{
            alloc acc: float32[] register
            acc[] = 0.0
            for c in {depth} {{ acc[] = fma(x[n, t, i, c], w[t, c, o], acc[]) }}
            y[n, t, i, o] = acc[]
          }} }} }} }} }}"""
    )


def cache_of(size: int) -> Target:
    return replace(AVX2, l2=size)


def order(kernel: Kernel) -> list[str]:
    return [s.var for s in walk(kernel.body) if isinstance(s, For)]


@pytest.mark.parametrize(
    ("rows", "l2", "inside"),
    [
        (6, 1 << 10, True),  # few rows: the weights are read once
        (6, 1 << 20, False),  # the weights stay in the cache
        (96, 1 << 10, False),  # the maps are more than the weights
    ],
)
def test_images_go_inside_where_weights_outgrow_the_cache(rows: int, l2: int, inside: bool) -> None:
    found = order(schedule_kernel(product(rows, 16, 64), cache_of(l2)))
    assert (found.index("n") > found.index("ob")) is inside


def test_results_are_the_same_bits() -> None:
    plain = product(6, 16, 64)
    random = np.random.default_rng(2)
    x = random.normal(size=(3, 2, 6, 16)).astype("f4")
    w = random.normal(size=(2, 16, 64)).astype("f4")
    found = []
    for kernel in (plain, schedule_kernel(plain, cache_of(1 << 10))):
        arrays = {"x": x, "w": w, "y": np.zeros((3, 2, 6, 64), np.float32)}
        run_kernel(kernel, arrays, {"N": 3})
        found.append(arrays["y"])
    np.testing.assert_array_equal(found[0], found[1])


def test_only_weights_that_outgrow_the_cache_are_asked_for() -> None:
    asked = {}
    for l2 in (1 << 10, 1 << 20):
        kernel = schedule_kernel(product(12, 16, 64), cache_of(l2))
        asked[l2] = [s for s in walk(kernel.body) if isinstance(s, Intrinsic)]
    assert asked[1 << 10]
    assert not asked[1 << 20]


PLACES_INSIDE = "@(d0, d2, d1, d3)"  # each row's places side by side, as Winograd's tiles have them


@pytest.mark.parametrize(
    ("layout", "l2", "inside"),
    [
        (PLACES_INSIDE, 1 << 20, True),
        (PLACES_INSIDE, 1 << 13, False),  # the weights don't stay in the cache
        ("", 1 << 20, False),  # each place's rows lie side by side
    ],
)
def test_products_side_by_side_in_memory_are_computed_one_after_the_other(
    layout: str, l2: int, inside: bool
) -> None:
    kernel = schedule_kernel(product(96, 16, 64, layout), cache_of(l2))
    found = order(kernel)
    assert (found.index("t") > found.index("jt")) is inside
    assert len(parallel_loops(kernel)) == len(
        parallel_loops(schedule_kernel(product(96, 16, 64), cache_of(l2)))
    )


def test_products_side_by_side_give_the_same_bits() -> None:
    random = np.random.default_rng(3)
    x = random.normal(size=(3, 2, 22, 16)).astype("f4")
    w = random.normal(size=(2, 16, 80)).astype("f4")
    plain = product(22, 16, 80, PLACES_INSIDE)
    found = []
    for kernel in (plain, schedule_kernel(plain, cache_of(1 << 20))):
        arrays = {"x": x, "w": w, "y": np.zeros((3, 2, 22, 80), np.float32)}
        run_kernel(kernel, arrays, {"N": 3})
        found.append(arrays["y"])
    np.testing.assert_array_equal(found[0], found[1])
