"""Choices that a schedule is handed: which there are, and what becomes of those that a kernel can't have."""

from __future__ import annotations

from dataclasses import replace

import pytest

from convc import driver, keras
from convc.keras import layers
from convc.loops.ir import Kernel
from convc.loops.printer import print_kernel
from convc.loops.verify import verify_kernel
from convc.schedule.choices import Choice, kernel_key
from convc.schedule.cpu import alternatives, schedule_kernel
from convc.schedule.tiles import Heights, Tile, TileSpace
from convc.target import TARGETS

TARGET = TARGETS["x86-64-avx2"]


def kernel_of(operator: str, *stack: object) -> Kernel:
    """The plain kernel of an operator of a stack of layers over 14 x 14 pixels of 24 channels."""
    model = keras.Sequential([keras.Input((14, 14, 24)), *stack])
    kernels = driver.plan_graphs("m", model.graphs(), TARGET).lowered.kernels.values()
    return next(k for k in kernels if dict(k.notes)["ops"].startswith(operator))


@pytest.fixture(scope="module")
def pixels() -> Kernel:
    return kernel_of("conv2d", layers.Conv2D(40, 1))


def notes(kernel: Kernel, choice: Choice) -> tuple[str | None, str | None]:
    scheduled = schedule_kernel(kernel, TARGET, choice)
    verify_kernel(scheduled)
    found = dict(scheduled.notes)
    return found.get("strategy"), found.get("tile")


def test_the_first_alternative_is_what_the_estimate_takes(pixels: Kernel) -> None:
    first = alternatives(pixels, TARGET)[0]
    assert print_kernel(schedule_kernel(pixels, TARGET, first)) == print_kernel(
        schedule_kernel(pixels, TARGET)
    )


def test_every_tile_makes_a_kernel_of_its_own_and_every_order_too(pixels: Kernel) -> None:
    found = alternatives(pixels, TARGET)
    assert {c.order for c in found} == {"", "rows"}
    some = [c for c in found if c.tile is not None and c.tile[1] < 5][
        :10
    ]  # several blocks of columns
    for choice in some:
        assert choice.tile is not None
        assert notes(pixels, choice) == ("tiled", f"{choice.tile[0]}x{choice.tile[1]}x8")
    texts = {print_kernel(schedule_kernel(pixels, TARGET, choice)) for choice in some}
    assert len(texts) == len(some)


@pytest.mark.parametrize("tile", [(100, 1), (6, 3), (0, 1), (1, 0), (15, 15)])
def test_a_tile_that_does_not_fit_is_as_good_as_none(pixels: Kernel, tile: tuple[int, int]) -> None:
    assert notes(pixels, Choice(tile)) == notes(pixels, Choice())


def test_a_kernel_in_lanes_has_heights_to_choose() -> None:
    kernel = kernel_of("conv2d", layers.DepthwiseConv2D(3))
    found = alternatives(kernel, TARGET)
    assert len(found) > 1
    for choice in found:
        assert choice.tile is not None
        assert notes(kernel, choice) == ("lanes", f"{choice.tile[0]}x8")


def test_rows_that_a_call_brings_are_not_for_choosing() -> None:
    assert alternatives(kernel_of("mat_mul", layers.Flatten(), layers.Dense(16)), TARGET) == []


def test_a_key_follows_from_what_is_computed_and_where(pixels: Kernel) -> None:
    named = replace(pixels, name="other", notes=(("ops", "x"),))
    assert kernel_key(named, TARGET) == kernel_key(pixels, TARGET)
    assert kernel_key(pixels, TARGETS["x86-64-avx512"]) != kernel_key(pixels, TARGET)
    assert kernel_key(kernel_of("conv2d", layers.Conv2D(48, 1)), TARGET) != kernel_key(
        pixels, TARGET
    )


def test_ranked_tiles_fit_and_waste_little_first() -> None:
    space = TileSpace(rows=7, blocks=32, registers=32)
    ranked = space.ranked()
    assert ranked[0] == Tile(7, 2) or space.cost(ranked[0]) <= space.cost(Tile(7, 2))
    assert all(tile.fits(32) and tile.rows <= 7 for tile in ranked)
    assert [space.cost(t) for t in ranked] == sorted(space.cost(t) for t in ranked)


def test_a_tile_ends_with_a_group() -> None:
    tiles = TileSpace(rows=4, blocks=4, registers=32, grouped=True).tiles()
    assert {tile.vectors for tile in tiles} == {1, 2, 4}


def test_heights_cut_rows_evenly() -> None:
    assert Heights(rows=14, limit=5).ranked() == [5, 4, 3, 2, 1]
