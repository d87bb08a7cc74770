"""What may be chosen for a kernel in place of the schedule's own estimate: plain data that a schedule is handed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from convc.loops.ir import Kernel
from convc.loops.printer import print_kernel
from convc.schedule.tiles import Heights, Tile, TileSpace, choose_tile
from convc.target import Target

ORDERS = ("", "rows")
"""Orders of a tiled kernel's outer loops: blocks of columns outside as they stand, or inside the rows."""


@dataclass(frozen=True)
class Choice:
    """Of a kernel that is tiled: rows x vectors of accumulators, and one of `ORDERS`.

    `tile` None stands for the tile of the estimate. For a kernel in `lanes`, the vectors of a tile are 1.
    """

    tile: tuple[int, int] | None = None
    order: str = ""

    def __str__(self) -> str:
        tile = "x".join(map(str, self.tile)) if self.tile else "estimated"
        return f"{tile}, {self.order} outside" if self.order else tile


DEFAULT = Choice()
"""What the estimate says."""

Choices = Mapping[str, Choice]
"""Choices by `kernel_key`."""

NO_CHOICES: Choices = MappingProxyType({})


def kernel_key(kernel: Kernel, target: Target) -> str:
    """A hash of what a plain kernel computes and for which target; names that others gave it and notes left out."""
    text = print_kernel(replace(kernel, name="kernel", notes=()))
    return hashlib.sha256(f"{target!r}\n{text}".encode()).hexdigest()[:32]


@dataclass
class Picker:
    """Answers a schedule's questions from a choice, where it is one that the kernel can have; notes what was asked."""

    choice: Choice = DEFAULT
    asked: list[TileSpace | Heights] = field(default_factory=list)

    def tile(self, space: TileSpace) -> tuple[Tile, str]:
        """The tile and the order of the outer loops."""
        self.asked.append(space)
        wanted = Tile(*self.choice.tile) if self.choice.tile else None
        order = self.choice.order if self.choice.order in space.orders else ""
        return wanted if wanted and space.allows(wanted) else choose_tile(space), order

    def height(self, heights: Heights) -> int:
        """The rows that a kernel in lanes works on at a time."""
        self.asked.append(heights)
        wanted = self.choice.tile[0] if self.choice.tile else 0
        return wanted if heights.allows(wanted) else heights.ranked()[0]

    def alternatives(self) -> list[Choice]:
        """What a kernel that asked once may be told, the estimate's own answer first; nothing for others.

        And nothing where the rows are known in a call only: what is best for one batch is not for another.
        """
        match self.asked:
            case [TileSpace(known=True) as space]:
                tiles = [(tile.rows, tile.vectors) for tile in space.ranked()]
                return [Choice(tile, order) for tile in tiles for order in space.orders]
            case [Heights() as heights]:
                return [Choice((height, 1)) for height in heights.ranked()]
        return []
